//! The saga store in memory, with the contract of the real one: leases by its own clock, the mark `dead` as the fence
//! of every commit, the waiting line, appends with an expected sequence, group commit.
//!
//! ```text
//! transaction --executed, in one order--> pending --flush--> durable --> answer (or an error, though it is durable)
//!                                            |
//!                                            +--crash, tail lost--> taken back, and answered with an error
//! ```

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use matricula_core::{
    Append, AppendOutcome, Commit, CommitAnswer, DoorState, LineState, QueuedSaga, SagaId, StoreAnswer as CoreAnswer,
    StoreRequest as CoreRequest, StoredSaga, Ticket,
};
use matricula_engine::{Outcome, Recorded};

use crate::broken::Broken;
use crate::clients::{Ask, Request};
use crate::draws::{Draw, Purpose, TransactionKey, TransactionKind};
use crate::env::{Env, Event};
use crate::fact::Fact;
use crate::names::{InstanceNo, SagaNo, id_of, number_of};
use crate::replica::InstanceInput;

mod line;

use line::{Front, queued_saga};

/// The duration of a lease.
pub(crate) const LEASE_TTL_MS: i64 = 6_000;
/// The longest time that an instance waits for an answer of the store.
const GIVEN_UP_AFTER_MS: i64 = 10_000;
/// Timeout of a renewal: the next one is due then.
const RENEWAL_GIVEN_UP_AFTER_MS: i64 = LEASE_TTL_MS / 3;
/// The longest time that a row is refused.
const REFUSED_FOR_MS: u32 = 20_000;
/// Sagas adopted in one transaction: few, so that there is often more than one chunk.
pub(crate) const ADOPTION_CHUNK: usize = 2;

/// A commit of the core.
pub(crate) type SagaCommit = Arc<Commit<Rc<Request>>>;

#[derive(Debug)]
pub(crate) enum StoreRequest {
    Register,
    /// A request of the core of an instance that has these versions of the definition.
    Core {
        request: CoreRequest,
        versions: Rc<[u32]>,
    },
    /// Whether a saga is queued, for an order that came about it.
    ReadRow(Rc<Ask>),
    Write {
        commit: SagaCommit,
        /// Sagas without an outcome that one student may have.
        subject_open_max: usize,
    },
    Release,
}

impl StoreRequest {
    /// Whether it changes nothing.
    fn is_read(&self) -> bool {
        matches!(
            self,
            Self::ReadRow(_) | Self::Core { request: CoreRequest::Choose { .. } | CoreRequest::ReadLine { .. }, .. }
        )
    }

    /// The key of the draws for a transaction.
    pub(crate) fn kind(&self) -> TransactionKind {
        match self {
            Self::Register => TransactionKind::Register,
            Self::Core { request, .. } => match request {
                CoreRequest::Renew { .. } => TransactionKind::Renew,
                CoreRequest::Look { .. } => TransactionKind::Look,
                CoreRequest::Choose { .. } => TransactionKind::Choose,
                CoreRequest::Adopt { .. } => TransactionKind::Adopt,
                CoreRequest::Flag { .. } => TransactionKind::Flag,
                CoreRequest::ReadLine { .. } => TransactionKind::ReadLine,
            },
            Self::ReadRow(_) => TransactionKind::ReadRow,
            Self::Release => TransactionKind::Release,
            Self::Write { commit, .. } => {
                let (saga, sequence) = rows(commit).min().expect("a write has a row");
                TransactionKind::Write(saga, sequence)
            }
        }
    }
}

/// Each saga with the first sequence that is written.
fn rows(commit: &Commit<Rc<Request>>) -> impl Iterator<Item = (SagaNo, u64)> {
    let admitted = commit.admissions.iter().map(|admission| (admission.id, u64::from(admission.first.is_some())));
    let claimed = commit.claim.iter().flat_map(|claim| &claim.turns).map(|turn| (turn.saga, 1));
    let sequence = |append: &Append| append.events.first().map_or(0, |event| event.sequence);
    let appended = commit.appends.iter().map(move |append| (append.saga, sequence(append)));
    admitted.chain(claimed).chain(appended).map(|(saga, sequence)| (number_of(saga), sequence))
}

/// A request of an instance to the store, with the key of its draws.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub key: TransactionKey,
    pub request: StoreRequest,
}

#[derive(Debug)]
pub(crate) enum StoreAnswer {
    /// To a request of a core. A registration is answered like a renewal. The time in both is the true one.
    Core(CoreAnswer<Rc<Request>>),
    /// The saga if it is queued.
    Row(Option<QueuedSaga<Rc<Request>>>),
    Commit(CommitAnswer),
    Released,
    /// The request may or may not have taken effect.
    Failed,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    until_ms: i64,
    dead: bool,
}

#[derive(Debug, Clone)]
struct Row {
    /// [`InstanceNo::NOBODY`] while it is queued.
    owner: InstanceNo,
    ticket: Ticket,
    accepted_at_ms: i64,
    is_queued: bool,
    sequence: u64,
    has_outcome: bool,
    finished: bool,
    log: Vec<Rc<Vec<Recorded>>>,
}

/// What the store keeps.
#[derive(Clone, Default)]
struct Tables {
    leases: BTreeMap<InstanceNo, Lease>,
    rows: BTreeMap<SagaNo, Rc<Row>>,
    line: LineState,
    /// The bound of each instance on the claims of others.
    fronts: BTreeMap<InstanceNo, Front>,
}

/// Executed and not durable yet.
struct Pending {
    transaction: Transaction,
    answer: StoreAnswer,
}

#[derive(Default)]
pub(crate) struct Store {
    tables: Tables,
    /// The tables as they are after a crash that loses the tail.
    durable: Tables,
    /// The line before the last write, unless it was read since.
    line_before: LineState,
    clock_ahead_ms: i64,
    away_until_ms: i64,
    pending: Vec<Pending>,
    /// Rows that are refused, and until when.
    refused: BTreeMap<(SagaNo, u64), i64>,
    pending_facts: Vec<Fact>,
    flushing: bool,
    epoch: u32,
}

impl Store {
    pub(crate) fn new(clock_ahead_ms: i64) -> Self {
        Self { clock_ahead_ms, ..Self::default() }
    }

    /// A transaction arrives.
    pub(crate) fn request(&mut self, env: &mut Env, transaction: Transaction) {
        let key = transaction.key;
        let mut draw = env.draw(Purpose::StoreExecuted(key));
        if env.now_ms < self.away_until_ms || draw.chance(env.weather.store_error_before) {
            return fail(env, transaction);
        }
        if let Some(answer) = self.trouble(env, &transaction, &mut draw) {
            return answer_to(env, Pending { transaction, answer }, &mut draw);
        }
        let answer = self.execute(env, key.instance, &transaction.request);
        let pending = Pending { transaction, answer };
        if env.is_broken(Broken::StoreAnswersEarly) {
            answer_to(env, pending, &mut env.draw(Purpose::StoreAnswered(key)));
        } else if !self.flushing && pending.transaction.request.is_read() {
            // It has only seen durable rows.
            answer_durable(env, pending);
            return;
        } else {
            self.pending.push(pending);
        }
        self.flush_in(env, i64::from(draw.below(env.weather.store_ms)));
    }

    fn flush_soon(&mut self, env: &mut Env) {
        self.flush_in(env, 1);
    }

    /// Schedules when executed transactions become durable, unless that is already scheduled.
    fn flush_in(&mut self, env: &mut Env, in_ms: i64) {
        if !std::mem::replace(&mut self.flushing, true) {
            env.schedule(in_ms, Event::Flush { epoch: self.epoch });
        }
    }

    /// Why a write is not executed: it conflicts with another transaction, or a row of it is refused for a while.
    fn trouble(&mut self, env: &Env, transaction: &Transaction, draw: &mut Draw) -> Option<StoreAnswer> {
        let StoreRequest::Write { commit, .. } = &transaction.request else { return None };
        if self.is_dead(transaction.key.instance) {
            return None;
        }
        if draw.chance(env.weather.store_conflicts) {
            return Some(StoreAnswer::Commit(CommitAnswer::Conflict));
        }
        if env.weather.row_refused == 0 {
            return None;
        }
        for (saga, sequence) in rows(commit) {
            let mut draw = env.draw(Purpose::Row { saga, sequence });
            if !draw.chance(env.weather.row_refused) {
                continue;
            }
            let is_conflict = draw.chance(256);
            let until_ms = env.now_ms + i64::from(draw.below(REFUSED_FOR_MS));
            if env.now_ms < *self.refused.entry((saga, sequence)).or_insert(until_ms) {
                let refused = CommitAnswer::Refused { problem: "a row is refused".to_owned() };
                return Some(StoreAnswer::Commit(if is_conflict { CommitAnswer::Conflict } else { refused }));
            }
        }
        None
    }

    /// Everything that was executed becomes durable, and is answered.
    pub(crate) fn flush(&mut self, env: &mut Env, epoch: u32) {
        if epoch != self.epoch {
            return;
        }
        self.flushing = false;
        self.durable = self.tables.clone();
        env.facts.append(&mut self.pending_facts);
        for pending in std::mem::take(&mut self.pending) {
            answer_durable(env, pending);
        }
    }

    /// Restarts. Each executed transaction that is not durable is kept or lost, and no answer says which.
    pub(crate) fn crash(&mut self, env: &mut Env, loses_tail: bool, away_ms: i64, clock_jump_ms: i64) {
        if loses_tail {
            if self.tables.line != self.durable.line {
                self.line_before = self.durable.line.clone();
            }
            self.tables = self.durable.clone();
            self.pending_facts.clear();
        }
        env.facts.append(&mut self.pending_facts);
        self.flushing = false;
        self.epoch += 1;
        self.away_until_ms = env.now_ms + away_ms;
        env.facts.push(Fact::StoreAway { for_ms: away_ms });
        self.clock_ahead_ms += clock_jump_ms;
        self.clock_is_set();
        self.durable = self.tables.clone();
        for pending in std::mem::take(&mut self.pending) {
            fail(env, pending.transaction);
        }
    }

    pub(crate) fn heal(&mut self, env: &mut Env) {
        self.away_until_ms = 0;
        self.set_door(env, DoorState::Open);
    }

    fn row(&mut self, saga: SagaNo) -> &mut Row {
        Rc::make_mut(self.tables.rows.get_mut(&saga).expect("a saga that is stored"))
    }

    fn execute(&mut self, env: &Env, instance: InstanceNo, request: &StoreRequest) -> StoreAnswer {
        match request {
            StoreRequest::Register => StoreAnswer::Core(self.renew(env, instance)),
            StoreRequest::Core { request, versions } => {
                StoreAnswer::Core(self.answer_core(env, instance, request, versions))
            }
            StoreRequest::ReadRow(ask) => {
                let row = ask.saga().and_then(|saga| Some((saga, self.queued(saga)?)));
                StoreAnswer::Row(row.map(|(saga, row)| queued_saga(env, saga, row)))
            }
            StoreRequest::Write { commit, subject_open_max } => {
                StoreAnswer::Commit(self.write(env, instance, commit, *subject_open_max))
            }
            StoreRequest::Release => {
                self.mark(env, instance, instance);
                StoreAnswer::Released
            }
        }
    }

    fn answer_core(
        &mut self,
        env: &Env,
        instance: InstanceNo,
        request: &CoreRequest,
        versions: &[u32],
    ) -> CoreAnswer<Rc<Request>> {
        match request {
            CoreRequest::Choose { limit } => {
                let is_chosen = |row: &Row| self.is_ownerless(row) && versions.contains(&version_of(&row.log));
                let chosen = self.sagas().filter(|(_, row)| is_chosen(row)).take(*limit);
                CoreAnswer::Chosen(chosen.map(|(saga, _)| id_of(saga)).collect())
            }
            CoreRequest::ReadLine { after, limit } => self.read_line(env, instance, *after, *limit),
            _ if self.is_dead(instance) => CoreAnswer::Fenced,
            CoreRequest::Renew { .. } => self.renew(env, instance),
            CoreRequest::Look { may_mark } => {
                let (now_ms, leases) = (self.now_ms(env), self.tables.leases.iter().filter(|_| *may_mark));
                let lapsed = leases.filter(|(other, lease)| **other != instance && lease.until_ms < now_ms);
                let lapsed: Vec<InstanceNo> = lapsed.map(|(other, _)| *other).collect();
                lapsed.into_iter().for_each(|other| self.mark(env, other, instance));
                CoreAnswer::Looked
            }
            CoreRequest::Flag { .. } => CoreAnswer::Flagged,
            CoreRequest::Adopt { sagas } => CoreAnswer::Adopted(self.adopt(env, instance, sagas)),
        }
    }

    /// The time by the store's clock.
    fn now_ms(&self, env: &Env) -> i64 {
        env.now_ms + self.clock_ahead_ms
    }

    fn renew(&mut self, env: &Env, instance: InstanceNo) -> CoreAnswer<Rc<Request>> {
        self.tables.leases.insert(instance, Lease { until_ms: self.now_ms(env) + LEASE_TTL_MS, dead: false });
        CoreAnswer::Renewed { database_now_ms: env.now_ms }
    }

    fn adopt(&mut self, env: &Env, instance: InstanceNo, sagas: &[SagaId]) -> Vec<StoredSaga<Rc<Request>>> {
        for saga in sagas.iter().map(|saga| number_of(*saga)) {
            if self.tables.rows.get(&saga).is_some_and(|row| self.is_ownerless(row)) {
                self.row(saga).owner = instance;
                self.pending_facts.push(Fact::Adopted { saga, instance });
            }
        }
        let stored = sagas.iter().filter_map(|&id| {
            let saga = number_of(id);
            let row = self.tables.rows.get(&saga).filter(|row| row.owner == instance)?;
            let (definition, version) = (env.shape.name.to_owned(), version_of(&row.log));
            let log = Ok(row.log.iter().flat_map(|events| events.iter().cloned()).collect());
            Some(StoredSaga {
                row: matricula_engine::Row { id, definition, version, log },
                request: Ok(env.request(saga).clone()),
            })
        });
        stored.collect()
    }

    fn write(
        &mut self,
        env: &Env,
        instance: InstanceNo,
        commit: &Commit<Rc<Request>>,
        subject_open_max: usize,
    ) -> CommitAnswer {
        if self.is_dead(instance) && !env.is_broken(Broken::StoreForgetsTheFence) {
            return CommitAnswer::Fenced;
        }
        let now_ms = self.now_ms(env);
        let Commit { number, admissions, claim, appends, others_claim_to_ms } = commit;
        self.line_before = self.tables.line.clone();
        let admitted = self.admit(env, instance, admissions, subject_open_max);
        let is_next = claim.as_ref().is_some_and(|claim| claim.after == self.tables.line.served);
        let claimed = claim.as_ref().map(|claim| self.claim(env, instance, claim, *others_claim_to_ms));
        let claimed = claimed.unwrap_or_default();
        let appended = appends.iter().map(|append| self.append(env, instance, append)).collect();
        // A turn out of order neither checks nor sets a bound.
        let turns = claim.iter().flat_map(|claim| &claim.turns).zip(&claimed);
        let in_order: Vec<bool> =
            turns.filter(|(turn, _)| !turn.is_out_of_order).map(|(_, is_mine)| *is_mine).collect();
        // A claim that has failed may contain a saga that this instance has claimed out of order before.
        let (claims, has_missed) = (is_next && !in_order.is_empty(), in_order.first() == Some(&false));
        if let Some(claims_to_ms) = others_claim_to_ms.filter(|_| !has_missed) {
            self.note_front(instance, number.number, claims_to_ms, claims, now_ms);
        }
        let has_line = !admissions.is_empty() || claim.is_some();
        let line = has_line.then(|| self.line_for(instance, now_ms));
        CommitAnswer::Written { admissions: admitted, claimed, appends: appended, line }
    }

    /// Whether the events stand in the log now.
    fn append(&mut self, env: &Env, instance: InstanceNo, append: &Append) -> AppendOutcome {
        let saga = number_of(append.saga);
        let (Some(first), Some(last)) = (append.events.first(), append.events.last()) else {
            return AppendOutcome::Conflict;
        };
        let Some(row) = self.tables.rows.get_mut(&saga) else { return AppendOutcome::Conflict };
        let as_expected = row.sequence + 1 == first.sequence && row.owner == instance;
        if as_expected || env.is_broken(Broken::StoreForgetsTheSequence) {
            let (row, events) = (Rc::make_mut(row), Rc::new(append.events.clone()));
            row.sequence = last.sequence;
            row.has_outcome = append.summary.outcome != Outcome::Pending.as_str();
            row.finished = append.summary.finished;
            row.log.push(events.clone());
            self.pending_facts.push(Fact::Appended { saga, instance, events });
            return AppendOutcome::Appended;
        }
        // If the row is at the new sequence already, an earlier try of this write has written it: only the owner
        // appends.
        let is_written = row.sequence == last.sequence && row.owner == instance;
        if is_written { AppendOutcome::Appended } else { AppendOutcome::Conflict }
    }

    fn mark(&mut self, env: &Env, instance: InstanceNo, by: InstanceNo) {
        if let Some(lease) = self.tables.leases.get_mut(&instance).filter(|lease| !lease.dead) {
            lease.dead = true;
            self.pending_facts.push(Fact::Marked { instance, by });
            self.forget_claims(env, instance);
        }
    }

    fn is_dead(&self, instance: InstanceNo) -> bool {
        self.tables.leases.get(&instance).is_none_or(|lease| lease.dead)
    }

    fn is_ownerless(&self, row: &Row) -> bool {
        !row.finished && !row.is_queued && self.is_dead(row.owner)
    }
}

/// The version of the definition that a saga has begun with.
fn version_of(log: &[Rc<Vec<Recorded>>]) -> u32 {
    let first = log.first().and_then(|events| events.first());
    first.and_then(|first| first.event.definition()).map_or(0, |(_, version)| version)
}

/// Answers what is durable, or reports an error.
fn answer_durable(env: &mut Env, pending: Pending) {
    let key = pending.transaction.key;
    let mut draw = env.draw(Purpose::StoreAnswered(key));
    if draw.chance(env.weather.store_error_after) {
        env.say(|| format!("the store has committed {:?} of {} and reports an error", key.kind, key.instance));
        fail(env, pending.transaction);
    } else {
        answer_to(env, pending, &mut draw);
    }
}

fn answer_to(env: &mut Env, pending: Pending, draw: &mut Draw) {
    let in_ms = i64::from(draw.below(env.weather.store_ms));
    end(env, in_ms, pending.transaction, pending.answer);
}

fn fail(env: &mut Env, transaction: Transaction) {
    let mut draw = env.draw(Purpose::StoreFailed(transaction.key));
    let given_up_after_ms = match transaction.request {
        StoreRequest::Core { request: CoreRequest::Renew { .. }, .. } => RENEWAL_GIVEN_UP_AFTER_MS,
        _ => GIVEN_UP_AFTER_MS,
    };
    let in_ms = if draw.chance(env.weather.store_hangs) { given_up_after_ms } else { i64::from(draw.below(20)) };
    end(env, in_ms, transaction, StoreAnswer::Failed);
}

fn end(env: &mut Env, in_ms: i64, transaction: Transaction, answer: StoreAnswer) {
    let instance = transaction.key.instance;
    let input = InstanceInput::Stored { transaction, answer: Box::new(answer) };
    env.schedule(in_ms, Event::Instance { process: instance.process(), instance, input });
}
