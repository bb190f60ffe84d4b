//! The contract's edges: which field is named when something is out of bounds, and what the ledger streams.

use std::sync::Arc;

use futures::StreamExt as _;
use matricula_kit::imports::Imported as _;
use matricula_kit::participant::WriterLimits;
use matricula_kit::rpc::FieldError;
use matricula_kit::testing::{self, BACKENDS, Backend, TestDatabase};
use matricula_proto::common::v1 as common;
use matricula_proto::fees::v1::export_ledger_response::Entry;
use matricula_proto::imports::v1::ImportRow;
use matricula_proto::imports::v1::import_row::Row;

use super::*;

pub(super) async fn service(backend: Backend) -> (FeeGrpc, TestDatabase) {
    let test = testing::database(backend, &crate::SCHEMA).await;
    let (writer, _) = Writer::alone(Arc::new(Fees::default()), test.database.clone(), WriterLimits::default());
    (FeeGrpc { writer, database: test.database.clone() }, test)
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
    let basis = proto::ChargeBasis::Unspecified.into();
    proto::AssessFeesOperation { operation: key(saga), student_id: student.to_owned(), adds, basis }
}

#[track_caller]
fn check<T: std::fmt::Debug>(outcome: Result<T, FieldError>, field: &str) {
    assert_eq!(outcome.expect_err(field).field, field);
}

#[test]
fn what_is_out_of_bounds_is_named() {
    check(super::assess(assess("", "s1", vec![])), "operation.saga_id");
    check(super::assess(assess("r1", "", vec![])), "student_id");
    check(super::assess(assess("r1", "s1", vec![add("A", -1)])), "adds[0].credits_hundredths");
    check(super::assess(assess("r1", "s1", vec![add("A", 1), add("B", 10_001)])), "adds[1].credits_hundredths");
    check(super::assess(assess("r1", "s1", vec![add("A", 1), add("A", 1)])), "adds[1].section_id");
    check(super::assess(assess("r1", "s1", vec![add("é", 1)])), "adds[0].section_id");
    check(super::assess(assess("r1", "s1", (0..21).map(|n| add(&format!("S{n}"), 1)).collect())), "adds");
    check(super::assess(proto::AssessFeesOperation { basis: 9, ..assess("r1", "s1", vec![]) }), "basis");
    let refund = proto::RefundFeesOperation {
        operation: key("r1"),
        student_id: "s1".to_owned(),
        drops: vec![],
        effective_at: None,
    };
    check(super::refund(refund), "effective_at");
}

#[tokio::test]
async fn the_ledger_streams_postings_and_balances() {
    for backend in BACKENDS {
        let (service, _test) = service(backend).await;
        let per_credit = Some(common::Money { currency: "EUR".to_owned(), minor_units: 1_000 });
        let rates = proto::TermRates { term_id: "T".to_owned(), per_credit, ..proto::TermRates::default() };
        let row = ImportRow { row: Some(Row::Rates(rates)) };
        service.apply(0, vec![row]).await.expect("imported");

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
