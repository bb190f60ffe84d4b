//! Prints sagas as they change, one line each, until interrupted.

use matricula_kit::time;
use matricula_proto::ops::v1::{SagaSummary, WatchSagasRequest, WatchSagasResponse};
use serde_json::json;

use super::lines;
use super::{Client, destinations, phase_name, summary_to_json};
use crate::arguments::Format;
use crate::clients;
use crate::commands::registration;
use crate::output;

/// The indentation of continuation lines: the width of the time.
const HANG: usize = 9;

/// Prints changes until interrupted.
pub async fn run(client: Client, needs_attention: bool, format: Format) -> anyhow::Result<()> {
    let open = async || client.clone().watch_sagas(WatchSagasRequest { needs_attention }).await;
    clients::watch(open, |message| print(message, format)).await
}

/// Prints one document per line, because the stream has no end.
fn print(message: WatchSagasResponse, format: Format) {
    match (message.destination, format) {
        (Some(one), Format::Table) => {
            let line = format!("{} {}", lines::short(Some(&time::now().to_wire())), destinations::change(&one));
            output::print(lines::wrapped(&line, HANG, lines::width()));
        }
        (Some(one), Format::Json) => output::print(json!({ "destination": destinations::to_json(&one) })),
        (None, Format::Table) => output::print(shown(&message.summary.unwrap_or_default(), lines::width())),
        (None, Format::Json) => output::print(summary_to_json(&message.summary.unwrap_or_default())),
    }
}

/// One line, with the service that the saga waits for. If the saga waits for another saga and the line is too narrow,
/// that part goes on its own line.
fn shown(saga: &SagaSummary, width: usize) -> String {
    let (other, service) = (&saga.waits_for_saga_id, &saga.waits_for_service);
    let attention = if saga.needs_attention { " ATTENTION" } else { "" };
    let line = format!(
        "{} {} {:<8} {:<12} {}{attention} {}",
        lines::short(saga.updated_at.as_ref()),
        saga.saga_id,
        saga.student_id,
        phase_name(saga.phase),
        registration::outcome_name(saga.outcome),
        if other.is_empty() { service } else { "" },
    );
    let then = match (other.is_empty(), service.is_empty()) {
        (true, _) => return lines::wrapped(line.trim_end(), HANG, width),
        (false, true) => String::new(),
        (false, false) => format!(", which waits for {service}"),
    };
    let (line, waits) = (line.trim_end(), format!("waits for {other}{then}"));
    if line.chars().count() + 1 + waits.chars().count() <= width {
        return format!("{line} {waits}");
    }
    let waits = format!("{}{waits}", " ".repeat(HANG));
    format!("{}\n{}", lines::wrapped(line, HANG, width), lines::wrapped(&waits, 2, width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use matricula_kit::time::UnixMs;
    use matricula_proto::ops::v1::SagaPhase;
    use matricula_proto::registration::v1::Outcome;

    #[test]
    fn a_change_is_a_line() {
        let saga = SagaSummary {
            saga_id: "0198c5d0-0000-7000-8000-000000000001".to_owned(),
            student_id: "S000001".to_owned(),
            phase: SagaPhase::Abandoned.into(),
            outcome: Outcome::Enrolled.into(),
            updated_at: Some(UnixMs(1_787_000_000_000).to_wire()),
            ..SagaSummary::default()
        };
        let stuck = SagaSummary {
            phase: SagaPhase::Completing.into(),
            needs_attention: true,
            owner: "i-7".to_owned(),
            ..saga.clone()
        };
        let stuck = SagaSummary { waits_for_service: "notifications".to_owned(), ..stuck };
        let other = "0198c5d0-0000-7000-8000-000000000002".to_owned();
        let behind = SagaSummary { waits_for_saga_id: other, waits_for_service: "fees".to_owned(), ..stuck.clone() };
        let all = [&stuck, &saga, &behind].map(|saga| shown(saga, 100)).join("\n");
        assert!(all.lines().all(|line| line.chars().count() <= 100), "{all}");
        insta::assert_snapshot!(all, @"
        08-17 20:53 0198c5d0-0000-7000-8000-000000000001 S000001  completing   ENROLLED ATTENTION
                 notifications
        08-17 20:53 0198c5d0-0000-7000-8000-000000000001 S000001  abandoned    ENROLLED
        08-17 20:53 0198c5d0-0000-7000-8000-000000000001 S000001  completing   ENROLLED ATTENTION
                 waits for 0198c5d0-0000-7000-8000-000000000002, which waits for fees
        ");
    }
}
