//! `matricula register`: one registration and its outcome.

use std::process::ExitCode;
use std::time::Duration;

use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use matricula_proto::registration::v1::{Outcome, Registration, SeenVersion, SubmitRegistrationRequest};
use tokio::time::Instant;
use tonic::{Code, Request, Status};

use crate::arguments::{Format, Register};
use crate::clients::{connect, explained, persistently};
use crate::commands::registration;
use crate::config::Config;
use crate::output;

/// How long past the wait an answer may take; the contract's deadline.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);

/// Submits the registration and prints what became of it.
pub async fn run(config: &Config, register: Register, format: Format) -> anyhow::Result<ExitCode> {
    let key = register.key.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let channel = connect(&config.client.orchestrator_url).await?;
    let client = RegistrationServiceClient::new(channel);
    let seen = register.seen.iter().map(|(section, version)| (section.clone(), *version));
    let seen_versions: Vec<SeenVersion> =
        seen.map(|(section_id, version)| SeenVersion { section_id, version }).collect();
    let wait_until = Instant::now() + register.wait;
    let submit = async || {
        let wait = wait_until.saturating_duration_since(Instant::now());
        let mut request = Request::new(SubmitRegistrationRequest {
            idempotency_key: key.clone(),
            student_id: register.student.clone(),
            adds: register.add.clone(),
            drops: register.drop.clone(),
            seen_versions: seen_versions.clone(),
            // The contract and the flag allow at most 30 s.
            wait_ms: wait.as_millis() as i32,
        });
        request.set_timeout(wait + ANSWER_MARGIN);
        client.clone().submit_registration(request).await
    };
    // Nothing is lost and nothing happens twice: every attempt has the same key.
    let answer = persistently(register.wait, told_of_retry, submit).await;
    let registration = match answer {
        Ok(answer) => answer.into_inner().registration.unwrap_or_default(),
        Err(status) => return Err(not_answered(&status, &key)),
    };
    match format {
        Format::Table => output::print(registration::shown(&registration)),
        Format::Json => output::json(&registration::to_json(&registration))?,
    }
    if registration.outcome() == Outcome::Pending {
        let (wait_ms, id) = (register.wait.as_millis(), &registration.registration_id);
        eprintln!(
            "Accepted, and not decided within {wait_ms} ms: it goes on by itself. See `matricula registration show {id}`"
        );
    }
    Ok(exit_code(&registration))
}

/// What is refused or cancelled did not happen; what is pending may yet.
fn exit_code(registration: &Registration) -> ExitCode {
    match registration.outcome() {
        Outcome::Enrolled | Outcome::Pending => ExitCode::SUCCESS,
        Outcome::Refused | Outcome::Cancelled | Outcome::Unspecified => ExitCode::FAILURE,
    }
}

fn told_of_retry(status: &Status) {
    eprintln!("Not now: {:#}; trying again", explained(status));
}

fn not_answered(status: &Status, key: &str) -> anyhow::Error {
    let hint = match status.code() {
        Code::ResourceExhausted => {
            format!("the system is full and accepted nothing; try again later with `--key {key}`")
        }
        code if crate::clients::is_permanent(code) => "the registration was not accepted".to_owned(),
        _ => format!("it is not known whether the registration was accepted; ask again with `--key {key}`"),
    };
    explained(status).context(hint)
}
