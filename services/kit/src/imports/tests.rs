//! An import is staged in parts, and applied once and whole.

use std::sync::Arc;

use matricula_proto::fees::v1::CourseFee;
use matricula_proto::imports::v1::import_row;
use matricula_proto::imports::v1::import_service_server::ImportService as _;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use super::grpc::ImportGrpc;
use super::*;
use crate::database::{Migrator, Schema};
use crate::testing::{BACKENDS, database};

/// Keeps course fees in memory: what is staged, and by which version, is what these tests are about.
struct Fees {
    database: Database,
    fees: std::sync::Mutex<Vec<wire::ImportRow>>,
}

#[async_trait]
impl Imported for Fees {
    async fn read(&self) -> Result<(i64, Vec<wire::ImportRow>), DbError> {
        let mut tx = self.database.snapshot().await?;
        let version = version(&mut tx).await?;
        Ok((version, self.fees.lock().expect("not poisoned").clone()))
    }

    fn check(&self, row: &wire::ImportRow) -> Result<(), FieldError> {
        match &row.row {
            Some(import_row::Row::CourseFee(_)) => Ok(()),
            _ => Err(foreign_row()),
        }
    }

    async fn apply(&self, base_version: i64, rows: Vec<wire::ImportRow>) -> Result<(), ImportError> {
        if rows.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(FieldError::new("course_fee.course_id", "is named twice").into());
        }
        let tx = begin(&self.database, base_version).await?;
        tx.commit().await?;
        self.fees.lock().expect("not poisoned").extend(rows);
        Ok(())
    }
}

fn fee(course: &str) -> wire::ImportRow {
    let fee = CourseFee { course_id: course.to_owned(), minor_units: 1 };
    wire::ImportRow { row: Some(import_row::Row::CourseFee(fee)) }
}

async fn stage(service: &ImportGrpc, import: &str, part: i32, rows: Vec<wire::ImportRow>) -> Result<(), tonic::Status> {
    let request = wire::StageRowsRequest { import_id: import.to_owned(), part, rows };
    service.stage_rows(Request::new(request)).await.map(drop)
}

async fn apply(service: &ImportGrpc, import: &str, parts: i32, base_version: i64) -> Result<i64, tonic::Status> {
    let request = wire::ApplyImportRequest { import_id: import.to_owned(), parts, base_version };
    Ok(service.apply_import(Request::new(request)).await?.into_inner().version)
}

#[tokio::test]
async fn an_import_is_applied_once_and_whole() {
    for backend in BACKENDS {
        let test = database(backend, &Schema::participant(&Migrator::DEFAULT, &[])).await;
        let fees = Arc::new(Fees { database: test.database.clone(), fees: std::sync::Mutex::default() });
        let service = ImportGrpc::new(fees.clone(), test.database.clone());

        stage(&service, "i1", 0, vec![fee("A"), fee("B")]).await.expect("staged");
        let missing = apply(&service, "i1", 2, 0).await.expect_err("a part is missing");
        assert_eq!(missing.code(), Code::FailedPrecondition, "{missing:?}");
        stage(&service, "i1", 1, vec![fee("wrong")]).await.expect("staged");
        stage(&service, "i1", 1, vec![fee("C")]).await.expect("the same part replaces itself");
        assert_eq!(apply(&service, "i1", 2, 0).await.expect("applied"), 1);
        assert_eq!(*fees.fees.lock().expect("not poisoned"), [fee("A"), fee("B"), fee("C")]);

        stage(&service, "i2", 0, vec![fee("D")]).await.expect("staged");
        let outdated = apply(&service, "i2", 1, 0).await.expect_err("another version");
        assert_eq!((outdated.code(), outdated.message().contains("version 1 is in force")), (Code::Aborted, true));
        let gone = apply(&service, "i1", 2, 1).await.expect_err("its parts are gone");
        assert_eq!(gone.code(), Code::FailedPrecondition, "{gone:?}");
        // The request that applies has no field that could be named: the row came in an earlier one.
        stage(&service, "i3", 0, vec![fee("E"), fee("E")]).await.expect("each row is sound by itself");
        let twice = apply(&service, "i3", 1, 1).await.expect_err("a row is there twice");
        let reason = twice.get_details_error_info().map(|info| info.reason);
        assert_eq!((twice.code(), reason.as_deref()), (Code::FailedPrecondition, Some("ROW_REFUSED")));
        let named = twice.get_details_bad_request().is_some();
        assert_eq!((twice.message(), named), ("course_fee.course_id: is named twice", false));
        assert_eq!(fees.fees.lock().expect("not poisoned").len(), 3);
    }
}

#[tokio::test]
async fn bad_parts_are_named() {
    let test = database(BACKENDS[0], &Schema::participant(&Migrator::DEFAULT, &[])).await;
    let fees = Arc::new(Fees { database: test.database.clone(), fees: std::sync::Mutex::default() });
    let service = ImportGrpc::new(fees, test.database.clone());
    let refused = async |import: &str, part, rows| {
        stage(&service, import, part, rows).await.expect_err("refused").message().to_owned()
    };
    assert!(refused("", 0, vec![]).await.starts_with("import_id: "));
    assert!(refused("i", -1, vec![]).await.starts_with("part: must be 0 to "));
    assert!(refused("i", 0, vec![fee("A"); 1_001]).await.starts_with("rows: at most 1000"));
    assert!(refused("i", 0, vec![fee("A"), wire::ImportRow { row: None }]).await.starts_with("rows[1].row: "));
}
