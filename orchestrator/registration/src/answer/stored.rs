//! The messages of an answer in the form that the log and the receipts have as JSON.
//!
//! Promises: fields are never renamed; what the wire leaves out is left out here too.

use matricula_kit::answer::Reason;
use matricula_proto::common::v1 as wire;
use prost_types::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A message of the wire that has a stored form.
pub(crate) trait Stored: Sized {
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error>;
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;
}

/// A message, written and read in its stored form.
pub(super) struct InForm<M>(pub M);

impl<M: Stored> Serialize for InForm<&M> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.write(to)
    }
}

impl<'de, M: Stored> Deserialize<'de> for InForm<M> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        M::read(from).map(Self)
    }
}

/// The messages themselves.
pub(super) fn unwrapped<M>(forms: Vec<InForm<M>>) -> Vec<M> {
    forms.into_iter().map(|InForm(message)| message).collect()
}

/// Messages of a field, for `#[serde(with)]`.
pub(crate) mod list {
    use super::{Deserialize, Deserializer, InForm, Serializer, Stored, unwrapped};

    pub(crate) fn serialize<M: Stored, S: Serializer>(messages: &[M], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(messages.iter().map(InForm))
    }

    pub(crate) fn deserialize<'de, M: Stored, D: Deserializer<'de>>(from: D) -> Result<Vec<M>, D::Error> {
        Vec::deserialize(from).map(unwrapped)
    }
}

/// A message that may be missing, for `#[serde(with)]`.
pub(crate) mod optional {
    use super::{Deserialize, Deserializer, InForm, Serialize, Serializer, Stored};

    pub(crate) fn serialize<M: Stored, S: Serializer>(message: &Option<M>, to: S) -> Result<S::Ok, S::Error> {
        message.as_ref().map(InForm).serialize(to)
    }

    pub(crate) fn deserialize<'de, M: Stored, D: Deserializer<'de>>(from: D) -> Result<Option<M>, D::Error> {
        Ok(Option::deserialize(from)?.map(|InForm(message)| message))
    }
}

macro_rules! stored {
    ($($form:ident),*) => {$(
        impl Stored for wire::$form {
            fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                $form::serialize(self, to)
            }

            fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $form::deserialize(from)
            }
        }
    )*};
}

stored!(Done, ReservedCourse, DroppedCourse, Money);

#[derive(Serialize, Deserialize)]
#[serde(remote = "wire::Done")]
struct Done {
    #[serde(default, with = "list", skip_serializing_if = "Vec::is_empty")]
    added: Vec<wire::ReservedCourse>,
    #[serde(default, with = "list", skip_serializing_if = "Vec::is_empty")]
    dropped: Vec<wire::DroppedCourse>,
    #[serde(default, with = "optional", skip_serializing_if = "Option::is_none")]
    amount: Option<wire::Money>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "wire::ReservedCourse")]
struct ReservedCourse {
    #[serde(rename = "section")]
    section_id: String,
    #[serde(rename = "course")]
    course_id: String,
    component: String,
    credits_hundredths: i32,
    #[serde(rename = "term")]
    term_id: String,
    #[serde(rename = "closed_section_override", default, skip_serializing_if = "String::is_empty")]
    closed_section_override_id: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "wire::DroppedCourse")]
struct DroppedCourse {
    #[serde(rename = "section")]
    section_id: String,
    #[serde(rename = "course")]
    course_id: String,
    #[serde(rename = "registration")]
    registration_id: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "wire::Money")]
struct Money {
    currency: String,
    minor_units: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "wire::Refusal")]
struct Refusal {
    #[serde(with = "reason")]
    reason: i32,
    #[serde(rename = "section", default, skip_serializing_if = "String::is_empty")]
    section_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    conflicts_with: String,
    message: String,
    next_step: String,
    /// It follows from the reason.
    #[serde(skip)]
    overridable: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    section_version: i64,
    #[serde(default, with = "moment", skip_serializing_if = "moment::is_none")]
    closed_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capacity: Option<i32>,
    #[serde(default, with = "moment", skip_serializing_if = "moment::is_none")]
    capacity_set_at: Option<Timestamp>,
    /// It is added for the student, from the request.
    #[serde(skip)]
    seen: Option<wire::SeenSection>,
}

impl Stored for wire::Refusal {
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Refusal::serialize(self, to)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let refusal = Refusal::deserialize(from)?;
        let overridable = reason::of(refusal.reason).is_some_and(Reason::overridable);
        Ok(Self { overridable, ..refusal })
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// A reason by its public name.
pub(super) mod reason {
    use serde::ser::Error as _;

    use super::{Deserialize, Deserializer, Reason, Serialize, Serializer};

    /// The reason of a number; `None` when it is unspecified or unknown.
    pub(crate) fn of(number: i32) -> Option<Reason> {
        Reason::from_wire(number)
    }

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
    pub(crate) fn serialize<S: Serializer>(number: &i32, to: S) -> Result<S::Ok, S::Error> {
        of(*number).ok_or_else(|| S::Error::custom(format!("unknown reason {number}")))?.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
        Reason::deserialize(from).map(|reason| reason.to_wire().into())
    }
}

/// A moment in milliseconds.
mod moment {
    use matricula_kit::time::UnixMs;

    use super::{Deserialize, Deserializer, Serialize, Serializer, Timestamp};

    fn read(moment: &Option<Timestamp>) -> Option<UnixMs> {
        moment.as_ref().and_then(UnixMs::from_wire)
    }

    pub(super) fn is_none(moment: &Option<Timestamp>) -> bool {
        read(moment).is_none()
    }

    pub(super) fn serialize<S: Serializer>(moment: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
        read(moment).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<UnixMs>::deserialize(from)?.map(UnixMs::to_wire))
    }
}
