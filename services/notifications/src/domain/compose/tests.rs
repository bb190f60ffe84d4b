//! Messages as students read them.

use matricula_kit::answer::Reason;
use matricula_kit::id::{SagaId, StudentId};
use matricula_kit::money::{Currency, Money};

use super::*;

fn ids(text: &str) -> Vec<SectionId> {
    text.split_whitespace().map(|id| SectionId::try_new(id).expect("an id")).collect()
}

fn result(outcome: Outcome, added: &str, dropped: &str) -> RegistrationResult {
    RegistrationResult {
        registration: SagaId::try_new("0198f000-0000-7000-8000-000000000001").expect("an id"),
        student: StudentId::try_new("s1").expect("an id"),
        outcome,
        added: ids(added),
        dropped: ids(dropped),
        reasons: Vec::new(),
        charged: None,
        is_wanted: true,
    }
}

fn usd(minor_units: i64) -> Option<Money> {
    Some(Currency::stored("USD".to_owned()).amount(minor_units))
}

fn shown(result: &RegistrationResult) -> String {
    format!("Subject: {}\n\n{}", subject(result), body(result))
}

#[track_caller]
fn check_subject(outcome: Outcome, added: &str, dropped: &str, expect: &str) {
    assert_eq!(subject(&result(outcome, added, dropped)), expect);
}

#[test]
fn subjects_name_what_happened() {
    check_subject(Outcome::Enrolled, "A", "", "You are enrolled in A");
    check_subject(Outcome::Enrolled, "A B", "", "You are enrolled in A and B");
    check_subject(Outcome::Enrolled, "A B C", "", "You are enrolled in A, B and C");
    check_subject(Outcome::Enrolled, "A B C D", "", "You are enrolled in 4 sections");
    check_subject(Outcome::Enrolled, "", "A", "You dropped A");
    check_subject(Outcome::Enrolled, "A", "B", "You are enrolled in A and dropped B");
    check_subject(Outcome::Enrolled, "", "", "Your registration is complete");
    check_subject(Outcome::Refused, "A B", "", "Your registration for A and B was refused");
    check_subject(Outcome::Refused, "A", "B", "Your registration for A in place of B was refused");
    check_subject(Outcome::Cancelled, "", "B", "Your registration to drop B was cancelled");
    check_subject(Outcome::Cancelled, "", "", "Your registration was cancelled");
}

#[test]
fn an_enrollment() {
    let result = RegistrationResult {
        charged: usd(137_500),
        ..result(Outcome::Enrolled, "CHEM-101-L1 CHEM-101-B2", "PHYS-100-1")
    };
    insta::assert_snapshot!(shown(&result), @r"
    Subject: You are enrolled in CHEM-101-L1 and CHEM-101-B2 and dropped PHYS-100-1

    Your registration is complete.

    Added:
    - CHEM-101-L1
    - CHEM-101-B2

    Dropped:
    - PHYS-100-1

    Charged to your account: USD 1,375.00

    Registration 0198f000-0000-7000-8000-000000000001
    ");
}

/// The command line shows the same text: `commands::registration` has the other half of this test.
#[test]
fn an_amount_is_shown_as_on_the_command_line() {
    let charged = |minor_units| {
        let charged = Some(Currency::stored("JPY".to_owned()).amount(minor_units));
        body(&RegistrationResult { charged, ..result(Outcome::Enrolled, "A", "") })
    };
    assert!(charged(45_000).contains("\nCharged to your account: JPY 45,000\n"));
    assert!(charged(-45_000).contains("\nGiven back to your account: JPY 45,000\n"));
}

#[test]
fn a_drop_with_money_back() {
    let result = RegistrationResult { charged: usd(-5_000), ..result(Outcome::Enrolled, "", "PHYS-100-1") };
    insta::assert_snapshot!(shown(&result), @r"
    Subject: You dropped PHYS-100-1

    Your registration is complete.

    Dropped:
    - PHYS-100-1

    Given back to your account: USD 50.00

    Registration 0198f000-0000-7000-8000-000000000001
    ");
}

#[test]
fn a_refusal_with_every_reason() {
    let section = &ids("CHEM-101-L1")[0];
    let reasons = vec![
        Refusal::section(
            Reason::TimeConflict,
            section,
            "It meets while another section meets.",
            "Choose another time.",
        )
        .against("MATH-200-1"),
        Refusal::whole(Reason::StudentNotFound, "You are not on record.\nRegistration nothing", ""),
    ];
    let result =
        RegistrationResult { reasons, charged: usd(0), ..result(Outcome::Refused, "CHEM-101-L1", "PHYS-100-1") };
    insta::assert_snapshot!(shown(&result), @r"
    Subject: Your registration for CHEM-101-L1 in place of PHYS-100-1 was refused

    Your registration was refused. Nothing in your schedule has changed.

    You asked to add:
    - CHEM-101-L1

    You asked to drop:
    - PHYS-100-1

    The reasons:
    - CHEM-101-L1: It meets while another section meets. (MATH-200-1)
      What you can do: Choose another time.
      Staff can grant you an override of this.
    - You are not on record. Registration nothing

    Registration 0198f000-0000-7000-8000-000000000001
    ");
}

#[test]
fn a_cancellation() {
    let next = "Submit it again.";
    let reasons = vec![Refusal::whole(Reason::RegistrationTimedOut, "It did not get through in time.", next)];
    let result = RegistrationResult { reasons, ..result(Outcome::Cancelled, "CHEM-101-L1", "") };
    insta::assert_snapshot!(shown(&result), @r"
    Subject: Your registration for CHEM-101-L1 was cancelled

    Your registration was cancelled. Nothing in your schedule has changed.

    You had asked to add:
    - CHEM-101-L1

    The reason:
    - It did not get through in time.
      What you can do: Submit it again.

    Registration 0198f000-0000-7000-8000-000000000001
    ");
}
