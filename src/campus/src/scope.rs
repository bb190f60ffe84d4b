//! The files and columns of a bundle. An import changes nothing that belongs to an absent one.

use std::collections::{BTreeMap, BTreeSet};

use crate::file::File;

/// The files of a bundle, each with the columns that are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    files: BTreeMap<File, BTreeSet<&'static str>>,
}

impl Scope {
    /// A scope without files.
    pub(crate) fn empty() -> Self {
        Self { files: BTreeMap::new() }
    }

    /// Adds a file with its header. Columns that are not read are ignored.
    pub(crate) fn insert(&mut self, file: File, header: &[String]) {
        let is_there = |column: &&str| header.iter().any(|name| name == column);
        self.files.insert(file, file.columns().iter().copied().filter(is_there).collect());
    }

    /// The scope without a column; the bundle's values of that column then have no meaning.
    #[must_use]
    pub fn without_column(mut self, file: File, column: &str) -> Self {
        if let Some(columns) = self.files.get_mut(&file) {
            columns.remove(column);
        }
        self
    }

    /// Whether the bundle has the file.
    pub fn has_file(&self, file: File) -> bool {
        self.files.contains_key(&file)
    }

    /// Whether the bundle has the file, with this column.
    pub fn has_column(&self, file: File, column: &str) -> bool {
        self.files.get(&file).is_some_and(|columns| columns.contains(column))
    }
}

impl Default for Scope {
    /// The scope of a bundle that was not read from files: every file except `enrollments.csv`, each with every column.
    fn default() -> Self {
        let files = File::ALL.into_iter().filter(|file| *file != File::Enrollments);
        Self { files: files.map(|file| (file, file.columns().iter().copied().collect())).collect() }
    }
}
