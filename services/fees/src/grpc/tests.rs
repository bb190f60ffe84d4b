//! The contract's edges: which field is named when something is out of bounds, and what the ledger streams.

use std::sync::Arc;

use matricula_kit::participant::WriterLimits;
use matricula_kit::testing::{self, BACKENDS, Backend, TestDatabase};
use matricula_proto::common::v1 as common;
use matricula_proto::fees::v1::export_ledger_response::Entry;
use tonic::Code;

use super::*;

async fn service(backend: Backend) -> (FeeGrpc, TestDatabase) {
    let test = testing::database(backend, &crate::MIGRATIONS).await;
    let (writer, _) = Writer::alone(Arc::new(Fees), test.database.clone(), WriterLimits::default());
    (FeeGrpc::new(writer, test.database.clone()), test)
}

fn key(saga: &str) -> Option<common::Operation> {
    Some(common::Operation { saga_id: saga.to_owned(), step: "assess_fees".to_owned(), ..Default::default() })
}

fn add(section: &str, credits: i32) -> common::ReservedCourse {
    common::ReservedCourse {
        section_id: section.to_owned(),
        course_id: "C".to_owned(),
        credits_hundredths: credits,
        term_id: "T".to_owned(),
        ..Default::default()
    }
}

fn assess(saga: &str, student: &str, adds: Vec<common::ReservedCourse>) -> proto::AssessFeesOperation {
    proto::AssessFeesOperation { operation: key(saga), student_id: student.to_owned(), adds }
}

fn term(id: &str, currency: &str, minor_units: i64, ladder: &[(i64, i32)]) -> proto::TermRates {
    let step = |(seconds, percent): &(i64, i32)| proto::RefundStep {
        until: Some(prost_types::Timestamp { seconds: *seconds, nanos: 0 }),
        percent: *percent,
    };
    proto::TermRates {
        term_id: id.to_owned(),
        per_credit: Some(common::Money { currency: currency.to_owned(), minor_units }),
        refund_ladder: ladder.iter().map(step).collect(),
        balance_limit_minor_units: 0,
    }
}

fn import(terms: Vec<proto::TermRates>, fees: &[(&str, i64)]) -> proto::ImportRatesRequest {
    let fee = |(course, minor_units): &(&str, i64)| proto::CourseFee {
        course_id: (*course).to_owned(),
        minor_units: *minor_units,
    };
    proto::ImportRatesRequest { terms, course_fees: fees.iter().map(fee).collect() }
}

#[track_caller]
fn check<T: std::fmt::Debug>(outcome: Result<T, FieldError>, field: &str) {
    assert_eq!(outcome.expect_err(field).field, field);
}

#[test]
fn what_is_out_of_bounds_is_named() {
    check(wire::assess(assess("", "s1", vec![])), "operation.saga_id");
    check(wire::assess(assess("r1", "", vec![])), "student_id");
    check(wire::assess(assess("r1", "s1", vec![add("A", -1)])), "adds[0].credits_hundredths");
    check(wire::assess(assess("r1", "s1", vec![add("A", 1), add("B", 10_001)])), "adds[1].credits_hundredths");
    check(wire::assess(assess("r1", "s1", vec![add("A", 1), add("A", 1)])), "adds[1].section_id");
    check(wire::assess(assess("r1", "s1", vec![add("é", 1)])), "adds[0].section_id");
    check(wire::assess(assess("r1", "s1", (0..21).map(|n| add(&format!("S{n}"), 1)).collect())), "adds");
    let refund = proto::RefundFeesOperation {
        operation: key("r1"),
        student_id: "s1".to_owned(),
        drops: vec![],
        effective_at: None,
    };
    check(wire::refund(refund), "effective_at");
}

#[test]
fn rates_out_of_bounds_are_named() {
    let bad = |terms, fees: &[(&str, i64)], field| check(wire::rate_table(import(terms, fees)), field);
    bad(vec![term("", "USD", 1, &[])], &[], "terms[0].term_id");
    bad(vec![term("T", "usd", 1, &[])], &[], "terms[0].per_credit.currency");
    bad(vec![term("T", "USD", -1, &[])], &[], "terms[0].per_credit.minor_units");
    bad(vec![term("T", "USD", i64::MAX, &[])], &[], "terms[0].per_credit.minor_units");
    bad(vec![term("T", "USD", 1, &[]), term("U", "EUR", 1, &[])], &[], "terms[1].per_credit.currency");
    bad(vec![term("T", "USD", 1, &[]), term("T", "USD", 1, &[])], &[], "terms[1].term_id");
    let limited = |limit| proto::TermRates { balance_limit_minor_units: limit, ..term("T", "USD", 1, &[]) };
    bad(vec![limited(-1)], &[], "terms[0].balance_limit_minor_units");
    bad(vec![limited(i64::MAX)], &[], "terms[0].balance_limit_minor_units");
    bad(vec![term("T", "USD", 1, &[(5, 101)])], &[], "terms[0].refund_ladder[0].percent");
    bad(vec![term("T", "USD", 1, &[(5, 50), (5, 40)])], &[], "terms[0].refund_ladder[1].until");
    bad(vec![], &[("C", 1), ("C", 2)], "course_fees[1].course_id");
    bad(vec![], &[("C", -1)], "course_fees[0].minor_units");
}

#[tokio::test]
async fn the_ledger_streams_postings_and_balances() {
    for backend in BACKENDS {
        let (service, _test) = service(backend).await;
        let rates = import(vec![term("T", "EUR", 1_000, &[])], &[("C", 50)]);
        service.import_rates(Request::new(rates.clone())).await.expect("imported");
        service.import_rates(Request::new(rates)).await.expect("imported again");
        let other = service.import_rates(Request::new(import(vec![term("U", "USD", 1, &[])], &[]))).await;
        assert_eq!(other.expect_err("another currency").code(), Code::InvalidArgument);

        // More than a page of the ledger.
        let count = 1_200;
        for chunk in (0..count).collect::<Vec<_>>().chunks(400) {
            let operations = chunk.iter().map(|n| assess(&format!("r{n}"), &format!("s{n}"), vec![add("A", 300)]));
            let request = proto::AssessFeesRequest { operations: operations.collect() };
            service.assess_fees(Request::new(request)).await.expect("assessed");
        }
        let void = proto::VoidFeesOperation { operation: key("r7"), student_id: "s7".to_owned() };
        let request = proto::VoidFeesRequest { operations: vec![void] };
        service.void_fees(Request::new(request)).await.expect("voided");

        let mut ledger =
            service.export_ledger(Request::new(proto::ExportLedgerRequest {})).await.expect("a ledger").into_inner();
        let (mut postings, mut accounts, mut sum) = (0, 0, 0);
        while let Some(entry) = ledger.next().await {
            match entry.expect("an entry").entry.expect("set") {
                Entry::Posting(posting) => {
                    postings += 1;
                    sum += posting.amount.expect("an amount").minor_units;
                }
                Entry::Account(account) => {
                    accounts += 1;
                    sum -= account.balance.expect("a balance").minor_units;
                }
            }
        }
        assert_eq!((postings, accounts, sum), (count + 1, count, 0), "{backend:?}");

        let request = proto::GetAccountRequest { student_id: "s7".to_owned() };
        let account = service.get_account(Request::new(request)).await.expect("an account").into_inner();
        assert_eq!(account.balance, Some(common::Money { currency: "EUR".to_owned(), minor_units: 0 }));
        let kinds: Vec<_> = account.postings.iter().map(proto::Posting::kind).collect();
        assert_eq!(kinds, [proto::PostingKind::Void, proto::PostingKind::Charge], "newest first");
    }
}
