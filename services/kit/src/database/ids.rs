//! Ids: texts in memory, and 16 bytes in a PostgreSQL database whose ids are compact.
//!
//! | id | SQLite, and PostgreSQL with ids as text | PostgreSQL with compact ids |
//! |---|---|---|
//! | a UUID in lower case | TEXT of 36 characters | its 16 bytes |
//! | the empty text | `''` | no bytes: the literal `''` means the same in both |
//! | any other text | the text | `0xFF` and the text; `0xFF` once more where that would have 16 bytes |
//!
//! No text in UTF-8 begins with `0xFF`, so that each stored value is one id and each id is one stored value. UUIDs have
//! one order in both forms. In the compact form the empty text is before them, and other ids are behind almost all.
//!
//! The form is a property of the database: ids are text in a database of an earlier build until an operator converts it
//! (`compact`). Each connection that writes asks for the form when it is opened; the connections that read share what
//! the first one was answered. A statement in the old form fails after the conversion, because its types do not match.
//! Then the form is asked for again, and the same work can be repeated at once.

use std::sync::atomic::{AtomicU8, Ordering};

/// SQLSTATEs of a statement whose types do not match those of the columns: a value that can't be stored, an operator
/// that does not exist, a prepared statement whose columns have changed.
const MISMATCHES: [&str; 3] = ["42804", "42883", "0A000"];
/// What begins an id that is no UUID.
const OTHER: u8 = 0xFF;
const UUID_BYTES: usize = 16;
const UUID_TEXT: usize = 36;
const DASHES: [usize; 4] = [8, 13, 18, 23];

/// Asks for the form: no row as long as no migration was run.
pub(super) const FORM: &str = "SELECT CASE WHEN to_regclass('compact_ids') IS NULL THEN 'text' ELSE 'compact' END AS ids \
                               WHERE to_regclass('_sqlx_migrations') IS NOT NULL";

/// How a PostgreSQL database has its ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum IdForm {
    /// It is not known: no migration was run. Ids are sent as text.
    #[default]
    Unknown,
    /// As texts.
    Text,
    /// As bytes.
    Compact,
}

impl IdForm {
    /// The answer to [`FORM`].
    pub(super) fn answered(answer: Option<&str>) -> Self {
        match answer {
            Some("compact") => Self::Compact,
            Some(_) => Self::Text,
            None => Self::Unknown,
        }
    }

    /// Whether a statement in this form may have failed because the ids of the database have become compact. They never
    /// become text again.
    pub(super) fn is_outdated_by(self, error: &sqlx::Error) -> bool {
        let code = error.as_database_error().and_then(|error| error.code());
        self != Self::Compact && code.is_some_and(|code| MISMATCHES.contains(&&*code))
    }
}

/// The form that the connections of a pool share.
#[derive(Debug, Default)]
pub(super) struct SharedForm(AtomicU8);

impl SharedForm {
    pub(super) fn get(&self) -> IdForm {
        match self.0.load(Ordering::Acquire) {
            0 => IdForm::Unknown,
            1 => IdForm::Text,
            _ => IdForm::Compact,
        }
    }

    pub(super) fn set(&self, form: IdForm) {
        let number = match form {
            IdForm::Unknown => 0,
            IdForm::Text => 1,
            IdForm::Compact => 2,
        };
        self.0.store(number, Ordering::Release);
    }
}

/// The bytes of an id in the compact form.
pub(super) fn encoded(id: &str) -> Vec<u8> {
    if id.is_empty() {
        return Vec::new();
    }
    if let Some(uuid) = uuid(id) {
        return uuid.to_vec();
    }
    let mut bytes = Vec::with_capacity(id.len() + 2);
    bytes.push(OTHER);
    if id.len() + 1 == UUID_BYTES {
        bytes.push(OTHER);
    }
    bytes.extend_from_slice(id.as_bytes());
    bytes
}

/// The id of these bytes.
pub(super) fn decoded(bytes: &[u8]) -> Result<String, std::str::Utf8Error> {
    if let Ok(uuid) = <[u8; UUID_BYTES]>::try_from(bytes) {
        return Ok(uuid::Uuid::from_bytes(uuid).hyphenated().to_string());
    }
    let begins = bytes.iter().take_while(|byte| **byte == OTHER).count();
    std::str::from_utf8(&bytes[begins..]).map(str::to_owned)
}

/// The bytes of a UUID that is written as ids are: in lower case, with dashes.
fn uuid(id: &str) -> Option<[u8; UUID_BYTES]> {
    let text = id.as_bytes();
    if text.len() != UUID_TEXT {
        return None;
    }
    let (mut bytes, mut at) = ([0; UUID_BYTES], 0);
    for (position, character) in text.iter().enumerate() {
        if DASHES.contains(&position) {
            if *character != b'-' {
                return None;
            }
            continue;
        }
        let digit = match character {
            b'0'..=b'9' => character - b'0',
            b'a'..=b'f' => character - b'a' + 10,
            _ => return None,
        };
        bytes[at / 2] = bytes[at / 2] << 4 | digit;
        at += 1;
    }
    Some(bytes)
}

/// The SQL that makes the compact form of a column with texts.
pub(super) fn sql_of_encoded(column: &str) -> String {
    let is_uuid = format!("{column} ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'");
    format!(
        "CASE WHEN {column} = '' THEN ''::bytea \
         WHEN {is_uuid} THEN decode(replace({column}, '-', ''), 'hex') \
         WHEN octet_length({column}) = {} THEN '\\xffff'::bytea || convert_to({column}, 'UTF8') \
         ELSE '\\xff'::bytea || convert_to({column}, 'UTF8') END",
        UUID_BYTES - 1
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// UUIDs, and what only looks like one; texts of every length around 16 bytes.
    pub(in crate::database) const IDS: [&str; 16] = [
        "0192f0c1-2345-7abc-8def-0123456789ab",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "00000000-0000-0000-0000-000000000000",
        "0192F0C1-2345-7abc-8def-0123456789ab",
        "0192f0c1-2345-7abc-8def-0123456789a",
        "0192f0c1-2345-7abc-8def-0123456789abc",
        "0192f0c123457abc8def0123456789ab",
        "0192f0c1-2345-7abc-8def_0123456789ab",
        "0192f0c1-2345-7abc-8def-0123456789ag",
        "",
        "s",
        "fourteen bytes",
        "fifteen bytes..",
        "sixteen bytes...",
        "seventeen bytes..",
        "ñ–𝄞",
    ];

    #[test]
    fn each_id_has_one_stored_value() {
        let mut all = std::collections::BTreeSet::new();
        for id in IDS {
            let bytes = encoded(id);
            assert_eq!(decoded(&bytes).expect("UTF-8"), id);
            assert_eq!(bytes.len() == UUID_BYTES, uuid(id).is_some(), "{id}");
            assert!(all.insert(bytes), "{id}");
        }
        assert!(encoded("").is_empty());
        assert_eq!(encoded("0192f0c1-2345-7abc-8def-0123456789ab")[..4], [0x01, 0x92, 0xf0, 0xc1]);
        assert!(decoded(&[0x80]).is_err());
    }

    #[test]
    fn uuids_have_one_order_in_both_forms() {
        let mut ids: Vec<String> = (1..100u128)
            .map(|number| {
                uuid::Uuid::from_u128(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)).to_string()
            })
            .collect();
        ids.sort_unstable();
        assert!(ids.is_sorted_by_key(|id| encoded(id)));
    }

    #[test]
    fn only_a_mismatch_of_types_outdates_a_form() {
        assert!(!IdForm::Text.is_outdated_by(&sqlx::Error::PoolClosed));
        let shared = SharedForm::default();
        for form in [IdForm::Unknown, IdForm::Text, IdForm::Compact] {
            shared.set(form);
            assert_eq!(shared.get(), form);
        }
    }
}
