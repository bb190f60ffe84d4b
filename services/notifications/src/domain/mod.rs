//! The rules of notifications, pure: one message a registration, what it says, and when its delivery is tried again.

pub mod compose;
pub mod retry;

use std::collections::HashSet;

use matricula_kit::answer::{Answer, Refusal};
use matricula_kit::id::{SagaId, SectionId, StudentId};
use matricula_kit::money::Money;
use matricula_kit::named::NamedValue;
use matricula_kit::time::UnixMs;

/// What is known of a registration that has ended.
#[derive(Debug, Clone)]
pub struct RegistrationResult {
    /// The registration.
    pub registration: SagaId,
    /// Its student.
    pub student: StudentId,
    /// How it ended.
    pub outcome: Outcome,
    /// What it added, or was to add.
    pub added: Vec<SectionId>,
    /// What it dropped, or was to drop.
    pub dropped: Vec<SectionId>,
    /// Why it was refused.
    pub reasons: Vec<Refusal>,
    /// What was charged.
    pub charged: Option<Money>,
    /// Whether the message is delivered; otherwise it is only for the record.
    pub is_wanted: bool,
}

/// How a registration ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is done.
    Enrolled,
    /// None of it was allowed.
    Refused,
    /// None of it was done.
    Cancelled,
}

/// A message as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The registration that it is about, which is also the message's id.
    pub registration: SagaId,
    /// The student who gets it.
    pub student: StudentId,
    /// How the registration ended.
    pub outcome: Outcome,
    /// One line.
    pub subject: String,
    /// Lines of plain text.
    pub body: String,
    /// When.
    pub recorded_at: UnixMs,
}

/// Where a student is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// Whose.
    pub student: StudentId,
    /// An address that was checked when it came in.
    pub email: String,
    /// As the student is called; may be empty.
    pub name: String,
}

/// What a batch has loaded, and what its operations record.
#[derive(Debug, Default)]
pub struct World {
    /// Registrations that have their message.
    pub recorded: HashSet<SagaId>,
    /// New messages to deliver, in order.
    pub messages: Vec<Message>,
    /// New messages that are only for the record.
    pub only_recorded: Vec<Message>,
}

impl NamedValue for Outcome {
    const NAMES: &'static [(Self, &'static str)] =
        &[(Self::Enrolled, "ENROLLED"), (Self::Refused, "REFUSED"), (Self::Cancelled, "CANCELLED")];
}

/// Records the message of a registration, unless it has one. It is never refused.
pub fn decide(world: &mut World, result: &RegistrationResult, now: UnixMs) -> Answer {
    if world.recorded.insert(result.registration.clone()) {
        let messages = if result.is_wanted { &mut world.messages } else { &mut world.only_recorded };
        messages.push(Message {
            registration: result.registration.clone(),
            student: result.student.clone(),
            outcome: result.outcome,
            subject: compose::subject(result),
            body: compose::body(result),
            recorded_at: now,
        });
    }
    Answer::done()
}
