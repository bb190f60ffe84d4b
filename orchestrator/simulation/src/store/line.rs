//! The waiting line of the store: tickets in the order of commits, admissions that begin or are queued, claims in the
//! order of tickets, the door, and how many one student may have open.

use std::rc::Rc;
use std::slice;

use matricula_core::{Admission, AdmissionOutcome, Claim, DoorState, LineState, QueuedSaga, StoreAnswer, Ticket, Turn};
use matricula_engine::Recorded;

use super::{Row, Store};
use crate::broken::Broken;
use crate::clients::Request;
use crate::env::Env;
use crate::fact::{ClaimFront, Fact};
use crate::names::{InstanceNo, SagaNo, id_of, number_of};

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

impl Store {
    /// A registrar sets the door, for all instances.
    pub(crate) fn set_door(&mut self, env: &mut Env, door: DoorState) {
        self.tables.line.door.state = door;
        self.pending_facts.push(Fact::DoorSet { door });
        self.flush_soon(env);
    }

    pub(super) fn sagas(&self) -> impl Iterator<Item = (SagaNo, &Row)> {
        self.tables.rows.iter().map(|(saga, row)| (*saga, &**row))
    }

    /// The row of a saga if it is queued.
    pub(super) fn queued(&self, saga: SagaNo) -> Option<&Row> {
        self.tables.rows.get(&saga).map(|row| &**row).filter(|row| row.is_queued)
    }

    /// The state of the line is read before its sagas: the last write came between the two, unless it was read since.
    pub(super) fn read_line(
        &mut self,
        env: &Env,
        instance: InstanceNo,
        after: Ticket,
        limit: usize,
    ) -> StoreAnswer<Rc<Request>> {
        let claims_to_ms = self.others_claim_to_ms(instance, self.now_ms(env));
        let state = LineState { claims_to_ms, ..std::mem::replace(&mut self.line_before, self.tables.line.clone()) };
        let mut queued: Vec<_> = self.sagas().filter(|(_, row)| row.is_queued && row.ticket > after).collect();
        queued.sort_unstable_by_key(|(_, row)| row.ticket);
        let sagas = queued.into_iter().take(limit).map(|(saga, row)| queued_saga(env, saga, row)).collect();
        StoreAnswer::Line { state, sagas }
    }

    /// The store's clock was set: a bound that did not count may count again.
    pub(super) fn clock_is_set(&mut self) {
        self.tables.fronts.values_mut().for_each(|front| front.is_unbroken = false);
    }

    /// The state of the line for an instance.
    pub(super) fn line_for(&self, instance: InstanceNo, now_ms: i64) -> LineState {
        LineState { claims_to_ms: self.others_claim_to_ms(instance, now_ms), ..self.tables.line.clone() }
    }

    /// The least bound that other instances have stored.
    fn others_claim_to_ms(&self, instance: InstanceNo, now_ms: i64) -> Option<i64> {
        let fronts = self.fronts_of_others(instance).filter(|front| front.counts(now_ms));
        fronts.map(|front| front.claims_to_ms).min()
    }

    fn fronts_of_others(&self, instance: InstanceNo) -> impl Iterator<Item = &Front> {
        self.tables.fronts.iter().filter(move |(other, _)| **other != instance).map(|(_, front)| front)
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
        let before = self.tables.fronts.get(&instance);
        if before.is_some_and(|front| front.number == number) {
            return;
        }
        let is_unbroken = claims || before.is_some_and(|front| front.is_unbroken && front.counts(now_ms));
        let front = Front { number, claims_to_ms, noted_at_ms: now_ms, is_unbroken };
        self.tables.fronts.insert(instance, front);
    }

    pub(super) fn admit(
        &mut self,
        env: &Env,
        instance: InstanceNo,
        admissions: &[Admission<Rc<Request>>],
        subject_open_max: usize,
    ) -> Vec<AdmissionOutcome> {
        let has_queued = self.sagas().any(|(_, row)| row.is_queued) && !env.is_broken(Broken::StoreAdmitsPastTheLine);
        let open_max = if env.is_broken(Broken::StoreForgetsTheQuota) { usize::MAX } else { subject_open_max };
        let admitted = admissions.iter().map(|admission| {
            self.tables.line.last.0 += 1;
            let ticket = self.tables.line.last.0;
            if let Some(answer) = self.existing(env, instance, admission) {
                return answer;
            }
            let (door, is_limited) = (self.tables.line.door.state, !admission.is_by_staff);
            if is_limited && door == DoorState::Closed && !env.is_broken(Broken::StoreForgetsTheDoor) {
                return AdmissionOutcome::Closed { sentence: String::new() };
            }
            let is_open = |(saga, row): &(SagaNo, &Row)| {
                !row.has_outcome && env.request(*saga).student == admission.request.student
            };
            if is_limited && self.sagas().filter(is_open).count() >= open_max {
                return AdmissionOutcome::OverQuota;
            }
            // The transaction that has drawn its numbers first commits last.
            let is_early = env.is_broken(Broken::TicketsComeOutOfOrder);
            let ticket = Ticket(if is_early { ((ticket - 1) ^ 1) + 1 } else { ticket });
            let may_begin = !has_queued && (admission.is_by_staff || door == DoorState::Open);
            self.insert(env, instance, admission, ticket, may_begin)
        });
        admitted.collect()
    }

    /// How an admission is answered whose key is in use.
    fn existing(
        &self,
        env: &Env,
        instance: InstanceNo,
        admission: &Admission<Rc<Request>>,
    ) -> Option<AdmissionOutcome> {
        let (saga, request) = (number_of(admission.id), &admission.request);
        let has_key = |other: SagaNo| {
            let requested = env.request(other);
            !env.is_broken(Broken::StoreForgetsTheKey)
                && (requested.student, requested.key) == (request.student, request.key)
        };
        let (existing, row) = self.sagas().find(|(other, _)| *other == saga || has_key(*other))?;
        if existing != saga {
            let same_request = env.request(existing).asks_the_same(request);
            return Some(AdmissionOutcome::Existing { id: id_of(existing), same_request });
        }
        // An earlier try of this write was committed, although it reported an error.
        let ticket = row.ticket;
        // A saga that waited, was claimed by another instance and then adopted has begun at another time.
        let is_mine = row.has_begun(instance, admission.first.as_ref());
        Some(if is_mine { AdmissionOutcome::Begun { ticket } } else { AdmissionOutcome::Queued { ticket } })
    }

    fn insert(
        &mut self,
        env: &Env,
        instance: InstanceNo,
        admission: &Admission<Rc<Request>>,
        ticket: Ticket,
        may_begin: bool,
    ) -> AdmissionOutcome {
        let saga = number_of(admission.id);
        let first = admission.first.as_ref().filter(|_| may_begin).map(|first| Rc::new(vec![first.clone()]));
        let is_queued = first.is_none();
        let row = Row {
            owner: if is_queued { InstanceNo::NOBODY } else { instance },
            ticket,
            accepted_at_ms: self.now_ms(env),
            is_queued,
            sequence: u64::from(!is_queued),
            has_outcome: false,
            finished: false,
            log: first.iter().cloned().collect(),
        };
        self.tables.rows.insert(saga, Rc::new(row));
        self.pending_facts.push(Fact::Admitted { saga, instance, ticket: ticket.0, first });
        if is_queued {
            return AdmissionOutcome::Queued { ticket };
        }
        self.tables.line.served = self.tables.line.served.max(ticket);
        AdmissionOutcome::Begun { ticket }
    }

    /// For each turn, whether the saga is this instance's now.
    pub(super) fn claim(
        &mut self,
        env: &Env,
        instance: InstanceNo,
        claim: &Claim,
        others_claim_to_ms: Option<i64>,
    ) -> Vec<bool> {
        let now_ms = self.now_ms(env);
        let is_next = self.tables.line.served == claim.after;
        let is_waited_for = !env.is_broken(Broken::OthersAreNotWaitedFor);
        let bound_ms = self.others_claim_to_ms(instance, now_ms).filter(|_| is_waited_for);
        let in_order = claim.turns.iter().filter(|turn| !turn.is_out_of_order);
        let accepted_at_ms = |turn: &Turn| Some(self.tables.rows.get(&number_of(turn.saga))?.accepted_at_ms);
        let latest_ms = in_order.filter_map(accepted_at_ms).max();
        // All or nothing: a clock that was set back gives later tickets earlier times.
        let is_near = bound_ms.zip(latest_ms).is_none_or(|(bound_ms, latest_ms)| latest_ms <= bound_ms);
        let fronts = self.fronts_of_others(instance).filter(|front| front.is_unbroken && front.counts(now_ms));
        let claims_to_ms = fronts.map(|front| front.claims_to_ms).min().unwrap_or(i64::MAX);
        for turn in claim.turns.iter().filter(|turn| turn.is_out_of_order || is_next && is_near) {
            if let Some(accepted_at_ms) = self.queued(number_of(turn.saga)).map(|row| row.accepted_at_ms) {
                let front = ClaimFront {
                    ahead_ms: accepted_at_ms.saturating_sub(claims_to_ms),
                    others_ahead_ms: others_claim_to_ms.map(|to_ms| to_ms.saturating_sub(accepted_at_ms)),
                };
                self.begin(instance, turn, front);
            }
        }
        if is_next && claim.turns.iter().any(|turn| !turn.is_out_of_order) {
            self.pass_turns();
        }
        let is_mine = |turn: &Turn| {
            let row = self.tables.rows.get(&number_of(turn.saga));
            row.is_some_and(|row| row.has_begun(instance, Some(&turn.first)))
        };
        claim.turns.iter().map(is_mine).collect()
    }

    /// The served ticket: the one before the first queued saga, or the last one if no saga is queued.
    fn pass_turns(&mut self) {
        let queued = self.sagas().filter(|(_, row)| row.is_queued).map(|(_, row)| row.ticket);
        let served = queued.min().map_or(self.tables.line.last, |first| Ticket(first.0 - 1));
        self.tables.line.served = self.tables.line.served.max(served);
    }

    fn begin(&mut self, instance: InstanceNo, turn: &Turn, front: ClaimFront) {
        let (saga, first) = (number_of(turn.saga), Rc::new(vec![turn.first.clone()]));
        let (ticket, is_out_of_order) = (turn.ticket.0, turn.is_out_of_order);
        let row = self.row(saga);
        (row.owner, row.is_queued, row.sequence) = (instance, false, 1);
        row.log.push(first.clone());
        self.pending_facts.push(Fact::Claimed { saga, instance, ticket, first, front, is_out_of_order });
    }

    /// Without the guard, sagas that an instance has claimed and not begun return to the line when it ends.
    pub(super) fn forget_claims(&mut self, env: &Env, instance: InstanceNo) {
        if !env.is_broken(Broken::ClaimedReturnToTheLine) {
            return;
        }
        let claimed = self.sagas().filter(|(_, row)| row.owner == instance && row.sequence == 1);
        let claimed: Vec<(SagaNo, u64)> = claimed.map(|(saga, row)| (saga, row.ticket.0)).collect();
        for (saga, ticket) in claimed {
            let row = self.row(saga);
            (row.owner, row.is_queued, row.sequence) = (InstanceNo::NOBODY, true, 0);
            row.log.clear();
            self.pending_facts.push(Fact::Admitted { saga, instance, ticket, first: None });
        }
    }
}

impl Row {
    /// Whether an instance drives it, and its log has only this event.
    fn has_begun(&self, instance: InstanceNo, first: Option<&Recorded>) -> bool {
        let log = self.log.first().map(|events| events.as_slice());
        self.owner == instance && self.sequence == 1 && log == first.map(slice::from_ref)
    }
}

/// A queued saga as it is read.
pub(super) fn queued_saga(env: &Env, saga: SagaNo, row: &Row) -> QueuedSaga<Rc<Request>> {
    let request = Ok(env.request(saga).clone());
    QueuedSaga { id: id_of(saga), ticket: row.ticket, accepted_at_ms: row.accepted_at_ms, request }
}
