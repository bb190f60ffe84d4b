//! The waiting line of the store: tickets in the order of commits, admissions that begin or are queued, claims in the
//! order of tickets, the door, and how many one student may have open.

use super::{Admission, AdmissionOutcome, Batch, Claim, Row, Store, StoreAnswer, Turn, Undo};
use crate::broken::Broken;
use crate::env::Env;
use crate::fact::{ClaimFront, Fact};
use crate::names::{InstanceNo, SagaNo};

/// The three positions of the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Door {
    #[default]
    Open,
    /// Submissions are queued, and no saga begins.
    Paused,
    /// No submission is accepted.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LineState {
    /// The ticket whose turn has come last.
    pub served: u64,
    /// The ticket that was given last.
    pub last: u64,
    pub door: Door,
    /// The least bound that other instances have stored, as the answer has it.
    pub claims_to_ms: Option<i64>,
}

/// The bound of an instance on the claims of others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Front {
    /// The number of its commit: a repeat of the commit stores nothing.
    number: u64,
    claims_to_ms: i64,
    noted_at_ms: i64,
    /// Whether it was renewed within a second each time since its last claim.
    is_unbroken: bool,
}

/// How long a bound counts.
const FRONT_COUNTS_MS: i64 = 1_000;

impl Front {
    fn counts(&self, now_ms: i64) -> bool {
        (now_ms - FRONT_COUNTS_MS + 1..=now_ms).contains(&self.noted_at_ms)
    }
}

/// A saga in the line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queued {
    pub saga: SagaNo,
    pub ticket: u64,
    pub accepted_at_ms: i64,
}

impl Store {
    /// A registrar sets the door, for all instances.
    pub(crate) fn set_door(&mut self, env: &mut Env, door: Door) {
        self.set_line(LineState { door, ..self.line });
        self.pending_facts.push(Fact::DoorSet { door });
        self.flush_soon(env);
    }

    fn set_line(&mut self, line: LineState) {
        self.undo.push(Undo::Line(std::mem::replace(&mut self.line, line)));
    }

    fn sagas(&self) -> impl Iterator<Item = (SagaNo, &Row)> {
        (0..).map(SagaNo).zip(&self.rows).filter_map(|(saga, row)| Some((saga, row.as_ref()?)))
    }

    /// The saga if it is queued.
    pub(super) fn queued(&self, saga: SagaNo) -> Option<Queued> {
        let row = self.rows.get(saga.get())?.as_ref().filter(|row| row.is_queued)?;
        Some(Queued { saga, ticket: row.ticket, accepted_at_ms: row.accepted_at_ms })
    }

    /// The state of the line is read before its sagas: the last write came between the two, unless it was read since.
    pub(super) fn read_line(&mut self, instance: InstanceNo, after: u64, limit: usize, now_ms: i64) -> StoreAnswer {
        let claims_to_ms = self.line_for(instance, now_ms).claims_to_ms;
        let state = LineState { claims_to_ms, ..std::mem::replace(&mut self.line_before, self.line) };
        let behind = |saga| self.queued(saga).filter(|queued| queued.ticket > after);
        let mut queued: Vec<Queued> = self.sagas().filter_map(|(saga, _)| behind(saga)).collect();
        queued.sort_unstable_by_key(|queued| queued.ticket);
        queued.truncate(limit);
        StoreAnswer::Line(state, queued)
    }

    /// The store's clock was set: a bound that did not count may count again.
    pub(super) fn clock_is_set(&mut self) {
        self.fronts.iter_mut().flatten().for_each(|front| front.is_unbroken = false);
    }

    /// The state of the line for an instance.
    pub(super) fn line_for(&self, instance: InstanceNo, now_ms: i64) -> LineState {
        let fronts = self.fronts_of_others(instance).filter(|front| front.counts(now_ms));
        LineState { claims_to_ms: fronts.map(|front| front.claims_to_ms).min(), ..self.line }
    }

    fn fronts_of_others(&self, instance: InstanceNo) -> impl Iterator<Item = &Front> {
        let others = self.fronts.iter().enumerate().filter(move |(other, _)| *other != instance.get());
        others.filter_map(|(_, front)| front.as_ref())
    }

    /// Stores the bound of an instance on the claims of others.
    pub(super) fn note_front(
        &mut self,
        instance: InstanceNo,
        number: u64,
        claims_to_ms: i64,
        claims: bool,
        now_ms: i64,
    ) {
        if self.fronts.len() <= instance.get() {
            self.fronts.resize(instance.get() + 1, None);
        }
        let before = self.fronts[instance.get()];
        if before.is_some_and(|front| front.number == number) {
            return;
        }
        let is_unbroken = claims || before.is_some_and(|front| front.is_unbroken && front.counts(now_ms));
        self.undo.push(Undo::Front(instance, before));
        self.fronts[instance.get()] = Some(Front { number, claims_to_ms, noted_at_ms: now_ms, is_unbroken });
    }

    pub(super) fn admit(&mut self, env: &Env, instance: InstanceNo, batch: &Batch) -> Vec<AdmissionOutcome> {
        let has_queued = self.sagas().any(|(_, row)| row.is_queued) && !env.is_broken(Broken::StoreAdmitsPastTheLine);
        let may_begin = |admission: &Admission, door| !has_queued && (admission.is_by_staff || door == Door::Open);
        let open_max = if env.is_broken(Broken::StoreForgetsTheQuota) { usize::MAX } else { batch.subject_open_max };
        let admitted = batch.admissions.iter().map(|admission| {
            let ticket = self.line.last + 1;
            self.set_line(LineState { last: ticket, ..self.line });
            if let Some(answer) = self.existing(env, instance, admission) {
                return answer;
            }
            let is_limited = !admission.is_by_staff;
            if is_limited && self.line.door == Door::Closed && !env.is_broken(Broken::StoreForgetsTheDoor) {
                return AdmissionOutcome::Closed;
            }
            let is_open = |(saga, row): &(SagaNo, &Row)| {
                !row.has_outcome && env.request(*saga).student == admission.request.student
            };
            if is_limited && self.sagas().filter(is_open).count() >= open_max {
                return AdmissionOutcome::OverQuota;
            }
            // The transaction that has drawn its numbers first commits last.
            let is_early = env.is_broken(Broken::TicketsComeOutOfOrder);
            let ticket = if is_early { ((ticket - 1) ^ 1) + 1 } else { ticket };
            let may_begin = may_begin(admission, self.line.door);
            self.insert(instance, admission, ticket, may_begin, env.now_ms + self.clock_ahead_ms)
        });
        admitted.collect()
    }

    /// How an admission is answered whose key is in use.
    fn existing(&self, env: &Env, instance: InstanceNo, admission: &Admission) -> Option<AdmissionOutcome> {
        let Admission { saga, request, .. } = admission;
        let has_key = |other: SagaNo| {
            let requested = env.request(other);
            !env.is_broken(Broken::StoreForgetsTheKey)
                && (requested.student, requested.key) == (request.student, request.key)
        };
        let (existing, row) = self.sagas().find(|(other, _)| other == saga || has_key(*other))?;
        if existing != *saga {
            let same_request = env.request(existing).asks_the_same(request);
            return Some(AdmissionOutcome::Existing { saga: existing, same_request });
        }
        // An earlier try of this write was committed, although it reported an error.
        let ticket = row.ticket;
        // A saga that waited, was claimed by another instance and then adopted has begun at another time.
        let is_mine = row.owner == instance && row.sequence == 1 && row.log.first() == admission.first.as_ref();
        Some(if is_mine { AdmissionOutcome::Begun { ticket } } else { AdmissionOutcome::Queued { ticket } })
    }

    fn insert(
        &mut self,
        instance: InstanceNo,
        admission: &Admission,
        ticket: u64,
        may_begin: bool,
        accepted_at_ms: i64,
    ) -> AdmissionOutcome {
        let Admission { saga, ref first, .. } = *admission;
        let first = first.clone().filter(|_| may_begin);
        if self.rows.len() <= saga.get() {
            self.rows.resize_with(saga.get() + 1, || None);
        }
        let is_queued = first.is_none();
        self.rows[saga.get()] = Some(Row {
            owner: if is_queued { InstanceNo::NOBODY } else { instance },
            ticket,
            accepted_at_ms,
            is_queued,
            sequence: u64::from(!is_queued),
            has_outcome: false,
            finished: false,
            log: first.iter().cloned().collect(),
        });
        self.undo.push(Undo::NewRow(saga));
        self.pending_facts.push(Fact::Admitted { saga, instance, ticket, first });
        if is_queued {
            return AdmissionOutcome::Queued { ticket };
        }
        self.set_line(LineState { served: self.line.served.max(ticket), ..self.line });
        AdmissionOutcome::Begun { ticket }
    }

    /// For each turn, whether the saga is this instance's now.
    pub(super) fn claim(
        &mut self,
        env: &Env,
        instance: InstanceNo,
        claim: &Claim,
        others_claim_to_ms: Option<i64>,
        now_ms: i64,
    ) -> Vec<bool> {
        let is_next = self.line.served == claim.after;
        let bound_ms = if env.is_broken(Broken::OthersAreNotWaitedFor) {
            None
        } else {
            self.line_for(instance, now_ms).claims_to_ms
        };
        let in_order = claim.turns.iter().filter(|turn| !turn.is_out_of_order);
        let latest_ms =
            in_order.filter_map(|turn| self.rows.get(turn.saga.get())?.as_ref()).map(|row| row.accepted_at_ms);
        // All or nothing: a clock that was set back gives later tickets earlier times.
        let is_near = bound_ms.is_none_or(|bound_ms| latest_ms.max().is_none_or(|latest_ms| latest_ms <= bound_ms));
        let fronts = self.fronts_of_others(instance).filter(|front| front.is_unbroken && front.counts(now_ms));
        let claims_to_ms = fronts.map(|front| front.claims_to_ms).min().unwrap_or(i64::MAX);
        for turn in claim.turns.iter().filter(|turn| is_next || turn.is_out_of_order) {
            if let Some(queued) = self.queued(turn.saga).filter(|_| turn.is_out_of_order || is_near) {
                let front = ClaimFront {
                    ahead_ms: queued.accepted_at_ms.saturating_sub(claims_to_ms),
                    others_ahead_ms: others_claim_to_ms.map(|to_ms| to_ms.saturating_sub(queued.accepted_at_ms)),
                };
                self.begin(instance, turn, front);
            }
        }
        if is_next && claim.turns.iter().any(|turn| !turn.is_out_of_order) {
            self.pass_turns();
        }
        let is_mine = |turn: &Turn| {
            let row = self.rows.get(turn.saga.get()).and_then(Option::as_ref);
            row.is_some_and(|row| row.owner == instance && row.sequence == 1 && row.log.first() == Some(&turn.first))
        };
        claim.turns.iter().map(is_mine).collect()
    }

    /// The served ticket: the one before the first queued saga, or the last one if no saga is queued.
    fn pass_turns(&mut self) {
        let queued = self.sagas().filter(|(_, row)| row.is_queued).map(|(_, row)| row.ticket);
        let served = queued.min().map_or(self.line.last, |first| first - 1);
        self.set_line(LineState { served: self.line.served.max(served), ..self.line });
    }

    fn begin(&mut self, instance: InstanceNo, turn: &Turn, front: ClaimFront) {
        let Turn { saga, ticket, ref first, is_out_of_order, .. } = *turn;
        let row = self.row(saga);
        (row.owner, row.is_queued, row.sequence) = (instance, false, 1);
        row.log.push(first.clone());
        self.undo.push(Undo::Claimed(saga));
        let first = first.clone();
        self.pending_facts.push(Fact::Claimed { saga, instance, ticket, first, front, is_out_of_order });
    }

    /// Reverts a claim.
    pub(super) fn queue_again(&mut self, saga: SagaNo) {
        let row = self.row(saga);
        (row.owner, row.is_queued, row.sequence) = (InstanceNo::NOBODY, true, 0);
        row.log.clear();
    }

    /// Without the guard, sagas that an instance has claimed and not begun return to the line when it ends.
    pub(super) fn forget_claims(&mut self, env: &Env, instance: InstanceNo) {
        if !env.is_broken(Broken::ClaimedReturnToTheLine) {
            return;
        }
        let claimed = self.sagas().filter(|(_, row)| row.owner == instance && row.sequence == 1);
        let claimed: Vec<(SagaNo, u64)> = claimed.map(|(saga, row)| (saga, row.ticket)).collect();
        for (saga, ticket) in claimed {
            self.queue_again(saga);
            self.pending_facts.push(Fact::Admitted { saga, instance, ticket, first: None });
        }
    }
}
