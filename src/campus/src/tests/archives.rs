//! Bundles in a zip, and files whose form as a whole is the problem.

use std::{fs, io::Write as _, path::PathBuf};

use tempfile::TempDir;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{FILES, campus, check, problems_of};
use crate::{read, registrations};

const CLICKS: (&str, &str) = (
    "registrations.csv",
    "arrivalMs,idempotencyKey,studentSourcedId,addClassSourcedIds,dropClassSourcedIds\n1,k,S1,C1-L1,\n",
);

/// A zip of the small campus below `folder`, and of other entries.
fn zipped(folder: &str, others: &[(&str, &[u8])]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("campus.zip");
    let mut zip = ZipWriter::new(fs::File::create(&path).unwrap());
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let own = FILES.iter().map(|(name, text)| (format!("{folder}{name}"), text.as_bytes()));
    for (name, bytes) in own.chain(others.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes))) {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    (dir, path)
}

#[track_caller]
fn check_zip(folder: &str, others: &[(&str, &[u8])], expected: &[&str]) {
    let (dir, path) = zipped(folder, others);
    let shown = |problem: String| problem.replace(&format!("{}/", dir.path().display()), "");
    assert_eq!(problems_of(&path).into_iter().map(shown).collect::<Vec<_>>(), expected);
}

#[test]
fn a_zip_is_read_as_its_folder_is() {
    let clicks = &[(CLICKS.0, CLICKS.1.as_bytes())];
    let of_folder = read(campus(&[(CLICKS.0, Some(CLICKS.1))]).path()).unwrap();
    let (_dir, path) = zipped("", clicks);
    assert_eq!(read(&path).unwrap(), of_folder);
    assert_eq!(registrations(&path).unwrap().map(Result::unwrap).collect::<Vec<_>>(), of_folder.registrations);
    let in_folder = format!("fall 2028/{}", CLICKS.0);
    let (_dir, path) = zipped("fall 2028/", &[(&in_folder, CLICKS.1.as_bytes())]);
    assert_eq!(read(&path).unwrap(), of_folder);
}

#[test]
fn files_that_systems_add_to_a_zip_are_ignored() {
    let (_dir, path) =
        zipped("", &[("__MACOSX/._users.csv", b"x"), (".DS_Store", b"x"), ("a/b/", b""), ("a/b/c.txt", b"x")]);
    let notes: Vec<String> = read(&path).unwrap().notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes[1..], ["a/b/c.txt: is not read"]);
}

#[test]
fn entries_lead_nowhere() {
    let no_place = "is not a valid path; zip the files of the bundle, or one folder with them";
    for bad in ["../holds.csv", "a/../../holds.csv", "a/b/holds.csv", "..\\holds.csv", "../notes.txt"] {
        let (dir, path) = zipped("", &[(bad, b"holdId,studentSourcedId,description\n")]);
        assert_eq!(problems_of(&path), [format!("{bad}: {no_place}")]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was written beside the zip");
    }
    check_zip(
        "",
        &[("other/holds.csv", b"holdId,studentSourcedId,description\n")],
        &["other/holds.csv: is in another folder than the files before it; put all files into one folder"],
    );
}

#[test]
fn a_zip_has_a_limit_of_entries() {
    let names: Vec<String> = (0..94).map(|at| format!("{at}.txt")).collect();
    let others: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    check_zip("", &others[..93], &[]);
    check_zip("", &others, &["campus.zip: has 101 entries, the limit is 100; zip only the bundle"]);
}

#[test]
fn a_problem_of_a_file_in_a_zip_names_the_file() {
    check_zip(
        "x/",
        &[("x/holds.csv", b"holdId\n")],
        &["holds.csv:1: has no column studentSourcedId; add it", "holds.csv:1: has no column description; add it"],
    );
}

#[test]
fn a_damaged_entry_is_named() {
    let (_dir, path) = zipped("", &[("holds.csv", "holdId,studentSourcedId,description\n".repeat(9).as_bytes())]);
    let mut bytes = fs::read(&path).unwrap();
    // The first entry with this name is the local one, before its bytes.
    let at = bytes.windows(9).position(|window| window == b"holds.csv").unwrap() + 12;
    bytes[at] ^= 0xff;
    fs::write(&path, bytes).unwrap();
    let problems = problems_of(&path);
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert!(problem.starts_with("holds.csv: can't be unpacked ("), "{problem}");
    assert!(problem.ends_with("); zip the bundle again"), "{problem}");
}

#[test]
fn a_file_that_is_no_zip() {
    let dir = campus(&[]);
    let path = dir.path().join("users.csv");
    let problems = problems_of(&path);
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert!(problem.starts_with(&format!("{}: can't be read (", path.display())), "{problem}");
    assert!(
        problem.ends_with("; use a directory with the files of a OneRoster bundle, or a zip file of them"),
        "{problem}"
    );
}

fn utf16(text: &str, has_mark: bool, in_order: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let mark = has_mark.then_some(0xfeff);
    mark.into_iter().chain(text.encode_utf16()).flat_map(in_order).collect()
}

#[test]
fn utf16_is_the_cause() {
    let text = "sourcedId,givenName,familyName\nS1,A,A\nS2,Zoë,学\nP1,P,P\n";
    let orders: [fn(u16) -> [u8; 2]; 2] = [u16::to_le_bytes, u16::to_be_bytes];
    for (has_mark, in_order) in [true, false].into_iter().flat_map(|mark| orders.map(|order| (mark, order))) {
        let dir = campus(&[]);
        fs::write(dir.path().join("users.csv"), utf16(text, has_mark, in_order)).unwrap();
        let what = "users.csv: is UTF-16; save it as UTF-8 (a spreadsheet calls that CSV UTF-8)";
        assert_eq!(problems_of(dir.path()), [what], "with a mark: {has_mark}");
    }
}

#[test]
fn other_separators_are_the_cause() {
    let what = |name: &str| {
        format!(
            "users.csv:1: has columns separated by {name}; save it with commas (a spreadsheet calls that comma separated)"
        )
    };
    for (text, name) in [
        ("sourcedId;givenName;familyName\nS1;A;A\n", "semicolons"),
        ("\u{feff}\"status\";\"sourcedId\";\"givenName\";\"familyName\"\r\n;S1;A,B;A\r\n", "semicolons"),
        ("sourcedId\tgivenName\tfamilyName\nS1\tA\tA\n", "tabs"),
    ] {
        check("users.csv", text, &[&what(name)]);
    }
    check(
        "manifest.csv",
        "propertyName;value\noneroster.version;1.2\n",
        &[&what("semicolons").replace("users", "manifest")],
    );
    check("orgs.csv", "id;name\n", &["orgs.csv:1: has no column sourcedId; add it"]);
}
