//! `matricula saga`: what sagas do, why they are stuck, and the decisions of operators.
//!
//! | module | job |
//! |---|---|
//! | `tree` | shows a saga as a tree |
//! | `explain` | explains why a saga is stuck, and what can be done |
//! | `operator_command` | sends an operator's decision |
//! | `watch` | prints sagas as they change |
//! | `destinations` | shows the limits and breakers of services, and the services that do not answer |
//! | `lines` | formats text for the width of the terminal |

mod destinations;
mod explain;
mod lines;
mod operator_command;
mod tree;
mod watch;

use std::process::ExitCode;

use matricula_proto::ops::v1::saga_service_client::SagaServiceClient;
use matricula_proto::ops::v1::{
    Destination, GetSagaRequest, GetSagaResponse, Leg, LegStatus, ListSagasRequest, SagaPhase, SagaSummary,
};
use serde_json::{Value, json};

use crate::arguments::{Format, Saga};
use crate::clients::{MESSAGE_BYTES_MAX, answered, connect, read_pages, whole_id};
use crate::commands::registration;
use crate::config::Config;
use crate::output::{self, NONE, enum_name, moment, text};

use self::operator_command::{Action, OperatorCommand};

/// Runs a subcommand of `saga`.
pub async fn run(config: &Config, command: Saga, format: Format) -> anyhow::Result<ExitCode> {
    let channel = connect(&config.client.orchestrator_url).await?;
    let client = SagaServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let whole = async |id: String| whole_id(&channel, &id).await;
    let decide = async |id, action, decision, is_confirmed| {
        let command = OperatorCommand { id: whole(id).await?, action, decision, is_confirmed };
        operator_command::run(client.clone(), command, format).await
    };
    match command {
        Saga::List { student, needs_attention, unfinished, limit } => {
            let student_id = student.unwrap_or_default();
            let filter = ListSagasRequest { student_id, needs_attention, unfinished, ..ListSagasRequest::default() };
            list(client, filter, limit as usize, format).await?;
        }
        Saga::Show { id } => show(client, whole(id).await?, format).await?,
        Saga::Explain { id } => explain::run(client, whole(id).await?, format).await?,
        Saga::Watch { needs_attention } => watch::run(client, needs_attention, format).await?,
        Saga::Destinations => destinations::list(client, format).await?,
        Saga::Limit { name, in_flight_max } => destinations::limit(client, name, in_flight_max, format).await?,
        Saga::Retry { id, step, decision } => return decide(id, Action::Retry { step }, decision, true).await,
        Saga::Skip { id, step, yes, decision } => return decide(id, Action::Skip { step }, decision, yes).await,
        Saga::Resolve { id, step, done, refused: _, yes, decision } => {
            return decide(id, Action::Resolve { step, done }, decision, yes).await;
        }
        Saga::Abandon { id, yes, decision } => return decide(id, Action::Abandon, decision, yes).await,
        Saga::Cancel { id, decision } => return decide(id, Action::Cancel, decision, true).await,
    }
    Ok(ExitCode::SUCCESS)
}

type Client = SagaServiceClient<tonic::transport::Channel>;

async fn list(mut client: Client, filter: ListSagasRequest, limit: usize, format: Format) -> anyhow::Result<()> {
    let mut in_trouble: Vec<Destination> = Vec::new();
    let page = async |page_size, page_token| {
        let request = ListSagasRequest { page_size, page_token, ..filter.clone() };
        let page = answered(client.list_sagas(request)).await?;
        in_trouble = page.destinations_in_trouble;
        Ok((page.sagas, page.next_page_token))
    };
    let (sagas, has_more) = read_pages(limit, page).await?;
    let list = Value::Array(sagas.iter().map(summary_to_json).collect());
    match format {
        Format::Table => {
            // First the services that may be the cause of the rows below.
            let causes = destinations::in_trouble(&in_trouble, lines::width());
            let gap = if causes.is_empty() { "" } else { "\n\n" };
            output::print(format_args!("{causes}{gap}{}", sagas_shown(&sagas)));
        }
        Format::Json if filter.needs_attention => {
            let causes: Value = in_trouble.iter().map(destinations::to_json).collect();
            output::json(&json!({ "destinations_in_trouble": causes, "sagas": list }))?;
        }
        Format::Json => output::json(&list)?,
    }
    if has_more {
        eprintln!("More sagas follow; raise --limit to see them.");
    }
    Ok(())
}

async fn show(mut client: Client, saga_id: String, format: Format) -> anyhow::Result<()> {
    print(&answered(client.get_saga(GetSagaRequest { saga_id })).await?, format)
}

/// Prints a saga in full.
pub fn print(saga: &GetSagaResponse, format: Format) -> anyhow::Result<()> {
    output::show(format, || tree::shown(saga, lines::width()), || saga_to_json(saga))
}

/// A list of sagas for people.
pub fn sagas_shown(sagas: &[SagaSummary]) -> String {
    sagas_fitted(sagas, lines::width())
}

fn sagas_fitted(sagas: &[SagaSummary], width: usize) -> String {
    let columns = ["saga", "student", "phase", "outcome", "attention", "created", "recorded"];
    let row = |saga: &SagaSummary| {
        let cells = [
            saga.saga_id.clone(),
            saga.student_id.clone(),
            phase_name(saga.phase),
            registration::outcome_name(saga.outcome).to_owned(),
            if saga.needs_attention { "needed" } else { NONE }.to_owned(),
            lines::short(saga.created_at.as_ref()),
            lines::short(saga.updated_at.as_ref()),
        ];
        (cells, waits_for(saga))
    };
    let rows: Vec<_> = sagas.iter().map(row).collect();
    lines::list(columns, &rows, &["recorded", "created", "outcome"], width)
}

/// What a saga waits for; `None` when it is not blocked.
fn waits_for(saga: &SagaSummary) -> Option<String> {
    let (other, service) = (saga.waits_for_saga_id.as_str(), saga.waits_for_service.as_str());
    match (other.is_empty(), service.is_empty()) {
        (true, true) => None,
        (true, false) => Some(format!("waits for {service}")),
        (false, true) => Some(format!("waits for {other} of the same student")),
        (false, false) => Some(format!("waits for {other} of the same student, which waits for {service}")),
    }
}

fn phase_name(phase: i32) -> String {
    enum_name(SagaPhase::try_from(phase).unwrap_or_default().as_str_name(), "SAGA_PHASE_").to_lowercase()
}

fn direction_status_name(status: i32) -> String {
    enum_name(LegStatus::try_from(status).unwrap_or_default().as_str_name(), "LEG_STATUS_").to_lowercase()
}

/// A saga of a list for programs.
pub fn summary_to_json(saga: &SagaSummary) -> Value {
    json!({
        "saga_id": saga.saga_id,
        "student_id": saga.student_id,
        "phase": phase_name(saga.phase),
        "outcome": registration::outcome_name(saga.outcome),
        "needs_attention": saga.needs_attention,
        "created_at": moment(saga.created_at.as_ref()),
        "updated_at": moment(saga.updated_at.as_ref()),
        "owner": text(&saga.owner),
        "definition": saga.definition,
        "definition_version": saga.definition_version,
        "waits_for_saga_id": text(&saga.waits_for_saga_id),
        "waits_for_service": text(&saga.waits_for_service),
    })
}

fn saga_to_json(saga: &GetSagaResponse) -> Value {
    let steps = saga.steps.iter().map(|step| {
        json!({
            "name": step.name,
            "stage": step.stage,
            "service": step.service,
            "kind": step.kind,
            "applies": step.applies,
            "action": step.action.as_ref().map(direction_to_json),
            "undo_name": text(&step.undo_name),
            "undo": step.undo.as_ref().map(direction_to_json),
        })
    });
    let events = saga.events.iter().map(|event| {
        json!({
            "sequence": event.sequence,
            "at": moment(event.at.as_ref()),
            "name": event.name,
            "description": event.description,
            "step": text(&event.step),
            "undo": event.undo,
            "attempt": event.attempt,
            "duration_ms": event.duration_ms,
        })
    });
    json!({
        "summary": saga.summary.as_ref().map(summary_to_json),
        "registration": saga.registration.as_ref().map(registration::to_json),
        "turned_because": text(&saga.turned_because),
        "unreadable_because": text(&saga.unreadable_because),
        "archived_in": text(&saga.archived_in),
        "roster_row_id": text(&saga.roster_row_id),
        "traceparent": text(&saga.traceparent),
        "steps": steps.collect::<Vec<_>>(),
        "events": events.collect::<Vec<_>>(),
    })
}

fn direction_to_json(leg: &Leg) -> Value {
    json!({
        "status": direction_status_name(leg.status),
        "attempts": leg.attempts,
        "last_error": text(&leg.last_error),
        "next_attempt_at": moment(leg.next_attempt_at.as_ref()),
        "needs_attention": leg.needs_attention,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0198c5d0-0000-7000-8000-000000000001";
    const OTHER: &str = "0198c5d0-0000-7000-8000-000000000002";

    fn saga() -> SagaSummary {
        SagaSummary {
            saga_id: ID.to_owned(),
            student_id: "S000001".to_owned(),
            phase: SagaPhase::Compensating.into(),
            needs_attention: true,
            waits_for_saga_id: OTHER.to_owned(),
            waits_for_service: "fees".to_owned(),
            ..SagaSummary::default()
        }
    }

    #[test]
    fn a_saga_that_waits_for_another_shows_that_saga_and_its_service() {
        insta::assert_snapshot!(sagas_fitted(&[saga()], 100), @"
         saga                                  student  phase         outcome  attention  created  recorded
        ───────────────────────────────────────────────────────────────────────────────────────────────────
         0198c5d0-0000-7000-8000-000000000001  S000001  compensating  UNKNOWN  needed     -        -
           waits for 0198c5d0-0000-7000-8000-000000000002 of the same student, which waits for fees
        ");
        let direct = SagaSummary { waits_for_saga_id: String::new(), ..saga() };
        assert_eq!(waits_for(&direct).as_deref(), Some("waits for fees"));
        assert_eq!(waits_for(&SagaSummary::default()), None);
    }

    #[test]
    fn a_list_fits_80_and_100_columns_and_its_ids_stay_whole() {
        for (width, dropped) in [(100, ""), (80, "recorded")] {
            let shown = sagas_fitted(&[saga()], width);
            assert!(shown.lines().all(|line| line.chars().count() <= width), "{shown}");
            assert!(shown.contains(ID) && shown.contains(OTHER), "{shown}");
            assert!(dropped.is_empty() || !shown.contains(dropped), "{shown}");
        }
    }
}
