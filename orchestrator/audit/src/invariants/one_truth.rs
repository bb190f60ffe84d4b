//! 2: a student is enrolled in a section in enrollments, has a seat in seats, has it on the academic record and is
//! charged for it in fees: all four, by the same registration, or none. An account's balance is the sum of its
//! postings.

use std::collections::HashMap;

use matricula_proto::common::v1::EnrollmentStatus;
use matricula_proto::fees::v1::PostingKind;

use crate::report::Verdict;
use crate::world::World;

/// How often each service has it.
#[derive(Default)]
struct Truths {
    enrolled: i64,
    seats: i64,
    recorded: i64,
    charged: i64,
}

pub fn prove(world: &World<'_>) -> Verdict {
    let mut verdict = Verdict::new(2, "one truth");
    for ((student, section, registration), truths) in truths(world) {
        if world.is_in_motion((student, section)) {
            continue;
        }
        let Truths { enrolled, seats, recorded, charged } = truths;
        verdict.require(enrolled == seats && seats == recorded && recorded == charged, || {
            format!(
                "student {student}, section {section}, registration {registration}: enrolled {enrolled}, seats {seats}, \
                 on the record {recorded}, charged {charged}"
            )
        });
    }
    prove_balances(world, &mut verdict);
    verdict
}

fn truths<'a>(world: &World<'a>) -> HashMap<(&'a str, &'a str, &'a str), Truths> {
    let ledgers = world.ledgers;
    let mut truths: HashMap<(&str, &str, &str), Truths> = HashMap::with_capacity(ledgers.enrollments.len());
    for e in ledgers.enrollments.iter().filter(|e| e.status() == EnrollmentStatus::Enrolled) {
        truths.entry((&e.student_id, &e.section_id, &e.registration_id)).or_default().enrolled += 1;
    }
    for hold in ledgers.holds.iter().filter(|hold| hold.released_at.is_none()) {
        truths.entry((&hold.student_id, &hold.section_id, &hold.registration_id)).or_default().seats += 1;
    }
    for course in ledgers.courses.iter().filter(|course| course.status() == EnrollmentStatus::Enrolled) {
        truths.entry((&course.student_id, &course.section_id, &course.registration_id)).or_default().recorded += 1;
    }
    for posting in &ledgers.postings {
        let key = (posting.student_id.as_str(), posting.section_id.as_str(), posting.registration_id.as_str());
        truths.entry(key).or_default().charged += match posting.kind() {
            PostingKind::Charge => 1,
            PostingKind::Void | PostingKind::Refund => -1,
            PostingKind::Unspecified => 0,
        };
    }
    truths
}

fn prove_balances(world: &World<'_>, verdict: &mut Verdict) {
    let mut sums: HashMap<(&str, &str), i64> = HashMap::new();
    for posting in &world.ledgers.postings {
        if let Some(amount) = &posting.amount {
            *sums.entry((&posting.student_id, &amount.currency)).or_default() += amount.minor_units;
        }
    }
    let mut balances: HashMap<(&str, &str), i64> = HashMap::with_capacity(world.ledgers.accounts.len());
    for account in &world.ledgers.accounts {
        if let Some(balance) = &account.balance {
            *balances.entry((&account.student_id, &balance.currency)).or_default() += balance.minor_units;
        }
    }
    for (account, balance) in &balances {
        let sum = sums.remove(account).unwrap_or_default();
        let (student, currency) = account;
        verdict.require(*balance == sum, || {
            format!("student {student}: the balance is {balance} {currency}, but the postings make {sum} (minor units)")
        });
    }
    for ((student, currency), sum) in sums {
        verdict.require(sum == 0, || {
            format!("student {student}: there is no balance, but the postings make {sum} {currency} (minor units)")
        });
    }
}
