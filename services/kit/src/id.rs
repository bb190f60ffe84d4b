//! Ids as types: validated where they come in, so that nothing behind the wire checks them again.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest id in bytes; the bound that `interface.md` gives to every id.
pub const ID_BYTES_MAX: usize = 64;

/// An id that the bounds forbid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be 1-{ID_BYTES_MAX} bytes of [A-Za-z0-9._:-], got {shown}")]
pub struct InvalidId {
    shown: String,
}

/// Checks the bounds of an id.
pub fn check_id(text: &str) -> Result<(), InvalidId> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    if !text.is_empty() && text.len() <= ID_BYTES_MAX && text.bytes().all(allowed) {
        return Ok(());
    }
    let shown = match text.len() {
        0 => "an empty value".to_owned(),
        length if length > ID_BYTES_MAX => format!("{length} bytes"),
        _ => format!("{text:?}"),
    };
    Err(InvalidId { shown })
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes an id within the bounds: 1-64 bytes of `[A-Za-z0-9._:-]`.
            pub fn try_new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                check_id(&text)?;
                Ok(Self(text))
            }

            /// Takes an id that was checked before it was stored.
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
    /// A saga, which is also a registration: a UUIDv7 in its usual form.
    SagaId
);
id_type!(
    /// A step of a saga; an undo carries the name of the step that it undoes.
    StepName
);
id_type!(
    /// A student.
    StudentId
);
id_type!(
    /// A section: what a student enrolls in.
    SectionId
);
id_type!(
    /// A course: what a section is a class of.
    CourseId
);
id_type!(
    /// A term.
    TermId
);
id_type!(
    /// An override that staff granted.
    OverrideId
);

impl SagaId {
    /// A new id, larger than every id made before it on this machine.
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
            assert!(SectionId::try_new(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "a b", "é", "a'--", &"x".repeat(65), "a\n"] {
            assert!(SectionId::try_new(bad).is_err(), "{bad:?}");
        }
    }
}
