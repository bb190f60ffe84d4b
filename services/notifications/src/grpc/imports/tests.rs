//! The bounds of rows; and `read` returns the rows of the import before it.

use std::sync::Arc;

use matricula_kit::participant::{Writer, WriterLimits};
use matricula_kit::testing::{self, BACKENDS};
use matricula_proto::fees::v1::CourseFee;

use super::*;
use crate::delivery::Waker;
use crate::participant::Notifications;

fn row(student: &str, email: &str, name: &str) -> ImportRow {
    let contact = proto::Contact { student_id: student.to_owned(), email: email.to_owned(), name: name.to_owned() };
    ImportRow { row: Some(Row::Contact(contact)) }
}

#[track_caller]
fn check(rows: &[ImportRow], expect: Result<(), &str>) {
    assert_eq!(changes(rows.to_vec()).map(drop).map_err(|problem| problem.field), expect.map_err(str::to_owned));
}

#[test]
fn rows_out_of_bounds_are_named() {
    let ada = || row("s1", "ada@example.edu", "Ada Lovelace");
    check(&[ada(), row("s2", "x@example.edu", ""), row("s3", "", "Bob")], Ok(()));
    check(&[row("", "ada@example.edu", "")], Err("contact.student_id"));
    check(&[ada(), row("s1", "b@example.edu", "")], Err("contact.student_id"));
    check(&[ada(), row("s1", "", "")], Err("contact.student_id"));
    for bad in ["ada", " ", "a b@example.edu", "a@example.edu\r\nBcc: b@example.edu"] {
        check(&[row("s1", bad, "")], Err("contact.email"));
    }
    for email in ["ada@example.edu", ""] {
        check(&[row("s1", email, "Ada\r\nBcc: b@example.edu")], Err("contact.name"));
        check(&[row("s1", email, &"x".repeat(501))], Err("contact.name"));
    }
    check(&[ImportRow { row: None }], Err("row"));
    check(&[ImportRow { row: Some(Row::CourseFee(CourseFee::default())) }], Err("row"));
}

#[tokio::test]
async fn what_is_read_is_what_was_imported() {
    for backend in BACKENDS {
        let test = testing::database(backend, &crate::SCHEMA).await;
        let (waker, _woken) = Waker::new();
        let notifications = Arc::new(Notifications::new(waker.clone()));
        let (writer, _) = Writer::alone(notifications, test.database.clone(), WriterLimits::default());
        let imports = NotificationGrpc { writer, database: test.database.clone(), waker };
        assert_eq!(imports.read().await.expect("read"), (0, vec![]));
        let all = [row("s1", "ada@example.edu", "Ada"), row("s2", "bob@example.edu", "")];
        imports.apply(0, all.to_vec()).await.expect("applied");
        assert_eq!(imports.read().await.expect("read"), (1, all.to_vec()), "{backend:?}");
        imports.apply(1, all.to_vec()).await.expect("applied");
        assert_eq!(imports.read().await.expect("read"), (2, all.to_vec()), "{backend:?}");

        // No address is no row, whatever the name.
        let changed = [row("s1", "", "Ada"), row("s3", "", "Eve"), row("s2", "bob@example.org", "Bob")];
        imports.apply(2, changed.to_vec()).await.expect("applied");
        let left = vec![changed[2].clone()];
        assert_eq!(imports.read().await.expect("read"), (3, left.clone()), "{backend:?}");
        let outdated = imports.apply(2, all.to_vec()).await;
        assert!(matches!(outdated, Err(ImportError::Outdated { base: 2, version: 3 })), "{outdated:?}");
        assert_eq!(imports.read().await.expect("read"), (3, left), "{backend:?}");
    }
}
