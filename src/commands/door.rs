//! `matricula registration open|pause|close|door`: sets and shows the door, with the author of each change.

use std::time::Duration;

use matricula_proto::ops::v1::door_service_client::DoorServiceClient;
use matricula_proto::ops::v1::{DoorChange, GetDoorRequest, SetDoorRequest};
use matricula_proto::registration::v1::Door;
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::arguments::{DoorDecision, Format};
use crate::clients::{answered, print_retry, retried};
use crate::output::{self, enum_name, moment, moment_or_none, or_none, text};

/// How long to wait for an unavailable orchestrator.
const RETRY_FOR: Duration = Duration::from_secs(30);

/// Sets the door for all replicas, and prints the change.
pub async fn set(channel: Channel, door: Door, decision: DoorDecision, format: Format) -> anyhow::Result<()> {
    let DoorDecision { sentence, decision } = decision;
    let (by, reason) = (decision.by(), decision.reason);
    let request = SetDoorRequest { door: door.into(), sentence: sentence.unwrap_or_default(), by, reason };
    let client = DoorServiceClient::new(channel);
    // A repeated call is recorded again and has no other effect.
    let call = retried(RETRY_FOR, print_retry, async || client.clone().set_door(request.clone()).await);
    let change = answered(call).await?.change.unwrap_or_default();
    output::show(format, || shown(std::slice::from_ref(&change)), || to_json(&change))?;
    let effect = match door {
        Door::Open => "registrations are accepted and processed",
        Door::Paused => "registrations are accepted, but wait in line until `matricula registration open`",
        Door::Closed => "new registrations are rejected; those in line are still processed",
        Door::Unspecified => "",
    };
    eprintln!("Effective at all replicas: {effect}.");
    Ok(())
}

/// Prints the door and its latest changes.
pub async fn show(channel: Channel, limit: i32, format: Format) -> anyhow::Result<()> {
    let changes = answered(DoorServiceClient::new(channel).get_door(GetDoorRequest { limit })).await?.changes;
    let document = || {
        json!({
            "door": changes.first().map_or("open".to_owned(), |change| door_name(change.door())),
            "sentence": changes.first().and_then(|change| text(&change.sentence)),
            "changes": changes.iter().map(to_json).collect::<Vec<_>>(),
        })
    };
    let table = || match changes.as_slice() {
        [] => "Registration is open; it has never been changed.".to_owned(),
        changes => shown(changes),
    };
    output::show(format, table, document)
}

/// The newest change is the first one, and it is in force.
fn shown(changes: &[DoorChange]) -> String {
    let rows = changes.iter().map(|change| {
        [
            door_name(change.door()),
            moment_or_none(change.changed_at.as_ref()),
            change.by.clone(),
            change.reason.clone(),
            or_none(&change.sentence),
        ]
    });
    output::table(["door", "since", "by", "reason", "students read"], rows, &["students read", "reason"])
}

fn door_name(door: Door) -> String {
    enum_name(door.as_str_name(), "DOOR_").to_lowercase()
}

fn to_json(change: &DoorChange) -> Value {
    json!({
        "door": door_name(change.door()),
        "sentence": text(&change.sentence),
        "by": change.by,
        "reason": change.reason,
        "changed_at": moment(change.changed_at.as_ref()),
    })
}
