//! The ids of a file: what other files, and other rows, may refer to.

use std::collections::{HashMap, hash_map::Entry};

use super::Row;
use crate::{file::File, problem::Problems};

/// The ids of a file.
pub(crate) struct Index {
    file: File,
    rows: HashMap<String, Indexed>,
    /// Of its [`Table`](super::Table).
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

    /// Notes the id of a row; the same id again is a problem.
    pub(crate) fn insert(&mut self, row: Row<'_>, column: &str, id: &str, deleted: bool, problems: &mut Problems) {
        match self.rows.entry(id.to_owned()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Indexed { line: row.line, deleted });
            }
            Entry::Occupied(first) => {
                let what = format!("is in line {}, too; keep one of them", first.get().line);
                row.refuse(column, id, what, problems);
            }
        }
    }

    /// Whether a row of the file has the id.
    pub(crate) fn contains(&self, id: &str) -> bool {
        self.rows.contains_key(id)
    }

    /// Why a reference to an id of this file does not hold; none when it does, or when that can't be known.
    pub(crate) fn missing(&self, id: &str) -> Option<String> {
        let is_missing = self.complete && !self.contains(id);
        is_missing.then(|| format!("is not in {}; add it there or correct it here", self.file))
    }

    /// Whether a reference to an id of this file holds, be it marked `tobedeleted` or not; if not, that is a problem.
    pub(crate) fn check(&self, row: Row<'_>, column: &str, id: &str, problems: &mut Problems) -> bool {
        let missing = self.missing(id);
        let holds = missing.is_none();
        if let Some(what) = missing {
            row.refuse(column, id, what, problems);
        }
        holds
    }

    /// Whether a reference of a row that is not marked `tobedeleted` holds: what it refers to may not be marked so.
    pub(crate) fn check_kept(&self, row: Row<'_>, column: &str, id: &str, problems: &mut Problems) -> bool {
        if self.rows.get(id).is_some_and(|indexed| indexed.deleted) {
            let what = format!("is marked tobedeleted in {}; keep it there, or mark this row, too", self.file);
            row.refuse(column, id, what, problems);
            return false;
        }
        self.check(row, column, id, problems)
    }
}
