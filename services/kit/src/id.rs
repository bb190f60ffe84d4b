//! Ids as types, validated at the wire, so that no code behind it checks them again.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest id that Matricula generates, in bytes.
pub const ID_BYTES_MAX: usize = 64;
/// Longest id of a campus, in bytes: OneRoster allows 255, but the longest ids of real systems are far below 128.
pub const IMPORTED_ID_BYTES_MAX: usize = 128;

/// An id outside its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be {bounds}, got {shown}")]
pub struct InvalidId {
    bounds: &'static str,
    shown: String,
}

/// Checks the bounds of an id that Matricula generates.
pub fn check_id(text: &str) -> Result<(), InvalidId> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    check(text, ID_BYTES_MAX, allowed, "1-64 bytes of [A-Za-z0-9._:-]")
}

/// Checks the bounds of an id of a campus: of a student, course, section, term or hold.
pub fn check_imported_id(text: &str) -> Result<(), InvalidId> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"'`,|".contains(&byte);
    let bounds = "1-128 printable ASCII characters without spaces, quotes, commas and |";
    check(text, IMPORTED_ID_BYTES_MAX, allowed, bounds)
}

fn check(text: &str, bytes_max: usize, allowed: impl Fn(u8) -> bool, bounds: &'static str) -> Result<(), InvalidId> {
    if !text.is_empty() && text.len() <= bytes_max && text.bytes().all(allowed) {
        return Ok(());
    }
    let shown = match text.len() {
        0 => "an empty value".to_owned(),
        length if length > bytes_max => format!("{length} bytes"),
        _ => format!("{text:?}"),
    };
    Err(InvalidId { bounds, shown })
}

macro_rules! id_type {
    ($check:ident, $(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Checks the bounds of an id.
            pub fn try_new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                $check(&text)?;
                Ok(Self(text))
            }

            /// Wraps an id that was checked before it was stored.
            pub fn stored(text: String) -> Self {
                Self(text)
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

id_type!(
    check_id,
    /// A saga, which is also a registration: a UUIDv7 in its usual form.
    SagaId
);
id_type!(
    check_id,
    /// A step of a saga; an undo has the name of the step that it undoes.
    StepName
);
id_type!(
    check_imported_id,
    /// A student.
    StudentId
);
id_type!(
    check_imported_id,
    /// A section, in which students enroll.
    SectionId
);
id_type!(
    check_imported_id,
    /// A course, to which sections belong.
    CourseId
);
id_type!(
    check_imported_id,
    /// A term.
    TermId
);
id_type!(
    check_imported_id,
    /// A roster row that an import takes over.
    RosterRowId
);
id_type!(
    check_imported_id,
    /// A hold on a student's record.
    HoldId
);
id_type!(
    check_id,
    /// An override that staff granted.
    OverrideId
);
id_type!(
    check_id,
    /// An import; its parts have the same id.
    ImportId
);

impl SagaId {
    /// A new id, larger than every id generated before on this machine.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }
}

impl OverrideId {
    /// A new id.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold() {
        for good in ["a", "C012-L1", "A.b_c:d-9", &"x".repeat(64)] {
            assert!(SagaId::try_new(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "a b", "é", "a'--", "a/b", &"x".repeat(65), "a\n"] {
            assert!(SagaId::try_new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_of_a_campus_have_other_bounds() {
        for good in ["a", "urn:uuid:4f1d", "M1/F#(2028);x=y", "{4F1D}", "a@b.edu", "100%", &"x".repeat(128)] {
            assert!(SectionId::try_new(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "a b", "é", "a'b", "a\"b", "a`b", "a,b", "a|b", "a\n", &"x".repeat(129)] {
            assert!(SectionId::try_new(bad).is_err(), "{bad:?}");
        }
    }
}
