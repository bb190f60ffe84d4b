//! The answers of the services: from the wire to the log as JSON, and from the log back to the wire.
//!
//! ```text
//! OperationResult --to_log--> CallAnswer (JSON) --log--> done, refusals --> operations of later steps, the student's answer
//! ```
//!
//! Promises: an answer is decoded once in each direction, with nothing between the wire and JSON; the JSON has the
//! fields that the log has always had, never renamed, and leaves out what the wire leaves out; an answer that can't be
//! understood is unknown, never a refusal.

use matricula_engine::{CallAnswer, CallError, Code, SagaState};
use matricula_kit::answer::Reason;
use matricula_kit::id::{InvalidId, check_id, check_imported_id};
use matricula_kit::rpc::FieldError;
use matricula_proto::common::v1 as wire;
use matricula_proto::common::v1::operation_result::Outcome;
use prost_types::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The engine's answer to one operation.
pub(crate) fn to_log(result: wire::OperationResult) -> CallAnswer {
    let understood = match result.outcome {
        Some(Outcome::Done(done)) => check_done(&done).and_then(|()| to_json(&InForm(&done))).map(CallAnswer::Done),
        Some(Outcome::Refused(refused)) => {
            let forms: Vec<_> = refused.reasons.iter().map(InForm).collect();
            check_refused(&refused).and_then(|()| to_json(&forms)).map(CallAnswer::Refused)
        }
        Some(Outcome::Error(error)) => {
            let retry_after_ms = (error.retry_after_ms > 0).then_some(error.retry_after_ms);
            let message = format!("{}: {}", error.reason, error.message);
            let failed = CallError::new(Code::from_number(error.code), message, retry_after_ms);
            let waits_for = Some(error.waits_for_saga_id).filter(|saga| check_id(saga).is_ok());
            Err(CallError { waits_for, ..failed })
        }
        None => Err(internal("the result is empty")),
    };
    understood.unwrap_or_else(CallAnswer::Unknown)
}

/// What a step has done.
pub(crate) fn done(state: &SagaState, step: &str) -> Result<wire::Done, CallError> {
    let text = state.output(step).ok_or_else(|| internal(format!("{step} has not answered")))?;
    let done = serde_json::from_str(text).map(|InForm(done)| done);
    done.map_err(|error| internal(format!("the answer of {step} can't be read: {error}")))
}

/// The reasons of a refusal of the log.
pub(crate) fn refusals(text: &str) -> Result<Vec<wire::Refusal>, serde_json::Error> {
    serde_json::from_str::<Vec<InForm<_>>>(text).map(unwrapped)
}

fn to_json(form: &impl Serialize) -> Result<String, CallError> {
    serde_json::to_string(form).map_err(unreadable)
}

pub(crate) fn internal(message: impl Into<String>) -> CallError {
    CallError::new(Code::Internal, message, None)
}

fn unreadable(error: impl std::fmt::Display) -> CallError {
    internal(format!("the answer can't be read: {error}"))
}

fn check_done(done: &wire::Done) -> Result<(), CallError> {
    for course in &done.added {
        if !course.closed_section_override_id.is_empty() {
            check("closed_section_override_id", check_id(&course.closed_section_override_id))?;
        }
        check("section_id", check_imported_id(&course.section_id))?;
        check("course_id", check_imported_id(&course.course_id))?;
        check("term_id", check_imported_id(&course.term_id))?;
    }
    for course in &done.dropped {
        check("section_id", check_imported_id(&course.section_id))?;
        check("course_id", check_imported_id(&course.course_id))?;
        check("registration_id", check_id(&course.registration_id))?;
    }
    Ok(())
}

fn check_refused(refused: &wire::Refused) -> Result<(), CallError> {
    for refusal in &refused.reasons {
        if Reason::from_wire(refusal.reason).is_none() {
            let unknown = format!("unknown reason {}", refusal.reason);
            return Err(unreadable(FieldError::new("reason", unknown)));
        }
        if !refusal.section_id.is_empty() {
            check("section_id", check_imported_id(&refusal.section_id))?;
        }
    }
    Ok(())
}

fn check(field: &str, checked: Result<(), InvalidId>) -> Result<(), CallError> {
    checked.map_err(|problem| unreadable(FieldError::new(field, problem.to_string())))
}

/// A message of the wire that has a stored form.
pub(crate) trait Stored: Sized {
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error>;
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;
}

/// A message, written and read in its stored form.
struct InForm<M>(M);

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
fn unwrapped<M>(forms: Vec<InForm<M>>) -> Vec<M> {
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
        let overridable = Reason::from_wire(refusal.reason).is_some_and(Reason::overridable);
        Ok(Self { overridable, ..refusal })
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// A reason by its public name.
mod reason {
    use serde::ser::Error as _;

    use super::{Deserialize, Deserializer, Reason, Serialize, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
    pub(crate) fn serialize<S: Serializer>(number: &i32, to: S) -> Result<S::Ok, S::Error> {
        Reason::from_wire(*number).ok_or_else(|| S::Error::custom(format!("unknown reason {number}")))?.serialize(to)
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

#[cfg(test)]
mod tests;
