//! The id of a saga, 16 bytes and ordered by the time of its creation; and the ticket, its number in the order of
//! acceptance.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A saga, which is also a registration: the bits of a UUIDv7. The shell creates ids, because that needs a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SagaId(u128);

/// The number of a saga in the order of acceptance, over all instances: later commits have larger tickets. Some tickets
/// belong to no saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket(pub u64);

/// The text is not a UUID in its usual form of 36 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a UUID in its usual form of 36 lower-case characters")]
pub struct InvalidSagaId;

/// Where the usual form of a UUID has hyphens.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

impl SagaId {
    /// The id of these bits.
    pub const fn from_u128(bits: u128) -> Self {
        Self(bits)
    }

    /// Its bits.
    pub const fn as_u128(self) -> u128 {
        self.0
    }
}

impl fmt::Display for SagaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Faster than formatting in parts: each row of the log contains the text.
        let mut text = [b'-'; 36];
        let digits = self.0.to_be_bytes().into_iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        let places = (0..text.len()).filter(|place| !HYPHENS.contains(place));
        for (place, digit) in places.zip(digits) {
            text[place] = b"0123456789abcdef"[usize::from(digit)];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for SagaId {
    type Err = InvalidSagaId;

    fn from_str(text: &str) -> Result<Self, InvalidSagaId> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_right = |(place, byte)| if HYPHENS.contains(&place) { byte == b'-' } else { is_digit(byte) };
        if text.len() != 36 || !text.bytes().enumerate().all(is_right) {
            return Err(InvalidSagaId);
        }
        let digits = text.bytes().filter(|byte| *byte != b'-');
        let value = |byte: u8| if byte.is_ascii_digit() { byte - b'0' } else { byte - b'a' + 10 };
        Ok(Self(digits.fold(0, |bits, byte| bits << 4 | u128::from(value(byte)))))
    }
}

impl TryFrom<String> for SagaId {
    type Error = InvalidSagaId;

    fn try_from(text: String) -> Result<Self, InvalidSagaId> {
        text.parse()
    }
}

impl From<SagaId> for String {
    fn from(id: SagaId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_id_is_read_as_it_is_written() {
        let text = "0197a3b2-0c4d-7e5f-8a9b-0123456789ab";
        let id: SagaId = text.parse().expect("a UUID");
        assert_eq!(id.to_string(), text);
        assert_eq!(id.as_u128(), 0x0197_a3b2_0c4d_7e5f_8a9b_0123_4567_89ab);
        for wrong in [
            "",
            "0197a3b2",
            &text.to_uppercase(),
            &text.replace('-', "0"),
            &format!("{text}0"),
            "é".repeat(18).as_str(),
        ] {
            assert_eq!(wrong.parse::<SagaId>(), Err(InvalidSagaId), "{wrong:?}");
        }
        let texts = [text, "0197a3b2-0c4d-7e5f-8a9b-0123456789ac", "1197a3b2-0c4d-7e5f-8a9b-0123456789ab"];
        let ids = texts.map(|text| text.parse::<SagaId>().expect("a UUID"));
        assert!(ids.is_sorted(), "ids have the order of their texts");
    }
}
