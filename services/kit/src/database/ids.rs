//! Ids are texts in memory, and 16 bytes in a PostgreSQL database with compact ids.
//!
//! | id | SQLite, and PostgreSQL with ids as text | PostgreSQL with compact ids |
//! |---|---|---|
//! | a UUID in lower case | TEXT of 36 characters | its 16 bytes |
//! | the empty text | `''` | no bytes: the literal `''` is valid in both |
//! | any other text | the text | `0xFF` and the text; one more `0xFF` if that has 16 bytes |
//!
//! No UTF-8 text begins with `0xFF`, so ids and stored values correspond one to one. UUIDs have the same order in both
//! forms. In the compact form the empty text sorts first, and other ids sort after almost all UUIDs.
//!
//! The form is a property of the database: ids are text in a database of an earlier build until an operator converts it
//! (`compact`). Each writing connection queries the form when it is opened; the reading connections share the answer to
//! the first query. After a conversion, a statement in the old form fails, because its types do not match. Then the
//! form is queried again, and the work can be repeated at once.

use std::sync::{PoisonError, RwLock};

use uuid::Uuid;

/// SQLSTATEs of a statement whose types do not match the columns: a value that can't be stored, a missing operator, a
/// prepared statement whose columns have changed.
const MISMATCHES: [&str; 3] = ["42804", "42883", "0A000"];
/// The first byte of an id that is not a UUID.
const OTHER: u8 = 0xFF;
const UUID_BYTES: usize = 16;

/// Queries the form; no row before the first migration.
pub(super) const FORM: &str = "SELECT CASE WHEN to_regclass('compact_ids') IS NULL THEN 'text' ELSE 'compact' END AS ids \
                               WHERE to_regclass('_sqlx_migrations') IS NOT NULL";

/// The form of the ids in a PostgreSQL database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum IdForm {
    /// Unknown: no migration was run. Ids are sent as text.
    #[default]
    Unknown,
    /// As texts.
    Text,
    /// As bytes.
    Compact,
}

impl IdForm {
    /// Parses the answer to [`FORM`].
    pub(super) fn answered(answer: Option<&str>) -> Self {
        match answer {
            Some("compact") => Self::Compact,
            Some(_) => Self::Text,
            None => Self::Unknown,
        }
    }

    /// Whether a statement in this form may have failed because the ids became compact. Compact ids never become text
    /// again.
    pub(super) fn is_outdated_by(self, error: &sqlx::Error) -> bool {
        let code = error.as_database_error().and_then(|error| error.code());
        self != Self::Compact && code.is_some_and(|code| MISMATCHES.contains(&&*code))
    }
}

/// The form that the connections of a pool share.
#[derive(Debug, Default)]
pub(super) struct SharedForm(RwLock<IdForm>);

impl SharedForm {
    pub(super) fn get(&self) -> IdForm {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, form: IdForm) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = form;
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
        return Ok(Uuid::from_bytes(uuid).hyphenated().to_string());
    }
    let begins = bytes.iter().take_while(|byte| **byte == OTHER).count();
    std::str::from_utf8(&bytes[begins..]).map(str::to_owned)
}

/// The bytes of a UUID in lower case with dashes.
pub(super) fn uuid(id: &str) -> Option<[u8; UUID_BYTES]> {
    let uuid = Uuid::try_parse(id).ok()?;
    // The parser accepts other spellings, which are other ids.
    let is_same = *uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == *id;
    is_same.then(|| uuid.into_bytes())
}

/// The SQL that converts a text column to the compact form.
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

    /// UUIDs and similar texts, and texts of every length around 16 bytes.
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
