//! A file is written completely or not at all, and devices and pipes are not replaced by files.

use std::io;

use crate::write_whole;

fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = folder.read_dir().unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("report.json");
    let full = |target: &std::path::Path| {
        write_whole(target, |to| {
            to.write_all(b"half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
    };
    assert_eq!(full(&target).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(names(folder.path()).is_empty());
    write_whole(&target, |to| to.write_all(b"whole")).unwrap();
    full(&target).unwrap_err();
    assert_eq!(std::fs::read(&target).unwrap(), b"whole");
    assert_eq!(names(folder.path()), ["report.json"]);
    write_whole(&folder.path().join("no folder/report.json"), |_| Ok(())).unwrap_err();
}

#[test]
fn links_are_followed_and_devices_stay_devices() {
    let folder = tempfile::tempdir().unwrap();
    let (target, link) = (folder.path().join("report.json"), folder.path().join("latest"));
    std::fs::write(&target, "old").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    write_whole(&link, |to| to.write_all(b"new")).unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"new");
    assert!(link.symlink_metadata().unwrap().is_symlink());
    let null = std::path::Path::new("/dev/null");
    write_whole(null, |to| to.write_all(b"nowhere")).unwrap();
    assert!(!null.metadata().unwrap().is_file());
}
