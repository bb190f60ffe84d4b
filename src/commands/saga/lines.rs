//! Formats text for the width of the terminal. Words are never split, so that ids can be copied.

use matricula_kit::time::{self, UnixMs};
use prost_types::Timestamp;

use crate::output::NONE;

/// Columns of a list in snapshots.
const COLUMNS_OF_TESTS: usize = 100;
/// Length of `2026-11-22` and of `2026-11-22T` in an RFC 3339 timestamp.
const DATE: usize = 10;
const DATE_AND_T: usize = 11;
/// Length of `16:24:36`.
const TIME: usize = 8;

/// The width to which text and lists are fitted: that set in `COLUMNS`, or that of the terminal. It is unlimited in a
/// file or a pipe, so that scripts find whole lines.
pub fn width() -> usize {
    // Snapshots must not depend on the terminal of the test run.
    if cfg!(test) {
        return COLUMNS_OF_TESTS;
    }
    let set = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    set.or_else(|| comfy_table::Table::new().width().map(usize::from)).unwrap_or(usize::MAX)
}

/// A short timestamp: the time if it is today (UTC), otherwise the day and the minute.
pub fn short(wire: Option<&Timestamp>) -> String {
    short_at(wire, time::now())
}

fn short_at(wire: Option<&Timestamp>, now: UnixMs) -> String {
    let Some(moment) = wire.and_then(UnixMs::from_wire) else { return NONE.to_owned() };
    let (text, today) = (moment.to_string(), now.to_string());
    match (text.get(..DATE), text.get(DATE_AND_T..DATE_AND_T + TIME)) {
        (Some(date), Some(time)) if Some(date) == today.get(..DATE) => time.to_owned(),
        (Some(date), Some(time)) => format!("{} {}", &date[5..], &time[..5]),
        _ => text,
    }
}

/// The seconds since a timestamp.
pub fn seconds_since(wire: Option<&Timestamp>) -> Option<i64> {
    let moment = wire.and_then(UnixMs::from_wire)?;
    Some(time::now().0.saturating_sub(moment.0).max(0) / 1_000)
}

/// Wraps each line of a text between words. Continuation lines are indented `hang` columns more than the line itself; a
/// word that is longer than a line is not split.
pub fn wrapped(text: &str, hang: usize, width: usize) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let body = line.trim_start();
        let indent = line.chars().count() - body.chars().count();
        if line.chars().count() <= width {
            lines.push(line.to_owned());
            continue;
        }
        let mut current = " ".repeat(indent);
        let mut is_empty = true;
        // Spaces between columns are kept.
        for word in body.split(' ') {
            let length = word.chars().count();
            if !is_empty && current.chars().count() + 1 + length > width && length > 0 {
                lines.push(current.trim_end().to_owned());
                current = " ".repeat(indent + hang);
                is_empty = true;
            }
            if !is_empty {
                current.push(' ');
            }
            current.push_str(word);
            is_empty = false;
        }
        lines.push(current.trim_end().to_owned());
    }
    lines.join("\n")
}

/// A list with one line per row, and a further line below a row for text that fits no column. It is fitted to the width
/// unless an id is longer: on a narrow terminal, some columns may be dropped, the first one first.
pub fn list<const N: usize>(
    columns: [&'static str; N],
    rows: &[([String; N], Option<String>)],
    dropped: &[&'static str],
    width: usize,
) -> String {
    let column_width = |index: usize| {
        let cells = rows.iter().map(|(cells, _)| cells[index].as_str()).chain([columns[index]]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default() + 2
    };
    let widths: [usize; N] = std::array::from_fn(column_width);
    let line_width = |kept: &[usize]| kept.iter().map(|index| widths[*index]).sum::<usize>() - 1;
    let mut kept: Vec<usize> = (0..N).collect();
    for column in dropped {
        if line_width(&kept) <= width {
            break;
        }
        kept.retain(|index| columns[*index] != *column);
    }
    let line = |cells: [&str; N]| {
        let padded = kept.iter().map(|index| format!("{:<1$}", cells[*index], widths[*index]));
        format!(" {}", padded.collect::<String>()).trim_end().to_owned()
    };
    let mut lines = vec![line(columns), "─".repeat(line_width(&kept))];
    for (cells, below) in rows {
        lines.push(line(cells.each_ref().map(String::as_str)));
        lines.extend(below.iter().map(|text| wrapped(&format!("   {text}"), 2, width)));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0198c5d0-0000-7000-8000-000000000001";

    #[test]
    fn moments_are_short() {
        let now = UnixMs(1_787_000_000_000);
        assert_eq!(short_at(Some(&now.to_wire()), now), "20:53:20");
        assert_eq!(short_at(Some(&now.plus_ms(-86_400_000).to_wire()), now), "08-16 20:53");
        assert_eq!(short_at(None, now), NONE);
    }

    #[test]
    fn text_is_wrapped_between_words() {
        let text = format!("  waits for registration {ID} of the same student, which waits for fees");
        for width in 1..120 {
            let shown = wrapped(&text, 4, width);
            assert!(shown.contains(ID), "{width}: {shown}");
            assert_eq!(shown.split_whitespace().collect::<Vec<_>>(), text.split_whitespace().collect::<Vec<_>>());
            assert!(width < 45 || shown.lines().all(|line| line.chars().count() <= width), "{width}: {shown}");
        }
        assert_eq!(wrapped("  a    b", 2, 80), "  a    b", "what fits stays as it is");
        assert_eq!(wrapped("  one    two three", 9, 15), "  one    two\n           three");
    }

    #[test]
    fn a_list_fits_or_drops_columns_and_keeps_ids_whole() {
        let cells = [ID, "S000001", "compensating", "20:53:20"].map(str::to_owned);
        let rows = [(cells, Some(format!("waits for {ID}, which waits for fees")))];
        let list = |width| list(["saga", "student", "phase", "created"], &rows, &["created", "phase"], width);
        insta::assert_snapshot!(list(72), @"
         saga                                  student  phase         created
        ──────────────────────────────────────────────────────────────────────
         0198c5d0-0000-7000-8000-000000000001  S000001  compensating  20:53:20
           waits for 0198c5d0-0000-7000-8000-000000000001, which waits for fees
        ");
        for width in [40, 50, 60, 80, 100] {
            let shown = list(width);
            assert_eq!(shown.matches(ID).count(), 2, "{shown}");
            assert!(width < 55 || shown.lines().all(|line| line.chars().count() <= width), "{shown}");
        }
    }
}
