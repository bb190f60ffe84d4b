//! `DoorService`: a registrar opens, pauses or closes registration, for all instances at once.
//!
//! Promises: every change is recorded with its author and reason, and holds when it is answered. A request that is out
//! of its bounds is rejected with the name of its field.

use std::sync::Arc;

use matricula_kit::rpc::FieldError;
use matricula_kit::status;
use matricula_proto::ops::v1 as ops;
use matricula_proto::ops::v1::door_service_server::DoorService;
use matricula_proto::registration::v1 as registration;
use matricula_runtime::{Door, DoorState};
use tonic::{Code, Request, Response, Status};

use super::RETRY_UNAVAILABLE;
use super::commands::{bounded, by_of, reason_of};
use crate::{Orchestrator, wire};

/// Longest sentence for students.
const SENTENCE_BYTES_MAX: usize = 500;
/// Changes in an answer, when the request names no limit.
const CHANGES_DEFAULT: i32 = 20;
/// Most changes in an answer.
const CHANGES_MAX: i32 = 1_000;

pub(crate) struct DoorGrpc {
    runtime: Arc<Orchestrator>,
}

type Answer<T> = Result<Response<T>, Status>;

impl DoorGrpc {
    pub(crate) fn new(runtime: Arc<Orchestrator>) -> Self {
        Self { runtime }
    }
}

#[tonic::async_trait]
impl DoorService for DoorGrpc {
    async fn set_door(&self, request: Request<ops::SetDoorRequest>) -> Answer<ops::SetDoorResponse> {
        let ops::SetDoorRequest { door, sentence, by, reason } = request.into_inner();
        let door = door_of(door, sentence)?;
        let (by, reason) = (by_of(by)?, reason_of(reason)?);
        self.runtime.set_door(&door, &by, &reason).await.map_err(|error| {
            tracing::warn!(%error, "the door could not be changed");
            let message = "it is not known whether the door was changed; send the same again";
            status::retry(Code::Unavailable, "DOOR_NOT_SET", message, RETRY_UNAVAILABLE)
        })?;
        tracing::info!(door = ?door.state, by, reason, "a registrar has changed the door");
        // Another change may have come after it. That change holds, and is the answer.
        let change = self.runtime.store().door_changes(1).await?.pop();
        Ok(Response::new(ops::SetDoorResponse { change: change.map(wire::door_change) }))
    }

    async fn get_door(&self, request: Request<ops::GetDoorRequest>) -> Answer<ops::GetDoorResponse> {
        let limit = limit_of(request.into_inner().limit)?;
        let changes = self.runtime.store().door_changes(i64::from(limit)).await?;
        Ok(Response::new(ops::GetDoorResponse { changes: changes.into_iter().map(wire::door_change).collect() }))
    }
}

fn door_of(door: i32, sentence: String) -> Result<Door, FieldError> {
    let state = match registration::Door::try_from(door) {
        Ok(registration::Door::Open) => DoorState::Open,
        Ok(registration::Door::Paused) => DoorState::Paused,
        Ok(registration::Door::Closed) => DoorState::Closed,
        Ok(registration::Door::Unspecified) | Err(_) => {
            return Err(FieldError::new("door", format!("must be open, paused or closed, got {door}")));
        }
    };
    let is_allowed = |char: char| !char.is_control();
    let sentence = bounded("sentence", sentence, 0..=SENTENCE_BYTES_MAX, "without control characters", is_allowed)?;
    if state == DoorState::Closed && sentence.trim().is_empty() {
        return Err(FieldError::new("sentence", "is required to close: it is the only text that students read"));
    }
    Ok(Door { state, sentence })
}

fn limit_of(limit: i32) -> Result<i32, FieldError> {
    match limit {
        0 => Ok(CHANGES_DEFAULT),
        1..=CHANGES_MAX => Ok(limit),
        _ => Err(FieldError::new("limit", format!("must be 0 to {CHANGES_MAX}, got {limit}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(door: registration::Door, sentence: &str, field: Option<&str>) {
        let checked = door_of(door.into(), sentence.to_owned());
        assert_eq!(checked.err().map(|problem| problem.field).as_deref(), field, "{door:?} {sentence:?}");
    }

    #[test]
    fn a_door_is_closed_with_a_sentence() {
        use registration::Door::{Closed, Open, Paused, Unspecified};
        check(Open, "", None);
        check(Paused, "", None);
        check(Paused, &"s".repeat(500), None);
        check(Closed, "Registration opens again on Monday.", None);
        check(Closed, " ", Some("sentence"));
        check(Open, &"s".repeat(501), Some("sentence"));
        check(Open, "two\nlines", Some("sentence"));
        check(Unspecified, "", Some("door"));
        assert!(door_of(9, String::new()).is_err());
    }

    #[test]
    fn the_latest_changes_are_shown() {
        for (asked, taken) in [(0, Some(20)), (1, Some(1)), (1_000, Some(1_000)), (1_001, None), (-1, None)] {
            assert_eq!(limit_of(asked).ok(), taken);
        }
    }
}
