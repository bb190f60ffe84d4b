//! Reads the archive: the newest files first, each saga once.
//!
//! It blocks, because only commands use it. It reads one line at a time, so that a large archive needs little memory.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use matricula_core::SagaId;

use super::{EXTENSION, Line};
use crate::store::SagaRow;

/// The longest line that is read. Even a saga that was retried for weeks is far below it.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// The files of some folders.
#[derive(Debug)]
pub struct Archive {
    /// The last one is read next.
    files: Vec<PathBuf>,
    open: Option<Lines>,
    seen: HashSet<SagaId>,
    /// Only lines with this text are parsed.
    only: Option<String>,
}

/// A saga of the archive.
#[derive(Debug, Clone)]
pub struct Found {
    /// As the store had it.
    pub saga: SagaRow,
    /// The file that it is in.
    pub file: PathBuf,
}

/// A file or a line that can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, or the folder.
    pub file: PathBuf,
    /// The line, counted from 1; `None`: the file itself.
    pub line: Option<u64>,
    /// Why it can't be read.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl Archive {
    /// The files below some folders.
    pub fn open(dirs: &[PathBuf]) -> Result<Self, Problem> {
        let mut files = Vec::new();
        for dir in dirs {
            collect(dir, &mut files).map_err(|error| Problem::of_file(dir, &error))?;
        }
        // Names are ordered by time, also across folders.
        files.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        Ok(Self { files, open: None, seen: HashSet::new(), only: None })
    }

    /// Reads only this saga. This is quicker, because lines without its id are not parsed.
    pub fn only(mut self, saga: SagaId) -> Self {
        self.only = Some(format!("\"{saga}\""));
        self
    }

    /// Reads only the sagas whose ids begin with `prefix`, which is as quick.
    pub fn only_beginning_with(mut self, prefix: &str) -> Self {
        self.only = Some(format!("\"{prefix}"));
        self
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        self.files.len()
    }
}

/// The sagas, those of the newest file first, and the problems in between.
impl Iterator for Archive {
    type Item = Result<Found, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(lines) = &mut self.open else {
                let path = self.files.pop()?;
                match File::open(&path) {
                    Ok(file) => self.open = Some(Lines { path, reader: BufReader::new(file), number: 0 }),
                    Err(error) => return Some(Err(Problem::of_file(&path, &error))),
                }
                continue;
            };
            let read = lines.next(self.only.as_deref());
            match read {
                None => self.open = None,
                Some(Ok(found)) if !self.seen.insert(found.saga.id) => {}
                Some(read) => {
                    // The rest of a file that can't be read any further is skipped.
                    if read.as_ref().is_err_and(|problem| problem.line.is_none()) {
                        self.open = None;
                    }
                    return Some(read);
                }
            }
        }
    }
}

#[derive(Debug)]
struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    number: u64,
}

impl Lines {
    fn next(&mut self, only: Option<&str>) -> Option<Result<Found, Problem>> {
        loop {
            let mut text = Vec::new();
            let mut limited = io::Read::take(&mut self.reader, LINE_BYTES_MAX);
            match limited.read_until(b'\n', &mut text) {
                Ok(0) => return None,
                Ok(_) => self.number += 1,
                Err(error) => return Some(Err(Problem::of_file(&self.path, &error))),
            }
            let is_wanted = only.is_none_or(|only| String::from_utf8_lossy(&text).contains(only));
            if !is_wanted || text.trim_ascii().is_empty() {
                continue;
            }
            let saga = parsed(&text);
            return Some(match saga {
                Ok(saga) => Ok(Found { saga, file: self.path.clone() }),
                Err(problem) => Err(Problem { file: self.path.clone(), line: Some(self.number), problem }),
            });
        }
    }
}

impl Problem {
    fn of_file(file: &Path, error: &io::Error) -> Self {
        Self { file: file.to_owned(), line: None, problem: error.to_string() }
    }
}

/// A line whose log has no gap.
fn parsed(text: &[u8]) -> Result<SagaRow, String> {
    let line: Line = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let is_whole = line.events.iter().zip(1..).all(|(event, sequence)| event.sequence == sequence);
    if line.events.is_empty() || !is_whole {
        return Err(format!("the log of saga {} has gaps", line.saga_id));
    }
    Ok(line.into_row())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == EXTENSION) {
            files.push(path);
        }
    }
    Ok(())
}
