//! Output: tables for people, JSON for programs, progress bars on a terminal only.
//!
//! Results go to stdout, and a result that can't be written is a failure. Messages go to stderr; a message that can't
//! be written is ignored.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write as _};
use std::time::Duration;

use comfy_table::{ColumnConstraint, ContentArrangement, LineStyle, TableStyle, Width};
use indicatif::{ProgressBar, ProgressStyle};
pub use matricula_kit::money::grouped;
use matricula_kit::time::UnixMs;
use matricula_proto::common::v1::Source;
use prost_types::Timestamp;

use crate::arguments::Format;

/// Exit code when stdout could not be written.
const EXIT_NOT_WRITTEN: i32 = 1;

/// The mark of an empty cell in a table.
pub const NONE: &str = "-";

/// One line under the header; none between rows.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
/// Spaces around a column's content, including the space between two columns.
const PADDING: usize = 3;

/// Prints a line to stderr. It replaces the standard macro of this name in the whole binary. The standard macro panics
/// when stderr can't be written; a full disk or a closed terminal must neither end a server nor turn a success into a
/// failure.
macro_rules! eprintln {
    () => {
        $crate::output::print_to_stderr(format_args!(""))
    };
    ($($text:tt)*) => {
        $crate::output::print_to_stderr(format_args!($($text)*))
    };
}

/// Writes a line to stderr, if stderr can be written.
pub fn print_to_stderr(text: fmt::Arguments<'_>) {
    // An error can't be reported: stderr was the place to report it.
    let _ = writeln!(io::stderr(), "{text}");
}

/// A table as text, without spaces at the ends of lines. On a narrow terminal, some columns may be dropped, the first
/// one first. JSON contains all columns.
pub fn table<const N: usize>(
    columns: [&'static str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    dropped: &[&'static str],
) -> String {
    Table { columns, rows: rows.into_iter().collect(), dropped }.fitted(terminal_width())
}

struct Table<'a, const N: usize> {
    columns: [&'static str; N],
    rows: Vec<[String; N]>,
    dropped: &'a [&'static str],
}

impl<const N: usize> Table<'_, N> {
    fn fitted(&self, width: Option<usize>) -> String {
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let mut dropped = self.dropped.iter();
        while width.is_some_and(|width| self.narrowest(&shown) > width)
            && let Some(column) = dropped.next()
        {
            shown.retain(|index| self.columns[*index] != *column);
        }
        let mut table = comfy_table::Table::new();
        table.load_style(STYLE).force_no_tty().set_header(shown.iter().map(|index| self.columns[*index]));
        for row in &self.rows {
            table.add_row(shown.iter().map(|index| row[*index].as_str()));
        }
        if let Some(width) = width.and_then(|width| u16::try_from(width).ok()) {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            for (column, index) in table.column_iter_mut().zip(&shown) {
                let least = u16::try_from(self.longest_word(*index) + PADDING - 1).unwrap_or(u16::MAX);
                column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least)));
            }
        }
        table.trim_fmt()
    }

    /// The smallest width: every text is wrapped between its words.
    fn narrowest(&self, shown: &[usize]) -> usize {
        shown.iter().map(|index| self.longest_word(*index) + PADDING).sum()
    }

    fn longest_word(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column).map(String::as_str));
        let words = cells.chain([self.columns[column]]).flat_map(str::split_whitespace);
        words.map(|word| word.chars().count()).max().unwrap_or_default()
    }
}

/// The width of the terminal at stdout; `None` when stdout is not a terminal.
fn terminal_width() -> Option<usize> {
    // Snapshots must not depend on the width of the terminal that runs the tests.
    if cfg!(test) {
        return None;
    }
    comfy_table::Table::new().width().map(usize::from)
}

/// Prints to stdout, ending with one line break. Ends the process with a failure if stdout can't be written.
pub fn print(text: impl fmt::Display) {
    let text = text.to_string();
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush());
    if let Err(error) = written {
        not_written(&error);
    }
}

/// Ends the process because its result could not be written. It prints no message if the reader closed the pipe (`|
/// head`).
pub fn not_written(error: &io::Error) -> ! {
    if error.kind() != io::ErrorKind::BrokenPipe {
        eprintln!("error: the work was done, but its result could not be written: {error}");
    }
    std::process::exit(EXIT_NOT_WRITTEN);
}

/// Prints a result to stdout: a text for people, or a JSON document for programs.
pub fn show<T: fmt::Display>(
    format: Format,
    text: impl FnOnce() -> T,
    document: impl FnOnce() -> serde_json::Value,
) -> anyhow::Result<()> {
    match format {
        Format::Table => print(text()),
        Format::Json => json(&document())?,
    }
    Ok(())
}

/// Prints a JSON document to stdout.
pub fn json(value: &serde_json::Value) -> anyhow::Result<()> {
    print(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A timestamp as RFC 3339 in UTC, to the millisecond; `None` when it is unset.
pub fn moment(wire: Option<&Timestamp>) -> Option<String> {
    wire.and_then(UnixMs::from_wire).map(|moment| moment.to_string())
}

/// A timestamp for a table.
pub fn moment_or_none(wire: Option<&Timestamp>) -> String {
    moment(wire).unwrap_or_else(|| NONE.to_owned())
}

/// A text for a table.
pub fn or_none(text: &str) -> String {
    if text.is_empty() { NONE } else { text }.to_owned()
}

/// A text for programs; null when it is empty.
pub fn text(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// The name of an enum's value for people and programs, without the enum's prefix: `ENROLLED` for `OUTCOME_ENROLLED`.
pub fn enum_name(name: &'static str, prefix: &str) -> &'static str {
    match name.trim_start_matches(prefix) {
        "UNSPECIFIED" => "UNKNOWN",
        name => name,
    }
}

/// The source of a value, for a table.
pub fn source(source: Source) -> String {
    source_to_json(source).map_or_else(|| NONE.to_owned(), str::to_lowercase)
}

/// The source of a value, for programs; null when it is unknown.
pub fn source_to_json(source: Source) -> Option<&'static str> {
    (source != Source::Unspecified).then(|| enum_name(source.as_str_name(), "SOURCE_"))
}

/// A progress bar for long work. It is drawn only when stderr is a terminal, and removed at the end.
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar, if stderr is a terminal.
    pub fn on_terminal() -> Self {
        let bar = ProgressBar::new(0);
        // The template is constant and valid; without it the bar only looks plainer.
        if let Ok(style) = ProgressStyle::with_template("{msg:24} {wide_bar} {human_pos}/{human_len} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// A status line for work of unknown length, if stderr is a terminal.
    pub fn line_on_terminal() -> Self {
        let spinner = ProgressBar::new_spinner();
        spinner.enable_steady_tick(Duration::from_millis(200));
        Self(spinner)
    }

    /// No progress.
    pub fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// Sets the total amount of work.
    pub fn expect(&self, total: usize) {
        self.0.set_length(total as u64);
    }

    /// Sets the description of the current work.
    pub fn now(&self, what: impl Into<Cow<'static, str>>) {
        self.0.set_message(what);
    }

    /// Adds finished work.
    pub fn advance(&self, done: usize) {
        self.0.inc(done as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0198c5d0-0000-7000-8000-000000000001";

    fn registrations() -> Table<'static, 4> {
        let row = [ID, "C001-L1 C001-B1 C001-T1", "2026-08-17T20:53:20.000Z", "CLOSED_SECTION TIME_CONFLICT"];
        Table {
            columns: ["registration", "adds", "submitted", "why"],
            rows: vec![row.map(str::to_owned)],
            dropped: &["submitted"],
        }
    }

    #[test]
    fn a_narrow_terminal_gets_fewer_columns_and_whole_words() {
        let shown = registrations().fitted(Some(80));
        insta::assert_snapshot!(shown, @r"
         registration                           adds              why
        ─────────────────────────────────────────────────────────────────────────
         0198c5d0-0000-7000-8000-000000000001   C001-L1 C001-B1   CLOSED_SECTION
                                                C001-T1           TIME_CONFLICT
        ");
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    }

    #[test]
    fn no_id_is_cut_however_narrow_the_terminal() {
        for width in 1..200 {
            let shown = registrations().fitted(Some(width));
            for word in [ID, "C001-L1", "C001-B1", "CLOSED_SECTION", "TIME_CONFLICT"] {
                assert!(shown.contains(word), "{word} at {width}:\n{shown}");
            }
        }
    }

    #[test]
    fn a_file_gets_everything() {
        let shown = registrations().fitted(None);
        assert!(shown.contains("20:53:20") && shown.lines().count() == 3, "{shown}");
    }
}
