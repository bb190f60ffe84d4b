//! Prefixes of ids: everywhere a prefix is enough, as long as only one id has it.

use matricula_harness::campus::bundle;
use matricula_harness::{System, submission, submit};

use super::{archived, json, run, until};

/// The shortest prefix of an id that none of the others has.
fn shortest(id: &str, others: &[String]) -> String {
    let is_alone = |length: &usize| others.iter().all(|other| other == id || !other.starts_with(&id[..*length]));
    id[..(4..=36).find(is_alone).expect("ids differ")].to_owned()
}

#[tokio::test]
async fn the_beginning_of_an_id_names_it_while_it_is_the_only_one() {
    let retention = [
        ("orchestrator.retention.margin_s", "0"),
        ("orchestrator.retention.keep_finished_s", "1"),
        ("orchestrator.retention.look_ms", "100"),
    ];
    let system = System::up_with(&["--students", "0"], &retention);
    system.import(&bundle(&[("A", 9, "")], 7));
    let portal = system.channel("orchestrator").await;
    let mut ids = Vec::new();
    for student in 1..=7 {
        ids.push(submit(&portal, submission(&format!("S{student}"), "k", &["A"], &[])).await.registration_id);
    }
    let check = |path: &[&str], typed: &str, id: &str| {
        let shown = json(&system, &[path, &[typed]].concat());
        let found = shown["summary"]["saga_id"].as_str().or(shown["registration_id"].as_str());
        assert_eq!(found, Some(id), "{path:?} {typed}: {shown:#}");
    };
    // While the logs are in the database, and when they are in the archive: the same arguments work.
    for is_archived in [false, true] {
        if is_archived {
            until("all are in the archive", || archived(&system).len() == 7);
            check(&["archive", "show"], &shortest(&ids[2], &ids), &ids[2]);
            check(&["archive", "show"], &ids[2].to_uppercase(), &ids[2]);
        }
        for id in [&ids[0], &ids[6]] {
            let short = shortest(id, &ids);
            for typed in [short.clone(), short.to_uppercase(), short.replace('-', ""), id.clone(), id.to_uppercase()] {
                check(&["saga", "show"], &typed, id);
                check(&["saga", "explain"], &typed, id);
                check(&["registration", "show"], &typed, id);
            }
        }
        let ambiguous = &ids[0][..4];
        let mut paths = vec![vec!["saga", "show"], vec!["registration", "show"]];
        paths.push(vec!["saga", "cancel", "--reason", "why"]);
        if is_archived {
            paths.push(vec!["archive", "show"]);
        }
        for path in paths {
            let (code, stdout, stderr) = run(&system, &[&path[..], &[ambiguous]].concat());
            assert_eq!((code, stdout.as_str()), (Some(1), ""), "{path:?}: {stderr}");
            assert!(stderr.contains("7 sagas"), "{path:?}: {stderr}");
            let named = ids.iter().filter(|id| stderr.contains(id.as_str())).count();
            assert_eq!(named, 5, "{path:?}: {stderr}");
            let (code, _, stderr) = run(&system, &[&path[..], &["ffff"]].concat());
            assert!(code == Some(1) && stderr.contains("ffff"), "{path:?}: {stderr}");
            let (code, _, stderr) = run(&system, &[&path[..], &[&ids[0][..3]]].concat());
            assert!(code == Some(2) && stderr.contains("at least 4 characters"), "{path:?}: {stderr}");
        }
    }
}
