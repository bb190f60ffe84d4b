//! Lists of sagas, page by page, and the export of all of them for the audit.

use std::sync::Arc;

use futures::TryStreamExt as _;
use futures::stream::{self, Stream};
use matricula_kit::id::StudentId;
use matricula_kit::rpc::{self, FieldError, page_size, required_id};
use matricula_proto::ops::v1 as ops;
use matricula_registration::StoredRegistration;
use matricula_runtime::SagaFilter;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::shutting_down;
use crate::{Orchestrator, waits, wire};

/// Sagas that a list of certain phases reads for a page. Beyond it the page is shorter, so that it is never slow.
const SAGAS_READ_MAX: usize = 10_000;
/// Sagas that an export reads at once: a few megabytes with their logs.
const EXPORT_PAGE: i64 = 500;

/// A page.
pub(super) async fn list(
    runtime: &Orchestrator,
    request: ops::ListSagasRequest,
) -> Result<ops::ListSagasResponse, Status> {
    let (filter, wanted) = filter(request)?;
    let (stored, next) = page(runtime, filter, &wanted).await?;
    Ok(ops::ListSagasResponse {
        sagas: waits::summaries(runtime, &stored).await?,
        next_page_token: next.unwrap_or_default(),
        destinations_in_trouble: runtime.outages().iter().map(wire::outage).collect(),
    })
}

/// Every registration, newest first, until the shutdown.
pub(super) fn export(
    runtime: Arc<Orchestrator>,
    shutdown: CancellationToken,
) -> impl Stream<Item = Result<ops::ExportLedgerResponse, Status>> {
    let start = SagaFilter { limit: EXPORT_PAGE, archived: true, ..Default::default() };
    let pages = stream::try_unfold(Some(start), move |filter| {
        let (runtime, shutdown) = (runtime.clone(), shutdown.clone());
        async move {
            let Some(filter) = filter else { return Ok(None) };
            let read = shutdown.run_until_cancelled(export_page(&runtime, filter)).await;
            read.ok_or_else(shutting_down)?.map(Some)
        }
    });
    pages.map_ok(|entries| stream::iter(entries.into_iter().map(Ok))).try_flatten()
}

/// The restrictions of a list beyond those of the store. They apply to sagas as they are shown: a saga that can't be
/// read has another phase in the store.
struct Wanted {
    phases: Vec<ops::SagaPhase>,
    needs_attention: bool,
}

impl Wanted {
    fn has(&self, saga: &ops::SagaSummary) -> bool {
        (self.phases.is_empty() || self.phases.contains(&saga.phase()))
            && (!self.needs_attention || saga.needs_attention)
    }
}

fn filter(request: ops::ListSagasRequest) -> Result<(SagaFilter, Wanted), FieldError> {
    let ops::ListSagasRequest { page_size: size, page_token, phases, student_id, needs_attention, unfinished } =
        request;
    let limit = page_size(size)?;
    let before = rpc::page_after(&page_token, rpc::id_part)?;
    let subject = match student_id {
        id if id.is_empty() => None,
        id => Some(required_id("student_id", id, StudentId::try_new)?.into()),
    };
    let phase = |(index, number): (usize, i32)| match ops::SagaPhase::try_from(number) {
        Ok(ops::SagaPhase::Unspecified) | Err(_) => {
            Err(FieldError::new(format!("phases[{index}]"), format!("must be a phase, got {number}")))
        }
        Ok(phase) => Ok(phase),
    };
    let phases: Vec<ops::SagaPhase> = phases.into_iter().enumerate().map(phase).collect::<Result<_, _>>()?;
    let is_unreadable_wanted = phases.contains(&ops::SagaPhase::Unreadable);
    let stored = if is_unreadable_wanted { &[] } else { phases.as_slice() };
    let stored = stored.iter().filter_map(|phase| wire::stored_phase(*phase)).collect();
    let wanted = Wanted { phases, needs_attention };
    // A saga that can't be read always needs attention, also when the stored flag is not set.
    let needs_attention = needs_attention && !is_unreadable_wanted;
    Ok((SagaFilter { subject, phases: stored, needs_attention, unfinished, archived: false, before, limit }, wanted))
}

/// A page of the sagas that are wanted, and where the next one begins.
async fn page(
    runtime: &Orchestrator,
    mut filter: SagaFilter,
    wanted: &Wanted,
) -> Result<(Vec<StoredRegistration>, Option<String>), Status> {
    let size = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    // A row more than the page has shows whether there is a next page.
    filter.limit += 1;
    let mut sagas = Vec::new();
    let mut sagas_read = 0;
    loop {
        let rows = runtime.store().list(filter.clone()).await?;
        let is_last = rows.len() <= size;
        for row in rows {
            if sagas.len() == size || sagas_read == SAGAS_READ_MAX {
                return Ok((sagas, filter.before));
            }
            sagas_read += 1;
            filter.before = Some(row.id.to_string());
            let stored = runtime.workload().read(row);
            if wanted.has(&wire::summary(&stored)) {
                sagas.push(stored);
            }
        }
        if is_last {
            return Ok((sagas, None));
        }
    }
}

/// A part of the export, and where the next one begins.
async fn export_page(
    runtime: &Orchestrator,
    filter: SagaFilter,
) -> Result<(Vec<ops::ExportLedgerResponse>, Option<SagaFilter>), Status> {
    let rows = runtime.store().list(filter.clone()).await?;
    let next = rows.last().map(|row| SagaFilter { before: Some(row.id.to_string()), ..filter });
    let entries = rows.into_iter().map(|row| wire::ledger_entry(&runtime.workload().read(row))).collect();
    Ok((entries, next))
}
