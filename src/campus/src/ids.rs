//! Ids and other short texts, validated at construction, so that no user of a value must check it again.

use std::{borrow::Cow, fmt};

/// The services' limit for an id.
const ID_BYTES_MAX: usize = 128;
/// The services' limit for the parts of a component.
const PART_BYTES_MAX: usize = 64;
/// The services' limit for an idempotency key.
const KEY_BYTES_MAX: usize = 128;

/// Why a text is not a valid value, and the expected form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(Cow<'static, str>);

impl Invalid {
    pub(crate) fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self(what.into())
    }
}

macro_rules! text_newtypes {
    ($($(#[$doc:meta])* $name:ident: $check:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks the text and wraps it.
            pub fn try_new(text: &str) -> Result<Self, Invalid> {
                $check(text)?;
                Ok(Self(text.to_owned()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text, owned.
            pub fn into_string(self) -> String {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

text_newtypes! {
    /// Names a term: `academicSessions.csv`, `sourcedId`.
    TermId: check_id;
    /// Names a course: `courses.csv`, `sourcedId`.
    CourseId: check_id;
    /// Names a section: `classes.csv`, `sourcedId`.
    SectionId: check_id;
    /// Names a student: `users.csv`, `sourcedId`.
    StudentId: check_id;
    /// Names a hold of a student: `holds.csv`, `holdId`.
    HoldId: check_id;
    /// Names a row of a roster: `enrollments.csv`, `sourcedId`.
    RosterId: check_id;
    /// The idempotency key of one registration; repeated requests have the same key.
    IdempotencyKey: check_key;
}

pub(crate) fn check_id(text: &str) -> Result<(), Invalid> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"'`,|".contains(&byte);
    if text.is_empty() || text.len() > ID_BYTES_MAX || !text.bytes().all(allowed) {
        return Err(Invalid::new(
            "not an id; use 1 to 128 printable ASCII characters without spaces, quotes, commas and |",
        ));
    }
    Ok(())
}

/// Whether a text may be the configuration or the subpart of a component.
pub(crate) fn is_component_part(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    (1..=PART_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

/// Checks an e-mail address: a name, `@`, and a domain with at least one letter or digit between its dots.
pub(crate) fn check_email(text: &str) -> Result<(), Invalid> {
    let in_name = |char: char| char.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(char);
    let in_domain = |char: char| char.is_ascii_alphanumeric() || char == '-';
    let is_atom = |atom: &str| !atom.is_empty() && atom.chars().all(in_name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(in_domain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_address = text.rsplit_once('@').is_some_and(|(name, domain)| {
        name.len() <= 64 && name.split('.').all(is_atom) && domain.len() <= 253 && domain.split('.').all(is_label)
    });
    if is_address { Ok(()) } else { Err(Invalid::new("not an e-mail address; write it as in `name@example.edu`")) }
}

fn check_key(text: &str) -> Result<(), Invalid> {
    if text.is_empty() || text.len() > KEY_BYTES_MAX || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(Invalid::new("not an idempotency key; use 1 to 128 printable ASCII characters"));
    }
    Ok(())
}
