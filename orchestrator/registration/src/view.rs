//! A registration as its student sees it: derived from the saga's state and request, never stored.

use matricula_engine::{Cause, Outcome, SagaState};
use matricula_kit::answer::{Reason, Refusal};
use matricula_kit::id::SectionId;
use matricula_kit::time::UnixMs;
use matricula_proto::common::v1 as common;
use matricula_proto::registration::v1 as wire;
use matricula_runtime::SagaId;

use crate::answer;
use crate::request::RegistrationRequest;
use crate::saga::step;
use crate::seen;

/// What identifies a registration, beside its state.
#[derive(Debug, Clone, Copy)]
pub struct RegistrationView<'a> {
    /// Its id, which is also its saga's.
    pub id: SagaId,
    /// The caller's key.
    pub idempotency_key: &'a str,
    /// What was asked for.
    pub request: &'a RegistrationRequest,
    /// Where the saga stands; none when it was accepted and nothing has happened since.
    pub state: Option<&'a SagaState>,
}

impl RegistrationView<'_> {
    /// The registration on the wire.
    pub fn to_wire(self) -> wire::Registration {
        let Self { id, idempotency_key, request, state } = self;
        let ids = |sections: &[SectionId]| sections.iter().map(|section| section.as_str().to_owned()).collect();
        wire::Registration {
            registration_id: id.to_string(),
            idempotency_key: idempotency_key.to_owned(),
            student_id: request.student.as_str().to_owned(),
            adds: ids(&request.adds),
            drops: ids(&request.drops),
            outcome: outcome(state.map_or(Outcome::Pending, SagaState::outcome)).into(),
            reasons: state.map(|state| told(state, request)).unwrap_or_default(),
            charged: state.and_then(charged),
            submitted_at: Some(request.submitted_at.to_wire()),
            decided_at: state.and_then(SagaState::decided_at_ms).map(|ms| UnixMs(ms).to_wire()),
            needs_attention: state.is_some_and(SagaState::needs_attention),
            // The instance that drives it adds these.
            place_in_line: None,
            expected_wait: None,
        }
    }
}

/// The outcome on the wire. A registration that ran out of time counts as cancelled; its reason says so.
pub fn outcome(outcome: Outcome) -> wire::Outcome {
    match outcome {
        Outcome::Pending => wire::Outcome::Pending,
        Outcome::Committed => wire::Outcome::Enrolled,
        Outcome::Refused => wire::Outcome::Refused,
        Outcome::Cancelled | Outcome::TimedOut => wire::Outcome::Cancelled,
    }
}

/// Every reason why it compensates, as the student is told: with what has become of what was seen.
pub fn told(state: &SagaState, request: &RegistrationRequest) -> Vec<common::Refusal> {
    let reasons = reasons(state).into_iter();
    reasons.map(|refusal| seen::told(refusal, &request.seen, || request.zone())).collect()
}

/// Every reason why it compensates, as the services have said it; none while it has not.
pub fn reasons(state: &SagaState) -> Vec<common::Refusal> {
    match state.cause() {
        None => Vec::new(),
        Some(Cause::Refused) => {
            // What can't be read here was written by another version; it is in the log, and `saga show` has it.
            let lists = state.refusals().filter_map(|(_, text)| answer::refusals(text).ok());
            lists.flatten().collect()
        }
        Some(Cause::Cancelled { reason, .. }) => {
            let message = match reason.as_str() {
                "" => "The registration was cancelled.".to_owned(),
                reason => format!("The registration was cancelled: {reason}"),
            };
            vec![Refusal::whole(Reason::RegistrationCancelled, message, "Register again if you still want to.").into()]
        }
        Some(Cause::DeadlinePassed) => {
            let message = "The registration could not be completed in time, and nothing was changed.";
            vec![Refusal::whole(Reason::RegistrationTimedOut, message, "Register again.").into()]
        }
    }
}

/// What was charged, when something was and it stands.
pub fn charged(state: &SagaState) -> Option<common::Money> {
    if state.cause().is_some() {
        return None;
    }
    answer::done(state, step::ASSESS_FEES).ok()?.amount
}
