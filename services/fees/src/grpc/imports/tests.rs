//! The bounds of rows; and `read` returns the rows of the import before it.

use matricula_kit::testing::BACKENDS;
use matricula_proto::common::v1::Money;
use matricula_proto::notifications::v1::Contact;

use super::*;
use crate::grpc::tests::service;

fn term(id: &str, currency: &str, minor_units: i64, ladder: &[(i64, i32)]) -> proto::TermRates {
    let step = |(seconds, percent): &(i64, i32)| proto::RefundStep {
        until: Some(prost_types::Timestamp { seconds: *seconds, nanos: 0 }),
        percent: *percent,
    };
    proto::TermRates {
        term_id: id.to_owned(),
        per_credit: Some(Money { currency: currency.to_owned(), minor_units }),
        refund_ladder: ladder.iter().map(step).collect(),
        balance_limit_minor_units: 0,
    }
}

fn without_rates(id: &str) -> proto::TermRates {
    proto::TermRates { term_id: id.to_owned(), ..proto::TermRates::default() }
}

fn rates(rates: proto::TermRates) -> ImportRow {
    ImportRow { row: Some(Row::Rates(rates)) }
}

fn fee(course: &str, minor_units: i64) -> ImportRow {
    ImportRow { row: Some(Row::CourseFee(proto::CourseFee { course_id: course.to_owned(), minor_units })) }
}

#[track_caller]
fn check(rows: &[ImportRow], field: &str) {
    assert_eq!(rate_table(rows.to_vec()).expect_err(field).field, field);
}

#[test]
fn rows_out_of_bounds_are_named() {
    check(&[rates(term("", "USD", 1, &[]))], "rates.term_id");
    check(&[rates(term("T", "usd", 1, &[]))], "rates.per_credit.currency");
    check(&[rates(term("T", "QQQ", 1, &[]))], "rates.per_credit.currency");
    check(&[rates(term("T", "USD", -1, &[]))], "rates.per_credit.minor_units");
    check(&[rates(term("T", "USD", i64::MAX, &[]))], "rates.per_credit.minor_units");
    let limited = |limit| proto::TermRates { balance_limit_minor_units: limit, ..term("T", "USD", 1, &[]) };
    check(&[rates(limited(-1))], "rates.balance_limit_minor_units");
    check(&[rates(limited(i64::MAX))], "rates.balance_limit_minor_units");
    check(&[rates(term("T", "USD", 1, &[(5, 101)]))], "rates.refund_ladder[0].percent");
    check(&[rates(term("T", "USD", 1, &[(5, 50), (5, 40)]))], "rates.refund_ladder[1].until");
    check(&[fee("C", -1)], "course_fee.minor_units");
    check(&[fee("C|D", 1)], "course_fee.course_id");
    // A row that removes the rates says nothing else of them.
    let ladder = proto::TermRates { per_credit: None, ..term("T", "USD", 1, &[(5, 50)]) };
    check(&[rates(ladder)], "rates.refund_ladder");
    check(&[rates(proto::TermRates { per_credit: None, ..limited(5) })], "rates.balance_limit_minor_units");
    // Rows that are right by themselves, and not together.
    check(&[rates(term("T", "USD", 1, &[])), rates(term("U", "EUR", 1, &[]))], "rates.per_credit.currency");
    check(&[rates(term("T", "USD", 1, &[])), rates(without_rates("T"))], "rates.term_id");
    check(&[fee("C", 1), fee("C", 2)], "course_fee.course_id");
    // Rows of other services.
    check(&[ImportRow { row: None }], "row");
    check(&[ImportRow { row: Some(Row::Contact(Contact::default())) }], "row");
}

#[tokio::test]
async fn what_is_read_is_what_was_imported() {
    for backend in BACKENDS {
        let (imports, _test) = service(backend).await;
        assert_eq!(imports.read().await.expect("read"), (0, vec![]));
        let limited = proto::TermRates { balance_limit_minor_units: 70, ..term("B", "KWD", 0, &[]) };
        let all =
            [rates(term("A", "KWD", 9, &[(5, 100), (7, 50)])), rates(limited), fee("C", 25), fee("D", 1_000_000_000)];
        for row in &all {
            imports.check(row).expect("within the bounds");
        }
        imports.apply(0, all.to_vec()).await.expect("applied");
        assert_eq!(imports.read().await.expect("read"), (1, all.to_vec()), "{backend:?}");
        // The same again changes nothing but the version.
        imports.apply(1, all.to_vec()).await.expect("applied");
        assert_eq!(imports.read().await.expect("read"), (2, all.to_vec()), "{backend:?}");

        let changed = [fee("C", 0), rates(without_rates("A")), fee("E", 0), fee("D", 7)];
        imports.apply(2, changed.to_vec()).await.expect("applied");
        let left = vec![all[1].clone(), fee("D", 7)];
        assert_eq!(imports.read().await.expect("read"), (3, left.clone()), "{backend:?}");

        // A plan of another version, and one that is refused, change nothing.
        let outdated = imports.apply(2, vec![fee("D", 8)]).await;
        assert!(matches!(outdated, Err(ImportError::Outdated { base: 2, version: 3 })), "{outdated:?}");
        let refused = imports.apply(3, vec![fee("D", 8), rates(term("A", "USD", 1, &[]))]).await;
        assert!(matches!(refused, Err(ImportError::Refused { .. })), "{refused:?}");
        assert_eq!(imports.read().await.expect("read"), (3, left), "{backend:?}");
    }
}
