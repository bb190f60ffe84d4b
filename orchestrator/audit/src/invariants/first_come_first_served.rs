//! 8: first come, first served. No registration that was refused because a section was full was overtaken by a later
//! one that got a seat of the section.
//!
//! Tickets give the order of acceptance, and versions of the section give the order of the decisions: no clock is used.
//! A registration may be overtaken while it waits for a service that was away for half a second or got a call again,
//! for an instance that adopted it or was suspended, or for an earlier registration of its student. A seat by an
//! override does not count as overtaking.

use std::collections::HashMap;
use std::time::Duration;

use matricula_proto::common::v1::Reason;
use matricula_proto::registration::v1::{Outcome, Registration};
use prost_types::Timestamp;

use crate::report::Verdict;
use crate::world::World;

/// Two registrations that were accepted within this time may be decided in either order: the later one may have been
/// sent before the earlier one was acknowledged, which takes up to 250 ms, and 250 ms more are granted.
const TOGETHER: Duration = Duration::from_millis(500);

/// A grant of a seat.
#[derive(Clone, Copy)]
struct Grant<'a> {
    version: i64,
    to: &'a Registration,
}

pub fn prove(world: &World<'_>) -> Verdict {
    let mut verdict = Verdict::new(8, "first come, first served");
    let latest = latest_up_to_each_version(world);
    let of_students = by_student(world);
    for refused in world.all_settled().filter(|registration| registration.outcome() == Outcome::Refused) {
        let Some(ticket) = refused.ticket.filter(|_| !world.was_delayed(&refused.registration_id)) else { continue };
        for reason in refused.reasons.iter().filter(|reason| reason.reason() == Reason::ClosedSection) {
            let grants = latest.get(reason.section_id.as_str()).map_or(&[][..], Vec::as_slice);
            let up_to = grants.partition_point(|grant| grant.version <= reason.section_version);
            let overtaker = up_to.checked_sub(1).map(|last| grants[last].to).filter(|later| {
                later.ticket > Some(ticket)
                    && after(later, refused) > Some(TOGETHER)
                    && !waited_for_its_own(refused, &of_students)
            });
            verdict.require(overtaker.is_none(), || {
                let later = overtaker.map(|later| later.registration_id.as_str()).unwrap_or_default();
                format!(
                    "section {}: registration {} (ticket {ticket}) was refused at version {}, and the later registration \
                     {later} had got a seat by then",
                    reason.section_id, refused.registration_id, reason.section_version
                )
            });
        }
    }
    verdict
}

/// The grants of each section in the order of their versions. Each has the registration with the largest ticket among
/// the grants up to it. Grants without a known version or ticket are left out.
fn latest_up_to_each_version<'a>(world: &World<'a>) -> HashMap<&'a str, Vec<Grant<'a>>> {
    let mut sections: HashMap<&str, Vec<Grant<'_>>> = HashMap::new();
    for hold in world.ledgers.holds.iter().filter(|hold| hold.override_id.is_empty() && hold.section_version > 0) {
        let to = world.registration(&hold.registration_id).filter(|to| to.ticket.is_some());
        let grant = to.map(|to| Grant { version: hold.section_version, to });
        sections.entry(&hold.section_id).or_default().extend(grant);
    }
    for grants in sections.values_mut() {
        grants.sort_by_key(|grant| grant.version);
        for place in 1..grants.len() {
            if grants[place - 1].to.ticket > grants[place].to.ticket {
                grants[place].to = grants[place - 1].to;
            }
        }
    }
    sections
}

fn by_student<'a>(world: &World<'a>) -> HashMap<&'a str, Vec<&'a Registration>> {
    let mut students: HashMap<&str, Vec<&Registration>> = HashMap::new();
    for registration in world.all() {
        students.entry(&registration.student_id).or_default().push(registration);
    }
    students
}

/// Whether an earlier registration of the same student had no outcome yet when this one was accepted.
fn waited_for_its_own(registration: &Registration, of_students: &HashMap<&str, Vec<&Registration>>) -> bool {
    let of_student = of_students.get(registration.student_id.as_str());
    let mut earlier =
        of_student.into_iter().flatten().filter(|other| other.ticket.is_some() && other.ticket < registration.ticket);
    earlier.any(|other| {
        let decided = other.decided_at.as_ref().map(time);
        decided.is_none_or(|decided| Some(decided) >= registration.submitted_at.as_ref().map(time))
    })
}

/// How long after another registration this one was accepted; none if it was accepted before, or a time is unknown.
fn after(later: &Registration, earlier: &Registration) -> Option<Duration> {
    let [later, earlier] = [later, earlier].map(|registration| registration.submitted_at.as_ref().map(time));
    later?.checked_sub(earlier?)
}

/// Since 1970. The timestamps of registrations are never before that.
fn time(at: &Timestamp) -> Duration {
    Duration::new(u64::try_from(at.seconds).unwrap_or_default(), u32::try_from(at.nanos).unwrap_or_default())
}
