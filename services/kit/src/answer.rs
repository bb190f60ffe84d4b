//! The words in which every participant answers the orchestrator: done, refused with reasons, or not decidable yet; to
//! and from the wire.
//!
//! An answer is what the barrier records and repeats, so it is serializable, and its fields are never renamed.

use matricula_proto::common::v1 as wire;
use serde::{Deserialize, Serialize};

use crate::id::{CourseId, OverrideId, SagaId, SectionId, TermId};
use crate::money::Money;
use crate::rpc::{FieldError, optional_id, required_id};
use crate::time::UnixMs;

/// `google.rpc.Code.ABORTED`: the caller should send the operation again.
const CODE_ABORTED: i32 = 10;

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The effect is committed.
    Done(Done),
    /// The rules say no and nothing was changed. Never empty.
    Refused(Vec<Refusal>),
    /// It can't be decided yet; nothing was changed and nothing is recorded. Send it again.
    NotYet(NotYet),
}

/// What later steps need to know of an effect. Most effects fill nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Done {
    /// What went on the academic record.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<ReservedCourse>,
    /// What was marked to be dropped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<DroppedCourse>,
    /// The sum of what was posted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<Money>,
}

/// A section that a registration adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservedCourse {
    /// The section.
    pub section: SectionId,
    /// Its course.
    pub course: CourseId,
    /// "configuration/subpart", or empty.
    pub component: String,
    /// Credits in hundredths. Of the parts of a course only one carries them.
    pub credits_hundredths: i32,
    /// Its term.
    pub term: TermId,
    /// The override that lets the student into it when it is full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_section_override: Option<OverrideId>,
}

/// A section that a registration drops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedCourse {
    /// The section.
    pub section: SectionId,
    /// Its course.
    pub course: CourseId,
    /// The registration that had added it, and whose seat and fee are given back.
    pub registration: SagaId,
}

/// One reason of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The reason, in the field's words.
    pub reason: Reason,
    /// The section that was refused; `None` when it is about the student or the whole change set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section: Option<SectionId>,
    /// What it clashed with; empty when nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub conflicts_with: String,
    /// A sentence for the student.
    pub message: String,
    /// What the student can do next.
    pub next_step: String,
    /// `CLOSED_SECTION`: the section's version at the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_version: Option<i64>,
    /// `CLOSED_SECTION`: when the last seat went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<UnixMs>,
    /// `CLOSED_SECTION`: seats that may be taken at the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<i32>,
    /// `CLOSED_SECTION`: when the capacity was set to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_set_at: Option<UnixMs>,
    /// What the student had seen of the section. It is added for the student, from the request, and never stored.
    #[serde(skip)]
    pub seen: Option<Seen>,
}

/// A version of a section that a student names as seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The version.
    pub version: i64,
    /// What it held; `None` when that could not be confirmed.
    pub seats: Option<SeenSeats>,
}

/// What a version of a section held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenSeats {
    /// Seats that were free.
    pub free: i32,
    /// Seats that could be taken.
    pub capacity: i32,
    /// When that version was committed.
    pub changed_at: UnixMs,
}

/// Why an operation can't be decided yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotYet {
    /// Machine-readable cause in capitals.
    pub reason: String,
    /// For people.
    pub message: String,
    /// When to send it again.
    pub retry_after_ms: i64,
    /// The saga that must end first, where that is why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<SagaId>,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $wire:ident, $name:literal, $overridable:literal;)*) => {
        /// Why a registration is refused; the names are those of Banner and PeopleSoft.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// All reasons, in the order of the contract.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            /// The public name.
            pub fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }

            /// Whether staff can grant an override of it.
            pub fn overridable(self) -> bool {
                match self { $(Reason::$variant => $overridable,)* }
            }

            /// The reason on the wire.
            pub fn to_wire(self) -> wire::Reason {
                match self { $(Reason::$variant => wire::Reason::$wire,)* }
            }

            /// The reason from the wire; `None` when it is unspecified or unknown.
            pub fn from_wire(number: i32) -> Option<Self> {
                match wire::Reason::try_from(number).ok()? {
                    wire::Reason::Unspecified => None,
                    $(wire::Reason::$wire => Some(Reason::$variant),)*
                }
            }
        }
    };
}

reasons! {
    /// Outside the student's enrollment appointment.
    OutsideAppointment = OutsideAppointment, "OUTSIDE_APPOINTMENT", true;
    /// A hold on the record forbids registration.
    Hold = Hold, "HOLD", true;
    /// There is no such section.
    SectionNotFound = SectionNotFound, "SECTION_NOT_FOUND", false;
    /// The section is cancelled.
    SectionCancelled = SectionCancelled, "SECTION_CANCELLED", false;
    /// No seat is free.
    ClosedSection = ClosedSection, "CLOSED_SECTION", true;
    /// A prerequisite is missing.
    PrerequisiteNotMet = PrerequisiteNotMet, "PREREQUISITE_NOT_MET", true;
    /// A corequisite is neither on record nor in the change set.
    CorequisiteRequired = CorequisiteRequired, "COREQUISITE_REQUIRED", true;
    /// A linked component is missing, or there is one too many.
    LinkRequired = LinkRequired, "LINK_REQUIRED", true;
    /// It meets while another section meets.
    TimeConflict = TimeConflict, "TIME_CONFLICT", true;
    /// Too many credits in the term.
    MaxCreditsExceeded = MaxCreditsExceeded, "MAX_CREDITS_EXCEEDED", true;
    /// Another section of the course is on the record or in the change set.
    DuplicateCourse = DuplicateCourse, "DUPLICATE_COURSE", true;
    /// The student is in this section.
    AlreadyEnrolled = AlreadyEnrolled, "ALREADY_ENROLLED", false;
    /// The student is not in this section.
    NotEnrolled = NotEnrolled, "NOT_ENROLLED", false;
    /// Staff must permit it.
    PermissionRequired = PermissionRequired, "PERMISSION_REQUIRED", true;
    /// Too late to add.
    AddDeadlinePassed = AddDeadlinePassed, "ADD_DEADLINE_PASSED", true;
    /// Too late to drop.
    DropDeadlinePassed = DropDeadlinePassed, "DROP_DEADLINE_PASSED", true;
    /// The student is not on record.
    StudentNotFound = StudentNotFound, "STUDENT_NOT_FOUND", false;
    /// Not through before its deadline.
    RegistrationTimedOut = RegistrationTimedOut, "REGISTRATION_TIMED_OUT", false;
    /// Cancelled, or undone before it arrived.
    RegistrationCancelled = RegistrationCancelled, "REGISTRATION_CANCELLED", false;
    /// The student would owe more than the term allows.
    BalanceLimitExceeded = BalanceLimitExceeded, "BALANCE_LIMIT_EXCEEDED", false;
    /// The student takes no part in the campus now.
    StudentNotActive = StudentNotActive, "STUDENT_NOT_ACTIVE", false;
    /// The course is closed.
    CourseNotOffered = CourseNotOffered, "COURSE_NOT_OFFERED", false;
    /// The term has ended, or is closed.
    TermClosed = TermClosed, "TERM_CLOSED", false;
}

impl Answer {
    /// Done, with nothing for later steps.
    pub fn done() -> Self {
        Self::Done(Done::default())
    }

    /// Whether nothing more can change this answer, so that the barrier records it.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::NotYet(_))
    }
}

impl Refusal {
    /// A refusal of one section.
    pub fn section(
        reason: Reason,
        section: &SectionId,
        message: impl Into<String>,
        next_step: impl Into<String>,
    ) -> Self {
        Self { section: Some(section.clone()), ..Self::whole(reason, message, next_step) }
    }

    /// A refusal that is about the student or the whole change set.
    pub fn whole(reason: Reason, message: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self {
            reason,
            section: None,
            conflicts_with: String::new(),
            message: message.into(),
            next_step: next_step.into(),
            section_version: None,
            closed_at: None,
            capacity: None,
            capacity_set_at: None,
            seen: None,
        }
    }

    /// The same refusal with what it clashed with.
    pub fn against(mut self, conflicts_with: impl Into<String>) -> Self {
        self.conflicts_with = conflicts_with.into();
        self
    }
}

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
        let id = course.closed_section_override_id;
        Ok(Self {
            section: required_id("section_id", course.section_id, SectionId::try_new)?,
            course: required_id("course_id", course.course_id, CourseId::try_new)?,
            component: course.component,
            credits_hundredths: course.credits_hundredths,
            term: required_id("term_id", course.term_id, TermId::try_new)?,
            closed_section_override: optional_id("closed_section_override_id", id, OverrideId::try_new)?,
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
        Ok(Self {
            reason,
            section: optional_id("section_id", refusal.section_id, SectionId::try_new)?,
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
