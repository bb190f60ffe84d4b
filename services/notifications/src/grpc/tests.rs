//! The contract's edges: which field is named when something is out of bounds, how lists are paged.

use std::sync::Arc;

use futures::StreamExt as _;
use matricula_kit::participant::WriterLimits;
use matricula_kit::testing::{self, BACKENDS};
use matricula_proto::common::v1 as common;

use super::*;
use crate::delivery::Waker;

fn send(saga: &str) -> proto::SendNotificationOperation {
    proto::SendNotificationOperation {
        operation: Some(common::Operation {
            saga_id: saga.to_owned(),
            step: "notify".to_owned(),
            ..Default::default()
        }),
        student_id: "s1".to_owned(),
        outcome: proto::NotifiedOutcome::Enrolled as i32,
        added_section_ids: vec!["A".to_owned()],
        ..Default::default()
    }
}

#[track_caller]
fn check(change: impl FnOnce(&mut proto::SendNotificationOperation), field: &str) {
    let mut operation = send("r1");
    change(&mut operation);
    assert_eq!(super::send(operation).expect_err(field).field, field);
}

#[test]
fn what_is_out_of_bounds_is_named() {
    assert!(super::send(send("r1")).is_ok());
    check(|send| send.operation = None, "operation");
    check(|send| send.student_id = "é".to_owned(), "student_id");
    check(|send| send.outcome = 0, "outcome");
    check(|send| send.outcome = 99, "outcome");
    check(|send| send.added_section_ids = vec!["A".to_owned(), "A".to_owned()], "added_section_ids[1]");
    check(|send| send.dropped_section_ids = (0..21).map(|n| format!("S{n}")).collect(), "dropped_section_ids");
    check(|send| send.reasons = vec![common::Refusal::default()], "reasons[0].reason");
    check(|send| send.charged = Some(common::Money::default()), "charged.currency");
}

#[tokio::test]
async fn messages_are_listed_and_exported() {
    for backend in BACKENDS {
        let test = testing::database(backend, &crate::SCHEMA).await;
        let (waker, _woken) = Waker::new();
        let participant = Arc::new(Notifications::new(waker.clone()));
        let (writer, _) = Writer::alone(participant, test.database.clone(), WriterLimits::default());
        let service = NotificationGrpc { writer, database: test.database.clone(), waker };
        let mut operations: Vec<_> = (0..25).map(|n| send(&format!("r{n:02}"))).collect();
        operations[0].not_wanted = true;
        let request = Request::new(proto::SendNotificationRequest { operations });
        service.send_notification(request).await.expect("recorded");

        let (mut token, mut seen) = (String::new(), Vec::new());
        loop {
            let request =
                proto::ListNotificationsRequest { student_id: "s1".to_owned(), page_size: 10, page_token: token };
            let page = service.list_notifications(Request::new(request)).await.expect("a page").into_inner();
            seen.extend(page.notifications.into_iter().map(|notification| notification.registration_id));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert!(rpc::page_after("1 r01", super::list_key).expect("a token of an earlier build").is_some());
        let expect: Vec<String> = (0..25).rev().map(|n| format!("r{n:02}")).collect();
        assert_eq!(seen, expect, "{backend:?}");
        for bad in ["x", "1", "1 é"] {
            assert!(rpc::page_after(bad, super::list_key).is_err(), "{bad}");
        }

        let request = Request::new(proto::ExportLedgerRequest {});
        let ledger = service.export_ledger(request).await.expect("a ledger").into_inner();
        let entries: Vec<_> = ledger.collect().await;
        let first = entries[0].as_ref().expect("an entry").notification.as_ref().expect("a message");
        assert_eq!((entries.len(), first.outcome()), (25, proto::NotifiedOutcome::Enrolled));
        assert!(first.delivered_at.is_none() && first.recorded_at.is_some());
        let why = |index: usize| {
            let entry: &proto::ExportLedgerResponse = entries[index].as_ref().expect("an entry");
            entry.notification.as_ref().expect("a message").undeliverable()
        };
        assert_eq!([0, 1].map(why), [proto::Undeliverable::NotWanted, proto::Undeliverable::Unspecified]);
    }
}
