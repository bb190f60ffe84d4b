//! 1: for every section, the seats taken are the holds of live sagas and the enrollments in force; no seat was granted
//! unless one was free or an override is recorded.

use std::collections::HashMap;

use matricula_proto::academics::v1::Override;
use matricula_proto::common::v1::{EnrollmentStatus, Reason};
use matricula_proto::seats::v1::SeatHold;

use crate::report::Verdict;
use crate::world::World;

/// The seats of one section according to the ledgers.
#[derive(Default)]
struct Seats {
    is_known: bool,
    taken: i64,
    held: i64,
    of_live_sagas: i64,
    enrolled: i64,
}

pub fn prove(world: &World<'_>) -> Verdict {
    let mut verdict = Verdict::new(1, "no seat without right");
    for (section, seats) in seats(world) {
        let Seats { is_known, taken, held, of_live_sagas, enrolled } = seats;
        verdict.require(is_known, || format!("section {section}: seats are held in it, but seats does not know it"));
        verdict.require(taken == held, || format!("section {section}: {taken} seats taken, but {held} held"));
        verdict.require(held == of_live_sagas + enrolled, || {
            format!("section {section}: {held} seats held, but {of_live_sagas} by live sagas and {enrolled} by enrolled students")
        });
    }
    let overrides: HashMap<&str, &Override> =
        world.ledgers.overrides.iter().map(|granted| (granted.override_id.as_str(), granted)).collect();
    for hold in &world.ledgers.holds {
        verdict.require(was_rightful(world, &overrides, hold), || {
            format!(
                "section {}: student {} got seat {} of {} without a recorded override (registration {})",
                hold.section_id, hold.student_id, hold.taken_after, hold.capacity_at_grant, hold.registration_id
            )
        });
    }
    verdict
}

fn seats<'a>(world: &World<'a>) -> HashMap<&'a str, Seats> {
    let ledgers = world.ledgers;
    let mut seats: HashMap<&str, Seats> = HashMap::with_capacity(ledgers.sections.len());
    for section in &ledgers.sections {
        let entry = seats.entry(&section.section_id).or_default();
        entry.is_known = true;
        entry.taken = section.taken.into();
    }
    for hold in ledgers.holds.iter().filter(|hold| hold.released_at.is_none()) {
        let entry = seats.entry(&hold.section_id).or_default();
        entry.held += 1;
        entry.of_live_sagas += i64::from(world.is_in_motion((&hold.student_id, &hold.section_id)));
    }
    for enrollment in ledgers.enrollments.iter().filter(|e| e.status() == EnrollmentStatus::Enrolled) {
        if !world.is_in_motion((&enrollment.student_id, &enrollment.section_id)) {
            seats.entry(&enrollment.section_id).or_default().enrolled += 1;
        }
    }
    seats
}

fn was_rightful(world: &World<'_>, overrides: &HashMap<&str, &Override>, hold: &SeatHold) -> bool {
    if hold.taken_after <= hold.capacity_at_grant {
        return true;
    }
    match overrides.get(hold.override_id.as_str()) {
        Some(granted) => {
            granted.student_id == hold.student_id
                && granted.reason() == Reason::ClosedSection
                && (granted.section_id.is_empty() || granted.section_id == hold.section_id)
        }
        // An override granted after academics was read is not in the ledger.
        None => !hold.override_id.is_empty() && world.settled(&hold.registration_id).is_none(),
    }
}
