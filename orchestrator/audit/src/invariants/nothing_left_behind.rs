//! 5: a finished saga holds no seat, pending enrollment, fee or course that its outcome does not explain, and
//! everything that its outcome promises is there. No entry of a service has a registration that was never accepted.

use std::collections::HashMap;

use matricula_proto::common::v1::EnrollmentStatus;
use matricula_proto::fees::v1::PostingKind;
use matricula_proto::registration::v1::{Outcome, Registration};

use crate::report::Verdict;
use crate::world::{World, has_left};

pub fn prove(world: &World<'_>) -> Verdict {
    let mut verdict = Verdict::new(5, "nothing left behind");
    prove_outcomes(world, &mut verdict);
    prove_holds(world, &mut verdict);
    prove_enrollments(world, &mut verdict);
    prove_courses(world, &mut verdict);
    prove_postings(world, &mut verdict);
    verdict
}

fn prove_outcomes(world: &World<'_>, verdict: &mut Verdict) {
    for registration in world.all_settled().filter(|registration| is_enrolled(registration)) {
        let id = registration.registration_id.as_str();
        for section in &registration.adds {
            verdict.require(world.has_added(id, section), || {
                format!("registration {id}: nobody is enrolled in {section}")
            });
        }
        for section in &registration.drops {
            verdict.require(world.has_dropped(id, section), || format!("registration {id}: {section} is not dropped"));
        }
    }
}

fn prove_holds(world: &World<'_>, verdict: &mut Verdict) {
    for hold in &world.ledgers.holds {
        let trace = Trace { what: "seat", section: &hold.section_id, registration: &hold.registration_id };
        trace.require_known(world, verdict);
        if let Some(registration) = world.settled(&hold.registration_id) {
            verdict
                .require(hold.released_at.is_some() || explains(registration, trace.section), || trace.left_behind());
        }
    }
}

fn prove_enrollments(world: &World<'_>, verdict: &mut Verdict) {
    for e in &world.ledgers.enrollments {
        let trace = Trace { what: "enrollment", section: &e.section_id, registration: &e.registration_id };
        prove_status(world, verdict, &trace, e.status(), &e.dropped_by_registration_id);
    }
}

fn prove_courses(world: &World<'_>, verdict: &mut Verdict) {
    for course in &world.ledgers.courses {
        let trace = Trace { what: "course", section: &course.section_id, registration: &course.registration_id };
        prove_status(world, verdict, &trace, course.status(), &course.dropped_by_registration_id);
    }
}

/// The common part of an enrollment and a course on the record.
fn prove_status(world: &World<'_>, verdict: &mut Verdict, trace: &Trace<'_>, status: EnrollmentStatus, dropper: &str) {
    trace.require_known(world, verdict);
    if let Some(registration) = world.settled(trace.registration) {
        let is_right = match status {
            EnrollmentStatus::Enrolled => explains(registration, trace.section),
            EnrollmentStatus::Cancelled => !is_enrolled(registration),
            status => has_left(status) && explains(registration, trace.section) && !dropper.is_empty(),
        };
        verdict.require(is_right, || trace.left_behind_as(status));
    }
    if dropper.is_empty() {
        return;
    }
    let drop = Trace { what: "drop", registration: dropper, ..*trace };
    drop.require_known(world, verdict);
    if let Some(registration) = world.settled(dropper) {
        let is_right =
            has_left(status) && is_enrolled(registration) && registration.drops.iter().any(|s| s == drop.section);
        verdict.require(is_right, || drop.left_behind_as(status));
    }
}

fn prove_postings(world: &World<'_>, verdict: &mut Verdict) {
    let mut charged: HashMap<(&str, &str), i64> = HashMap::new();
    for posting in &world.ledgers.postings {
        let trace = Trace { what: "posting", section: &posting.section_id, registration: &posting.registration_id };
        trace.require_known(world, verdict);
        let cause = Trace { what: "refund", registration: &posting.caused_by_registration_id, ..trace };
        match posting.kind() {
            PostingKind::Refund => {
                cause.require_known(world, verdict);
                let registration = world.settled(cause.registration);
                verdict.require(registration.is_none_or(is_enrolled), || cause.left_behind());
            }
            PostingKind::Charge => *charged.entry((trace.registration, trace.section)).or_default() += 1,
            PostingKind::Void => *charged.entry((trace.registration, trace.section)).or_default() -= 1,
            PostingKind::Unspecified => verdict.require(false, || trace.left_behind()),
        }
    }
    for ((id, section), charges) in charged {
        let Some(registration) = world.settled(id) else { continue };
        let expected = i64::from(explains(registration, section));
        verdict.require(charges == expected, || {
            format!("registration {id}, section {section}: {charges} charges not voided, but its outcome explains {expected}")
        });
    }
}

fn is_enrolled(registration: &Registration) -> bool {
    registration.outcome() == Outcome::Enrolled
}

/// Whether the outcome gives the student the section.
fn explains(registration: &Registration, section: &str) -> bool {
    is_enrolled(registration) && registration.adds.iter().any(|add| add == section)
}

/// An entry that a registration left in a service.
#[derive(Clone, Copy)]
struct Trace<'a> {
    what: &'static str,
    section: &'a str,
    registration: &'a str,
}

impl Trace<'_> {
    fn require_known(&self, world: &World<'_>, verdict: &mut Verdict) {
        verdict.require(world.registration(self.registration).is_some(), || {
            format!("{self}: nobody knows this registration")
        });
    }

    fn left_behind(&self) -> String {
        format!("{self}: its outcome does not explain it")
    }

    fn left_behind_as(&self, status: EnrollmentStatus) -> String {
        format!("{self}: its outcome does not explain {}", status.as_str_name())
    }
}

impl std::fmt::Display for Trace<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in section {} by registration {}", self.what, self.section, self.registration)
    }
}
