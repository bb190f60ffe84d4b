//! What stands between the asked replica and each service.

use matricula_proto::ops::v1::{Destination, ListDestinationsRequest, SetDestinationLimitRequest};
use serde_json::{Value, json};

use super::Client;
use crate::arguments::Format;
use crate::clients::explained;
use crate::output::{self, NONE};

/// Prints all of them.
pub async fn list(mut client: Client, format: Format) -> anyhow::Result<()> {
    let answer = client.list_destinations(ListDestinationsRequest {}).await.map_err(|status| explained(&status))?;
    let destinations = answer.into_inner().destinations;
    match format {
        Format::Table => output::print(shown(&destinations)),
        Format::Json => output::json(&destinations.iter().map(to_json).collect())?,
    }
    Ok(())
}

/// Changes a limit, and prints the destination with it.
pub async fn limit(mut client: Client, name: String, in_flight_max: i32, format: Format) -> anyhow::Result<()> {
    let request = SetDestinationLimitRequest { name, in_flight_max };
    let answer = client.set_destination_limit(request).await.map_err(|status| explained(&status))?;
    let destination = answer.into_inner().destination.unwrap_or_default();
    match format {
        Format::Table => output::print(shown(&[destination])),
        Format::Json => output::json(&to_json(&destination))?,
    }
    eprintln!("In force at this replica until it restarts.");
    Ok(())
}

fn shown(destinations: &[Destination]) -> String {
    let mut table = output::table(["service", "waiting", "in flight", "at most", "breaker", "last error"]);
    for one in destinations {
        table.add_row([
            one.name.clone(),
            one.waiting.to_string(),
            one.in_flight.to_string(),
            if one.in_flight_max == 0 { "0 (parked)".to_owned() } else { one.in_flight_max.to_string() },
            one.breaker.clone(),
            if one.last_error.is_empty() { NONE.to_owned() } else { one.last_error.clone() },
        ]);
    }
    table.trim_fmt()
}

fn to_json(destination: &Destination) -> Value {
    json!({
        "name": destination.name,
        "waiting": destination.waiting,
        "in_flight": destination.in_flight,
        "in_flight_max": destination.in_flight_max,
        "breaker": destination.breaker,
        "last_error": (!destination.last_error.is_empty()).then_some(&destination.last_error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_shown() {
        let seats = Destination {
            name: "seats".to_owned(),
            in_flight: 3,
            in_flight_max: 64,
            breaker: "closed".to_owned(),
            ..Destination::default()
        };
        let fees = Destination {
            name: "fees".to_owned(),
            waiting: 812,
            breaker: "open".to_owned(),
            last_error: "unavailable: connection refused".to_owned(),
            ..Destination::default()
        };
        insta::assert_snapshot!(shown(&[seats, fees]), @"
         service   waiting   in flight   at most      breaker   last error
        ────────────────────────────────────────────────────────────────────────────────────────
         seats     0         3           64           closed    -
         fees      812       0           0 (parked)   open      unavailable: connection refused
        ");
    }
}
