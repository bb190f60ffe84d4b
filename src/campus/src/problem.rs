//! What was found in a bundle: problems, which prevent its use, and notes; each with its place.

use std::fmt;

use crate::file::File;

/// Limits the memory for the problems of a garbage file, which has millions.
const PROBLEMS_KEPT_MAX: usize = 1_000;
/// Maximum number of shown problems, about a screen; the rest is counted.
const PROBLEMS_SHOWN_MAX: usize = 50;
/// Characters of a bad value that are shown, enough to find it.
const VALUE_CHARS_MAX: usize = 60;

/// A problem (`classes.csv:17: metadata.maxNumberStudents: "many": not a number of seats`), or a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Name of the file; the directory itself if it is not about a file.
    pub file: String,
    /// Line where the row begins (the header is line 1); `None` for the whole file.
    pub line: Option<u64>,
    /// Header of the column.
    pub column: Option<String>,
    /// The value, shortened.
    pub value: Option<String>,
    /// Of a problem: the cause, and what to do. Of a note: the fact, and its effect.
    pub what: String,
}

/// Why a bundle is not used: all problems that were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleErrors {
    problems: Vec<Finding>,
    total: usize,
}

/// Collects problems while a bundle is read.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    kept: Vec<Finding>,
    total: usize,
}

impl Finding {
    pub(crate) fn of_file(file: impl fmt::Display, what: impl Into<String>) -> Self {
        Self { file: file.to_string(), line: None, column: None, value: None, what: what.into() }
    }

    pub(crate) fn of_line(file: impl fmt::Display, line: u64, what: impl Into<String>) -> Self {
        Self { line: Some(line), ..Self::of_file(file, what) }
    }

    pub(crate) fn of_column(file: impl fmt::Display, line: u64, column: &str, what: impl Into<String>) -> Self {
        Self { column: Some(column.to_owned()), ..Self::of_line(file, line, what) }
    }

    pub(crate) fn of_value(
        file: impl fmt::Display,
        line: u64,
        column: &str,
        value: &str,
        what: impl Into<String>,
    ) -> Self {
        let mut shortened: String = value.chars().take(VALUE_CHARS_MAX).collect();
        if shortened.len() < value.len() {
            shortened.push('…');
        }
        Self { value: Some(shortened), ..Self::of_column(file, line, column, what) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = &self.column {
            write!(f, ": {column}")?;
        }
        if let Some(value) = &self.value {
            write!(f, ": {value:?}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl BundleErrors {
    /// The problems that were found first, a thousand at most, sorted by file and line.
    pub fn problems(&self) -> &[Finding] {
        &self.problems
    }

    /// The total number of problems.
    pub fn total(&self) -> usize {
        self.total
    }
}

impl fmt::Display for BundleErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.problems.iter().take(PROBLEMS_SHOWN_MAX) {
            writeln!(f, "{problem}")?;
        }
        let hidden = self.total.saturating_sub(PROBLEMS_SHOWN_MAX);
        if hidden > 0 {
            writeln!(f, "and {hidden} more")?;
        }
        let noun = if self.total == 1 { "problem" } else { "problems" };
        write!(f, "{} {noun}; nothing of the bundle is used", self.total)
    }
}

impl std::error::Error for BundleErrors {}

impl Problems {
    pub(crate) fn push(&mut self, problem: Finding) {
        self.total += 1;
        if self.kept.len() < PROBLEMS_KEPT_MAX {
            self.kept.push(problem);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The collected problems by file and line; those outside of a bundle's files come last.
    pub(crate) fn into_errors(self) -> BundleErrors {
        let Self { kept: mut problems, total } = self;
        let file = |problem: &Finding| File::from_name(&problem.file);
        problems.sort_by_key(|problem| (file(problem).is_none(), file(problem), problem.line));
        BundleErrors { problems, total }
    }
}
