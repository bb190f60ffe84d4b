//! Unpacks a zip. Only the files of a bundle are written, under their own names: the paths of entries are never used.

use std::{
    fs,
    io::{self, Read as _, Seek},
    path::Path,
};

use tempfile::TempDir;
use zip::ZipArchive;

use crate::{
    file::File,
    problem::{Finding, Problems},
};

/// More than the files of a bundle and those that systems add.
const ENTRIES_MAX: usize = 100;
/// All unpacked files together: several times the size of a campus.
const BYTES_MAX: u64 = 1 << 30;
/// The folder that macOS adds to archives.
const MAC_FOLDER: &str = "__MACOSX";

/// Unpacks the files of a bundle into a new folder, and lists the other files. `None` if there is a problem.
pub(crate) fn unpack(
    archive: &mut ZipArchive<impl io::Read + Seek>,
    path: &Path,
    problems: &mut Problems,
) -> Option<(TempDir, Vec<String>)> {
    let refuse = |problems: &mut Problems, what: String| problems.push(Finding::of_file(path.display(), what));
    if archive.len() > ENTRIES_MAX {
        refuse(problems, format!("has {} entries, the limit is {ENTRIES_MAX}; zip only the bundle", archive.len()));
        return None;
    }
    let folder = tempfile::tempdir();
    let folder = folder.map_err(|error| refuse(problems, format!("can't be unpacked ({error}); make room for it")));
    let folder = folder.ok()?;
    let (mut others, mut bytes_left, mut parent, mut is_good) = (Vec::new(), BYTES_MAX, None, true);
    for at in 0..archive.len() {
        let Some(Ok(name)) = archive.name_for_index(at).map(|name| name.map(|name| name.into_owned())) else {
            refuse(problems, format!("has an entry without a readable name, number {}; zip the bundle again", at + 1));
            is_good = false;
            continue;
        };
        let what = match place(&name) {
            EntryKind::Nowhere => continue,
            EntryKind::Other => {
                others.push(name);
                continue;
            }
            EntryKind::Outside => {
                "is not a valid path; zip the files of the bundle, or one folder with them".to_owned()
            }
            EntryKind::File(file, of) if *parent.get_or_insert(of.to_owned()) == of => {
                match write(archive, at, &folder.path().join(file.name()), bytes_left) {
                    Ok(bytes) => {
                        bytes_left -= bytes;
                        continue;
                    }
                    Err(what) => what,
                }
            }
            EntryKind::File(..) => {
                "is in another folder than the files before it; put all files into one folder".to_owned()
            }
        };
        problems.push(Finding::of_file(name, what));
        is_good = false;
    }
    others.sort();
    is_good.then_some((folder, others))
}

/// The kind of an entry, by its path.
enum EntryKind<'a> {
    /// A folder, or a hidden file of a system.
    Nowhere,
    /// A path that leaves the folder, or a file of a bundle in a nested folder.
    Outside,
    /// A file of a bundle, and its folder.
    File(File, &'a str),
    /// Another file.
    Other,
}

fn place(name: &str) -> EntryKind<'_> {
    let (parent, own) = name.rsplit_once('/').unwrap_or(("", name));
    if name.starts_with('/') || name.contains(['\\', '\0']) || name.split('/').any(|part| part == "..") {
        return EntryKind::Outside;
    }
    if own.is_empty() || name.split('/').any(|part| part == MAC_FOLDER || (part.starts_with('.') && part != ".")) {
        return EntryKind::Nowhere;
    }
    match File::from_name(own) {
        Some(_) if parent.contains('/') => EntryKind::Outside,
        Some(file) => EntryKind::File(file, parent),
        None => EntryKind::Other,
    }
}

/// Writes at most `bytes_max` bytes of an entry, and returns its size.
fn write(
    archive: &mut ZipArchive<impl io::Read + Seek>,
    at: usize,
    target: &Path,
    bytes_max: u64,
) -> Result<u64, String> {
    let broken = |error: &dyn std::fmt::Display| format!("can't be unpacked ({error}); zip the bundle again");
    let mut entry = archive.by_index(at).map_err(|error| broken(&error))?;
    let mut file = fs::File::create_new(target).map_err(|error| broken(&error))?;
    // The stated size in the archive may be wrong, so the bytes are counted.
    let bytes = io::copy(&mut entry.by_ref().take(bytes_max + 1), &mut file).map_err(|error| broken(&error))?;
    if bytes > bytes_max {
        let limit = BYTES_MAX >> 30;
        return Err(format!("makes the bundle larger than {limit} GiB unpacked; export one term at a time"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;

    /// A zip of zeros is a thousand times smaller than its contents; the unpacked size counts.
    #[test]
    fn no_more_is_written_than_the_limit() {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("users.csv", SimpleFileOptions::default()).unwrap();
        zip.write_all(&[0; 100_000]).unwrap();
        let mut archive = ZipArchive::new(zip.finish().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut write = |name: &str, bytes_max| write(&mut archive, 0, &folder.path().join(name), bytes_max);
        assert_eq!(write("all", 100_000), Ok(100_000));
        let what = "makes the bundle larger than 1 GiB unpacked; export one term at a time";
        assert_eq!(write("too much", 99_999), Err(what.to_owned()));
        assert_eq!(folder.path().join("too much").metadata().unwrap().len(), 100_000);
    }
}
