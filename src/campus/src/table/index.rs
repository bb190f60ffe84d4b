//! The ids of a file, to which other files and rows may refer.

use std::collections::{HashMap, hash_map::Entry};

use super::Row;
use crate::{file::File, ids::Invalid, problem::Problems};

/// The column with the id of a row.
const ID: &str = "sourcedId";

/// The ids of a file.
pub(crate) struct Index {
    file: File,
    rows: HashMap<String, Indexed>,
    /// Copied from its [`Table`](super::Table).
    pub(crate) complete: bool,
}

struct Indexed {
    line: u64,
    deleted: bool,
}

impl Index {
    pub(crate) fn new(file: File) -> Self {
        Self { file, rows: HashMap::new(), complete: false }
    }

    /// Reads the id of a row, and whether the row is marked `tobedeleted`. Adds the id; a repeated one is a problem.
    pub(crate) fn add<'a, T>(
        &mut self,
        row: Row<'a>,
        parse: impl FnOnce(&'a str) -> Result<T, Invalid>,
        problems: &mut Problems,
    ) -> (Option<T>, bool) {
        let deleted = row.deleted(problems);
        let Some((text, id)) = row.required(ID, |text| Ok((text, parse(text)?)), problems) else {
            return (None, deleted);
        };
        match self.rows.entry(text.to_owned()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Indexed { line: row.line, deleted });
            }
            Entry::Occupied(first) => {
                let what = format!("is also in line {}; keep one of them", first.get().line);
                row.refuse(ID, text, what, problems);
            }
        }
        (Some(id), deleted)
    }

    /// Why a reference to an id of this file is invalid; `None` if it is valid or can't be decided.
    pub(crate) fn missing(&self, id: &str) -> Option<String> {
        let is_missing = self.complete && !self.rows.contains_key(id);
        is_missing.then(|| format!("is not in {}; add it there or correct this value", self.file))
    }

    /// Whether a reference to an id of this file is valid; otherwise it is a problem. The id may be marked
    /// `tobedeleted`.
    pub(crate) fn check(&self, row: Row<'_>, column: &str, id: &str, problems: &mut Problems) -> bool {
        let missing = self.missing(id);
        if let Some(what) = &missing {
            row.refuse(column, id, what.as_str(), problems);
        }
        missing.is_none()
    }

    /// Like [`Self::check`], and the id must not be marked `tobedeleted`.
    pub(crate) fn check_kept(&self, row: Row<'_>, column: &str, id: &str, problems: &mut Problems) -> bool {
        if self.rows.get(id).is_some_and(|indexed| indexed.deleted) {
            let what = format!("is marked tobedeleted in {}; keep it there, or mark this row as well", self.file);
            row.refuse(column, id, what, problems);
            return false;
        }
        self.check(row, column, id, problems)
    }
}
