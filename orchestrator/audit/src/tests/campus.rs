//! A small clean world: registrations of every kind, with their entries in every service.

use matricula_proto::academics::v1::{Override, RecordedCourse};
use matricula_proto::common::v1::{EnrollmentStatus, Money, Reason, Refusal};
use matricula_proto::enrollments::v1::Enrollment;
use matricula_proto::fees::v1::{AccountBalance, Posting, PostingKind};
use matricula_proto::notifications::v1::{Notification, NotifiedOutcome};
use matricula_proto::ops::v1::{ExportLedgerResponse, SagaPhase};
use matricula_proto::registration::v1::{Outcome, Registration};
use matricula_proto::seats::v1::{SeatHold, SectionSeats};
use prost_types::Timestamp;

use crate::Ledgers;

const FEE: i64 = 300;
const CAPACITY: i32 = 3;

/// LEC (a lecture), LAB and LAB2 (its labs), with room for three students each.
pub fn world() -> Ledgers {
    let mut world = Ledgers::default();
    for section_id in ["LEC", "LAB", "LAB2"].map(str::to_owned) {
        world.sections.push(SectionSeats { section_id, capacity: CAPACITY, ..SectionSeats::default() });
    }
    let enrolled = (SagaPhase::Completed, Outcome::Enrolled);
    accept(&mut world, "first", "ann", &["LEC", "LAB"], &[], enrolled);
    add(&mut world, "first", "ann", &["LEC", "LAB"], EnrollmentStatus::Enrolled);

    accept(&mut world, "swap", "ann", &["LAB2"], &["LAB"], enrolled);
    add(&mut world, "swap", "ann", &["LAB2"], EnrollmentStatus::Enrolled);
    drop_enrollment(&mut world, "swap", "first", "LAB");
    give_back(&mut world, "swap", "first", "LAB");

    for (id, student) in [("second", "bob"), ("third", "cat")] {
        accept(&mut world, id, student, &["LEC"], &[], enrolled);
        add(&mut world, id, student, &["LEC"], EnrollmentStatus::Enrolled);
    }
    accept(&mut world, "over", "dan", &["LEC"], &[], enrolled);
    add(&mut world, "over", "dan", &["LEC"], EnrollmentStatus::Enrolled);
    world.holds.last_mut().unwrap().override_id = "o1".to_owned();
    let mut granted = Override { override_id: "o1".to_owned(), student_id: "dan".to_owned(), ..Override::default() };
    granted.section_id = "LEC".to_owned();
    granted.set_reason(Reason::ClosedSection);
    world.overrides.push(granted);

    // Refused after it had got everywhere; cancelled before it got anywhere.
    accept(&mut world, "refused", "eve", &["LEC"], &["LAB"], (SagaPhase::Compensated, Outcome::Refused));
    add(&mut world, "refused", "eve", &["LEC"], EnrollmentStatus::Cancelled);
    let mut full = Refusal { section_id: "LEC".to_owned(), section_version: 4, ..Refusal::default() };
    full.set_reason(Reason::ClosedSection);
    for entry in world.registrations_before.last_mut().into_iter().chain(world.registrations_after.last_mut()) {
        let registration = entry.registration.as_mut().unwrap();
        (registration.ticket, registration.reasons) = (Some(1), vec![full.clone()]);
    }
    accept(&mut world, "cancelled", "eve", &["LEC"], &[], (SagaPhase::Compensated, Outcome::Cancelled));

    in_motion(&mut world);
    balance(&mut world);
    world
}

fn in_motion(world: &mut Ledgers) {
    // Everything is held, nothing is committed.
    accept(world, "running", "fay", &["LEC"], &[], (SagaPhase::Running, Outcome::Pending));
    add(world, "running", "fay", &["LEC"], EnrollmentStatus::Pending);
    world.holds.last_mut().unwrap().override_id = "o2".to_owned();
    // Past the pivot of a drop: seats, fees and academics have not done it yet.
    accept(world, "fourth", "bob", &["LAB2"], &[], (SagaPhase::Completed, Outcome::Enrolled));
    add(world, "fourth", "bob", &["LAB2"], EnrollmentStatus::Enrolled);
    accept(world, "dropping", "bob", &[], &["LAB2"], (SagaPhase::Completing, Outcome::Enrolled));
    drop_enrollment(world, "dropping", "fourth", "LAB2");
    // Without an owner, and waiting for a human.
    accept(world, "stuck", "gil", &["LAB"], &[], (SagaPhase::Running, Outcome::Pending));
    let stuck = world.registrations_after.last_mut().unwrap();
    stuck.owner_alive = false;
    stuck.registration.as_mut().unwrap().needs_attention = true;
    // Accepted after the first export, finished before the last one, and seen by notifications alone.
    accept(world, "late", "gil", &["LAB2"], &[], (SagaPhase::Completed, Outcome::Enrolled));
    world.registrations_before.pop();
}

fn accept(world: &mut Ledgers, id: &str, student: &str, adds: &[&str], drops: &[&str], end: (SagaPhase, Outcome)) {
    let mut registration = Registration {
        registration_id: id.to_owned(),
        idempotency_key: format!("key-{id}"),
        student_id: student.to_owned(),
        adds: adds.iter().map(ToString::to_string).collect(),
        drops: drops.iter().map(ToString::to_string).collect(),
        ..Registration::default()
    };
    let (phase, outcome) = end;
    registration.set_outcome(outcome);
    let is_finished = matches!(phase, SagaPhase::Completed | SagaPhase::Compensated);
    let mut entry =
        ExportLedgerResponse { registration: Some(registration), owner_alive: !is_finished, ..Default::default() };
    entry.set_phase(phase);
    world.registrations_before.push(entry.clone());
    world.registrations_after.push(entry);
    if is_finished {
        let mut notification =
            Notification { registration_id: id.to_owned(), student_id: student.to_owned(), ..Notification::default() };
        notification.set_outcome(match outcome {
            Outcome::Enrolled => NotifiedOutcome::Enrolled,
            Outcome::Refused => NotifiedOutcome::Refused,
            Outcome::Cancelled => NotifiedOutcome::Cancelled,
            Outcome::Pending | Outcome::Unspecified => panic!("a finished registration has an outcome"),
        });
        world.notifications.push(notification);
    }
}

/// The entries of adds in every service; everything is undone when they are `CANCELLED`.
fn add(world: &mut Ledgers, id: &str, student: &str, sections: &[&str], status: EnrollmentStatus) {
    for section in sections {
        let is_undone = status == EnrollmentStatus::Cancelled;
        let seats = world.sections.iter_mut().find(|s| s.section_id == *section).unwrap();
        seats.taken += i32::from(!is_undone);
        world.holds.push(SeatHold {
            section_id: (*section).to_owned(),
            student_id: student.to_owned(),
            registration_id: id.to_owned(),
            released_at: is_undone.then(moment),
            taken_after: seats.taken,
            capacity_at_grant: seats.capacity.max(if is_undone { seats.taken } else { 0 }),
            ..SeatHold::default()
        });
        let component = if *section == "LEC" { "1/1" } else { "1/2" };
        let mut enrollment = Enrollment {
            student_id: student.to_owned(),
            section_id: (*section).to_owned(),
            course_id: "C1".to_owned(),
            component: component.to_owned(),
            registration_id: id.to_owned(),
            ..Enrollment::default()
        };
        enrollment.set_status(status);
        world.enrollments.push(enrollment);
        let mut course = RecordedCourse {
            student_id: student.to_owned(),
            section_id: (*section).to_owned(),
            course_id: "C1".to_owned(),
            registration_id: id.to_owned(),
            ..RecordedCourse::default()
        };
        course.set_status(status);
        world.courses.push(course);
        post(world, (student, id, section), PostingKind::Charge, id);
        if is_undone {
            post(world, (student, id, section), PostingKind::Void, id);
        }
    }
}

fn drop_enrollment(world: &mut Ledgers, by: &str, added_by: &str, section: &str) {
    let is_it = |e: &&mut Enrollment| e.registration_id == added_by && e.section_id == section;
    let enrollment = world.enrollments.iter_mut().find(is_it).unwrap();
    enrollment.set_status(EnrollmentStatus::Dropped);
    enrollment.dropped_by_registration_id = by.to_owned();
}

/// The tail of a drop: record, seat and fee.
fn give_back(world: &mut Ledgers, by: &str, added_by: &str, section: &str) {
    let course = world.courses.iter_mut().find(|c| c.registration_id == added_by && c.section_id == section).unwrap();
    course.set_status(EnrollmentStatus::Dropped);
    course.dropped_by_registration_id = by.to_owned();
    let student = course.student_id.clone();
    let hold = world.holds.iter_mut().find(|h| h.registration_id == added_by && h.section_id == section).unwrap();
    hold.released_at = Some(moment());
    world.sections.iter_mut().find(|s| s.section_id == section).unwrap().taken -= 1;
    post(world, (&student, added_by, section), PostingKind::Refund, by);
}

fn post(world: &mut Ledgers, of: (&str, &str, &str), kind: PostingKind, caused_by: &str) {
    let (student, id, section) = of;
    let mut posting = Posting {
        student_id: student.to_owned(),
        registration_id: id.to_owned(),
        section_id: section.to_owned(),
        amount: money(if kind == PostingKind::Charge { FEE } else { -FEE }),
        caused_by_registration_id: caused_by.to_owned(),
        ..Posting::default()
    };
    posting.set_kind(kind);
    world.postings.push(posting);
}

fn balance(world: &mut Ledgers) {
    for student in ["ann", "bob", "cat", "dan", "eve", "fay"] {
        let postings = world.postings.iter().filter(|posting| posting.student_id == student);
        let sum = postings.map(|posting| posting.amount.as_ref().unwrap().minor_units).sum();
        world.accounts.push(AccountBalance { student_id: student.to_owned(), balance: money(sum) });
    }
}

/// An amount in the campus's currency.
pub fn money(minor_units: i64) -> Option<Money> {
    Some(Money { currency: "USD".to_owned(), minor_units })
}

/// Any time: the audit only checks that there is one.
pub fn moment() -> Timestamp {
    Timestamp { seconds: 1_700_000_000, nanos: 0 }
}
