//! Sagas as they change, a line each, until interrupted.

use matricula_proto::ops::v1::{SagaSummary, WatchSagasRequest};
use tonic::Status;

use super::{Client, phase_name, summary_to_json};
use crate::arguments::Format;
use crate::clients::{Pauses, explained, is_permanent};
use crate::commands::registration;
use crate::output::{self, NONE, moment_or_none};

/// Prints until it is interrupted.
pub async fn run(client: Client, needs_attention: bool, format: Format) -> anyhow::Result<()> {
    tokio::select! {
        problem = watch_forever(client, needs_attention, format) => Err(problem),
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}

/// Connects again when the connection is lost; returns only what no retry can mend.
async fn watch_forever(mut client: Client, needs_attention: bool, format: Format) -> anyhow::Error {
    let mut pauses = Pauses::new();
    loop {
        let ended = follow(&mut client, needs_attention, format, &mut pauses).await;
        if is_permanent(ended.code()) {
            return explained(&ended);
        }
        let pause = pauses.after(&ended);
        eprintln!("Lost: {:#}; what is above may be out of date. Again in {} ms", explained(&ended), pause.as_millis());
        tokio::time::sleep(pause).await;
    }
}

async fn follow(client: &mut Client, needs_attention: bool, format: Format, pauses: &mut Pauses) -> Status {
    let mut stream = match client.watch_sagas(WatchSagasRequest { needs_attention }).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => return status,
    };
    loop {
        match stream.message().await {
            Ok(Some(message)) => {
                *pauses = Pauses::new();
                let saga = message.summary.unwrap_or_default();
                match format {
                    Format::Table => output::print(shown(&saga)),
                    // One document a line: the stream has no end.
                    Format::Json => output::print(summary_to_json(&saga)),
                }
            }
            Ok(None) => return Status::unavailable("the stream ended"),
            Err(status) => return status,
        }
    }
}

fn shown(saga: &SagaSummary) -> String {
    format!(
        "{}  {}  {:<16} {:<12} {:<9} {:<9} {}",
        moment_or_none(saga.updated_at.as_ref()),
        saga.saga_id,
        saga.student_id,
        phase_name(saga.phase),
        registration::outcome_name(saga.outcome),
        if saga.needs_attention { "ATTENTION" } else { NONE },
        if saga.owner.is_empty() { NONE } else { &saga.owner },
    )
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
        insta::assert_snapshot!(format!("{}\n{}", shown(&stuck), shown(&saga)), @"
        2026-08-17T20:53:20.000Z  0198c5d0-0000-7000-8000-000000000001  S000001          completing   ENROLLED  ATTENTION i-7
        2026-08-17T20:53:20.000Z  0198c5d0-0000-7000-8000-000000000001  S000001          abandoned    ENROLLED  -         -
        ");
    }
}
