//! Whether rosters can be taken over now: not while registration is paused.
//!
//! A row is taken over as a registration. While registration is paused none begins that finds no free slot or somebody
//! in line, and an import would wait for its end. It could begin past the line, but that would take seats from students
//! who were accepted before. So the import says at once what to do. A closed door lets staff pass.

use matricula_proto::ops::v1::door_service_client::DoorServiceClient;
use matricula_proto::ops::v1::{DoorChange, GetDoorRequest};
use matricula_proto::registration::v1::Door;
use tonic::transport::Channel;

use crate::clients::{explained, persistently};
use crate::commands::import::state::PATIENCE;
use crate::output::moment_or_none;

/// Why rosters can't be taken over now, and what to do; `None` when they can.
pub async fn why_not_now(orchestrator: &Channel) -> anyhow::Result<Option<String>> {
    let client = DoorServiceClient::new(orchestrator.clone());
    let ask = async || client.clone().get_door(GetDoorRequest { limit: 1 }).await;
    let answer = persistently(PATIENCE, |_| (), ask).await.map_err(|status| explained(&status))?;
    Ok(answer.into_inner().changes.first().and_then(paused))
}

/// What is said of the latest change of the door.
pub(super) fn paused(latest: &DoorChange) -> Option<String> {
    (latest.door() == Door::Paused).then(|| {
        let since = moment_or_none(latest.changed_at.as_ref());
        format!(
            "the rosters are not taken over: registration is paused, by {} at {since} ({}), and they would wait until it \
             goes on. Open it (`matricula registration open`), or keep students out while staff pass (`matricula \
             registration close --sentence ...`), and import the same again",
            latest.by, latest.reason
        )
    })
}
