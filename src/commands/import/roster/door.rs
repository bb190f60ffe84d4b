//! Checks whether rosters can be taken over now: not while registration is paused.
//!
//! A row is taken over as a registration. While registration is paused, a registration starts only if a slot is free
//! and no registration waits in line; otherwise an import would wait for the end of the pause. Passing the line would
//! take seats from students who were accepted before. So the import stops at once, and prints what to do. While
//! registration is closed, imports are accepted.

use matricula_proto::ops::v1::door_service_client::DoorServiceClient;
use matricula_proto::ops::v1::{DoorChange, GetDoorRequest};
use matricula_proto::registration::v1::Door;
use tonic::transport::Channel;

use crate::clients::{answered, retried};
use crate::commands::import::state::RETRY_FOR;
use crate::output::moment_or_none;

/// Why rosters can't be taken over now, and what to do; `None` if they can.
pub async fn pause_problem(orchestrator: &Channel) -> anyhow::Result<Option<String>> {
    let client = DoorServiceClient::new(orchestrator.clone());
    let get = async || client.clone().get_door(GetDoorRequest { limit: 1 }).await;
    let answer = answered(retried(RETRY_FOR, |_| (), get)).await?;
    Ok(answer.changes.first().and_then(paused))
}

/// The message for the latest change of the door; `None` unless it paused registration.
pub(super) fn paused(latest: &DoorChange) -> Option<String> {
    (latest.door() == Door::Paused).then(|| {
        let since = moment_or_none(latest.changed_at.as_ref());
        format!(
            "the rosters are not taken over: {} paused registration at {since} ({}), and the rosters would wait until it \
             is opened. Open it (`matricula registration open`), or let only imports in (`matricula registration close \
             --sentence ...`), and import the same bundle again",
            latest.by, latest.reason
        )
    })
}
