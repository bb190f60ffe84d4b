//! The place of a bundle: a folder, or a zip that is unpacked into a temporary one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    file::File,
    problem::{Finding, Problems},
    unpack::unpack,
};

/// The advice when a bundle can't be opened.
const NAME_A_BUNDLE: &str = "use a directory with the files of a OneRoster bundle, or a zip file of them";

/// The files of a bundle, in a folder.
pub(crate) struct Source {
    /// The folder.
    pub folder: PathBuf,
    /// Other files in the folder, in the order of their names.
    pub others: Vec<String>,
    /// The temporary folder of a zip, removed when this is dropped.
    _unpacked: Option<TempDir>,
}

impl Source {
    /// Opens a folder or a zip; `None` if there is a problem.
    pub(crate) fn open(path: &Path, problems: &mut Problems) -> Option<Self> {
        let refuse = |problems: &mut Problems, error: &dyn std::fmt::Display| {
            problems.push(Finding::of_file(path.display(), format!("can't be read ({error}); {NAME_A_BUNDLE}")));
        };
        let is_folder = match path.metadata() {
            Ok(metadata) => metadata.is_dir(),
            Err(error) => {
                refuse(problems, &error);
                return None;
            }
        };
        if !is_folder {
            let archive = fs::File::open(path).map_err(zip::result::ZipError::from).and_then(zip::ZipArchive::new);
            let mut archive = archive.map_err(|error| refuse(problems, &error)).ok()?;
            let (folder, others) = unpack(&mut archive, path, problems)?;
            return Some(Self { folder: folder.path().to_owned(), others, _unpacked: Some(folder) });
        }
        let others = others(path).map_err(|error| refuse(problems, &error)).ok()?;
        Some(Self { folder: path.to_owned(), others, _unpacked: None })
    }
}

/// The files of a folder that do not belong to a bundle, without hidden files.
fn others(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if File::from_name(&name).is_none() && !name.starts_with('.') && entry.path().is_file() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
