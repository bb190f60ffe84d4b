//! One CSV file, row by row, with the line where each row begins. Tolerates a byte order mark, CRLF, blank lines and
//! columns in any order; what it does not tolerate, it names. Holds one row in memory.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::File,
    io::{self, Cursor, Read},
    path::Path,
};

use csv::{ByteRecord, ReaderBuilder, Terminator};

use crate::{
    ids::Invalid,
    problem::{Problem, Problems},
};

/// Four million clicks fit; a file beyond it is not a campus.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Keeps a few hundred rows within one gRPC message.
const TEXT_BYTES_MAX: usize = 4_096;
/// Longest text for people, in characters: a title or some sentences. The services take no longer one.
pub(crate) const PEOPLE_CHARS_MAX: usize = 500;
/// Appended to every file: the first ends a last line that has no end, and the second is left over unless a quote
/// was never closed.
const END: &[u8] = b"\n\n";

/// What became of opening a file.
pub(crate) enum Opened {
    /// There is no such file.
    Absent,
    /// It can't be used; the problems say why.
    Broken,
    /// Read on.
    Ready(Box<Table>),
}

/// A file that is being read.
pub(crate) struct Table {
    file: &'static str,
    header: Vec<String>,
    reader: csv::Reader<io::Chain<File, Cursor<&'static [u8]>>>,
    record: ByteRecord,
    end_byte: u64,
    /// No row was left out so far: only then can anybody say that something is not in the file.
    pub(crate) complete: bool,
}

/// One row.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    /// Name of the file.
    pub file: &'static str,
    /// Where the row begins.
    pub line: u64,
    header: &'a [String],
    record: &'a ByteRecord,
}

impl Table {
    /// Opens a file and reads its header, which must have the `required` columns.
    pub(crate) fn open(dir: &Path, file: &'static str, required: &[&str], problems: &mut Problems) -> Opened {
        let broken = |problems: &mut Problems, what: String| {
            problems.push(Problem::of_file(file, what));
            Opened::Broken
        };
        let opened = match File::open(dir.join(file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Opened::Absent,
            opened => opened.and_then(|opened| Ok((opened.metadata()?, opened))),
        };
        let (metadata, opened) = match opened {
            Ok(opened) => opened,
            Err(error) => return broken(problems, format!("can't be opened ({error}); check that it may be read")),
        };
        if !metadata.is_file() {
            return broken(problems, "is not a file; put the CSV file in its place".to_owned());
        }
        if metadata.len() > FILE_BYTES_MAX {
            let (has, limit) = (metadata.len() >> 20, FILE_BYTES_MAX >> 20);
            return broken(problems, format!("has {has} MiB, the limit is {limit}; export one term at a time"));
        }
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .terminator(Terminator::Any(b'\n'))
            .from_reader(opened.chain(Cursor::new(END)));
        let end_byte = metadata.len() + END.len() as u64;
        let mut table = Self { file, header: Vec::new(), reader, record: ByteRecord::new(), end_byte, complete: true };
        if table.read_header(required, problems) { Opened::Ready(Box::new(table)) } else { Opened::Broken }
    }

    fn read_header(&mut self, required: &[&str], problems: &mut Problems) -> bool {
        let Some(line) = self.advance(problems) else {
            problems.push(Problem::of_file(self.file, "is empty; it needs at least a header"));
            return false;
        };
        self.header = self.record.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        let mut usable = true;
        for column in required {
            if !self.header.iter().any(|name| name == column) {
                problems.push(Problem::of_line(self.file, line, format!("has no column {column}; add it")));
                usable = false;
            }
        }
        for (at, name) in self.header.iter().enumerate() {
            if !name.is_empty() && self.header[..at].contains(name) {
                problems.push(Problem::of_line(self.file, line, format!("has column {name} twice; keep one")));
                usable = false;
            }
        }
        usable
    }

    /// The next row that has as many fields as the header. None at the end, or when the rest can't be read.
    pub(crate) fn next_row(&mut self, problems: &mut Problems) -> Option<Row<'_>> {
        let line = loop {
            let line = self.advance(problems)?;
            if self.record.len() == self.header.len() {
                break line;
            }
            let (has, wanted) = (self.record.len(), self.header.len());
            let what = format!("has {has} fields, the header has {wanted}; put a field that holds a comma in quotes");
            problems.push(Problem::of_line(self.file, line, what));
            self.complete = false;
        };
        Some(Row { file: self.file, line, header: &self.header, record: &self.record })
    }

    /// Reads the next row that is not blank, and says in which line it begins.
    fn advance(&mut self, problems: &mut Problems) -> Option<u64> {
        loop {
            match self.reader.read_byte_record(&mut self.record) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    problems.push(Problem::of_file(self.file, format!("can't be read on ({error}); try again")));
                    self.complete = false;
                    return None;
                }
            }
            let line_breaks = self.record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
            let ended = self.reader.position();
            if ended.byte() >= self.end_byte {
                let line = ended.line() - line_breaks;
                problems.push(Problem::of_line(self.file, line, "a quote is never closed in this row; close it"));
                self.complete = false;
                return None;
            }
            if self.record.len() == 1 && matches!(&self.record[0], b"" | b"\r") {
                continue;
            }
            // The row's own line breaks and the one that ended it were counted since it began.
            return Some(ended.line() - line_breaks - 1);
        }
    }
}

impl<'a> Row<'a> {
    /// The trimmed text of a column, empty when the column is absent. None if it is no proper text.
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
        problems.push(Problem::of_value(self.file, self.line, column, &value, problem));
        None
    }

    /// A value that may be empty.
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

    /// A value that must be there.
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

    /// A text for people, which may be empty: as long, and of such characters, as the services take.
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

    /// A text for people that must be there.
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

    /// Notes that a value can't be used.
    pub(crate) fn refuse(&self, column: &str, value: &str, what: impl Into<String>, problems: &mut Problems) {
        problems.push(Problem::of_value(self.file, self.line, column, value, what));
    }
}

/// The ids of a file: what other files may refer to.
pub(crate) struct Index {
    file: &'static str,
    rows: HashMap<String, Indexed>,
    /// Of its [`Table`].
    pub(crate) complete: bool,
}

struct Indexed {
    line: u64,
    deleted: bool,
}

impl Index {
    pub(crate) fn new(file: &'static str) -> Self {
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

    /// Whether a reference to an id of this file holds; if not, that is a problem.
    pub(crate) fn check(&self, row: Row<'_>, column: &str, id: &str, problems: &mut Problems) -> bool {
        let what = match self.rows.get(id) {
            Some(Indexed { deleted: false, .. }) => return true,
            _ if !self.complete => return true,
            Some(_) => format!("is marked tobedeleted in {}; keep it there or remove this row", self.file),
            None => format!("is not in {}; add it there or correct it here", self.file),
        };
        row.refuse(column, id, what, problems);
        false
    }
}
