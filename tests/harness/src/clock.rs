//! A wrong clock for one process, from libfaketime: every query of the operating system's time gets the wrong one, also
//! in libraries, and the program needs no setting for it.

use std::path::{Path, PathBuf};

/// The library for programs of several threads.
const LIBRARY: &str = "libfaketimeMT.so.1";
/// Where distributions put its folder `faketime`; Debian has one folder more, a platform.
const PLACES: [&str; 4] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib"];

/// Variables that set a process's wall clock ahead by this many seconds, or behind; `None` if libfaketime is not
/// installed. Its other clocks, with which it waits, stay right.
pub fn wrong_clock(ahead_s: i64) -> Option<Vec<(&'static str, String)>> {
    let library = PLACES.iter().find_map(|place| find(Path::new(place)))?;
    let offset = format!("{}{}s", if ahead_s < 0 { "-" } else { "+" }, ahead_s.unsigned_abs());
    Some(vec![
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME", offset),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ])
}

fn find(place: &Path) -> Option<PathBuf> {
    let platforms = place.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    std::iter::once(place.to_owned())
        .chain(platforms)
        .map(|folder| folder.join("faketime").join(LIBRARY))
        .find(|path| path.is_file())
}
