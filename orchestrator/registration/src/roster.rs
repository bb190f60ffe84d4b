//! A registration that an import makes: it takes over a row of a roster, or ends what an earlier import brought by that
//! row.
//!
//! Promises: each registration of a row has a key of its own, numbered from 0, and no portal can send such a key.

use matricula_kit::id::RosterRowId;
use serde::{Deserialize, Serialize};

/// Where the keys of rosters begin. Portals' keys are printable ASCII, so they have no middle dot, and neither has the
/// id of a row.
pub const KEY_PREFIX: &str = "import·";
/// Stands between the parts of a key.
const SEPARATOR: char = '·';

/// What the saga knows of the import that makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// The row that is taken over or ended.
    pub row: RosterRowId,
    /// Whether it is charged what the rates say; otherwise zero is charged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub charge: bool,
}

/// The key of a row's registration of this number.
pub fn key(row: &RosterRowId, number: u32) -> String {
    format!("{KEY_PREFIX}{row}{SEPARATOR}{number}")
}

/// The row and the number of a key; `None` for a key that is no roster's.
pub fn parse_key(key: &str) -> Option<(RosterRowId, u32)> {
    let (row, number) = key.strip_prefix(KEY_PREFIX)?.rsplit_once(SEPARATOR)?;
    Some((RosterRowId::try_new(row).ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        for row in ["E1", "urn:uuid:4f1d", "a/b#7", "1"] {
            let row = RosterRowId::try_new(row).expect("an id");
            assert_eq!(parse_key(&key(&row, 12)), Some((row, 12)));
        }
        for foreign in ["", "import-E1-0", "import·E1", "import·E1·x", "import··0", "E1·0"] {
            assert_eq!(parse_key(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn no_portal_can_send_such_a_key() {
        assert!(!KEY_PREFIX.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    }
}
