//! Detects files that are not CSV with commas in UTF-8, and reports that cause instead of hundreds of its effects.

use std::io::{self, Read};

/// Bytes that suffice to detect the encoding.
const HEAD_BYTES: u64 = 64;
/// Other separators of columns, with their names.
const SEPARATORS: [(char, &str); 2] = [(';', "semicolons"), ('\t', "tabs")];

/// The problem of a file in UTF-16.
pub(super) const UTF16: &str = "is UTF-16; save it as UTF-8 (a spreadsheet calls that CSV UTF-8)";

/// Whether a file is UTF-16, with or without a byte order mark: without one, every second byte of its header is 0.
pub(super) fn is_utf16(file: &mut impl Read) -> io::Result<bool> {
    let mut head = Vec::new();
    file.take(HEAD_BYTES).read_to_end(&mut head)?;
    let has_mark = head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff");
    let pairs = || head.chunks_exact(2);
    let is_half_empty =
        pairs().all(|pair| pair[0] != 0 && pair[1] == 0) || pairs().all(|pair| pair[0] == 0 && pair[1] != 0);
    Ok(has_mark || (head.len() >= 4 && is_half_empty))
}

/// The problem of a header whose columns have another separator than commas.
pub(super) fn other_separator(header: &[String], required: &[&str]) -> Option<String> {
    let line = header.join(",");
    let (_, name) = SEPARATORS.into_iter().find(|(separator, _)| {
        let mut columns = line.split(*separator).map(|column| column.trim_matches(['"', ' ']));
        line.contains(*separator) && required.first().is_some_and(|first| columns.any(|column| column == *first))
    })?;
    Some(format!("has columns separated by {name}; save it with commas (a spreadsheet calls that comma separated)"))
}
