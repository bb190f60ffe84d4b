//! Notes on a bundle: values that an import ignores, or reads in an unexpected way. Notes do not prevent an import.

use std::collections::BTreeMap;

use crate::{file::File, problem::Finding};

/// Maximum number of notes per file, about a screen; the rest is counted.
const NOTES_OF_FILE_MAX: usize = 50;

/// Collects notes while a bundle is read.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// By the rank and the name of the file: files that are not read come last.
    of_files: BTreeMap<(Option<File>, String), OfFile>,
}

#[derive(Debug, Default)]
struct OfFile {
    kept: Vec<Finding>,
    hidden: usize,
}

impl Notes {
    pub(crate) fn push(&mut self, note: Finding) {
        let of_file = self.of_files.entry((File::from_name(&note.file), note.file.clone())).or_default();
        if of_file.kept.len() < NOTES_OF_FILE_MAX {
            of_file.kept.push(note);
        } else {
            of_file.hidden += 1;
        }
    }

    pub(crate) fn extend(&mut self, notes: impl IntoIterator<Item = Finding>) {
        notes.into_iter().for_each(|note| self.push(note));
    }

    /// All notes by file and line; the notes beyond the maximum of a file are counted.
    pub(crate) fn into_list(self) -> Vec<Finding> {
        let mut notes = Vec::new();
        // `None` sorts before every file.
        let (others, files): (Vec<_>, Vec<_>) = self.of_files.into_iter().partition(|((file, _), _)| file.is_none());
        for ((_, name), OfFile { mut kept, hidden }) in files.into_iter().chain(others) {
            kept.sort_by_key(|note| note.line);
            notes.append(&mut kept);
            if hidden > 0 {
                notes.push(Finding::of_file(name, format!("has {hidden} more notes like these")));
            }
        }
        notes
    }
}
