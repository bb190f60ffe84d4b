//! The saga store in memory, with the contract of the real one: leases by its own clock, the mark `dead` as the fence
//! of every commit, the waiting line, appends with an expected sequence, group commit.
//!
//! ```text
//! transaction --executed, in one order--> pending --flush--> durable --> answer (or an error, though it is durable)
//!                                            |
//!                                            +--crash, tail lost--> taken back, and answered with an error
//! ```

use std::rc::Rc;

use matricula_core::{CommitNo, Moment};
use matricula_engine::Recorded;

use crate::broken::Broken;
use crate::clients::{Ask, Request};
use crate::draws::{Draw, Purpose, TransactionKey, TransactionKind};
use crate::env::{Env, Event};
use crate::fact::Fact;
use crate::names::{InstanceNo, SagaNo};
use crate::replica::InstanceInput;

mod line;

use line::Front;
pub(crate) use line::{Door, LineState, Queued};

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

/// The rows that an instance writes in one transaction.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The commit of the instance; it is tried again with the same number.
    pub number: CommitNo,
    /// In the order of their arrival.
    pub admissions: Vec<Admission>,
    pub claim: Option<Claim>,
    pub appends: Vec<Append>,
    /// The bound on the claims of other instances.
    pub others_claim_to_ms: Option<i64>,
    /// Sagas without an outcome that one student may have.
    pub subject_open_max: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Admission {
    pub saga: SagaNo,
    pub request: Rc<Request>,
    /// Neither the door nor the quota applies.
    pub is_by_staff: bool,
    /// None: it is to be queued.
    pub first: Option<Rc<Vec<Recorded>>>,
}

/// Sagas that are taken out of the line.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    /// The ticket whose turn had come last.
    pub after: u64,
    pub turns: Vec<Turn>,
}

#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub saga: SagaNo,
    pub ticket: u64,
    pub first: Rc<Vec<Recorded>>,
    pub is_out_of_order: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Append {
    pub saga: SagaNo,
    pub events: Rc<Vec<Recorded>>,
    pub has_outcome: bool,
    pub finished: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum StoreRequest {
    Register,
    Renew {
        sent_at: Moment,
    },
    Look {
        may_mark: bool,
    },
    Choose {
        limit: usize,
        /// The versions of the definition that the instance has.
        versions: Vec<u32>,
    },
    Adopt(Vec<SagaNo>),
    Flag(Vec<SagaNo>),
    /// The queued sagas after a ticket.
    ReadLine {
        after: u64,
        limit: usize,
    },
    /// Whether a saga is queued, for an order that came about it.
    ReadRow(Rc<Ask>),
    Write(Rc<Batch>),
    Release,
}

impl StoreRequest {
    /// Whether it changes nothing.
    fn is_read(&self) -> bool {
        matches!(self, Self::Choose { .. } | Self::ReadLine { .. } | Self::ReadRow(_))
    }

    /// The key of the draws for a transaction.
    pub(crate) fn kind(&self) -> TransactionKind {
        match self {
            Self::Register => TransactionKind::Register,
            Self::Renew { .. } => TransactionKind::Renew,
            Self::Look { .. } => TransactionKind::Look,
            Self::Choose { .. } => TransactionKind::Choose,
            Self::Flag(_) => TransactionKind::Flag,
            Self::Adopt(_) => TransactionKind::Adopt,
            Self::ReadLine { .. } => TransactionKind::ReadLine,
            Self::ReadRow(_) => TransactionKind::ReadRow,
            Self::Release => TransactionKind::Release,
            Self::Write(batch) => {
                let (saga, sequence) = batch.rows().min().expect("a write has a row");
                TransactionKind::Write(saga, sequence)
            }
        }
    }
}

impl Batch {
    /// Each saga with the first sequence that is written.
    fn rows(&self) -> impl Iterator<Item = (SagaNo, u64)> {
        let admitted = self.admissions.iter().map(|admission| (admission.saga, u64::from(admission.first.is_some())));
        let claimed = self.claim.iter().flat_map(|claim| &claim.turns).map(|turn| (turn.saga, 1));
        let sequence = |append: &Append| append.events.first().map_or(0, |event| event.sequence);
        let appended = self.appends.iter().map(move |append| (append.saga, sequence(append)));
        admitted.chain(claimed).chain(appended)
    }
}

/// A request of an instance to the store, with the key of its draws.
#[derive(Debug, Clone)]
pub(crate) struct Transaction {
    pub key: TransactionKey,
    pub request: StoreRequest,
}

/// How an admission ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdmissionOutcome {
    Begun { ticket: u64 },
    Queued { ticket: u64 },
    OverQuota,
    Closed,
    Existing { saga: SagaNo, same_request: bool },
}

/// A saga as it is read.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub saga: SagaNo,
    pub log: Vec<Rc<Vec<Recorded>>>,
}

impl Stored {
    /// The version of its definition.
    pub(crate) fn version(&self) -> u32 {
        version_of(&self.log)
    }
}

#[derive(Debug, Clone)]
pub(crate) enum StoreAnswer {
    Done,
    /// The instance has a lease; true time when that was executed.
    Alive {
        at_ms: i64,
    },
    Fenced,
    /// The transaction lost to another one.
    Conflict,
    /// The store refuses a row, for ever or until somebody removes the cause.
    Refused,
    /// The request may or may not have taken effect.
    Failed,
    Chosen(Vec<SagaNo>),
    Adopted(Vec<Stored>),
    Line(LineState, Vec<Queued>),
    /// The saga with its ticket if it is queued.
    Row(Option<Queued>),
    Written(Written),
}

/// The outcomes of the rows of a batch.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub admitted: Vec<AdmissionOutcome>,
    /// For each turn, whether the saga is this instance's now.
    pub claimed: Vec<bool>,
    /// For each append, whether it is written.
    pub appended: Vec<bool>,
    pub line: Option<LineState>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    until_ms: i64,
    dead: bool,
}

#[derive(Debug)]
struct Row {
    /// [`InstanceNo::NOBODY`] while it is queued.
    owner: InstanceNo,
    ticket: u64,
    accepted_at_ms: i64,
    is_queued: bool,
    sequence: u64,
    has_outcome: bool,
    finished: bool,
    log: Vec<Rc<Vec<Recorded>>>,
}

enum Undo {
    Lease(InstanceNo, Option<Lease>),
    NewRow(SagaNo),
    Owner(SagaNo, InstanceNo),
    /// Whether it had its outcome before.
    Append(SagaNo, bool),
    Line(LineState),
    Claimed(SagaNo),
    Front(InstanceNo, Option<Front>),
}

/// Executed and not durable yet.
struct Pending {
    transaction: Transaction,
    answer: StoreAnswer,
}

#[derive(Default)]
pub(crate) struct Store {
    leases: Vec<Option<Lease>>,
    rows: Vec<Option<Row>>,
    line: LineState,
    /// The bound of each instance on the claims of others.
    fronts: Vec<Option<Front>>,
    /// The line before the last write, unless it was read since.
    line_before: LineState,
    clock_ahead_ms: i64,
    away_until_ms: i64,
    pending: Vec<Pending>,
    /// Rows that are refused, and until when.
    refused: Vec<((SagaNo, u64), i64)>,
    pending_facts: Vec<Fact>,
    undo: Vec<Undo>,
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
        let StoreRequest::Write(batch) = &transaction.request else { return None };
        if self.is_dead(transaction.key.instance) {
            return None;
        }
        if draw.chance(env.weather.store_conflicts) {
            return Some(StoreAnswer::Conflict);
        }
        if env.weather.row_refused == 0 {
            return None;
        }
        for (saga, sequence) in batch.rows() {
            let mut draw = env.draw(Purpose::Row { saga, sequence });
            if !draw.chance(env.weather.row_refused) {
                continue;
            }
            let is_conflict = draw.chance(256);
            let until_ms = env.now_ms + i64::from(draw.below(REFUSED_FOR_MS));
            let known = self.refused.iter().find(|(row, _)| *row == (saga, sequence)).map(|(_, until_ms)| *until_ms);
            if known.is_none() {
                self.refused.push(((saga, sequence), until_ms));
            }
            if env.now_ms < known.unwrap_or(until_ms) {
                return Some(if is_conflict { StoreAnswer::Conflict } else { StoreAnswer::Refused });
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
        self.undo.clear();
        env.facts.append(&mut self.pending_facts);
        for pending in std::mem::take(&mut self.pending) {
            answer_durable(env, pending);
        }
    }

    /// Restarts. Each executed transaction that is not durable is kept or lost, and no answer says which.
    pub(crate) fn crash(&mut self, env: &mut Env, loses_tail: bool, away_ms: i64, clock_jump_ms: i64) {
        if loses_tail {
            for undo in std::mem::take(&mut self.undo).into_iter().rev() {
                self.take_back(undo);
            }
            self.pending_facts.clear();
        }
        self.undo.clear();
        env.facts.append(&mut self.pending_facts);
        self.flushing = false;
        self.epoch += 1;
        self.away_until_ms = env.now_ms + away_ms;
        env.facts.push(Fact::StoreAway { for_ms: away_ms });
        self.clock_ahead_ms += clock_jump_ms;
        self.clock_is_set();
        for pending in std::mem::take(&mut self.pending) {
            fail(env, pending.transaction);
        }
    }

    pub(crate) fn heal(&mut self, env: &mut Env) {
        self.away_until_ms = 0;
        self.set_door(env, Door::Open);
    }

    /// The current owner of a saga.
    pub(crate) fn owner(&self, saga: SagaNo) -> Option<InstanceNo> {
        self.rows.get(saga.get())?.as_ref().map(|row| row.owner)
    }

    fn take_back(&mut self, undo: Undo) {
        match undo {
            Undo::Lease(instance, lease) => self.leases[instance.get()] = lease,
            Undo::NewRow(saga) => self.rows[saga.get()] = None,
            Undo::Owner(saga, owner) => self.row(saga).owner = owner,
            Undo::Line(line) => (self.line, self.line_before) = (line, line),
            Undo::Claimed(saga) => self.queue_again(saga),
            Undo::Front(instance, front) => self.fronts[instance.get()] = front,
            Undo::Append(saga, had_outcome) => {
                let row = self.row(saga);
                row.log.pop();
                (row.finished, row.has_outcome) = (false, had_outcome);
                row.sequence = row.log.last().and_then(|events| events.last()).map_or(0, |event| event.sequence);
            }
        }
    }

    fn row(&mut self, saga: SagaNo) -> &mut Row {
        self.rows[saga.get()].as_mut().expect("a saga that is stored")
    }

    fn execute(&mut self, env: &Env, instance: InstanceNo, asked: &StoreRequest) -> StoreAnswer {
        let now_ms = env.now_ms + self.clock_ahead_ms;
        match asked {
            StoreRequest::Register => {
                self.set_lease(instance, Some(Lease { until_ms: now_ms + LEASE_TTL_MS, dead: false }));
                StoreAnswer::Alive { at_ms: env.now_ms }
            }
            StoreRequest::Renew { .. } => {
                if self.is_dead(instance) {
                    return StoreAnswer::Fenced;
                }
                self.set_lease(instance, Some(Lease { until_ms: now_ms + LEASE_TTL_MS, dead: false }));
                StoreAnswer::Alive { at_ms: env.now_ms }
            }
            StoreRequest::Look { .. } if self.is_dead(instance) => StoreAnswer::Fenced,
            StoreRequest::Look { may_mark } => {
                let others = if *may_mark { self.leases.len() } else { 0 };
                for other in 0..others {
                    let other = InstanceNo(other as u16);
                    if other != instance && self.leases[other.get()].is_some_and(|lease| lease.until_ms < now_ms) {
                        self.mark(env, other, instance);
                    }
                }
                StoreAnswer::Done
            }
            StoreRequest::Release => {
                self.mark(env, instance, instance);
                StoreAnswer::Done
            }
            StoreRequest::Flag(_) if self.is_dead(instance) => StoreAnswer::Fenced,
            StoreRequest::Flag(_) => StoreAnswer::Done,
            StoreRequest::Choose { limit, versions } => {
                let sagas = (0..self.rows.len()).map(|saga| SagaNo(saga as u16));
                let is_chosen = |saga: &SagaNo| self.is_ownerless(*saga) && versions.contains(&self.version(*saga));
                StoreAnswer::Chosen(sagas.filter(is_chosen).take(*limit).collect())
            }
            StoreRequest::Adopt(sagas) => self.adopt(instance, sagas),
            StoreRequest::ReadLine { after, limit } => self.read_line(instance, *after, *limit, now_ms),
            StoreRequest::ReadRow(ask) => StoreAnswer::Row(ask.saga().and_then(|saga| self.queued(saga))),
            StoreRequest::Write(batch) => self.write(env, instance, batch),
        }
    }

    fn adopt(&mut self, instance: InstanceNo, sagas: &[SagaNo]) -> StoreAnswer {
        if self.is_dead(instance) {
            return StoreAnswer::Fenced;
        }
        for &saga in sagas {
            if self.is_ownerless(saga) {
                let before = std::mem::replace(&mut self.row(saga).owner, instance);
                self.undo.push(Undo::Owner(saga, before));
                self.pending_facts.push(Fact::Adopted { saga, instance });
            }
        }
        let of_mine = sagas.iter().filter(|saga| self.owner(**saga) == Some(instance));
        let stored = of_mine.map(|&saga| Stored {
            saga,
            log: self.rows[saga.get()].as_ref().map(|row| row.log.clone()).unwrap_or_default(),
        });
        StoreAnswer::Adopted(stored.collect())
    }

    fn write(&mut self, env: &Env, instance: InstanceNo, batch: &Batch) -> StoreAnswer {
        if self.is_dead(instance) && !env.is_broken(Broken::StoreForgetsTheFence) {
            return StoreAnswer::Fenced;
        }
        let now_ms = env.now_ms + self.clock_ahead_ms;
        self.line_before = self.line;
        let admitted = self.admit(env, instance, batch);
        let is_next = batch.claim.as_ref().is_some_and(|claim| claim.after == self.line.served);
        let claimed = batch
            .claim
            .as_ref()
            .map(|claim| self.claim(env, instance, claim, batch.others_claim_to_ms, now_ms))
            .unwrap_or_default();
        let appended = batch.appends.iter().map(|append| self.append(env, instance, append)).collect();
        // A turn out of order neither checks nor sets a bound.
        let turns = batch.claim.iter().flat_map(|claim| &claim.turns).zip(&claimed);
        let in_order: Vec<bool> =
            turns.filter(|(turn, _)| !turn.is_out_of_order).map(|(_, is_mine)| *is_mine).collect();
        // A claim that has failed may contain a saga that this instance has claimed out of order before.
        let (claims, has_missed) = (is_next && !in_order.is_empty(), in_order.first() == Some(&false));
        if let Some(claims_to_ms) = batch.others_claim_to_ms.filter(|_| !has_missed) {
            self.note_front(instance, batch.number.number, claims_to_ms, claims, now_ms);
        }
        let has_line = !batch.admissions.is_empty() || batch.claim.is_some();
        let line = has_line.then(|| self.line_for(instance, now_ms));
        StoreAnswer::Written(Written { admitted, claimed, appended, line })
    }

    /// Whether the events stand in the log now.
    fn append(&mut self, env: &Env, instance: InstanceNo, append: &Append) -> bool {
        let Append { saga, events, has_outcome, finished } = append;
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return false };
        let Some(row) = self.rows.get_mut(saga.get()).and_then(Option::as_mut) else { return false };
        let as_expected = row.sequence + 1 == first.sequence && row.owner == instance;
        if as_expected || env.is_broken(Broken::StoreForgetsTheSequence) {
            row.sequence = last.sequence;
            let had_outcome = std::mem::replace(&mut row.has_outcome, *has_outcome);
            row.finished = *finished;
            row.log.push(events.clone());
            self.undo.push(Undo::Append(*saga, had_outcome));
            self.pending_facts.push(Fact::Appended { saga: *saga, instance, events: events.clone() });
            return true;
        }
        // If the row is at the new sequence already, an earlier try of this write has written it: only the owner
        // appends.
        row.sequence == last.sequence && row.owner == instance
    }

    fn mark(&mut self, env: &Env, instance: InstanceNo, by: InstanceNo) {
        let lease = self.leases.get(instance.get()).copied().flatten();
        if let Some(lease) = lease.filter(|lease| !lease.dead) {
            self.set_lease(instance, Some(Lease { dead: true, ..lease }));
            self.pending_facts.push(Fact::Marked { instance, by });
            self.forget_claims(env, instance);
        }
    }

    fn set_lease(&mut self, instance: InstanceNo, lease: Option<Lease>) {
        if self.leases.len() <= instance.get() {
            self.leases.resize(instance.get() + 1, None);
        }
        let before = std::mem::replace(&mut self.leases[instance.get()], lease);
        self.undo.push(Undo::Lease(instance, before));
    }

    fn is_dead(&self, instance: InstanceNo) -> bool {
        self.leases.get(instance.get()).copied().flatten().is_none_or(|lease| lease.dead)
    }

    /// The version of the definition that a saga has begun with.
    fn version(&self, saga: SagaNo) -> u32 {
        let row = self.rows.get(saga.get()).and_then(Option::as_ref);
        row.map_or(0, |row| version_of(&row.log))
    }

    fn is_ownerless(&self, saga: SagaNo) -> bool {
        let row = self.rows.get(saga.get()).and_then(Option::as_ref);
        row.is_some_and(|row| !row.finished && !row.is_queued && self.is_dead(row.owner))
    }
}

fn version_of(log: &[Rc<Vec<Recorded>>]) -> u32 {
    let first = log.first().and_then(|events| events.first());
    first.and_then(|first| first.event.definition()).map_or(0, |(_, version)| version)
}

fn name(kind: TransactionKind) -> &'static str {
    match kind {
        TransactionKind::Register => "the start",
        TransactionKind::Renew => "the renewal",
        TransactionKind::Look => "the look for lapsed leases",
        TransactionKind::Choose => "the choice",
        TransactionKind::Adopt => "the adoption",
        TransactionKind::Flag => "the flag",
        TransactionKind::ReadLine => "the read of the line",
        TransactionKind::ReadRow => "the read of a saga",
        TransactionKind::Write(..) => "the write",
        TransactionKind::Release => "the release",
    }
}

/// Answers what is durable, or reports an error.
fn answer_durable(env: &mut Env, pending: Pending) {
    let key = pending.transaction.key;
    let mut draw = env.draw(Purpose::StoreAnswered(key));
    if draw.chance(env.weather.store_error_after) {
        env.say(|| format!("the store has committed {:?} of {} and reports an error", name(key.kind), key.instance));
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
        StoreRequest::Renew { .. } => RENEWAL_GIVEN_UP_AFTER_MS,
        _ => GIVEN_UP_AFTER_MS,
    };
    let in_ms = if draw.chance(env.weather.store_hangs) { given_up_after_ms } else { i64::from(draw.below(20)) };
    end(env, in_ms, transaction, StoreAnswer::Failed);
}

fn end(env: &mut Env, in_ms: i64, transaction: Transaction, answer: StoreAnswer) {
    let instance = transaction.key.instance;
    let input = InstanceInput::Stored { transaction, answer };
    env.schedule(in_ms, Event::Instance { process: instance.process(), instance, input });
}
