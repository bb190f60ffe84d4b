//! From decisions to the database: the unpersisted events of each saga with the effects that wait for them, and the
//! commit in flight.
//!
//! ```text
//! decided ──► next: events and deferred effects ──send──► sent: part of a commit ──appended──► effects run
//!
//! admissions, claims, appends ──► gathered ──► commit in flight ──Written──► outcomes
//!                                        ├─Failed, Conflict──► the same commit again, later
//!                                        └─Refused──► split, until the refused row is alone
//! ```
//!
//! Promises:
//!
//! - At most one append of a saga is in flight, so the order of the log is the order of decisions.
//! - A deferred effect runs when everything that was decided before it is persisted.
//! - Events that nothing waits for are written within [`UNWRITTEN_MAX`], so that operators see them and a crash costs
//!   few calls.
//! - A commit with an unknown result is repeated until it is answered, so an admission that may have been written is
//!   never lost.
//! - A saga whose log the database refuses delays no other saga. Its append is retried by itself, because an operator
//!   may remove the cause.
//!
//! Every write may be repeated: for an admission or an append that is already stored, the store answers as if it had
//! just been written.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use matricula_engine::{Effect, Input as SagaInput, LeaveReason, Recorded, SagaState};

use crate::ready::{
    Admission, AdmissionOutcome, Append, AppendOutcome, Claim, Commit, CommitAnswer, CommitNo, Lane, LineState, Notice,
    Summary, Turn,
};
use crate::{Moment, SagaId, Ticket, fraction};

/// How long events that nothing waits for stay unwritten. Most sagas reach their outcome in this time, and then one
/// append has all their events. For an operator who looks at a saga the delay is short.
pub(crate) const UNWRITTEN_MAX: Duration = Duration::from_millis(200);
/// The most admissions and appends in one commit. Beyond a few hundred, larger commits gain nothing.
const BATCH_MAX: usize = 1_000;
/// First and longest delay between tries of a commit that failed.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Conflicts after which a commit counts as refused. Concurrent transactions have ended long before, so an unexpected
/// row must cause the conflict.
const CONFLICTS_MAX: u32 = 20;
/// Time until a refused append is tried again.
const TRY_REFUSED: Duration = Duration::from_secs(5);

/// A value that describes the persisted log. Only this module can make one, when the database has answered a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persisted<T>(T);

impl<T> Persisted<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// The proof without the value.
    pub(crate) fn unit(&self) -> Persisted<()> {
        Persisted(())
    }
}

impl<T> Deref for Persisted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// The effects and the replies that wait until events are persisted.
pub(crate) struct Deferred<C> {
    pub effects: Vec<Effect>,
    pub callers: Vec<C>,
}

impl<C> Deferred<C> {
    fn new() -> Self {
        Self { effects: Vec::new(), callers: Vec::new() }
    }

    fn extend(&mut self, effects: Vec<Effect>, caller: Option<C>) {
        self.effects.extend(effects);
        self.callers.extend(caller);
    }

    fn is_empty(&self) -> bool {
        self.effects.is_empty() && self.callers.is_empty()
    }
}

/// The next write of a saga's log after a decision or an append.
pub(crate) enum Due<C> {
    /// Everything is persisted: run these effects.
    Now(Persisted<Deferred<C>>),
    /// Write now: effects, callers or lists wait for unwritten events.
    Write,
    /// Write within [`UNWRITTEN_MAX`]: nothing waits for the unwritten events.
    Later,
    /// An append is in flight, or there is nothing to write.
    Nothing,
}

/// The result of a written append.
pub(crate) struct Advance<C> {
    pub deferred: Persisted<Deferred<C>>,
    /// The state of the persisted log; the state in memory may be ahead of it.
    pub state: Persisted<Arc<SagaState>>,
    /// The summary before the append.
    pub before: Summary,
    /// The next write, of the events that were decided meanwhile.
    pub due: Due<C>,
}

struct Sent<C> {
    deferred: Deferred<C>,
    state: Arc<SagaState>,
}

/// The part of one saga's log that is not persisted.
pub(crate) struct UnpersistedLog<C> {
    /// The summary of the persisted log, which lists show.
    persisted_summary: Summary,
    sent: Option<Sent<C>>,
    next: Vec<Recorded>,
    deferred: Deferred<C>,
    /// The saga is in the flush queue.
    is_in_flush_queue: bool,
}

impl<C> UnpersistedLog<C> {
    /// For a saga whose log is completely persisted.
    pub(crate) fn new(state: &SagaState) -> Self {
        let (next, deferred) = (Vec::new(), Deferred::new());
        Self { persisted_summary: Summary::of(state), sent: None, next, deferred, is_in_flush_queue: false }
    }

    /// Adds the events and the deferred effects of a decision. The caller runs effects that go ahead of the log itself.
    pub(crate) fn decided(
        &mut self,
        events: Vec<Recorded>,
        effects: Vec<Effect>,
        caller: Option<C>,
        state: &SagaState,
    ) -> Due<C> {
        if events.is_empty() && self.next.is_empty() {
            return match &mut self.sent {
                // The effects follow from events that are in flight.
                Some(sent) => {
                    sent.deferred.extend(effects, caller);
                    Due::Nothing
                }
                None => Due::Now(Persisted(Deferred { effects, callers: caller.into_iter().collect() })),
            };
        }
        self.next.extend(events);
        self.deferred.extend(effects, caller);
        self.due(state)
    }

    fn due(&mut self, state: &SagaState) -> Due<C> {
        if self.next.is_empty() || self.sent.is_some() {
            Due::Nothing
        } else if !self.deferred.is_empty() || Summary::of(state) != self.persisted_summary {
            Due::Write
        } else if std::mem::replace(&mut self.is_in_flush_queue, true) {
            Due::Nothing
        } else {
            Due::Later
        }
    }

    /// The next append; none while one is in flight.
    pub(crate) fn send(&mut self, saga: SagaId, state: &Arc<SagaState>) -> Option<Append> {
        self.is_in_flush_queue = false;
        if self.next.is_empty() || self.sent.is_some() {
            return None;
        }
        let deferred = std::mem::replace(&mut self.deferred, Deferred::new());
        self.sent = Some(Sent { deferred, state: state.clone() });
        Some(Append { saga, events: std::mem::take(&mut self.next), summary: Summary::of(state) })
    }

    /// The append was written. `state` is the state in memory, which may be ahead.
    pub(crate) fn appended(&mut self, _proof: &CommitProof, state: &SagaState) -> Option<Advance<C>> {
        let Sent { deferred, state: written } = self.sent.take()?;
        let before = std::mem::replace(&mut self.persisted_summary, Summary::of(&written));
        let due = self.due(state);
        Some(Advance { deferred: Persisted(deferred), state: Persisted(written), before, due })
    }

    /// The callers that still wait, for a saga that leaves memory.
    pub(crate) fn into_callers(self) -> impl Iterator<Item = C> {
        let sent = self.sent.map(|sent| sent.deferred.callers).unwrap_or_default();
        sent.into_iter().chain(self.deferred.callers)
    }
}

/// The proof that the database has answered a commit.
pub(crate) struct CommitProof(());

impl CommitProof {
    /// The proof for rows that were read from the database.
    pub(crate) fn of_read_rows() -> Self {
        Self(())
    }

    /// A value that follows from the rows of the commit.
    pub(crate) fn persisted<T>(&self, value: T) -> Persisted<T> {
        Persisted(value)
    }
}

/// An admission that is not answered, as memory keeps it.
pub(crate) struct PendingAdmission<C> {
    /// The state that enters memory if the saga begins at once; none if it is to be queued.
    pub state: Option<Arc<SagaState>>,
    pub caller: C,
    pub arrived_at: Moment,
}

/// A turn whose claim is not answered, as memory keeps it.
pub(crate) struct PendingTurn<R, C> {
    /// The request and the state that enter memory, or why the request can't be read.
    pub saga: Result<(R, Arc<SagaState>), LeaveReason>,
    /// The command that takes it out of the line before its turn.
    pub command: Option<(SagaInput, C)>,
}

/// The outcomes of a commit's rows. Rows that are tried again have no outcome yet, and their lists are empty.
pub(crate) struct Settled<R, C> {
    pub proof: CommitProof,
    pub commit: Arc<Commit<R>>,
    pub pending_admissions: Vec<PendingAdmission<C>>,
    /// The outcome of each admission, or why the database refuses it.
    pub admissions: Vec<Result<AdmissionOutcome, String>>,
    pub pending_turns: Vec<PendingTurn<R, C>>,
    /// For each turn of its claim: whether this instance drives the saga now.
    pub claimed: Vec<bool>,
    pub appends: Vec<AppendOutcome>,
    pub line: Option<LineState>,
    /// Why the database refuses its claim.
    pub claim_problem: Option<String>,
    /// The saga whose log the database refuses: it needs attention.
    pub refused: Option<SagaId>,
}

/// A commit with the data that memory keeps for its rows, and its tries so far.
struct Batch<R, C> {
    commit: Arc<Commit<R>>,
    pending_admissions: Vec<PendingAdmission<C>>,
    pending_turns: Vec<PendingTurn<R, C>>,
    /// Its only append was refused before, and the saga is already flagged.
    is_known_as_refused: bool,
    tries: u32,
    conflicts: u32,
    /// When it is tried again; none while it is in flight.
    retry_at: Option<Moment>,
}

impl<R, C> Batch<R, C> {
    /// Its rows without outcomes.
    fn settled(self) -> Settled<R, C> {
        Settled {
            proof: CommitProof(()),
            commit: self.commit,
            pending_admissions: self.pending_admissions,
            admissions: Vec::new(),
            pending_turns: self.pending_turns,
            claimed: Vec::new(),
            appends: Vec::new(),
            line: None,
            claim_problem: None,
            refused: None,
        }
    }
}

/// The commits of one lane, one after the other.
pub(crate) struct CommitQueue<R, C> {
    seed: u64,
    lane: Lane,
    numbers: u64,
    admissions: VecDeque<(Admission<R>, PendingAdmission<C>)>,
    /// As in [`Claim::after`], for the turns that wait for the next commit.
    after: Ticket,
    turns: Vec<(Turn, PendingTurn<R, C>)>,
    appends: VecDeque<Append>,
    /// As in [`Commit::others_claim_to_ms`].
    others_claim_to_ms: Option<i64>,
    /// The remaining parts of a refused commit; the next one is the last in the list.
    parts: Vec<Batch<R, C>>,
    in_flight: Option<Batch<R, C>>,
    /// Appends that the database refuses, and when they are tried again.
    refused: Vec<Append>,
    try_refused_at: Moment,
}

impl<R: Clone, C> CommitQueue<R, C> {
    pub(crate) fn new(lane: Lane, seed: u64) -> Self {
        Self {
            seed,
            lane,
            numbers: 0,
            admissions: VecDeque::new(),
            after: Ticket::default(),
            turns: Vec::new(),
            appends: VecDeque::new(),
            others_claim_to_ms: None,
            parts: Vec::new(),
            in_flight: None,
            refused: Vec::new(),
            try_refused_at: Moment::ZERO,
        }
    }

    pub(crate) fn admit(&mut self, admission: Admission<R>, pending: PendingAdmission<C>) {
        self.admissions.push_back((admission, pending));
    }

    /// Adds turns to the next commit. All of them come after this ticket.
    pub(crate) fn claim(&mut self, after: Ticket, turns: impl Iterator<Item = (Turn, PendingTurn<R, C>)>) {
        self.after = after;
        self.turns.extend(turns);
    }

    /// Later commits store this bound on the claims of other instances.
    pub(crate) fn note(&mut self, others_claim_to_ms: Option<i64>) {
        self.others_claim_to_ms = others_claim_to_ms;
    }

    /// Adds a turn out of order to the next commit.
    pub(crate) fn claim_out_of_order(&mut self, turn: Turn, pending: PendingTurn<R, C>) {
        self.turns.push((turn, pending));
    }

    /// Whether a turn of this saga waits for the next commit.
    pub(crate) fn is_claiming(&self, saga: SagaId) -> bool {
        self.turns.iter().any(|(turn, _)| turn.saga == saga)
    }

    pub(crate) fn append(&mut self, append: Append) {
        self.appends.push_back(append);
    }

    /// Whether nothing is in flight or waits to be written.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.parts.is_empty() && self.waiting() == 0
    }

    /// Admissions, turns and appends that are in no commit yet.
    pub(crate) fn waiting(&self) -> usize {
        self.admissions.len() + self.turns.len() + self.appends.len()
    }

    /// The arrival of the oldest submission that is not written.
    pub(crate) fn unwritten_since(&self) -> Option<Moment> {
        let batches = self.in_flight.iter().chain(self.parts.last());
        let mut pending_admissions = batches
            .flat_map(|batch| &batch.pending_admissions)
            .chain(self.admissions.iter().map(|(_, pending)| pending));
        pending_admissions.next().map(|pending| pending.arrived_at)
    }

    pub(crate) fn wake_at(&self) -> Option<Moment> {
        match &self.in_flight {
            Some(in_flight) => in_flight.retry_at,
            None => (!self.refused.is_empty()).then_some(self.try_refused_at),
        }
    }

    /// The commit that is to be sent now, for the first time or again.
    pub(crate) fn next(&mut self, now: Moment) -> Option<Arc<Commit<R>>> {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.retry_at.take_if(|at| *at <= now)?;
            return Some(in_flight.commit.clone());
        }
        let batch = self.parts.pop().or_else(|| self.gather()).or_else(|| self.try_refused(now))?;
        let commit = batch.commit.clone();
        self.in_flight = Some(batch);
        Some(commit)
    }

    /// The next commit of waiting rows. Admissions have priority.
    fn gather(&mut self) -> Option<Batch<R, C>> {
        if self.waiting() == 0 {
            return None;
        }
        let admissions: Vec<_> = self.admissions.drain(..self.admissions.len().min(BATCH_MAX)).collect();
        let claim = (!self.turns.is_empty()).then(|| {
            let (turns, pending_turns) = self.turns.drain(..).unzip();
            (Claim { after: self.after, turns }, pending_turns)
        });
        let appends = self.appends.drain(..self.appends.len().min(BATCH_MAX - admissions.len())).collect();
        Some(self.batch(admissions, claim, appends))
    }

    /// A commit of these rows, with the data that memory keeps for them.
    fn batch(
        &mut self,
        admissions: Vec<(Admission<R>, PendingAdmission<C>)>,
        claim: Option<(Claim, Vec<PendingTurn<R, C>>)>,
        appends: Vec<Append>,
    ) -> Batch<R, C> {
        self.numbers += 1;
        let number = CommitNo { lane: self.lane, number: self.numbers };
        let (admissions, pending_admissions) = admissions.into_iter().unzip();
        let (claim, pending_turns) = claim.unzip();
        let others_claim_to_ms = self.others_claim_to_ms;
        let commit = Arc::new(Commit { number, admissions, claim, appends, others_claim_to_ms });
        let pending_turns = pending_turns.unwrap_or_default();
        Batch {
            commit,
            pending_admissions,
            pending_turns,
            is_known_as_refused: false,
            tries: 0,
            conflicts: 0,
            retry_at: None,
        }
    }

    /// Retries the refused appends when it is time, each in a commit of its own.
    fn try_refused(&mut self, now: Moment) -> Option<Batch<R, C>> {
        if self.refused.is_empty() || now < self.try_refused_at {
            return None;
        }
        for append in std::mem::take(&mut self.refused).into_iter().rev() {
            let batch = self.batch(Vec::new(), None, vec![append]);
            self.parts.push(Batch { is_known_as_refused: true, ..batch });
        }
        self.parts.pop()
    }

    /// Whether this commit is in flight. Otherwise its answer is late or a duplicate, and is ignored.
    pub(crate) fn awaits(&self, number: CommitNo) -> bool {
        let in_flight = self.in_flight.as_ref().filter(|in_flight| in_flight.retry_at.is_none());
        in_flight.is_some_and(|in_flight| in_flight.commit.number == number)
    }

    /// Processes the answer of the commit in flight. None: the commit is tried again.
    pub(crate) fn ended(
        &mut self,
        answer: CommitAnswer,
        now: Moment,
        notices: &mut Vec<Notice>,
    ) -> Option<Settled<R, C>> {
        let mut in_flight = self.in_flight.take()?;
        in_flight.tries += 1;
        in_flight.conflicts += u32::from(answer == CommitAnswer::Conflict);
        match answer {
            CommitAnswer::Written { admissions, claimed, appends, line } => {
                let admissions = admissions.into_iter().map(Ok).collect();
                Some(Settled { admissions, claimed, appends, line, ..in_flight.settled() })
            }
            CommitAnswer::Refused { problem } => Some(self.refused(in_flight, problem, now, notices)),
            CommitAnswer::Conflict if in_flight.conflicts > CONFLICTS_MAX => {
                let problem = "it conflicts with other transactions again and again".to_owned();
                Some(self.refused(in_flight, problem, now, notices))
            }
            CommitAnswer::Conflict | CommitAnswer::Failed | CommitAnswer::Fenced => {
                let longest = RETRY_FIRST.saturating_mul(1 << (in_flight.tries - 1).min(16)).min(RETRY_MAX);
                let part = 0.5 + fraction(self.seed, in_flight.commit.number.number, u64::from(in_flight.tries)) / 2.0;
                in_flight.retry_at = Some(now + longest.mul_f64(part));
                self.in_flight = Some(in_flight);
                None
            }
        }
    }

    /// Splits a refused commit: each admission alone, the claim alone, and the appends in halves. A claim is split into
    /// its turns in order, together, and each turn out of order alone. A refused single row is settled. So is a refused
    /// claim in order: the line then claims fewer sagas.
    fn refused(
        &mut self,
        batch: Batch<R, C>,
        problem: String,
        now: Moment,
        notices: &mut Vec<Notice>,
    ) -> Settled<R, C> {
        let (commit, is_known_as_refused) = (batch.commit.clone(), batch.is_known_as_refused);
        let mut settled = batch.settled();
        match (commit.admissions.as_slice(), &commit.claim, commit.appends.as_slice()) {
            ([], None, [append]) => {
                if !is_known_as_refused {
                    notices.push(Notice::AppendRefused { saga: append.saga, problem });
                    settled.refused = Some(append.saga);
                }
                if self.refused.is_empty() {
                    self.try_refused_at = now + TRY_REFUSED;
                }
                self.refused.push(append.clone());
            }
            ([admission], None, []) => {
                notices.push(Notice::AdmissionRefused { saga: admission.id, problem: problem.clone() });
                settled.admissions.push(Err(problem));
            }
            ([], Some(claim), []) if claim.turns.len() > 1 && claim.turns.iter().any(|turn| turn.is_out_of_order) => {
                let turns = claim.turns.iter().cloned().zip(std::mem::take(&mut settled.pending_turns));
                let (early, in_order): (Vec<_>, Vec<_>) = turns.partition(|(turn, _)| turn.is_out_of_order);
                let parts = early.into_iter().map(|turn| vec![turn]).chain([in_order]);
                for part in parts.filter(|part| !part.is_empty()) {
                    let (turns, pending_turns) = part.into_iter().unzip();
                    let claim = Claim { after: claim.after, turns };
                    let part = self.batch(Vec::new(), Some((claim, pending_turns)), Vec::new());
                    self.parts.push(part);
                }
            }
            ([], Some(claim), []) => {
                (settled.claimed, settled.claim_problem) = (vec![false; claim.turns.len()], Some(problem));
            }
            (admissions, claim, appends) => {
                let pending_admissions = std::mem::take(&mut settled.pending_admissions);
                for (admission, pending) in admissions.iter().zip(pending_admissions).rev() {
                    let part = self.batch(vec![(admission.clone(), pending)], None, Vec::new());
                    self.parts.push(part);
                }
                if let Some(claim) = claim {
                    let pending_turns = std::mem::take(&mut settled.pending_turns);
                    let part = self.batch(Vec::new(), Some((claim.clone(), pending_turns)), Vec::new());
                    self.parts.push(part);
                }
                // If the commit had other rows, the appends are first tried together, without these.
                let is_alone = admissions.is_empty() && claim.is_none();
                let halves = if is_alone { appends.split_at(appends.len() / 2) } else { (appends, &[][..]) };
                for half in [halves.1, halves.0].into_iter().filter(|half| !half.is_empty()) {
                    let part = self.batch(Vec::new(), None, half.to_vec());
                    self.parts.push(part);
                }
            }
        }
        settled
    }

    /// Drops the refused appends for a shutdown, and returns their sagas.
    pub(crate) fn take_refused(&mut self) -> Vec<SagaId> {
        self.refused.drain(..).map(|append| append.saga).collect()
    }

    /// Drops everything, for a shutdown while the database does not answer. Nothing is lost: clients submit again, and
    /// an instance that adopts the sagas resumes them.
    pub(crate) fn give_up(&mut self) {
        self.admissions.clear();
        self.turns.clear();
        self.appends.clear();
        self.parts.clear();
        self.in_flight = None;
    }
}

#[cfg(test)]
mod tests {
    use matricula_engine::{Definition, Input, Jitter, Kind, RetryPolicy, Step, decide};

    use super::*;

    /// A saga that is admitted and then cancelled.
    fn cancelled() -> (Arc<SagaState>, Arc<SagaState>, Vec<Recorded>) {
        let retry = RetryPolicy::try_new(50, 2_000, 10_000, 30).expect("a policy");
        let line = |stage, name, action, undo, kind| {
            let destination = "alpha";
            Step { name, stage, destination, action, undo, kind, retry }
        };
        let steps = vec![
            line(1, "reserve", "Reserve", Some("Remove"), Kind::Compensatable),
            line(2, "commit", "Commit", None, Kind::Pivot),
        ];
        let definition = Definition::try_new("log", 1, 600_000, steps).expect("a sound table");
        let admitted = Recorded::first(0, definition.admit(vec!["reserve", "commit"], 0));
        let state = SagaState::replay(&definition, [&admitted]).expect("it folds");
        let command = Input::Cancel { by: "ada".to_owned(), reason: String::new() };
        let decision = decide(&definition, &state, command, 0, Jitter(0)).expect("it can be cancelled");
        (Arc::new(state), Arc::new(decision.state), decision.events)
    }

    /// A saga stays in the flush queue when its events are written for another reason.
    #[test]
    fn one_append_of_a_saga_is_under_way_and_none_is_empty() {
        let (before, after, events) = cancelled();
        let saga = SagaId::from_u128(1);
        let mut log: UnpersistedLog<u32> = UnpersistedLog::new(&before);
        assert!(log.send(saga, &before).is_none(), "nothing was decided");
        assert!(matches!(log.decided(events.clone(), Vec::new(), Some(1), &after), Due::Write));
        assert_eq!(log.send(saga, &after).map(|append| append.events), Some(events.clone()));
        assert!(matches!(log.decided(events.clone(), Vec::new(), Some(2), &after), Due::Nothing));
        assert!(log.send(saga, &after).is_none(), "an append is under way");
        let advance = log.appended(&CommitProof(()), &after).expect("it was under way");
        assert_eq!(advance.deferred.callers, [1]);
        assert!(matches!(advance.due, Due::Write), "a caller waits for the rest");
        assert_eq!(log.send(saga, &after).map(|append| append.events), Some(events));
        assert_eq!(log.into_callers().collect::<Vec<_>>(), [2]);
    }
}
