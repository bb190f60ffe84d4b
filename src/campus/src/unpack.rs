//! Unpacks a zip. Only the files of a bundle are written, under their own names: no path of an entry is ever used.

use std::{
    fs,
    io::{self, Read as _, Seek},
    path::Path,
};

use tempfile::TempDir;
use zip::ZipArchive;

use crate::{
    file::File,
    problem::{Problem, Problems},
};

/// More than a bundle has, whatever else a system puts beside it.
const ENTRIES_MAX: usize = 100;
/// All files together, unpacked: several times what a campus has.
const BYTES_MAX: u64 = 1 << 30;
/// What macOS adds to archives.
const MAC_FOLDER: &str = "__MACOSX";

/// Unpacks the files of a bundle into a new folder, and names the other files. None has a problem.
pub(crate) fn unpack(
    archive: &mut ZipArchive<impl io::Read + Seek>,
    path: &Path,
    problems: &mut Problems,
) -> Option<(TempDir, Vec<String>)> {
    let refuse = |problems: &mut Problems, what: String| problems.push(Problem::of_file(path.display(), what));
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
            Place::Nowhere => continue,
            Place::Other => {
                others.push(name);
                continue;
            }
            Place::Outside => {
                "is no place for a file; zip the files of the bundle themselves, or one folder of them".to_owned()
            }
            Place::File(file, of) if *parent.get_or_insert(of.to_owned()) == of => {
                match write(archive, at, &folder.path().join(file.name()), bytes_left) {
                    Ok(bytes) => {
                        bytes_left -= bytes;
                        continue;
                    }
                    Err(what) => what,
                }
            }
            Place::File(..) => "is in another folder than the files before it; put all files into one".to_owned(),
        };
        problems.push(Problem::of_file(name, what));
        is_good = false;
    }
    others.sort();
    is_good.then_some((folder, others))
}

/// What an entry is, by its name.
enum Place<'a> {
    /// A folder, or what a system hides.
    Nowhere,
    /// A name that tries to leave the folder, or a file of a bundle that is too deep.
    Outside,
    /// A file of a bundle, and the folder in which it is.
    File(File, &'a str),
    /// Some other file.
    Other,
}

fn place(name: &str) -> Place<'_> {
    let (parent, own) = name.rsplit_once('/').unwrap_or(("", name));
    if name.starts_with('/') || name.contains(['\\', '\0']) || name.split('/').any(|part| part == "..") {
        return Place::Outside;
    }
    if own.is_empty() || name.split('/').any(|part| part == MAC_FOLDER || (part.starts_with('.') && part != ".")) {
        return Place::Nowhere;
    }
    match File::from_name(own) {
        Some(_) if parent.contains('/') => Place::Outside,
        Some(file) => Place::File(file, parent),
        None => Place::Other,
    }
}

/// Writes an entry, at most so many bytes of it, and says how many it has.
fn write(
    archive: &mut ZipArchive<impl io::Read + Seek>,
    at: usize,
    target: &Path,
    bytes_max: u64,
) -> Result<u64, String> {
    let broken = |error: &dyn std::fmt::Display| format!("can't be unpacked ({error}); zip the bundle again");
    let mut entry = archive.by_index(at).map_err(|error| broken(&error))?;
    let mut file = fs::File::create_new(target).map_err(|error| broken(&error))?;
    // The size that the archive states may be wrong: the bytes count.
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

    /// A zip of zeros is a thousand times smaller than they are: what counts is how many come out.
    #[test]
    fn no_more_is_written_than_there_is_room_for() {
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
