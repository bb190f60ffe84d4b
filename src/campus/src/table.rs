//! Reads a CSV file row by row, with the line number of each row. Accepts a byte order mark, CRLF, blank lines and
//! columns in any order; anything else is reported. One row is in memory at a time.

mod causes;
mod index;
mod row;

use std::{
    collections::HashSet,
    fs,
    io::{self, Cursor, Read, Seek as _},
    path::Path,
};

use csv::{ByteRecord, ReaderBuilder, Terminator};

pub(crate) use self::{
    index::Index,
    row::{PEOPLE_CHARS_MAX, Row},
};
use crate::{
    file::File,
    problem::{Finding, Problems},
};

/// Enough for four million clicks; a larger file is not a campus.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Appended to every file: the first ends a last line without a line break; the second is left over unless a quote is
/// not closed.
const END: &[u8] = b"\n\n";

/// The result of opening a file.
pub(crate) enum Opened {
    /// The file does not exist.
    Absent,
    /// It can't be used, and the problems are reported.
    Broken,
    /// It can be read.
    Ready(Box<Table>),
}

/// A file that is being read.
pub(crate) struct Table {
    file: File,
    /// The names of the columns.
    pub(crate) header: Vec<String>,
    reader: csv::Reader<io::Chain<fs::File, Cursor<&'static [u8]>>>,
    record: ByteRecord,
    end_byte: u64,
    /// True while no row was skipped: only then is it certain that an id is not in the file.
    pub(crate) complete: bool,
}

impl Table {
    /// Opens a file of a folder and reads its header, which must have the `required` columns.
    pub(crate) fn open(folder: &Path, file: File, required: &[&str], problems: &mut Problems) -> Opened {
        let broken = |problems: &mut Problems, what: String| {
            problems.push(Finding::of_file(file, what));
            Opened::Broken
        };
        let opened = match fs::File::open(folder.join(file.name())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Opened::Absent,
            opened => opened.and_then(|opened| Ok((opened.metadata()?, opened))),
        };
        let (metadata, mut opened) = match opened {
            Ok(opened) => opened,
            Err(error) => return broken(problems, format!("can't be opened ({error}); check its permissions")),
        };
        if !metadata.is_file() {
            return broken(problems, "is not a file; put the CSV file in its place".to_owned());
        }
        if metadata.len() > FILE_BYTES_MAX {
            let (has, limit) = (metadata.len() >> 20, FILE_BYTES_MAX >> 20);
            return broken(problems, format!("has {has} MiB, the limit is {limit}; export one term at a time"));
        }
        match causes::is_utf16(&mut opened).and_then(|is_utf16| opened.rewind().map(|()| is_utf16)) {
            Ok(false) => {}
            Ok(true) => return broken(problems, causes::UTF16.to_owned()),
            Err(error) => return broken(problems, format!("can't be read ({error}); try again")),
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
            problems.push(Finding::of_file(self.file, "is empty; it needs at least a header"));
            return false;
        };
        self.header = self.record.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        let mut usable = true;
        let is_missing = |column: &&str| !self.header.iter().any(|name| name == column);
        if required.iter().any(is_missing)
            && let Some(cause) = causes::other_separator(&self.header, required)
        {
            problems.push(Finding::of_line(self.file, line, cause));
            return false;
        }
        for column in required {
            if is_missing(column) {
                problems.push(Finding::of_line(self.file, line, format!("has no column {column}; add it")));
                usable = false;
            }
        }
        let mut names = HashSet::new();
        for name in self.header.iter().filter(|name| !name.is_empty()) {
            if !names.insert(name) {
                problems.push(Finding::of_line(self.file, line, format!("has column {name} twice; keep one")));
                usable = false;
            }
        }
        usable
    }

    /// The next row with as many fields as the header; `None` at the end, or if the rest can't be read.
    pub(crate) fn next_row(&mut self, problems: &mut Problems) -> Option<Row<'_>> {
        let line = loop {
            let line = self.advance(problems)?;
            if self.record.len() == self.header.len() {
                break line;
            }
            let (has, wanted) = (self.record.len(), self.header.len());
            let what = format!("has {has} fields, the header has {wanted}; put a field with a comma in quotes");
            problems.push(Finding::of_line(self.file, line, what));
            self.complete = false;
        };
        Some(Row { file: self.file, line, header: &self.header, record: &self.record })
    }

    /// Reads the next row that is not blank, and returns its first line.
    fn advance(&mut self, problems: &mut Problems) -> Option<u64> {
        loop {
            match self.reader.read_byte_record(&mut self.record) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    problems
                        .push(Finding::of_file(self.file, format!("can't be read any further ({error}); try again")));
                    self.complete = false;
                    return None;
                }
            }
            let line_breaks = self.record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
            let ended = self.reader.position();
            if ended.byte() >= self.end_byte {
                let line = ended.line() - line_breaks;
                problems.push(Finding::of_line(self.file, line, "a closing quote is missing in this row; add it"));
                self.complete = false;
                return None;
            }
            if self.record.len() == 1 && matches!(&self.record[0], b"" | b"\r") {
                continue;
            }
            // The line breaks in the row and the one at its end were counted since the row began.
            return Some(ended.line() - line_breaks - 1);
        }
    }
}
