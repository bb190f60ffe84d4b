//! Shows the limits, queues and breakers between the replicas and each service, and the services that do not answer.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use matricula_proto::ops::v1::{Destination, ListDestinationsRequest, SetDestinationLimitRequest};
use serde_json::{Value, json};

use super::Client;
use super::lines;
use crate::arguments::Format;
use crate::clients::answered;
use crate::output::{self, moment, text};

/// Prints all destinations.
pub async fn list(mut client: Client, format: Format) -> anyhow::Result<()> {
    let answer = answered(client.list_destinations(ListDestinationsRequest {})).await?;
    let text = || {
        let others = in_trouble(&answer.others_in_trouble, lines::width());
        let others = if others.is_empty() { others } else { format!("\n\nAt other replicas: {others}") };
        format!("{}{others}", shown(&answer.destinations, lines::width()))
    };
    let own = answer.destinations.iter().map(to_json);
    output::show(format, text, || own.chain(answer.others_in_trouble.iter().map(of_other_to_json)).collect())
}

/// Changes a limit, and prints the destination with the new limit.
pub async fn limit(mut client: Client, name: String, in_flight_max: i32, format: Format) -> anyhow::Result<()> {
    let request = SetDestinationLimitRequest { name, in_flight_max };
    let destination = answered(client.set_destination_limit(request)).await?.destination.unwrap_or_default();
    output::show(format, || shown(std::slice::from_ref(&destination), lines::width()), || to_json(&destination))?;
    eprintln!("Effective at this replica until it restarts.");
    Ok(())
}

fn shown(destinations: &[Destination], width: usize) -> String {
    let row = |one: &Destination| {
        let cells = [
            one.name.clone(),
            one.waiting.to_string(),
            one.in_flight.to_string(),
            if one.in_flight_max == 0 { "0 (parked)".to_owned() } else { one.in_flight_max.to_string() },
            one.breaker.clone(),
        ];
        let below = if one.needs_attention {
            Some(format!("needs attention: {}; {}", silence(one), sagas(one)))
        } else if one.failing_since.is_some() {
            Some(silence(one))
        } else {
            text(&one.last_error).map(|error| format!("last error: {error}"))
        };
        (cells, below)
    };
    let rows: Vec<_> = destinations.iter().map(row).collect();
    lines::list(["service", "waiting", "in flight", "at most", "breaker"], &rows, &["at most"], width)
}

/// The services that do not answer, each with the observations of every replica; empty when all services answer.
pub fn in_trouble(destinations: &[Destination], width: usize) -> String {
    let mut services: BTreeMap<&str, Vec<&Destination>> = BTreeMap::new();
    for one in destinations {
        services.entry(&one.name).or_default().push(one);
    }
    if services.is_empty() {
        return String::new();
    }
    let mut text = String::from("services that need attention\n");
    for (name, seen) in services {
        // Writing to a string does not fail.
        let _ = writeln!(text, " {name}");
        for one in seen {
            let _ = writeln!(text, "   {}", silence(one));
            let mut waiting = format!("   {}", sagas(one));
            if !one.oldest_saga_id.is_empty() {
                let _ = write!(waiting, "; the oldest is {}", one.oldest_saga_id);
            }
            let _ = writeln!(text, "{waiting}\n   seen by replica {}, breaker {}", one.instance, one.breaker);
        }
    }
    lines::wrapped(text.trim_end(), 2, width)
}

/// How long a service has not answered, and the last error.
fn silence(one: &Destination) -> String {
    let since = one.failing_since.as_ref();
    let seconds = lines::seconds_since(since).unwrap_or_default();
    let error = if one.last_error.is_empty() { "no call has completed" } else { &one.last_error };
    format!("has not answered for {seconds} s, since {}: {error}", lines::short(since))
}

fn sagas(one: &Destination) -> String {
    let wait = |count: i32| if count == 1 { "saga waits" } else { "sagas wait" };
    let mut text = format!("{} {} for it", one.sagas_waiting, wait(one.sagas_waiting));
    if one.sagas_behind > 0 {
        let _ = write!(text, ", and {} {} for one of those", one.sagas_behind, wait(one.sagas_behind));
    }
    text
}

/// One line about a service that starts or ceases to need attention.
pub fn change(one: &Destination) -> String {
    let Destination { name, instance, .. } = one;
    match one.needs_attention {
        true => format!("service {name}  ATTENTION {}; {}; seen by replica {instance}", silence(one), sagas(one)),
        false => format!("service {name}  no longer needs attention; seen by replica {instance}"),
    }
}

/// A destination for programs.
pub fn to_json(destination: &Destination) -> Value {
    json!({
        "name": destination.name,
        "waiting": destination.waiting,
        "in_flight": destination.in_flight,
        "in_flight_max": destination.in_flight_max,
        "breaker": destination.breaker,
        "last_error": text(&destination.last_error),
        "failing_since": moment(destination.failing_since.as_ref()),
        "next_probe_at": moment(destination.next_probe_at.as_ref()),
        "needs_attention": destination.needs_attention,
        "sagas_waiting": destination.sagas_waiting,
        "sagas_behind": destination.sagas_behind,
        "oldest_saga_id": text(&destination.oldest_saga_id),
        "instance": text(&destination.instance),
    })
}

/// A service that needs attention at another replica; its queue and limit are unknown here.
fn of_other_to_json(destination: &Destination) -> Value {
    let mut json = to_json(destination);
    for unknown in ["waiting", "in_flight", "in_flight_max"] {
        json[unknown] = Value::Null;
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use matricula_kit::time::{self, UnixMs};

    const REPLICA: &str = "0198c5d0-0000-7000-8000-00000000000a";

    fn fees() -> Destination {
        Destination {
            name: "fees".to_owned(),
            waiting: 812,
            breaker: "open".to_owned(),
            last_error: "unavailable: connection refused".to_owned(),
            needs_attention: true,
            sagas_waiting: 249,
            sagas_behind: 6,
            oldest_saga_id: "0198c5d0-0000-7000-8000-000000000001".to_owned(),
            instance: REPLICA.to_owned(),
            failing_since: Some(UnixMs(time::now().0 - 75_500).to_wire()),
            ..Destination::default()
        }
    }

    #[test]
    fn destinations_are_shown() {
        let seats = Destination {
            name: "seats".to_owned(),
            in_flight: 3,
            in_flight_max: 64,
            breaker: "closed".to_owned(),
            ..Destination::default()
        };
        let fees = Destination { failing_since: None, needs_attention: false, ..fees() };
        insta::assert_snapshot!(shown(&[seats, fees], 100), @"
         service  waiting  in flight  at most     breaker
        ─────────────────────────────────────────────────
         seats    0        3          64          closed
         fees     812      0          0 (parked)  open
           last error: unavailable: connection refused
        ");
    }

    #[test]
    fn a_service_that_does_not_answer_is_the_cause_with_its_sagas_counted() {
        for width in [80, 100] {
            let shown = in_trouble(&[fees(), Destination { instance: "other".to_owned(), ..fees() }], width);
            let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.contains("has not answered for 75 s, since"), "{shown}");
            assert!(words.contains("249 sagas wait for it, and 6 sagas wait for one of those"), "{shown}");
            assert_eq!(shown.lines().filter(|line| line.trim() == "fees").count(), 1, "one service, two replicas");
            assert!(shown.contains(REPLICA), "{shown}");
            assert!(shown.lines().all(|line| line.chars().count() <= width), "{shown}");
        }
        assert_eq!(in_trouble(&[], 80), "");
        assert!(change(&fees()).contains("ATTENTION"));
        assert!(change(&Destination { needs_attention: false, ..fees() }).contains("no longer needs attention"));
    }
}
