//! Files of the archive: complete or not there, each saga once, and damage affects no other line.

use std::fs;
use std::path::PathBuf;

use matricula_engine::Event;

use super::*;

const NOON: UnixMs = UnixMs(1_787_000_000_000);

fn line(saga: SagaId, key: &str) -> Line {
    let admitted =
        Event::Admitted { definition: "one".to_owned(), version: 1, applies: vec!["do".to_owned()], deadline_at_ms: 9 };
    Line {
        saga_id: saga,
        definition: "one".to_owned(),
        version: 1,
        subject: "ada".to_owned(),
        idempotency_key: key.to_owned(),
        phase: "completed".to_owned(),
        outcome: "committed".to_owned(),
        created_at_ms: UnixMs(1),
        finished_at_ms: UnixMs(2),
        owner: "someone".to_owned(),
        traceparent: "trace".to_owned(),
        tracestate: String::new(),
        request: serde_json::json!({ "adds": ["A"], "note": "line\nbreak" }),
        events: vec![Recorded::first(1, admitted), Recorded { sequence: 2, at_ms: 2, event: Event::Finished }],
    }
}

fn lines(count: usize) -> Vec<Line> {
    (0..count).map(|number| line(crate::new_saga_id(), &format!("k{number}"))).collect()
}

/// The content of an archive: the keys of its sagas, in the order in which they are read, and the problems.
fn read(archive: Archive) -> (Vec<String>, Vec<Problem>) {
    let (mut keys, mut problems) = (Vec::new(), Vec::new());
    for read in archive {
        match read {
            Ok(found) => keys.push(found.saga.idempotency_key),
            Err(problem) => problems.push(problem),
        }
    }
    (keys, problems)
}

#[test]
fn written_sagas_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("new");
    let written = lines(3);
    let file = write(&dir, NOON, &written).expect("written");
    assert!(file.starts_with("2026-08-17/") && file.ends_with(".jsonl"), "{file}");
    let archive = Archive::open(std::slice::from_ref(&dir)).expect("it opens");
    let found: Vec<Found> = archive.map(|read| read.expect("it is read")).collect();
    assert!(found.iter().all(|found| found.file == dir.join(&file)), "{found:?}");
    for (line, found) in written.into_iter().zip(found) {
        let (is, was) = (found.saga, line.into_row());
        assert_eq!((&is.id, &is.subject, &is.request), (&was.id, &was.subject, &was.request));
        assert_eq!((is.log, is.trace, is.phase, is.sequence), (was.log, was.trace, was.phase, 2));
    }
    let left: Vec<PathBuf> = fs::read_dir(dir.join("2026-08-17")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [dir.join(file)], "nothing else is left");
}

#[test]
fn a_saga_of_two_files_is_read_once_and_the_newest_file_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let (first, second) = (lines(2), vec![line(crate::new_saga_id(), "new")]);
    write(&one, NOON, &first).expect("written");
    // After a crash the same sagas were written again, by another replica to another folder, together with more.
    write(&other, NOON.plus_ms(-86_400_000), &[&first[..], &second[..]].concat()).expect("written");
    let dirs = [one, other];
    let (keys, problems) = read(Archive::open(&dirs).expect("it opens"));
    assert_eq!((keys, problems), (vec!["k0".to_owned(), "k1".to_owned(), "new".to_owned()], vec![]));

    let wanted = first[1].saga_id;
    let (keys, _) = read(Archive::open(&dirs).expect("it opens").only(wanted));
    assert_eq!(keys, ["k1"]);
    assert_eq!(Archive::open(&dirs).expect("it opens").files(), 2);
}

#[test]
fn damage_is_reported_and_other_lines_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(write(folder.path(), NOON, &lines(6)).expect("written"));
    let text = fs::read_to_string(&file).expect("text");
    let mut damaged: Vec<Vec<u8>> = text.lines().map(|line| line.as_bytes().to_vec()).collect();
    damaged[1].truncate(40);
    damaged[2] = text.lines().nth(2).unwrap().replace("\"sequence\":2", "\"sequence\":3").into_bytes();
    damaged[3][20] = 0xff;
    damaged[4].clear();
    fs::write(&file, damaged.join(&b'\n')).expect("written");
    // The temporary file of a crash, and a foreign file.
    fs::write(file.with_extension("tmp"), "{").expect("written");
    let (keys, problems) = read(Archive::open(&[folder.path().to_owned()]).expect("it opens"));
    assert_eq!(keys, ["k0", "k5"]);
    assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [Some(2), Some(3), Some(4)]);
    assert!(problems.iter().all(|problem| problem.file == file));
    let told = problems[1].to_string();
    assert!(told.contains(&format!("{}:3: ", file.display())) && told.contains("gaps"), "{told}");

    let none = Archive::open(&[folder.path().join("none")]).expect_err("there is no such folder");
    assert!(none.to_string().contains("none: "), "{none}");
}

#[test]
fn a_failed_write_leaves_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let in_the_way = folder.path().join("file");
    fs::write(&in_the_way, "").expect("written");
    assert!(write(&in_the_way, NOON, &lines(1)).is_err());
}
