//! A clean world passes; every single mutation of it is caught by exactly the invariants that it breaks.

mod campus;

use matricula_proto::common::v1::{EnrollmentStatus, Reason};
use matricula_proto::fees::v1::PostingKind;
use matricula_proto::notifications::v1::NotifiedOutcome;
use matricula_proto::ops::v1::SagaPhase;
use matricula_proto::registration::v1::Outcome;

use crate::tests::campus::{moment, money, world};
use crate::{Ledgers, VIOLATIONS_SHOWN_MAX, audit};

/// Changes one thing of the clean world, and checks which invariants this breaks.
#[track_caller]
fn check(mutate: impl FnOnce(&mut Ledgers), broken: &[u8]) {
    let mut ledgers = world();
    mutate(&mut ledgers);
    let report = audit(&ledgers);
    let found: Vec<_> = report.invariants.iter().filter(|verdict| !verdict.holds()).collect();
    let numbers: Vec<u8> = found.iter().map(|verdict| verdict.number).collect();
    assert_eq!(numbers, broken, "{found:#?}");
    assert_eq!(report.holds(), broken.is_empty());
}

/// The only element that a condition picks.
#[track_caller]
fn one<T>(all: &mut [T], is_it: impl Fn(&T) -> bool) -> &mut T {
    let mut picked = all.iter_mut().filter(|item| is_it(item));
    let first = picked.next().expect("one is there");
    assert!(picked.next().is_none(), "more than one is there");
    first
}

/// The hold, enrollment, course or posting of a registration in a section.
macro_rules! of {
    ($all:expr, $registration:literal, $section:literal) => {
        one(&mut $all, |it| it.registration_id == $registration && it.section_id == $section)
    };
}

/// The entry of a registration in the last export.
macro_rules! after {
    ($ledgers:expr, $registration:literal) => {
        one(&mut $ledgers.registrations_after, |it| it.registration.as_ref().unwrap().registration_id == $registration)
    };
}

#[test]
fn a_clean_world_passes() {
    check(|_| {}, &[]);
    let report = audit(&world());
    let numbers: Vec<u8> = report.invariants.iter().map(|verdict| verdict.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
    for verdict in report.invariants {
        assert!(verdict.checked > 0, "{} looked at nothing", verdict.title);
    }
}

#[test]
fn an_empty_world_passes() {
    check(|w| *w = Ledgers::default(), &[]);
}

#[test]
fn no_seat_without_right() {
    check(|w| one(&mut w.sections, |s| s.section_id == "LEC").taken += 1, &[1]);
    check(|w| w.sections.retain(|s| s.section_id != "LEC"), &[1]);
    // An override without an entry, without an author, or for another section.
    check(|w| of!(w.holds, "over", "LEC").override_id.clear(), &[1]);
    check(|w| of!(w.holds, "over", "LEC").override_id = "o9".to_owned(), &[1]);
    check(|w| w.overrides.clear(), &[1]);
    check(|w| w.overrides[0].set_reason(Reason::TimeConflict), &[1]);
    check(|w| w.overrides[0].student_id = "eve".to_owned(), &[1]);
    check(|w| w.overrides[0].section_id = "LAB".to_owned(), &[1]);
    check(|w| of!(w.holds, "first", "LEC").taken_after = 4, &[1]);
    check(|w| w.overrides[0].section_id.clear(), &[]);
}

#[test]
fn a_seat_more_or_less() {
    // A seat that no enrollment explains; an enrollment without its seat.
    check(|w| of!(w.holds, "refused", "LEC").released_at = None, &[1, 2, 5]);
    check(|w| of!(w.holds, "first", "LAB").released_at = None, &[1, 2]);
    check(|w| of!(w.holds, "first", "LEC").released_at = Some(moment()), &[1, 2]);
    // The same with a count that agrees with the holds.
    let steal = |w: &mut Ledgers| {
        of!(w.holds, "refused", "LEC").released_at = None;
        one(&mut w.sections, |s| s.section_id == "LEC").taken += 1;
    };
    check(steal, &[1, 2, 5]);
    // One seat of two students.
    check(|w| of!(w.holds, "first", "LEC").student_id = "eve".to_owned(), &[2]);
    check(|w| of!(w.holds, "first", "LEC").registration_id = "nobody".to_owned(), &[2, 5]);
}

#[test]
fn one_truth() {
    check(|w| w.courses.retain(|c| c.registration_id != "over"), &[2]);
    check(|w| w.postings.retain(|p| p.registration_id != "over"), &[2]);
    check(|w| of!(w.courses, "first", "LEC").student_id = "eve".to_owned(), &[2]);
    // A drop that was not given back.
    check(|w| w.postings.retain(|p| p.kind() != PostingKind::Refund), &[2]);
}

#[test]
fn a_balance_is_the_sum_of_its_postings() {
    check(|w| w.accounts[0].balance.as_mut().unwrap().minor_units += 1, &[2]);
    check(|w| w.accounts.retain(|a| a.student_id != "ann"), &[2]);
    check(|w| of!(w.postings, "over", "LEC").amount = money(1), &[2]);
    check(|w| w.accounts[0].balance.as_mut().unwrap().currency = "EUR".to_owned(), &[2]);
}

#[test]
fn all_or_nothing() {
    check(|w| w.enrollments.retain(|e| e.registration_id != "first" || e.section_id != "LEC"), &[1, 2, 3, 5]);
    check(|w| of!(w.enrollments, "first", "LEC").set_status(EnrollmentStatus::Cancelled), &[1, 2, 3, 5]);
    // Half a swap: added, and not dropped.
    let undrop = |w: &mut Ledgers| {
        let dropped = of!(w.enrollments, "first", "LAB");
        dropped.set_status(EnrollmentStatus::Enrolled);
        dropped.dropped_by_registration_id.clear();
    };
    check(undrop, &[1, 2, 3, 4, 5]);
}

#[test]
fn nobody_twice() {
    let again = |w: &mut Ledgers| {
        let copy = of!(w.enrollments, "first", "LEC").clone();
        w.enrollments.push(copy);
    };
    check(again, &[1, 2, 4]);
    check(|w| of!(w.enrollments, "swap", "LAB2").component = "1/1".to_owned(), &[4]);
    check(|w| after!(w, "swap").registration.as_mut().unwrap().idempotency_key = "key-first".to_owned(), &[4]);
    // A student has keys of its own.
    check(|w| after!(w, "over").registration.as_mut().unwrap().idempotency_key = "key-first".to_owned(), &[]);
}

#[test]
fn nothing_left_behind() {
    check(|w| of!(w.enrollments, "refused", "LEC").set_status(EnrollmentStatus::Pending), &[5]);
    check(|w| of!(w.courses, "refused", "LEC").set_status(EnrollmentStatus::Pending), &[5]);
    check(|w| of!(w.courses, "refused", "LEC").set_status(EnrollmentStatus::Enrolled), &[2, 5]);
    check(|w| of!(w.courses, "first", "LEC").set_status(EnrollmentStatus::Pending), &[2, 5]);
    check(|w| w.postings.retain(|p| p.kind() != PostingKind::Void), &[2, 5]);
    // A mark of a drop that was refused, and one that was never carried out.
    check(|w| of!(w.enrollments, "first", "LEC").dropped_by_registration_id = "refused".to_owned(), &[5]);
    check(|w| of!(w.courses, "first", "LAB").set_status(EnrollmentStatus::Enrolled), &[2, 5]);
    check(|w| of!(w.courses, "first", "LAB").dropped_by_registration_id.clear(), &[5]);
    check(
        |w| one(&mut w.postings, |p| p.kind() == PostingKind::Refund).caused_by_registration_id = "refused".to_owned(),
        &[5],
    );
}

#[test]
fn nothing_of_nobody() {
    check(|w| of!(w.holds, "refused", "LEC").registration_id = "nobody".to_owned(), &[5]);
    check(|w| of!(w.enrollments, "refused", "LEC").registration_id = "nobody".to_owned(), &[5]);
    check(|w| of!(w.courses, "refused", "LEC").registration_id = "nobody".to_owned(), &[5]);
    check(|w| of!(w.enrollments, "first", "LAB").dropped_by_registration_id = "nobody".to_owned(), &[3, 5]);
    check(
        |w| one(&mut w.postings, |p| p.kind() == PostingKind::Refund).caused_by_registration_id = "nobody".to_owned(),
        &[5],
    );
}

#[test]
fn each_notified_once() {
    let of_swap = |w: &mut Ledgers| one(&mut w.notifications, |n| n.registration_id == "swap").clone();
    check(|w| w.notifications.retain(|n| n.registration_id != "swap"), &[6]);
    check(
        |w| {
            let copy = of_swap(w);
            w.notifications.push(copy);
        },
        &[6],
    );
    check(|w| one(&mut w.notifications, |n| n.registration_id == "swap").set_outcome(NotifiedOutcome::Refused), &[6]);
    check(|w| one(&mut w.notifications, |n| n.registration_id == "swap").student_id = "eve".to_owned(), &[6]);
    for unheard in ["nobody", "running"] {
        check(
            |w| {
                let mut copy = of_swap(w);
                copy.registration_id = unheard.to_owned();
                w.notifications.push(copy);
            },
            &[6],
        );
    }
}

/// Has an operator end a finished registration, in both exports.
fn abandon(w: &mut Ledgers, id: &str) {
    for entry in w.registrations_before.iter_mut().chain(&mut w.registrations_after) {
        if entry.registration.as_ref().unwrap().registration_id == id {
            entry.set_phase(SagaPhase::Abandoned);
        }
    }
}

#[test]
fn what_is_decided_manually_is_counted_and_not_held_against_the_system() {
    // The same as above breaks 1, 2 and 5; 2 and 5; 5; 6.
    let leave: [fn(&mut Ledgers); 5] = [
        |w| of!(w.holds, "refused", "LEC").released_at = None,
        |w| w.postings.retain(|p| p.kind() != PostingKind::Void),
        |w| of!(w.enrollments, "refused", "LEC").set_status(EnrollmentStatus::Pending),
        |w| w.notifications.retain(|n| n.registration_id != "refused"),
        |w| of!(w.courses, "refused", "LEC").set_status(EnrollmentStatus::Pending),
    ];
    for leave in leave {
        let abandoned = |w: &mut Ledgers| {
            abandon(w, "refused");
            leave(w);
            one(&mut w.sections, |s| s.section_id == "LEC").taken =
                w.holds.iter().filter(|h| h.section_id == "LEC" && h.released_at.is_none()).count() as i32;
            let sum =
                w.postings.iter().filter(|p| p.student_id == "eve").map(|p| p.amount.as_ref().unwrap().minor_units);
            let sum = sum.sum();
            one(&mut w.accounts, |a| a.student_id == "eve").balance = money(sum);
        };
        check(abandoned, &[]);
        let mut ledgers = world();
        abandoned(&mut ledgers);
        let left = audit(&ledgers).manual;
        assert_eq!((left.count, left.registration_ids), (1, vec!["refused".to_owned()]));
    }
    assert_eq!(audit(&world()).manual.count, 0);
    // Completed, and an operator has resolved its notification.
    check(
        |w| {
            for entry in w.registrations_before.iter_mut().chain(&mut w.registrations_after) {
                entry.decided_by_hand = entry.registration.as_ref().unwrap().registration_id == "over";
            }
            w.notifications.retain(|n| n.registration_id != "over");
        },
        &[],
    );
    // A drop whose tail is left: seat, fee and record of the earlier registration.
    check(
        |w| {
            abandon(w, "swap");
            of!(w.courses, "first", "LAB").set_status(EnrollmentStatus::Enrolled);
            of!(w.courses, "first", "LAB").dropped_by_registration_id.clear();
        },
        &[],
    );
}

#[test]
fn what_is_decided_manually_excuses_nothing_else() {
    // All other registrations are still checked.
    check(
        |w| {
            abandon(w, "refused");
            w.notifications.retain(|n| n.registration_id != "swap");
        },
        &[6],
    );
    check(
        |w| {
            abandon(w, "refused");
            w.courses.retain(|c| c.registration_id != "over");
        },
        &[2],
    );
    // Existing entries must be right.
    check(
        |w| {
            abandon(w, "refused");
            one(&mut w.notifications, |n| n.registration_id == "refused").set_outcome(NotifiedOutcome::Enrolled);
        },
        &[6],
    );
    check(
        |w| {
            abandon(w, "refused");
            after!(w, "refused").registration.as_mut().unwrap().set_outcome(Outcome::Pending);
        },
        &[6, 7],
    );
    check(
        |w| {
            abandon(w, "refused");
            after!(w, "refused").set_phase(SagaPhase::Running);
        },
        &[7],
    );
}

#[test]
fn nothing_forgotten() {
    check(|w| after!(w, "running").owner_alive = false, &[7]);
    check(|w| after!(w, "stuck").registration.as_mut().unwrap().needs_attention = false, &[7]);
    check(|w| after!(w, "cancelled").set_phase(SagaPhase::Completed), &[7]);
    check(|w| after!(w, "running").set_phase(SagaPhase::Completing), &[7]);
    // Accepted, and gone: before anything of it was anywhere, and after.
    check(|w| w.registrations_after.retain(|r| r.registration.as_ref().unwrap().registration_id != "stuck"), &[7]);
    check(
        |w| w.registrations_after.retain(|r| r.registration.as_ref().unwrap().registration_id != "cancelled"),
        &[6, 7],
    );
    let other = |w: &mut Ledgers| {
        let entry = after!(w, "cancelled");
        entry.registration.as_mut().unwrap().set_outcome(Outcome::Refused);
    };
    check(other, &[6, 7]);
}

#[test]
fn what_is_in_motion_may_be_half_done() {
    // Before anything of it, after its hold, and with everything released again.
    check(|w| w.courses.retain(|c| c.registration_id != "running"), &[]);
    check(|w| of!(w.enrollments, "running", "LEC").set_status(EnrollmentStatus::Cancelled), &[]);
    check(|w| w.notifications.retain(|n| n.registration_id != "late"), &[]);
    // A drop in motion: done in enrollments, not yet elsewhere; then seats has it, too.
    let release = |w: &mut Ledgers| {
        of!(w.holds, "fourth", "LAB2").released_at = Some(moment());
        one(&mut w.sections, |s| s.section_id == "LAB2").taken -= 1;
    };
    check(release, &[]);
    let unpivot = |w: &mut Ledgers| of!(w.enrollments, "fourth", "LAB2").set_status(EnrollmentStatus::Enrolled);
    check(unpivot, &[]);
    // A record that the exporting instance can't read.
    let unreadable = |w: &mut Ledgers| {
        let entry = after!(w, "late");
        entry.set_phase(SagaPhase::Unreadable);
        let registration = entry.registration.as_mut().unwrap();
        registration.set_outcome(Outcome::Unspecified);
        registration.needs_attention = true;
    };
    check(unreadable, &[]);
    // But a count that does not agree with the holds is wrong at any moment.
    check(|w| of!(w.holds, "running", "LEC").released_at = Some(moment()), &[1]);
}

#[test]
fn many_violations_are_counted_and_some_are_shown() {
    let mut ledgers = world();
    let copy = ledgers.notifications[0].clone();
    for number in 0..100 {
        let mut copy = copy.clone();
        copy.registration_id = format!("nobody-{number}");
        ledgers.notifications.push(copy);
    }
    let verdict = &audit(&ledgers).invariants[5];
    assert_eq!((verdict.violations_count, verdict.violations.len()), (100, VIOLATIONS_SHOWN_MAX));
}

/// Ticket 7 was refused at version 4. The seat of version 3 went to ticket 9, a second later.
fn overtake(w: &mut Ledgers) {
    let mut accepted = |id: &str, ticket: i64, seconds: i64| {
        let entries = w.registrations_before.iter_mut().chain(&mut w.registrations_after);
        for registration in entries.filter_map(|entry| entry.registration.as_mut()) {
            if registration.registration_id == id {
                registration.ticket = Some(ticket);
                registration.submitted_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
                registration.decided_at = Some(prost_types::Timestamp { seconds: seconds + 60, nanos: 0 });
            }
        }
    };
    accepted("refused", 7, 100);
    accepted("second", 9, 101);
    of!(w.holds, "second", "LEC").section_version = 3;
}

#[test]
fn first_come_first_served() {
    let with = |change: fn(&mut Ledgers)| {
        move |w: &mut Ledgers| {
            overtake(w);
            change(w);
        }
    };
    check(overtake, &[8]);
    // Decided first, an override, together, an earlier ticket, tried again, not known.
    check(with(|w| of!(w.holds, "second", "LEC").section_version = 5), &[]);
    check(with(|w| of!(w.holds, "second", "LEC").section_version = 0), &[]);
    check(with(|w| after!(w, "refused").was_delayed = true), &[]);
    check(with(|w| after!(w, "second").registration.as_mut().unwrap().ticket = Some(6)), &[]);
    check(with(|w| after!(w, "second").registration.as_mut().unwrap().ticket = None), &[]);
    let together = |w: &mut Ledgers| {
        let second = after!(w, "second").registration.as_mut().unwrap();
        second.submitted_at = Some(prost_types::Timestamp { seconds: 100, nanos: 400_000_000 });
    };
    check(with(together), &[]);
    // It waited for an earlier registration of its student.
    let waited = |w: &mut Ledgers| {
        let earlier = after!(w, "cancelled").registration.as_mut().unwrap();
        earlier.ticket = Some(6);
        earlier.decided_at = Some(prost_types::Timestamp { seconds: 102, nanos: 0 });
    };
    check(with(waited), &[]);
    // One between them has the latest seat, and the one before it overtook all the same.
    let between = |w: &mut Ledgers| {
        of!(w.holds, "third", "LEC").section_version = 4;
        let third = after!(w, "third").registration.as_mut().unwrap();
        third.ticket = Some(5);
        third.submitted_at = Some(prost_types::Timestamp { seconds: 99, nanos: 0 });
    };
    check(with(between), &[8]);
}
