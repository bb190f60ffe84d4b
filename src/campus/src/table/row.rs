//! One row of a table. Each value is checked when it is read.

use csv::ByteRecord;

use crate::{
    file::File,
    ids::Invalid,
    problem::{Finding, Problems},
};

/// Keeps a few hundred rows within one gRPC message.
const TEXT_BYTES_MAX: usize = 4_096;
/// Maximum length of a text for people, in characters: the limit of the services.
pub(crate) const PEOPLE_CHARS_MAX: usize = 500;

/// One row.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    /// Its file.
    pub file: File,
    /// The first line of the row.
    pub line: u64,
    pub(super) header: &'a [String],
    pub(super) record: &'a ByteRecord,
}

impl<'a> Row<'a> {
    /// The trimmed text of a column, empty if the column is absent; `None` if the text is invalid.
    pub(crate) fn text(&self, column: &str, problems: &mut Problems) -> Option<&'a str> {
        let Some(at) = self.header.iter().position(|name| name == column) else { return Some("") };
        let bytes = &self.record[at];
        let problem = match std::str::from_utf8(bytes) {
            Err(_) => "is not UTF-8; save the file as UTF-8",
            Ok(text) if text.len() > TEXT_BYTES_MAX => "is longer than 4,096 bytes; shorten it",
            Ok(text) if text.contains('\0') => "has a NUL character, which databases refuse; remove it",
            Ok(text) => return Some(text.trim()),
        };
        let value = String::from_utf8_lossy(bytes);
        problems.push(Finding::of_value(self.file, self.line, column, &value, problem));
        None
    }

    /// An optional value.
    pub(crate) fn optional<T>(
        &self,
        column: &str,
        parse: impl FnOnce(&'a str) -> Result<T, Invalid>,
        problems: &mut Problems,
    ) -> Option<T> {
        let text = self.text(column, problems).filter(|text| !text.is_empty())?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(invalid) => {
                self.refuse(column, text, invalid.to_string(), problems);
                None
            }
        }
    }

    /// A required value.
    pub(crate) fn required<T>(
        &self,
        column: &str,
        parse: impl FnOnce(&'a str) -> Result<T, Invalid>,
        problems: &mut Problems,
    ) -> Option<T> {
        if self.text(column, problems)?.is_empty() {
            self.refuse(column, "", "is empty; fill it in", problems);
            return None;
        }
        self.optional(column, parse, problems)
    }

    /// An optional text for people, with the length and characters that the services accept.
    pub(crate) fn for_people(&self, column: &str, problems: &mut Problems) -> Option<&'a str> {
        let text = self.text(column, problems)?;
        let what = if text.chars().count() > PEOPLE_CHARS_MAX {
            format!("is longer than {PEOPLE_CHARS_MAX} characters; shorten it")
        } else if let Some(control) = text.chars().find(|char| char.is_control()) {
            format!("has the control character {control:?}; remove it")
        } else {
            return Some(text);
        };
        self.refuse(column, text, what, problems);
        None
    }

    /// A required text for people.
    pub(crate) fn required_for_people(&self, column: &str, problems: &mut Problems) -> Option<&'a str> {
        let text = self.for_people(column, problems)?;
        if text.is_empty() {
            self.refuse(column, text, "is empty; fill it in", problems);
            return None;
        }
        Some(text)
    }

    /// Whether the row is marked `tobedeleted`.
    pub(crate) fn deleted(&self, problems: &mut Problems) -> bool {
        let parse = |text: &str| match text {
            "active" => Ok(false),
            "tobedeleted" => Ok(true),
            _ => Err(Invalid::new("unknown status; use active or tobedeleted")),
        };
        self.optional("status", parse, problems).unwrap_or(false)
    }

    /// Reports a value that can't be used.
    pub(crate) fn refuse(&self, column: &str, value: &str, what: impl Into<String>, problems: &mut Problems) {
        problems.push(Finding::of_value(self.file, self.line, column, value, what));
    }
}
