//! The bounds of rows; and the service keeps capacities of staff and of bundles apart.

use std::sync::Arc;

use matricula_kit::database::Database;
use matricula_kit::participant::Writer;
use matricula_kit::participant::{Operation, WriterLimits};
use matricula_kit::testing::{self, BACKENDS, Backend, TestDatabase};
use matricula_kit::time::TimeZone;
use matricula_proto::common::v1::Source;
use matricula_proto::notifications::v1::Contact;

use super::*;
use crate::feed::Feed;
use crate::participant::Seats;

struct Service {
    imports: SeatsGrpc,
    test: TestDatabase,
}

impl Service {
    async fn new(backend: Backend) -> Self {
        let test = testing::database(backend, &crate::SCHEMA).await;
        Self { imports: of_replica(&test.database), test }
    }

    async fn set_by_staff(&self, section: &str, capacity: i32) {
        let section = SectionId::try_new(section).expect("an id");
        let command = Command::SetCapacity { section, capacity };
        self.imports.writer.write(vec![Operation::staff(command)]).await.expect("it is set");
    }

    /// The version, and each section as (what the bundle says, what it is now, who has set that).
    async fn read(&self) -> (i64, Vec<(String, i32, i32, Source)>) {
        let (version, rows) = self.imports.read().await.expect("read");
        let seen = rows.into_iter().map(|row| match row.row {
            Some(Row::Capacity(row)) => (row.section_id.clone(), row.capacity, row.current_capacity, row.source()),
            other => panic!("not a capacity: {other:?}"),
        });
        (version, seen.collect())
    }
}

fn of_replica(database: &Database) -> SeatsGrpc {
    let feed = Arc::<Feed>::default();
    let seats = Arc::new(Seats::new(feed.clone(), database, TimeZone::UTC));
    let (writer, _) = Writer::alone(seats, database.clone(), WriterLimits::default());
    SeatsGrpc { writer, database: database.clone(), feed }
}

fn row(section: &str, capacity: i32) -> ImportRow {
    let row = SectionCapacity { section_id: section.to_owned(), capacity, ..SectionCapacity::default() };
    ImportRow { row: Some(Row::Capacity(row)) }
}

fn seen(section: &str, bundle: i32, now: i32, source: Source) -> (String, i32, i32, Source) {
    (section.to_owned(), bundle, now, source)
}

#[test]
fn rows_out_of_bounds_are_named() {
    let check = |rows: &[ImportRow], field: &str| {
        assert_eq!(capacities(rows.to_vec()).expect_err(field).field, field);
    };
    check(&[row("", 1)], "capacity.section_id");
    check(&[row("A|B", 1)], "capacity.section_id");
    check(&[row("A", -1)], "capacity.capacity");
    check(&[row("A", 1_000_001)], "capacity.capacity");
    check(&[row("A", 1), row("B", 1), row("A", 1)], "capacity.section_id");
    check(&[ImportRow { row: None }], "row");
    check(&[ImportRow { row: Some(Row::Contact(Contact::default())) }], "row");
}

#[tokio::test]
async fn a_freeze_by_staff_survives_the_same_bundle_and_not_another_number() {
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        assert_eq!(service.read().await, (0, vec![]));
        service.imports.apply(0, vec![row("A", 30), row("B", 20)]).await.expect("applied");
        let imported = vec![seen("A", 30, 30, Source::Bundle), seen("B", 20, 20, Source::Bundle)];
        assert_eq!(service.read().await, (1, imported), "{backend:?}");

        service.set_by_staff("A", 0).await;
        service.set_by_staff("B", 25).await;
        // A plan compares with the numbers of the last bundle: it has no row for A, and one for B if the bundle
        // differs.
        let set = vec![seen("A", 30, 0, Source::Staff), seen("B", 20, 25, Source::Staff)];
        assert_eq!(service.read().await, (1, set), "{backend:?}");
        service.imports.apply(1, vec![row("B", 21)]).await.expect("applied");
        let after = vec![seen("A", 30, 0, Source::Staff), seen("B", 21, 21, Source::Bundle)];
        assert_eq!(service.read().await, (2, after.clone()), "{backend:?}");
        // The same rows again change nothing but the version.
        service.imports.apply(2, vec![row("B", 21)]).await.expect("applied");
        assert_eq!(service.read().await, (3, after), "{backend:?}");
    }
}

#[tokio::test]
async fn an_outdated_plan_is_refused() {
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        service.imports.apply(0, vec![row("A", 30)]).await.expect("applied");
        for base_version in [0, 2] {
            let outdated = service.imports.apply(base_version, vec![row("A", 31)]).await;
            let is_outdated =
                matches!(outdated, Err(ImportError::Outdated { base, version: 1 }) if base == base_version);
            assert!(is_outdated, "{backend:?}: {outdated:?}");
        }
        assert_eq!(service.read().await, (1, vec![seen("A", 30, 30, Source::Bundle)]), "{backend:?}");
    }
}

/// A section that an earlier version of the service has stored tells neither who has set it nor what the bundle said.
#[tokio::test]
async fn a_section_of_an_earlier_version_is_read_as_it_is() {
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        service.imports.apply(0, vec![row("A", 30)]).await.expect("applied");
        let mut tx = service.test.database.begin().await.expect("a transaction");
        let forget = "UPDATE sections SET bundle_capacity = NULL, capacity_source = NULL";
        tx.execute(forget, matricula_kit::database::Args::new()).await.expect("forgotten");
        tx.commit().await.expect("committed");
        assert_eq!(service.read().await, (1, vec![seen("A", 30, 30, Source::Unspecified)]), "{backend:?}");
        service.set_by_staff("A", 0).await;
        assert_eq!(service.read().await, (1, vec![seen("A", 30, 0, Source::Staff)]), "{backend:?}");
    }
}

/// Two replicas get the same plan at once: one applies it, and the other one is told that it is outdated.
#[tokio::test]
async fn of_two_imports_at_once_one_is_applied() {
    let service = Service::new(Backend::Postgres).await;
    let other = of_replica(&Database::open(&service.test.url).await.expect("a second replica"));
    for version in 0..5 {
        let rows = |capacity: i32| (0..200).map(|number| row(&format!("S{number}"), capacity)).collect();
        let (one, two) = tokio::join!(service.imports.apply(version, rows(1)), other.apply(version, rows(2)));
        let is_outdated = |outcome: &Result<(), ImportError>| matches!(outcome, Err(ImportError::Outdated { .. }));
        assert!(one.is_ok() ^ two.is_ok(), "{one:?} {two:?}");
        assert!(is_outdated(&one) ^ is_outdated(&two), "{one:?} {two:?}");
        let (now, sections) = service.read().await;
        let expect = if one.is_ok() { 1 } else { 2 };
        assert_eq!((now, sections.len()), (version + 1, 200));
        assert!(sections.iter().all(|(_, bundle, now, _)| (*bundle, *now) == (expect, expect)));
    }
}
