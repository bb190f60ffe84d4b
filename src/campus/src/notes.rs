//! Notes on a bundle: values that an import ignores, or reads in an unexpected way. Notes do not prevent an import.

use std::{collections::BTreeMap, fmt};

use crate::file::File;

/// Maximum number of notes per file, about a screen; the rest is counted.
const NOTES_OF_FILE_MAX: usize = 50;

/// One note: `classes.csv:1: metadata.maxNumberStudent: is not read; did you mean ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Name of the file.
    pub file: String,
    /// Line where the row begins (the header is line 1); `None` for the whole file.
    pub line: Option<u64>,
    /// Header of the column.
    pub column: Option<String>,
    /// The fact, and its effect.
    pub text: String,
}

/// Collects notes while a bundle is read.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// By the rank and the name of the file: files that are not read come last.
    of_files: BTreeMap<(Option<File>, String), OfFile>,
}

#[derive(Debug, Default)]
struct OfFile {
    kept: Vec<Note>,
    hidden: usize,
}

impl Note {
    pub(crate) fn of_file(file: impl fmt::Display, text: impl Into<String>) -> Self {
        Self { file: file.to_string(), line: None, column: None, text: text.into() }
    }

    pub(crate) fn of_value(file: impl fmt::Display, line: u64, column: &str, text: impl Into<String>) -> Self {
        Self { line: Some(line), column: Some(column.to_owned()), ..Self::of_file(file, text) }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = &self.column {
            write!(f, ": {column}")?;
        }
        write!(f, ": {}", self.text)
    }
}

impl Notes {
    pub(crate) fn push(&mut self, note: Note) {
        let of_file = self.of_files.entry((File::from_name(&note.file), note.file.clone())).or_default();
        if of_file.kept.len() < NOTES_OF_FILE_MAX {
            of_file.kept.push(note);
        } else {
            of_file.hidden += 1;
        }
    }

    pub(crate) fn extend(&mut self, notes: impl IntoIterator<Item = Note>) {
        notes.into_iter().for_each(|note| self.push(note));
    }

    /// All notes by file and line; the notes beyond the maximum of a file are counted.
    pub(crate) fn into_list(self) -> Vec<Note> {
        let mut notes = Vec::new();
        // `None` sorts before every file.
        let (others, files): (Vec<_>, Vec<_>) = self.of_files.into_iter().partition(|((file, _), _)| file.is_none());
        for ((_, name), OfFile { mut kept, hidden }) in files.into_iter().chain(others) {
            kept.sort_by_key(|note| note.line);
            notes.append(&mut kept);
            if hidden > 0 {
                notes.push(Note::of_file(name, format!("has {hidden} more notes like these")));
            }
        }
        notes
    }
}
