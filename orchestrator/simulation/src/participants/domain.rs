//! The rules of the simulated services: the effect of an operation on the ledgers, after it has passed the barrier.

use matricula_engine::CallAnswer;

use super::{Ledgers, Operation};
use crate::broken::Broken;
use crate::clients::Request;
use crate::env::Env;
use crate::fact::Fact;
use crate::names::{CallId, SagaNo};
use crate::shapes::Does;

/// Decides and does an action; none if it can't be decided yet.
pub(super) fn decide(ledgers: &mut Ledgers, env: &mut Env, operation: &Operation) -> Option<CallAnswer> {
    let CallId { saga, .. } = operation.made.of;
    let request = env.request(saga).clone();
    let Request { student, adds, drops, .. } = &*request;
    match operation.does {
        Does::Reserve => return reserve(ledgers, saga, &request),
        Does::Hold => return hold(ledgers, env, saga, &request),
        Does::Create => {
            ledgers.enrollments.mark(*student, drops, &operation.origins, saga);
            ledgers.enrollments.add(*student, adds, saga, true);
        }
        Does::Assess => ledgers.fees.add(*student, adds, saga, false),
        Does::Commit | Does::Enroll => {
            if operation.does == Does::Enroll {
                ledgers.enrollments.mark(*student, drops, &operation.origins, saga);
                ledgers.enrollments.add(*student, adds, saga, true);
            }
            let adds_max = if env.is_broken(Broken::PivotDoesAPart) { 1 } else { usize::MAX };
            ledgers.enrollments.settle(saga, adds_max);
        }
        Does::Settle => ledgers.record.settle(saga, usize::MAX),
        Does::ReleaseDropped => ledgers.seats.end(*student, drops, &operation.origins),
        Does::Refund => ledgers.fees.end(*student, drops, &operation.origins),
        Does::Notify | Does::Plain => {}
    }
    Some(CallAnswer::Done(String::new()))
}

/// Undoes an action.
pub(super) fn undo(ledgers: &mut Ledgers, saga: SagaNo, does: Does) {
    match does {
        Does::Reserve => ledgers.record.undo(saga),
        Does::Hold => ledgers.seats.undo(saga),
        Does::Create => ledgers.enrollments.undo(saga),
        Does::Assess => ledgers.fees.undo(saga),
        Does::Commit
        | Does::Enroll
        | Does::Settle
        | Does::ReleaseDropped
        | Does::Refund
        | Does::Notify
        | Does::Plain => {}
    }
}

/// All rules at once, under the student's lock; answers where each dropped section came from.
fn reserve(ledgers: &mut Ledgers, saga: SagaNo, request: &Request) -> Option<CallAnswer> {
    let Request { student, adds, drops, .. } = request;
    let record = &mut ledgers.record;
    let of_student =
        |section| record.entries.iter().find(|entry| (entry.student, entry.section) == (*student, section));
    // Sections that an earlier registration of the student has not settled can't be decided yet.
    let unsettled = |section| of_student(section).is_some_and(|entry| entry.pending || entry.dropping.is_some());
    if adds.iter().chain(drops).any(|section| unsettled(*section)) {
        return None;
    }
    if adds.iter().any(|section| of_student(*section).is_some()) {
        return Some(CallAnswer::Refused("already enrolled".to_owned()));
    }
    let origins: Vec<SagaNo> = drops.iter().filter_map(|section| Some(of_student(*section)?.saga)).collect();
    if origins.len() < drops.len() {
        return Some(CallAnswer::Refused("not enrolled".to_owned()));
    }
    record.mark(*student, drops, &origins, saga);
    record.add(*student, adds, saga, true);
    let origins: Vec<String> = origins.iter().map(|origin| origin.0.to_string()).collect();
    Some(CallAnswer::Done(origins.join(" ")))
}

/// All seats or none.
fn hold(ledgers: &mut Ledgers, env: &mut Env, saga: SagaNo, request: &Request) -> Option<CallAnswer> {
    let Ledgers { seats, capacity, .. } = ledgers;
    let is_full = |section| seats.of_section(section) >= capacity[usize::from(section)];
    if !env.is_broken(Broken::SeatsAreNotCounted) && request.adds.iter().any(|section| is_full(*section)) {
        return Some(CallAnswer::Refused("closed section".to_owned()));
    }
    for &section in &request.adds {
        let taken_before = seats.of_section(section);
        let capacity = capacity[usize::from(section)];
        env.facts.push(Fact::SeatGiven { saga, section, taken_before, capacity });
        seats.add(request.student, &[section], saga, false);
    }
    Some(CallAnswer::Done(String::new()))
}
