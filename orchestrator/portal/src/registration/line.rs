//! The waiting line on the wire, once a second when it has changed.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream};
use matricula_proto::registration::v1 as wire;
use matricula_registration::Registrations;
use matricula_runtime::{DoorState, LineView, Runtime, Ticket};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::shutting_down;

/// Between two messages.
const PAUSE: Duration = Duration::from_secs(1);

/// The line now, and after every change, until the shutdown.
pub(super) fn watch(
    runtime: Arc<Runtime<Registrations>>,
    shutdown: CancellationToken,
) -> impl Stream<Item = Result<wire::WatchLineResponse, Status>> {
    let line = runtime.line();
    stream::try_unfold((line, runtime, shutdown, true), |(mut line, runtime, shutdown, is_first)| async move {
        if !is_first {
            let changed = async {
                tokio::time::sleep(PAUSE).await;
                line.changed().await
            };
            match shutdown.run_until_cancelled(changed).await {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return Err(shutting_down()),
            }
        }
        let response = to_wire(&line.borrow_and_update(), &runtime);
        Ok(Some((response, (line, runtime, shutdown, false))))
    })
}

fn to_wire(line: &LineView, runtime: &Runtime<Registrations>) -> wire::WatchLineResponse {
    let number = |ticket: Ticket| i64::try_from(ticket.0).unwrap_or(i64::MAX);
    let door = match line.door.state {
        DoorState::Open => wire::Door::Open,
        DoorState::Paused => wire::Door::Paused,
        DoorState::Closed => wire::Door::Closed,
    };
    wire::WatchLineResponse {
        now_serving: number(line.served),
        last_ticket: number(line.last),
        turns_per_second: line.turns_per_1000_s.map(|turns| turns as f64 / 1_000.0),
        work: line.work.and_then(|work| work.try_into().ok()),
        expected_wait: line.expected_wait(Ticket(line.last.0 + 1)).and_then(|wait| wait.try_into().ok()),
        door: door.into(),
        sentence: line.door.sentence.clone(),
        as_of: Some(runtime.now().to_wire()),
    }
}
