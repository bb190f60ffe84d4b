//! A registration as its student sees it, derived from the state and the request of its saga. When the log is in the
//! archive, it is derived from the receipt.
//!
//! A refusal says what has happened to a section since the student saw it. The seats of the version that the student
//! saw are stored with the request, so every replica says the same, also after a restart. A refusal says less where
//! these seats are not known or do not fit the decision.
//!
//! Promises: a record that can't be read (an unknown version, a log that does not fold) is shown with what is known of
//! it, so it hides no other record. A receipt is the answer of a finished registration, kept for ever: its field names
//! never change, and the registration on the wire is the same before and after the archive.

use matricula_engine::{Cause, Definitions, Direction, Event, Intervention, Outcome, Recorded, SagaState};
use matricula_kit::answer::{Reason, Refusal, Seen, SeenSeats};
use matricula_kit::id::SectionId;
use matricula_kit::money::Money;
use matricula_kit::time::{TimeZone, UnixMs, shown};
use matricula_proto::common::v1 as common;
use matricula_proto::registration::v1 as wire;
use matricula_runtime::{Archived, DoorState, SagaId, SagaRow, Ticket};
use serde::{Deserialize, Serialize};

use crate::answer;
use crate::request::{RegistrationRequest, SeenVersion};
use crate::saga::step;

/// A call that is sent or answered later than this, in milliseconds, has waited for the log, for an instance that was
/// stopped, for another registration of the student, or for a service that is away. After the same time without an
/// answer an instance treats a service as away, and other sagas go first.
const LATE_MS: i64 = 500;

/// The next step of a student while a cancel or the deadline may still have come too late.
const WAIT_FOR_OUTCOME: &str = "Wait for the outcome: you are enrolled if that was decided before.";

/// The identity of a registration, and its state.
#[derive(Debug, Clone, Copy)]
pub struct RegistrationView<'a> {
    /// Its id, which is also its saga's.
    pub id: SagaId,
    /// Its number in the order of acceptance; 0 for a registration from before there were tickets.
    pub ticket: Ticket,
    /// The idempotency key of the client.
    pub idempotency_key: &'a str,
    /// The change set.
    pub request: &'a RegistrationRequest,
    /// The state of the saga; none when it was accepted and nothing has happened since.
    pub state: Option<&'a SagaState>,
}

impl RegistrationView<'_> {
    /// The registration on the wire.
    pub fn to_wire(self) -> wire::Registration {
        let Self { id, ticket, idempotency_key, request, state } = self;
        let ids = |sections: &[SectionId]| sections.iter().map(|section| section.as_str().to_owned()).collect();
        wire::Registration {
            registration_id: id.to_string(),
            idempotency_key: idempotency_key.to_owned(),
            student_id: request.student.as_str().to_owned(),
            adds: ids(&request.adds),
            drops: ids(&request.drops),
            outcome: outcome(state.map_or(Outcome::Pending, SagaState::outcome)).into(),
            reasons: state.map(|state| reasons_with_seen(reasons(state), request)).unwrap_or_default(),
            charged: state.and_then(charged).map(Into::into),
            submitted_at: Some(request.submitted_at.to_wire()),
            decided_at: state.and_then(SagaState::decided_at_ms).map(|ms| UnixMs(ms).to_wire()),
            needs_attention: state.is_some_and(SagaState::needs_attention),
            ticket: number(ticket),
            // The portal adds the place and the wait from the waiting line.
            ..Default::default()
        }
    }
}

fn number(ticket: Ticket) -> Option<i64> {
    i64::try_from(ticket.0).ok().filter(|ticket| *ticket > 0)
}

/// Whether registration is open, on the wire.
pub fn door(state: DoorState) -> wire::Door {
    match state {
        DoorState::Open => wire::Door::Open,
        DoorState::Paused => wire::Door::Paused,
        DoorState::Closed => wire::Door::Closed,
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

/// Reasons as the student reads them: with what has happened since the student saw a section.
pub(crate) fn reasons_with_seen(reasons: Vec<Refusal>, request: &RegistrationRequest) -> Vec<common::Refusal> {
    let with_seen = |refusal| with_seen(refusal, &request.seen, || request.zone()).into();
    reasons.into_iter().map(with_seen).collect()
}

/// Every reason why it compensates, in the words of the services; empty while it does not compensate. Until the outcome
/// is decided, a cancel or the deadline may have come too late.
pub fn reasons(state: &SagaState) -> Vec<Refusal> {
    let is_decided = state.outcome() != Outcome::Pending;
    let (reason, message, next_step) = match state.cause() {
        None => return Vec::new(),
        Some(Cause::Refused) => {
            // A refusal that can't be read was written by another version. It is in the log, and `saga show` has it.
            let lists = state.refusals().filter_map(|(_, text)| answer::refusals(text).ok());
            return lists.flatten().collect();
        }
        Some(Cause::Cancelled { reason, .. }) => {
            let because = if reason.is_empty() { ".".to_owned() } else { format!(": {reason}") };
            let (verb, next_step) = match is_decided {
                true => ("was", "Register again if you still want to."),
                false => ("is being", WAIT_FOR_OUTCOME),
            };
            (Reason::RegistrationCancelled, format!("The registration {verb} cancelled{because}"), next_step)
        }
        Some(Cause::DeadlinePassed) => {
            let (message, next_step) = match is_decided {
                true => {
                    ("The registration could not be completed in time, and nothing was changed.", "Register again.")
                }
                false => ("The registration takes too long and is being cancelled.", WAIT_FOR_OUTCOME),
            };
            (Reason::RegistrationTimedOut, message.to_owned(), next_step)
        }
    };
    vec![Refusal::whole(reason, message, next_step)]
}

/// The charge, if there is one and it was not voided.
pub(crate) fn charged(state: &SagaState) -> Option<Money> {
    if state.cause().is_some() {
        return None;
    }
    answer::done(state, step::ASSESS_FEES).ok()?.amount
}

/// The refusal with the version of its section that the student saw, and what has happened since, in the time zone of
/// the campus.
fn with_seen(mut refusal: Refusal, seen: &[SeenVersion], zone: impl FnOnce() -> TimeZone) -> Refusal {
    if !matches!(refusal.reason, Reason::ClosedSection | Reason::SectionCancelled) {
        return refusal;
    }
    let Some(seen) = seen.iter().find(|seen| refusal.section.as_ref() == Some(&seen.section)) else { return refusal };
    refusal.seen = Some(Seen { version: seen.version, seats: seen.seats });
    // A student who saw no free seat had no hope that must be explained.
    let Some(seats) = seen.seats.filter(|seats| seats.free > 0) else { return refusal };
    let zone = zone();
    let saw = saw(&seen.section, seen.version, seats, &zone);
    match refusal.reason {
        // The moment of the cancellation is not known here: it may be before.
        Reason::SectionCancelled => refusal.message = format!("{} {saw}.", refusal.message),
        _ => {
            if let Some(since) = since(&refusal, seen.version, &zone) {
                refusal.message = format!("{saw}; {since}.");
            }
        }
    }
    refusal
}

fn saw(section: &SectionId, version: i64, seats: SeenSeats, zone: &TimeZone) -> String {
    let (free, changed_at) = (seats.free, shown(seats.changed_at, zone));
    let seats = if free == 1 { "seat" } else { "seats" };
    format!("Section {section} had {free} free {seats} when you saw it (version {version}, of {changed_at})")
}

/// How the section was closed after that version; `None` where the refusal does not have it, or the versions contradict
/// it.
fn since(refusal: &Refusal, seen: i64, zone: &TimeZone) -> Option<String> {
    let decided = refusal.section_version.filter(|decided| *decided > seen)?;
    let closed = match (refusal.closed_at, refusal.capacity, refusal.capacity_set_at) {
        (_, Some(0), Some(set)) => format!("its capacity was set to 0 at {}", shown(set, zone)),
        (Some(closed), Some(capacity), Some(set)) if closed == set => {
            format!("its capacity was set to {capacity} at {}, which left none free", shown(set, zone))
        }
        // Without a capacity the cause is not known.
        (Some(closed), Some(1..), Some(_)) => format!("the last one went at {}", shown(closed, zone)),
        _ => return None,
    };
    Some(format!("{closed}, and it was at version {decided} when you were refused"))
}

/// A row of the saga log, read as far as it can be.
#[derive(Debug, Clone)]
pub struct StoredRegistration {
    /// The row.
    pub row: SagaRow,
    /// The content of the row.
    pub read: Read,
}

/// The content of a stored registration.
#[derive(Debug, Clone)]
pub enum Read {
    /// The change set, and the state of the saga.
    Log(RegistrationRequest, SagaState),
    /// The change set, and the answer: the log is in the archive.
    Receipt(RegistrationRequest, Receipt),
    /// Why it can't be read: a person must look.
    Unreadable(String),
}

impl StoredRegistration {
    /// Reads a row.
    pub fn read(definitions: &Definitions, row: SagaRow) -> Self {
        let read = match &row.archived {
            Some(archived) => receipt(&row, archived).map_err(|error| format!("the receipt: {error}")),
            None => log(definitions, &row),
        };
        Self { read: read.unwrap_or_else(Read::Unreadable), row }
    }

    /// The state of the saga, if its log is here and can be read.
    pub fn state(&self) -> Option<&SagaState> {
        if let Read::Log(_, state) = &self.read { Some(state) } else { None }
    }

    /// The registration on the wire. A registration that can't be read has no outcome, and needs attention.
    pub fn to_wire(&self) -> wire::Registration {
        let SagaRow { id, ticket, ref idempotency_key, .. } = self.row;
        let view = |request, state| RegistrationView { id, ticket, idempotency_key, request, state }.to_wire();
        match &self.read {
            Read::Log(request, state) => view(request, Some(state)),
            Read::Receipt(request, receipt) => receipt.to_wire(request, view(request, None)),
            Read::Unreadable(_) => {
                let ids = |sections: Vec<SectionId>| sections.into_iter().map(String::from).collect();
                let (adds, drops) = request(&self.row).map(|request| (request.adds, request.drops)).unwrap_or_default();
                wire::Registration {
                    registration_id: id.to_string(),
                    ticket: number(ticket),
                    idempotency_key: idempotency_key.clone(),
                    student_id: self.row.subject.clone(),
                    adds: ids(adds),
                    drops: ids(drops),
                    submitted_at: Some(self.row.created_at.to_wire()),
                    needs_attention: true,
                    ..Default::default()
                }
            }
        }
    }

    /// The outcome on the wire; unspecified when it can't be read.
    pub fn outcome(&self) -> wire::Outcome {
        match &self.read {
            Read::Log(_, state) => outcome(state.outcome()),
            Read::Receipt(_, receipt) => receipt.outcome(),
            Read::Unreadable(_) => wire::Outcome::Unspecified,
        }
    }

    /// The change set, if it can be read.
    pub fn request(&self) -> Option<&RegistrationRequest> {
        match &self.read {
            Read::Log(request, _) | Read::Receipt(request, _) => Some(request),
            Read::Unreadable(_) => None,
        }
    }

    /// Whether an operator has decided the end of one of its calls, or abandoned it, as far as that can be read.
    pub fn is_decided_manually(&self) -> bool {
        match &self.read {
            Read::Receipt(_, receipt) => receipt.decided_manually,
            _ => self.row.log.as_ref().is_ok_and(|log| is_decided_manually(log)),
        }
    }

    /// Whether an action was called again, another instance adopted the saga, or a call before the outcome was sent or
    /// answered late, as far as the log is here.
    pub fn was_delayed(&self) -> bool {
        self.row.log.as_ref().is_ok_and(|log| is_delayed(log))
    }
}

fn is_delayed(log: &[Recorded]) -> bool {
    let is_repeated =
        |event: &Event| matches!(event, Event::Adopted { .. } | Event::Failed { direction: Direction::Forward, .. });
    let is_refusal = |recorded: &Recorded| matches!(recorded.event, Event::Refused { .. });
    let decided = log.iter().position(is_refusal).map_or(log.len(), |refusal| refusal + 1);
    let is_long = |from: i64, to: i64| to.saturating_sub(from) > LATE_MS;
    let is_late = |before: &Recorded, recorded: &Recorded| {
        let call = recorded.event.attempt();
        call.is_some_and(|call| {
            is_long(before.at_ms, call.started_at_ms) || is_long(call.started_at_ms, recorded.at_ms)
        })
    };
    log.iter().any(|recorded| is_repeated(&recorded.event))
        || log[..decided].windows(2).any(|pair| matches!(pair, [before, recorded] if is_late(before, recorded)))
}

fn is_decided_manually(log: &[Recorded]) -> bool {
    log.iter().any(|recorded| match &recorded.event {
        Event::Intervened { intervention, .. } => !matches!(intervention, Intervention::Retry { .. }),
        _ => false,
    })
}

fn request(row: &SagaRow) -> Result<RegistrationRequest, serde_json::Error> {
    serde_json::from_str(&row.request)
}

fn receipt(row: &SagaRow, archived: &Archived) -> Result<Read, serde_json::Error> {
    Ok(Read::Receipt(request(row)?, serde_json::from_str(&archived.receipt)?))
}

fn log(definitions: &Definitions, row: &SagaRow) -> Result<Read, String> {
    let log = row.log.as_ref().map_err(|problem| format!("the log: {problem}"));
    let definition = definitions.get(&row.definition, row.version);
    let definition = definition.ok_or_else(|| format!("{} v{} is not known here", row.definition, row.version))?;
    let state = SagaState::replay(definition, log?).map_err(|error| error.to_string())?;
    Ok(Read::Log(request(row).map_err(|error| format!("the request: {error}"))?, state))
}

/// The answer of a finished registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Name of the outcome on the wire, such as `OUTCOME_ENROLLED`.
    outcome: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<Refusal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    charged: Option<Money>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decided_at: Option<UnixMs>,
    #[serde(rename = "decided_by_hand", default, skip_serializing_if = "std::ops::Not::not")]
    decided_manually: bool,
}

impl Receipt {
    /// The receipt of a finished registration.
    pub(crate) fn new(state: &SagaState, log: &[Recorded]) -> Self {
        Self {
            outcome: outcome(state.outcome()).as_str_name().to_owned(),
            reasons: reasons(state),
            charged: charged(state),
            decided_at: state.decided_at_ms().map(UnixMs),
            decided_manually: is_decided_manually(log),
        }
    }

    /// The outcome on the wire.
    fn outcome(&self) -> wire::Outcome {
        wire::Outcome::from_str_name(&self.outcome).unwrap_or_default()
    }

    /// The registration with this answer.
    fn to_wire(&self, request: &RegistrationRequest, pending: wire::Registration) -> wire::Registration {
        wire::Registration {
            outcome: self.outcome().into(),
            reasons: reasons_with_seen(self.reasons.clone(), request),
            charged: self.charged.clone().map(Into::into),
            decided_at: self.decided_at.map(UnixMs::to_wire),
            ..pending
        }
    }
}

#[cfg(test)]
mod tests {
    use matricula_kit::time::zone;

    use super::*;

    const SEEN_AT: UnixMs = UnixMs(1_787_000_003_000);
    const CLOSED_AT: UnixMs = UnixMs(1_787_000_004_000);
    const SERVICE: &str = "The words of the service.";

    fn section(name: &str) -> SectionId {
        SectionId::try_new(name).expect("a good id")
    }

    /// Closed in version 19, which a seat closed, of a section that was made long before.
    fn closed() -> Refusal {
        Refusal {
            section_version: Some(19),
            closed_at: Some(CLOSED_AT),
            capacity: Some(30),
            capacity_set_at: Some(UnixMs(1_786_000_000_000)),
            ..Refusal::section(Reason::ClosedSection, &section("A"), SERVICE, "Next.")
        }
    }

    fn seen(free: i32) -> SeenVersion {
        let seats = Some(SeenSeats { free, capacity: 30, changed_at: SEEN_AT });
        SeenVersion { section: section("A"), version: 17, seats }
    }

    /// The log of a refusal: how long after the turn the call was sent and refused, and the student notified.
    fn log(left_ms: i64, refused_ms: i64, notified_ms: i64) -> Vec<Recorded> {
        let turn = 1_787_000_000_000;
        let refusal = Event::Refused {
            step: "hold_seats".to_owned(),
            attempt: 1,
            started_at_ms: turn + left_ms,
            refusal: String::new(),
        };
        let notified = Event::Succeeded {
            step: "notify".to_owned(),
            direction: Direction::Forward,
            attempt: 1,
            started_at_ms: turn + refused_ms,
            output: String::new(),
        };
        let (definition, applies) = ("registration".to_owned(), Vec::new());
        let admitted = Event::Admitted { definition, version: 1, applies, deadline_at_ms: turn + 600_000 };
        let events = [(0, admitted), (refused_ms, refusal), (notified_ms, notified)];
        (1..).zip(events).map(|(sequence, (at, event))| Recorded { sequence, at_ms: turn + at, event }).collect()
    }

    /// The receipt has the refusals of the services. The request, with the versions that were seen, stays beside it.
    #[test]
    fn an_archived_refusal_has_the_seats_that_were_seen() {
        let student = matricula_kit::id::StudentId::stored("S1".to_owned());
        let (adds, none) = (vec!["A".to_owned()], Vec::new());
        let request = RegistrationRequest::try_new(student, adds, none, Vec::new(), UnixMs(0)).expect("a request");
        let request = RegistrationRequest { seen: vec![seen(2)], ..request };
        let receipt = Receipt {
            outcome: wire::Outcome::Refused.as_str_name().to_owned(),
            reasons: vec![closed()],
            charged: None,
            decided_at: Some(CLOSED_AT),
            decided_manually: false,
        };
        let (id, ticket) = (SagaId::from_u128(1), Ticket(1));
        let pending = RegistrationView { id, ticket, idempotency_key: "k", request: &request, state: None }.to_wire();
        let shown = receipt.to_wire(&request, pending);
        let [refusal] = shown.reasons.as_slice() else { panic!("one reason: {shown:?}") };
        let seen = refusal.seen.as_ref().expect("what was seen");
        assert_eq!((seen.version, seen.free), (17, Some(2)));
        assert!(refusal.message.starts_with("Section A had 2 free seats when you saw it"), "{}", refusal.message);
        assert_eq!(shown.outcome(), wire::Outcome::Refused);
    }

    #[test]
    fn a_late_call_before_the_outcome_is_a_delay() {
        let is_delayed = |left, refused, notified| is_delayed(&log(left, refused, notified));
        assert!(!is_delayed(500, 1_000, 9_000), "a call after the outcome delays nothing");
        assert!(is_delayed(501, 600, 700), "it was sent late");
        assert!(is_delayed(100, 601, 700), "it was answered late");
    }

    /// The message for a student who saw a version.
    #[track_caller]
    fn check(refusal: Refusal, seen: SeenVersion, is_shown: bool, message: &str) {
        let seen_versions = [SeenVersion { section: section("B"), ..self::seen(5) }, seen.clone()];
        let refusal = with_seen(refusal, &seen_versions, || zone("Asia/Tokyo").expect("a zone"));
        let expected = Seen { version: seen.version, seats: seen.seats };
        assert_eq!((refusal.seen, refusal.message.as_str()), (is_shown.then_some(expected), message));
    }

    #[test]
    fn the_message_has_both_moments_and_versions() {
        let saw = "Section A had 2 free seats when you saw it (version 17, of 2026-08-18 05:53:23 JST)";
        let end = "and it was at version 19 when you were refused.";
        check(closed(), seen(2), true, &format!("{saw}; the last one went at 2026-08-18 05:53:24 JST, {end}"));
        let one = saw.replace("2 free seats", "1 free seat");
        check(closed(), seen(1), true, &format!("{one}; the last one went at 2026-08-18 05:53:24 JST, {end}"));
        let frozen = Refusal { capacity: Some(0), capacity_set_at: Some(CLOSED_AT), ..closed() };
        check(frozen, seen(2), true, &format!("{saw}; its capacity was set to 0 at 2026-08-18 05:53:24 JST, {end}"));
        // The last seat went, and then the capacity was set to 0: the later event closes the section.
        let later = Refusal { capacity: Some(0), capacity_set_at: Some(CLOSED_AT.plus_ms(1_000)), ..closed() };
        check(later, seen(2), true, &format!("{saw}; its capacity was set to 0 at 2026-08-18 05:53:25 JST, {end}"));
        let lowered = Refusal { capacity: Some(28), capacity_set_at: Some(CLOSED_AT), ..closed() };
        let by_capacity = "its capacity was set to 28 at 2026-08-18 05:53:24 JST, which left none free";
        check(lowered, seen(2), true, &format!("{saw}; {by_capacity}, {end}"));
        let cancelled = Refusal::section(Reason::SectionCancelled, &section("A"), "A was cancelled.", "Next.");
        check(cancelled, seen(2), true, &format!("A was cancelled. {saw}."));
    }

    #[test]
    fn the_message_of_the_service_stays_where_less_is_known() {
        // No replica could confirm the version.
        check(closed(), SeenVersion { seats: None, ..seen(0) }, true, SERVICE);
        // No seat was free when it was seen.
        check(closed(), seen(0), true, SERVICE);
        // The versions contradict each other: a database was restored.
        check(closed(), SeenVersion { version: 19, ..seen(2) }, true, SERVICE);
        check(Refusal { section_version: None, ..closed() }, seen(2), true, SERVICE);
        // An earlier version of the seat service has answered.
        check(Refusal { capacity: None, capacity_set_at: None, ..closed() }, seen(2), true, SERVICE);
        check(Refusal { capacity_set_at: None, ..closed() }, seen(2), true, SERVICE);
        // Another section was seen, or the reason has nothing to do with seats.
        check(closed(), SeenVersion { section: section("C"), ..seen(2) }, false, SERVICE);
        check(Refusal { reason: Reason::TimeConflict, ..closed() }, seen(2), false, SERVICE);
    }
}
