//! `matricula register`: one registration and its outcome.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use matricula_proto::registration::v1::{
    Outcome, Registration, SeenVersion, SubmitRegistrationRequest, WatchLineRequest, WatchRegistrationRequest,
};
use tokio::time::Instant;
use tonic::{Code, Request, Status};

use crate::arguments::{Format, Register};
use crate::clients::{ANSWER_MARGIN, connect, explained, print_retry, retried};
use crate::commands::registration;
use crate::config::Config;
use crate::output::{self, Progress};

/// On a terminal, the waiting line is shown if there is no outcome after this time.
const LINE_AFTER: Duration = Duration::from_millis(500);

type Client = RegistrationServiceClient<tonic::transport::Channel>;

/// Submits the registration and prints its outcome.
pub async fn run(config: &Config, register: Register, format: Format) -> anyhow::Result<ExitCode> {
    let key = register.key.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let channel = connect(&config.client.orchestrator_url).await?;
    let client = RegistrationServiceClient::new(channel);
    let seen =
        |(section_id, version): &(String, i64)| SeenVersion { section_id: section_id.clone(), version: *version };
    let seen_versions: Vec<SeenVersion> = register.seen.iter().map(seen).collect();
    let wait_until = Instant::now() + register.wait;
    let left = || wait_until.saturating_duration_since(Instant::now());
    let submit = async |wait: Duration| {
        let mut request = Request::new(SubmitRegistrationRequest {
            idempotency_key: key.clone(),
            student_id: register.student.clone(),
            adds: register.add.clone(),
            drops: register.drop.clone(),
            seen_versions: seen_versions.clone(),
            // The API and the flag limit the wait to 30 s, so it fits.
            wait_ms: wait.as_millis() as i32,
        });
        request.set_timeout(wait + ANSWER_MARGIN);
        let answer = client.clone().submit_registration(request).await?;
        Ok::<_, Status>(answer.into_inner().registration.unwrap_or_default())
    };
    // Every attempt has the same key, so a retry neither loses nor repeats a registration.
    let shows_line = std::io::stderr().is_terminal();
    let first_wait = if shows_line { LINE_AFTER } else { register.wait };
    let first = retried(register.wait, print_retry, async || submit(left().min(first_wait)).await).await;
    let mut registration = first.map_err(|status| not_answered(&status, &key))?;
    if shows_line && registration.outcome() == Outcome::Pending {
        watch_line(client.clone(), &registration, wait_until).await;
        let last = retried(left(), print_retry, async || submit(left()).await).await;
        registration = last.map_err(|status| not_answered(&status, &key))?;
    }
    output::show(format, || registration::shown(&registration), || registration::to_json(&registration))?;
    if registration.outcome() == Outcome::Pending {
        let (wait_ms, id) = (register.wait.as_millis(), &registration.registration_id);
        eprintln!(
            "Accepted, but not decided within {wait_ms} ms. Processing continues; see `matricula registration show {id}`"
        );
    }
    Ok(exit_code(&registration))
}

/// Shows how the line moves until there is an outcome or the wait is over. Errors end the display only: the caller
/// submits the same registration again and gets the answer.
async fn watch_line(mut client: Client, registration: &Registration, until: Instant) {
    let progress = Progress::line_on_terminal();
    let watching = async {
        let request = WatchRegistrationRequest { registration_id: registration.registration_id.clone() };
        let mut changes = client.watch_registration(request).await?.into_inner();
        let mut line = client.watch_line(WatchLineRequest {}).await?.into_inner();
        let mut now = registration.clone();
        while now.outcome() == Outcome::Pending {
            let place = registration::in_line(&now).map(|place| format!("waits in line: {place}"));
            progress.now(place.unwrap_or_else(|| "accepted, not yet decided".to_owned()));
            tokio::select! {
                change = changes.message() => match change?.and_then(|change| change.registration) {
                    Some(change) => now = change,
                    None => break,
                },
                moved = line.message(), if now.place_in_line.is_some() => match moved? {
                    Some(moved) => registration::move_in_line(&mut now, &moved),
                    None => break,
                },
            }
        }
        Ok::<_, Status>(())
    };
    let _ = tokio::time::timeout_at(until, watching).await;
}

/// A refused or cancelled registration is a failure; a pending one may still succeed.
fn exit_code(registration: &Registration) -> ExitCode {
    match registration.outcome() {
        Outcome::Enrolled | Outcome::Pending => ExitCode::SUCCESS,
        Outcome::Refused | Outcome::Cancelled | Outcome::Unspecified => ExitCode::FAILURE,
    }
}

fn not_answered(status: &Status, key: &str) -> anyhow::Error {
    let hint = match status.code() {
        Code::ResourceExhausted => {
            format!("nothing was accepted; try again later with `--key {key}`")
        }
        code if crate::clients::is_permanent(code) => "the registration was not accepted".to_owned(),
        _ => format!("it is unknown whether the registration was accepted; repeat the command with `--key {key}`"),
    };
    explained(status).context(hint)
}
