//! Answers to and from the wire.

use matricula_proto::common::v1 as wire;

use crate::answer::{Answer, Done, DroppedCourse, Money, NotYet, Reason, Refusal, ReservedCourse, Seen, SeenSeats};
use crate::id::{CourseId, OverrideId, SagaId, SectionId, TermId};
use crate::rpc::{FieldError, required_id};
use crate::time::UnixMs;

/// `google.rpc.Code.ABORTED`: the caller should send the operation again.
const CODE_ABORTED: i32 = 10;

impl From<Answer> for wire::OperationResult {
    fn from(answer: Answer) -> Self {
        use wire::operation_result::Outcome;
        let outcome = match answer {
            Answer::Done(done) => Outcome::Done(done.into()),
            Answer::Refused(reasons) => {
                Outcome::Refused(wire::Refused { reasons: reasons.into_iter().map(Into::into).collect() })
            }
            Answer::NotYet(NotYet { reason, message, retry_after_ms, waits_for }) => {
                let waits_for_saga_id = waits_for.map(String::from).unwrap_or_default();
                Outcome::Error(wire::OperationError {
                    code: CODE_ABORTED,
                    reason,
                    message,
                    retry_after_ms,
                    waits_for_saga_id,
                })
            }
        };
        Self { outcome: Some(outcome) }
    }
}

impl From<Done> for wire::Done {
    fn from(done: Done) -> Self {
        Self {
            added: done.added.into_iter().map(Into::into).collect(),
            dropped: done.dropped.into_iter().map(Into::into).collect(),
            amount: done.amount.map(Into::into),
        }
    }
}

impl From<ReservedCourse> for wire::ReservedCourse {
    fn from(course: ReservedCourse) -> Self {
        Self {
            section_id: course.section.into(),
            course_id: course.course.into(),
            component: course.component,
            credits_hundredths: course.credits_hundredths,
            term_id: course.term.into(),
            closed_section_override_id: course.closed_section_override.map(String::from).unwrap_or_default(),
        }
    }
}

impl TryFrom<wire::ReservedCourse> for ReservedCourse {
    type Error = FieldError;

    fn try_from(course: wire::ReservedCourse) -> Result<Self, FieldError> {
        let closed_section_override = match course.closed_section_override_id {
            id if id.is_empty() => None,
            id => Some(required_id("closed_section_override_id", id, OverrideId::try_new)?),
        };
        Ok(Self {
            section: required_id("section_id", course.section_id, SectionId::try_new)?,
            course: required_id("course_id", course.course_id, CourseId::try_new)?,
            component: course.component,
            credits_hundredths: course.credits_hundredths,
            term: required_id("term_id", course.term_id, TermId::try_new)?,
            closed_section_override,
        })
    }
}

impl From<DroppedCourse> for wire::DroppedCourse {
    fn from(course: DroppedCourse) -> Self {
        Self {
            section_id: course.section.into(),
            course_id: course.course.into(),
            registration_id: course.registration.into(),
        }
    }
}

impl TryFrom<wire::DroppedCourse> for DroppedCourse {
    type Error = FieldError;

    fn try_from(course: wire::DroppedCourse) -> Result<Self, FieldError> {
        Ok(Self {
            section: required_id("section_id", course.section_id, SectionId::try_new)?,
            course: required_id("course_id", course.course_id, CourseId::try_new)?,
            registration: required_id("registration_id", course.registration_id, SagaId::try_new)?,
        })
    }
}

impl From<Money> for wire::Money {
    fn from(money: Money) -> Self {
        Self { currency: money.currency, minor_units: money.minor_units }
    }
}

impl From<wire::Money> for Money {
    fn from(money: wire::Money) -> Self {
        Self { currency: money.currency, minor_units: money.minor_units }
    }
}

impl From<Refusal> for wire::Refusal {
    fn from(refusal: Refusal) -> Self {
        Self {
            reason: refusal.reason.to_wire() as i32,
            section_id: refusal.section.map(String::from).unwrap_or_default(),
            conflicts_with: refusal.conflicts_with,
            message: refusal.message,
            next_step: refusal.next_step,
            overridable: refusal.reason.overridable(),
            section_version: refusal.section_version.unwrap_or_default(),
            closed_at: refusal.closed_at.map(UnixMs::to_wire),
            capacity: refusal.capacity,
            capacity_set_at: refusal.capacity_set_at.map(UnixMs::to_wire),
            seen: refusal.seen.map(Into::into),
        }
    }
}

impl From<Seen> for wire::SeenSection {
    fn from(seen: Seen) -> Self {
        Self {
            version: seen.version,
            free: seen.seats.map(|seats| seats.free),
            capacity: seen.seats.map(|seats| seats.capacity),
            changed_at: seen.seats.map(|seats| seats.changed_at.to_wire()),
        }
    }
}

impl From<wire::SeenSection> for Seen {
    fn from(seen: wire::SeenSection) -> Self {
        let changed_at = seen.changed_at.as_ref().and_then(UnixMs::from_wire);
        let seats = seen.free.zip(seen.capacity).zip(changed_at);
        let seats = seats.map(|((free, capacity), changed_at)| SeenSeats { free, capacity, changed_at });
        Self { version: seen.version, seats }
    }
}

impl TryFrom<wire::Refusal> for Refusal {
    type Error = FieldError;

    fn try_from(refusal: wire::Refusal) -> Result<Self, FieldError> {
        let reason = Reason::from_wire(refusal.reason)
            .ok_or_else(|| FieldError::new("reason", format!("unknown reason {}", refusal.reason)))?;
        let section = match refusal.section_id {
            id if id.is_empty() => None,
            id => Some(required_id("section_id", id, SectionId::try_new)?),
        };
        Ok(Self {
            reason,
            section,
            conflicts_with: refusal.conflicts_with,
            message: refusal.message,
            next_step: refusal.next_step,
            section_version: (refusal.section_version != 0).then_some(refusal.section_version),
            closed_at: refusal.closed_at.as_ref().and_then(UnixMs::from_wire),
            capacity: refusal.capacity,
            capacity_set_at: refusal.capacity_set_at.as_ref().and_then(UnixMs::from_wire),
            seen: refusal.seen.map(Into::into),
        })
    }
}
