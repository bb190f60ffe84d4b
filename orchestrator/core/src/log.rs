//! The log on its way to the database: which events of a saga are not persisted yet, what waits for them, and the one
//! commit that is under way.
//!
//! ```text
//! decided ──► next: events and what waits for them ──send──► sent: part of a commit ──appended──► acted on
//!
//! admissions, claims, appends ──► gathered ──► commit under way ──Written──► outcomes
//!                                        ├─Failed, Conflict──► the same again, later
//!                                        └─Refused──► in parts, until the refused row is alone
//! ```
//!
//! Promises: one append of a saga is under way at a time, so the order of the log is the order of decisions. What waits
//! is acted on when all that was decided before it is persisted. Events that nothing waits for are written soon all the
//! same, so that operators see them and a crash costs few calls. A commit whose end is not known is tried until it is
//! answered: an admission that may have been written is never forgotten. A saga whose log the database refuses holds up
//! no other; it is tried again by itself, because the cause may be mended.
//!
//! Each step may be repeated: the store answers an admission or an append that stands already as if it had just been
//! written.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use matricula_engine::{Effect, Input as SagaInput, LeaveReason, Recorded, SagaState};

use crate::ready::{
    Admission, Admitted, Append, AppendOutcome, Claim, Commit, CommitAnswer, CommitNo, Lane, LineState, Notice,
    Summary, Turn,
};
use crate::{Moment, SagaId, Ticket, fraction};

/// How long events that nothing waits for stay unwritten: long enough that most sagas come to their outcome meanwhile,
/// and one append has all; short for somebody who looks.
pub(crate) const UNWRITTEN_MAX: Duration = Duration::from_millis(200);
/// Admissions and appends in one commit. Beyond some hundred, commits gain nothing from being larger.
const BATCH_MAX: usize = 1_000;
/// First and longest delay between tries of a commit that failed.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Conflicts in a row after which a commit counts as refused: other transactions are long done by then, and a row is
/// left that should not be there.
const CONFLICTS_MAX: u32 = 20;
/// Time until a refused append is tried again.
const TRY_REFUSED: Duration = Duration::from_secs(5);

/// A value that is true of the persisted log: only this module makes one, when a commit has been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persisted<T>(T);

impl<T> Persisted<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// The fact alone, without the value.
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

/// What is to be done when something is persisted.
pub(crate) struct Waiting<C> {
    pub effects: Vec<Effect>,
    pub callers: Vec<C>,
}

impl<C> Waiting<C> {
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

/// What follows from a decision.
pub(crate) enum Due<C> {
    /// All is persisted: do this.
    Now(Persisted<Waiting<C>>),
    /// Something waits for what is unwritten.
    Write,
    /// There is something unwritten that nothing waits for.
    Later,
    /// An append is under way, or nothing was decided.
    Nothing,
}

/// What has been persisted of a saga.
pub(crate) struct Advance<C> {
    pub waiting: Persisted<Waiting<C>>,
    /// The state as it is in the log now; the saga's may be ahead of it.
    pub state: Persisted<Arc<SagaState>>,
    /// How lists showed the saga before.
    pub before: Summary,
    /// What follows of what was decided meanwhile.
    pub due: Due<C>,
}

struct Sent<C> {
    waiting: Waiting<C>,
    state: Arc<SagaState>,
}

/// The part of one saga's log that is not persisted.
pub(crate) struct UnpersistedLog<C> {
    /// How lists show the saga, by the log.
    shown: Summary,
    sent: Option<Sent<C>>,
    next: Vec<Recorded>,
    waiting: Waiting<C>,
    /// It stands among those that are flushed.
    is_noted: bool,
}

impl<C> UnpersistedLog<C> {
    /// Of a saga whose log is persisted.
    pub(crate) fn new(state: &SagaState) -> Self {
        let (next, waiting) = (Vec::new(), Waiting::new());
        Self { shown: Summary::of(state), sent: None, next, waiting, is_noted: false }
    }

    /// Takes in a decision, except what goes ahead of the log.
    pub(crate) fn decided(
        &mut self,
        events: Vec<Recorded>,
        effects: Vec<Effect>,
        caller: Option<C>,
        state: &SagaState,
    ) -> Due<C> {
        if events.is_empty() && self.next.is_empty() {
            return match &mut self.sent {
                // It follows from the append that is under way.
                Some(sent) => {
                    sent.waiting.extend(effects, caller);
                    Due::Nothing
                }
                None => Due::Now(Persisted(Waiting { effects, callers: caller.into_iter().collect() })),
            };
        }
        self.next.extend(events);
        self.waiting.extend(effects, caller);
        self.due(state)
    }

    fn due(&mut self, state: &SagaState) -> Due<C> {
        if self.next.is_empty() || self.sent.is_some() {
            Due::Nothing
        } else if !self.waiting.is_empty() || Summary::of(state) != self.shown {
            Due::Write
        } else if std::mem::replace(&mut self.is_noted, true) {
            Due::Nothing
        } else {
            Due::Later
        }
    }

    /// What is to be appended now; nothing while an append is under way.
    pub(crate) fn send(&mut self, saga: SagaId, state: &Arc<SagaState>) -> Option<Append> {
        self.is_noted = false;
        if self.next.is_empty() || self.sent.is_some() {
            return None;
        }
        let waiting = std::mem::replace(&mut self.waiting, Waiting::new());
        self.sent = Some(Sent { waiting, state: state.clone() });
        Some(Append { saga, events: std::mem::take(&mut self.next), summary: Summary::of(state) })
    }

    /// The append was written. `state` is the saga's, which may be ahead.
    pub(crate) fn appended(&mut self, _proof: &CommitProof, state: &SagaState) -> Option<Advance<C>> {
        let Sent { waiting, state: written } = self.sent.take()?;
        let before = std::mem::replace(&mut self.shown, Summary::of(&written));
        let due = self.due(state);
        Some(Advance { waiting: Persisted(waiting), state: Persisted(written), before, due })
    }

    /// The callers that wait, when the saga is given up here.
    pub(crate) fn into_callers(self) -> impl Iterator<Item = C> {
        let sent = self.sent.map(|sent| sent.waiting.callers).unwrap_or_default();
        sent.into_iter().chain(self.waiting.callers)
    }
}

/// The proof that a commit has been answered.
pub(crate) struct CommitProof(());

impl CommitProof {
    /// Of rows that were read from the database.
    pub(crate) fn of_read_rows() -> Self {
        Self(())
    }

    /// Something that is true because of what the commit has written.
    pub(crate) fn persisted<T>(&self, value: T) -> Persisted<T> {
        Persisted(value)
    }
}

/// A submission on its way to the database.
pub(crate) struct Entrant<C> {
    /// What enters memory if it begins at once; none of one that is to be queued.
    pub state: Option<Arc<SagaState>>,
    pub caller: C,
    pub came_at: Moment,
}

/// A queued saga on its way out of the line.
pub(crate) struct Claimant<R, C> {
    /// What enters memory, or why that can't be read.
    pub saga: Result<(R, Arc<SagaState>), LeaveReason>,
    /// What takes it out of the line before its turn.
    pub command: Option<(SagaInput, C)>,
}

/// What a commit's answer settles. Rows of the commit that are tried again have no outcome yet.
pub(crate) struct Settled<R, C> {
    pub proof: CommitProof,
    pub commit: Arc<Commit<R>>,
    pub entrants: Vec<Entrant<C>>,
    /// What became of its admissions, or why the database refuses them.
    pub admissions: Vec<Result<Admitted, String>>,
    pub claimants: Vec<Claimant<R, C>>,
    /// Of its claim, whether this instance drives each saga now.
    pub claimed: Vec<bool>,
    pub appends: Vec<AppendOutcome>,
    pub line: Option<LineState>,
    /// Why the database refuses its claim.
    pub claim_problem: Option<String>,
    /// The saga whose log the database refuses: a person must look.
    pub refused: Option<SagaId>,
}

/// A commit, what enters with it, and how it went so far.
struct Batch<R, C> {
    commit: Arc<Commit<R>>,
    entrants: Vec<Entrant<C>>,
    claimants: Vec<Claimant<R, C>>,
    /// Its only append was refused before: that is known to people.
    is_known_as_refused: bool,
    tries: u32,
    conflicts: u32,
    /// When it is tried again; none while an answer is waited for.
    again_at: Option<Moment>,
}

impl<R, C> Batch<R, C> {
    /// What its answer settles, before anything is known of the outcomes.
    fn settled(self) -> Settled<R, C> {
        Settled {
            proof: CommitProof(()),
            commit: self.commit,
            entrants: self.entrants,
            admissions: Vec::new(),
            claimants: self.claimants,
            claimed: Vec::new(),
            appends: Vec::new(),
            line: None,
            claim_problem: None,
            refused: None,
        }
    }
}

/// The commits of an instance, one after the other.
pub(crate) struct CommitQueue<R, C> {
    seed: u64,
    lane: Lane,
    numbers: u64,
    admissions: VecDeque<(Admission<R>, Entrant<C>)>,
    /// The ticket that the claim follows, and what is to be claimed.
    after: Ticket,
    turns: Vec<(Turn, Claimant<R, C>)>,
    appends: VecDeque<Append>,
    /// As in [`Commit::others_claim_to_ms`].
    others_claim_to_ms: Option<i64>,
    /// Parts of a refused commit; the next one is the last.
    parts: Vec<Batch<R, C>>,
    under_way: Option<Batch<R, C>>,
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
            under_way: None,
            refused: Vec::new(),
            try_refused_at: Moment::ZERO,
        }
    }

    pub(crate) fn admit(&mut self, admission: Admission<R>, entrant: Entrant<C>) {
        self.admissions.push_back((admission, entrant));
    }

    /// Takes sagas out of the line whose turn comes after this ticket's.
    pub(crate) fn claim(&mut self, after: Ticket, turns: impl Iterator<Item = (Turn, Claimant<R, C>)>) {
        self.after = after;
        self.turns.extend(turns);
    }

    /// Has the commits that are gathered from now on note this bound of other instances' claims.
    pub(crate) fn note(&mut self, others_claim_to_ms: Option<i64>) {
        self.others_claim_to_ms = others_claim_to_ms;
    }

    /// Takes one saga out of the line out of order.
    pub(crate) fn claim_out_of_order(&mut self, turn: Turn, claimant: Claimant<R, C>) {
        self.turns.push((turn, claimant));
    }

    /// Whether a saga is about to be taken out of the line, in a commit that has not left.
    pub(crate) fn is_claiming(&self, saga: SagaId) -> bool {
        self.turns.iter().any(|(turn, _)| turn.saga == saga)
    }

    pub(crate) fn append(&mut self, append: Append) {
        self.appends.push_back(append);
    }

    /// Whether nothing is under way or waits to be written.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_none() && self.parts.is_empty() && self.waiting() == 0
    }

    /// Admissions, claims and appends that are in no commit yet.
    pub(crate) fn waiting(&self) -> usize {
        self.admissions.len() + self.turns.len() + self.appends.len()
    }

    /// Since when the oldest submission waits to be written.
    pub(crate) fn unwritten_since(&self) -> Option<Moment> {
        let batches = self.under_way.iter().chain(self.parts.last());
        let mut entrants =
            batches.flat_map(|batch| &batch.entrants).chain(self.admissions.iter().map(|(_, entrant)| entrant));
        entrants.next().map(|entrant| entrant.came_at)
    }

    pub(crate) fn wake_at(&self) -> Option<Moment> {
        match &self.under_way {
            Some(under_way) => under_way.again_at,
            None => (!self.refused.is_empty()).then_some(self.try_refused_at),
        }
    }

    /// The commit that is to be sent now, for the first time or again.
    pub(crate) fn next(&mut self, now: Moment) -> Option<Arc<Commit<R>>> {
        if let Some(under_way) = &mut self.under_way {
            under_way.again_at.take_if(|at| *at <= now)?;
            return Some(under_way.commit.clone());
        }
        let batch = self.parts.pop().or_else(|| self.gather()).or_else(|| self.try_refused(now))?;
        let commit = batch.commit.clone();
        self.under_way = Some(batch);
        Some(commit)
    }

    /// Admissions come first.
    fn gather(&mut self) -> Option<Batch<R, C>> {
        if self.waiting() == 0 {
            return None;
        }
        let admissions: Vec<_> = self.admissions.drain(..self.admissions.len().min(BATCH_MAX)).collect();
        let claim = (!self.turns.is_empty()).then(|| {
            let (turns, claimants) = self.turns.drain(..).unzip();
            (Claim { after: self.after, turns }, claimants)
        });
        let appends = self.appends.drain(..self.appends.len().min(BATCH_MAX - admissions.len())).collect();
        Some(self.batch(admissions, claim, appends))
    }

    /// A commit of these rows, with what is to enter memory with them.
    fn batch(
        &mut self,
        admissions: Vec<(Admission<R>, Entrant<C>)>,
        claim: Option<(Claim, Vec<Claimant<R, C>>)>,
        appends: Vec<Append>,
    ) -> Batch<R, C> {
        self.numbers += 1;
        let number = CommitNo { lane: self.lane, number: self.numbers };
        let (admissions, entrants) = admissions.into_iter().unzip();
        let (claim, claimants) = claim.unzip();
        let others_claim_to_ms = self.others_claim_to_ms;
        let commit = Arc::new(Commit { number, admissions, claim, appends, others_claim_to_ms });
        let claimants = claimants.unwrap_or_default();
        Batch { commit, entrants, claimants, is_known_as_refused: false, tries: 0, conflicts: 0, again_at: None }
    }

    /// Each refused append by itself, when it is time.
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

    /// Whether an answer is the one that is waited for. An answer of another commit, or a second one, is not.
    pub(crate) fn awaits(&self, number: CommitNo) -> bool {
        let under_way = self.under_way.as_ref().filter(|under_way| under_way.again_at.is_none());
        under_way.is_some_and(|under_way| under_way.commit.number == number)
    }

    /// Takes in the answer of the commit that is under way. None: the commit is tried again.
    pub(crate) fn ended(
        &mut self,
        answer: CommitAnswer,
        now: Moment,
        notices: &mut Vec<Notice>,
    ) -> Option<Settled<R, C>> {
        let mut under_way = self.under_way.take()?;
        under_way.tries += 1;
        under_way.conflicts += u32::from(answer == CommitAnswer::Conflict);
        match answer {
            CommitAnswer::Written { admissions, claimed, appends, line } => {
                let admissions = admissions.into_iter().map(Ok).collect();
                Some(Settled { admissions, claimed, appends, line, ..under_way.settled() })
            }
            CommitAnswer::Refused { problem } => Some(self.refused(under_way, problem, now, notices)),
            CommitAnswer::Conflict if under_way.conflicts > CONFLICTS_MAX => {
                let problem = "it conflicts with other transactions again and again".to_owned();
                Some(self.refused(under_way, problem, now, notices))
            }
            CommitAnswer::Conflict | CommitAnswer::Failed | CommitAnswer::Fenced => {
                let longest = RETRY_FIRST.saturating_mul(1 << (under_way.tries - 1).min(16)).min(RETRY_MAX);
                let part = 0.5 + fraction(self.seed, under_way.commit.number.number, u64::from(under_way.tries)) / 2.0;
                under_way.again_at = Some(now + longest.mul_f64(part));
                self.under_way = Some(under_way);
                None
            }
        }
    }

    /// A refused commit goes on in parts: appends by halves, admissions one by one, a claim by itself, and of a claim
    /// each turn that is out of order by itself. A single row is settled, and so is a claim in order: the line asks for
    /// less.
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
                let turns = claim.turns.iter().cloned().zip(std::mem::take(&mut settled.claimants));
                let (early, in_order): (Vec<_>, Vec<_>) = turns.partition(|(turn, _)| turn.is_out_of_order);
                let parts = early.into_iter().map(|turn| vec![turn]).chain([in_order]);
                for part in parts.filter(|part| !part.is_empty()) {
                    let (turns, claimants) = part.into_iter().unzip();
                    let claim = Claim { after: claim.after, turns };
                    let part = self.batch(Vec::new(), Some((claim, claimants)), Vec::new());
                    self.parts.push(part);
                }
            }
            ([], Some(claim), []) => {
                (settled.claimed, settled.claim_problem) = (vec![false; claim.turns.len()], Some(problem));
            }
            (admissions, claim, appends) => {
                let entrants = std::mem::take(&mut settled.entrants);
                for (admission, entrant) in admissions.iter().zip(entrants).rev() {
                    let part = self.batch(vec![(admission.clone(), entrant)], None, Vec::new());
                    self.parts.push(part);
                }
                if let Some(claim) = claim {
                    let claimants = std::mem::take(&mut settled.claimants);
                    let part = self.batch(Vec::new(), Some((claim.clone(), claimants)), Vec::new());
                    self.parts.push(part);
                }
                // Appends alone are halved; with other rows beside them they are first tried by themselves.
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

    /// The process ends: refused appends are given up, and their sagas with them.
    pub(crate) fn take_refused(&mut self) -> Vec<SagaId> {
        self.refused.drain(..).map(|append| append.saga).collect()
    }

    /// The process ends and the log can't be written: nothing is lost by giving up. Clients ask again, and an instance
    /// that adopts the sagas resumes them.
    pub(crate) fn give_up(&mut self) {
        self.admissions.clear();
        self.turns.clear();
        self.appends.clear();
        self.parts.clear();
        self.under_way = None;
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
        assert_eq!(advance.waiting.callers, [1]);
        assert!(matches!(advance.due, Due::Write), "a caller waits for the rest");
        assert_eq!(log.send(saga, &after).map(|append| append.events), Some(events));
        assert_eq!(log.into_callers().collect::<Vec<_>>(), [2]);
    }
}
