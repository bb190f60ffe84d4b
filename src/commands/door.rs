//! `matricula registration open|pause|close|door`: sets and shows the door, with the author of each change.

use std::time::Duration;

use matricula_proto::ops::v1::door_service_client::DoorServiceClient;
use matricula_proto::ops::v1::{DoorChange, GetDoorRequest, SetDoorRequest};
use matricula_proto::registration::v1::Door;
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::arguments::{DoorDecision, Format};
use crate::clients::{explained, retried};
use crate::output::{self, NONE, moment, moment_or_none};

/// How long to wait for an unavailable orchestrator.
const RETRY_FOR: Duration = Duration::from_secs(30);

/// Sets the door for all replicas, and prints the change.
pub async fn set(channel: Channel, door: Door, decision: DoorDecision, format: Format) -> anyhow::Result<()> {
    let DoorDecision { sentence, decision } = decision;
    let (by, reason) = (decision.by(), decision.reason);
    let request = SetDoorRequest { door: door.into(), sentence: sentence.unwrap_or_default(), by, reason };
    let client = DoorServiceClient::new(channel);
    let failed = |status: &tonic::Status| eprintln!("Not yet: {:#}; retrying", explained(status));
    // A repeated call is recorded again and has no other effect.
    let answer = retried(RETRY_FOR, failed, async || client.clone().set_door(request.clone()).await).await;
    let change = answer.map_err(|status| explained(&status))?.into_inner().change.unwrap_or_default();
    match format {
        Format::Table => output::print(shown(std::slice::from_ref(&change))),
        Format::Json => output::json(&to_json(&change))?,
    }
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
    let answer = DoorServiceClient::new(channel).get_door(GetDoorRequest { limit }).await;
    let changes = answer.map_err(|status| explained(&status))?.into_inner().changes;
    match format {
        Format::Table if changes.is_empty() => output::print("Registration is open; it has never been changed."),
        Format::Table => output::print(shown(&changes)),
        Format::Json => output::json(&json!({
            "door": changes.first().map_or("open", |change| door_name(change.door())),
            "sentence": changes.first().map(|change| &change.sentence).filter(|sentence| !sentence.is_empty()),
            "changes": changes.iter().map(to_json).collect::<Vec<_>>(),
        }))?,
    }
    Ok(())
}

/// The newest change is the first one, and it is in force.
fn shown(changes: &[DoorChange]) -> String {
    let mut table = output::table(["door", "since", "by", "reason", "students read"]);
    for change in changes {
        let sentence = if change.sentence.is_empty() { NONE.to_owned() } else { change.sentence.clone() };
        table.add_row([
            door_name(change.door()).to_owned(),
            moment_or_none(change.changed_at.as_ref()),
            change.by.clone(),
            change.reason.clone(),
            sentence,
        ]);
    }
    table.may_drop(["students read", "reason"]);
    table.trim_fmt()
}

fn door_name(door: Door) -> &'static str {
    match door {
        Door::Open => "open",
        Door::Paused => "paused",
        Door::Closed => "closed",
        Door::Unspecified => "unknown",
    }
}

fn to_json(change: &DoorChange) -> Value {
    json!({
        "door": door_name(change.door()),
        "sentence": (!change.sentence.is_empty()).then_some(&change.sentence),
        "by": change.by,
        "reason": change.reason,
        "changed_at": moment(change.changed_at.as_ref()),
    })
}
