//! How things look: tables for people, JSON for programs, progress only on a terminal.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write as _};
use std::time::Duration;

use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};
use indicatif::{ProgressBar, ProgressStyle};
use matricula_kit::time::UnixMs;
use prost_types::Timestamp;

/// Exit code when nobody reads stdout any more.
const EXIT_NOT_READ: i32 = 1;

/// What stands for nothing in a table.
pub const NONE: &str = "-";

/// One line under the header: rows are told apart well enough by being rows.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// An empty table with these columns.
pub fn table<const N: usize>(columns: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic);
    // Snapshots must not depend on the width of the terminal that runs the tests.
    #[cfg(test)]
    table.force_no_tty();
    table.set_header(columns);
    table
}

/// Prints to stdout, ending with one line break. Whoever reads may stop reading (`| head`): then nothing is left to do.
pub fn print(text: impl fmt::Display) {
    let text = text.to_string();
    if writeln!(io::stdout(), "{}", text.trim_end_matches('\n')).is_err() {
        std::process::exit(EXIT_NOT_READ);
    }
}

/// Prints a JSON document to stdout.
pub fn json(value: &serde_json::Value) -> anyhow::Result<()> {
    print(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A moment as RFC 3339 in UTC, to the millisecond; `None` when it is unset.
pub fn moment(wire: Option<&Timestamp>) -> Option<String> {
    wire.and_then(UnixMs::from_wire).map(|moment| moment.to_string())
}

/// A moment for a table.
pub fn moment_or_none(wire: Option<&Timestamp>) -> String {
    moment(wire).unwrap_or_else(|| NONE.to_owned())
}

/// A number with its thousands parted: 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A bar of what takes longer than a moment; drawn only when stderr is a terminal, and gone when it is done.
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar, when stderr is a terminal.
    pub fn on_terminal() -> Self {
        let bar = ProgressBar::new(0);
        // The template is fixed and tested by being drawn; without it the bar is only plainer.
        if let Ok(style) = ProgressStyle::with_template("{msg:24} {wide_bar} {human_pos}/{human_len} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// A line that changes, of what nobody knows the end of.
    pub fn line_on_terminal() -> Self {
        let spinner = ProgressBar::new_spinner();
        spinner.enable_steady_tick(Duration::from_millis(200));
        Self(spinner)
    }

    /// Nothing to see.
    pub fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// How much there is to do in all.
    pub fn expect(&self, total: usize) {
        self.0.set_length(total as u64);
    }

    /// What is being done now.
    pub fn now(&self, what: impl Into<Cow<'static, str>>) {
        self.0.set_message(what);
    }

    /// So much more is done.
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

    #[test]
    fn thousands_are_parted() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }
}
