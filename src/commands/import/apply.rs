//! Applies a plan. For each service, the rows are staged in as many calls as needed, and applied at once. An
//! interrupted import can be repeated: rows that were applied are then left alone.

use anyhow::{Context as _, anyhow};
use matricula_proto::imports::v1::{ApplyImportRequest, ImportRow, StageRowsRequest};
use prost::Message as _;
use tonic::Code;

use super::plan::Plan;
use super::state::{RETRY_FOR, Service};
use crate::clients::{Services, answered, explained, retried};
use crate::output::Progress;

/// Rows in a part: the maximum of a service.
const ROWS_OF_PART: usize = 1_000;
/// Bytes in a part: a quarter of a service's maximum, so that long texts fit.
const BYTES_OF_PART: usize = 4 << 20;

/// Applies the plan to all services.
pub async fn apply(plan: &Plan, services: &Services, progress: &Progress) -> anyhow::Result<()> {
    let rows = Service::ALL.map(|service| (service, plan.rows_of(service)));
    progress.expect(rows.iter().map(|(_, rows)| rows.len()).sum());
    for (service, rows) in rows.into_iter().filter(|(_, rows)| !rows.is_empty()) {
        progress.now(service.name());
        let base_version = plan.versions.get(&service).copied().unwrap_or_default();
        apply_to(service, rows, base_version, services, progress).await.context(service.name()).context(
            "the import is not complete; fix the cause and import the same bundle again: it applies the remaining changes",
        )?;
    }
    Ok(())
}

async fn apply_to(
    service: Service,
    rows: Vec<ImportRow>,
    base_version: i64,
    services: &Services,
    progress: &Progress,
) -> anyhow::Result<()> {
    let client = service.client(services);
    let import_id = uuid::Uuid::now_v7().to_string();
    let parts = parts(rows);
    let count = i32::try_from(parts.len()).context("the import has too many rows")?;
    for (part, rows) in (0..).zip(parts) {
        let staged = rows.len();
        let request = StageRowsRequest { import_id: import_id.clone(), part, rows };
        answered(retried(RETRY_FOR, |_| (), async || client.clone().stage_rows(request.clone()).await)).await?;
        progress.advance(staged);
    }
    let request = ApplyImportRequest { import_id, parts: count, base_version };
    // ABORTED is final here: another import was applied first, or this import was applied and its answer was lost.
    let applied = retried(
        RETRY_FOR,
        |_| (),
        async || match client.clone().apply_import(request.clone()).await {
            Err(status) if status.code() == Code::Aborted => Ok(Err(status)),
            applied => applied.map(Ok),
        },
    );
    match applied.await.map_err(|status| explained(&status))? {
        Ok(_) => Ok(()),
        Err(outdated) => Err(explained(&outdated))
            .context(anyhow!("another import was applied since the plan was made; import again")),
    }
}

/// Splits rows into as many parts as needed.
fn parts(rows: Vec<ImportRow>) -> Vec<Vec<ImportRow>> {
    let mut parts: Vec<Vec<ImportRow>> = Vec::new();
    let mut bytes = 0;
    for row in rows {
        let length = row.encoded_len();
        match parts.last_mut().filter(|part| part.len() < ROWS_OF_PART && bytes + length <= BYTES_OF_PART) {
            Some(part) => {
                part.push(row);
                bytes += length;
            }
            None => {
                parts.push(vec![row]);
                bytes = length;
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use matricula_proto::academics::v1::Course;
    use matricula_proto::imports::v1::import_row::Row;

    use super::*;

    #[test]
    fn rows_fit_parts() {
        let row = |bytes: usize| {
            let course = Course { title: "x".repeat(bytes), ..Course::default() };
            ImportRow { row: Some(Row::Course(course)) }
        };
        let sizes = |rows: Vec<ImportRow>| parts(rows).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(Vec::new()), [0; 0]);
        assert_eq!(sizes(vec![row(1); 2_001]), [1_000, 1_000, 1]);
        assert_eq!(sizes(vec![row(3 << 19); 5]), [2, 2, 1]);
    }
}
