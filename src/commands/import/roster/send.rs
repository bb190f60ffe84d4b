//! Carries out a plan of rosters: first the ends, then the adds, because a student has only one section of each part of
//! a course.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use matricula_proto::ops::v1::roster_result::Result as Wire;
use matricula_proto::ops::v1::roster_service_client::RosterServiceClient;
use matricula_proto::ops::v1::{RosterResult, RosterRow, TakeOverRequest};
use matricula_proto::registration::v1::{Outcome as Decision, Registration};
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::Channel;

use super::plan::{Change, RosterPlan};
use crate::clients::{MESSAGE_BYTES_MAX, explained, retried};
use crate::output::Progress;

/// Rows in a call: some seconds of work, so that the progress is visible.
const ROWS_OF_CALL: usize = 250;
/// Calls in flight. An import must not fill the line in which students of a rush wait.
const CALLS_MAX: usize = 4;
/// How long the orchestrator may wait for outcomes before it answers.
const WAIT_MS: i32 = 20_000;
/// How long a failing call is repeated.
const CALL_PATIENCE: Duration = Duration::from_secs(60);
/// How long rows may stay undecided: some minutes more than a registration takes during a rush.
const RETRY_FOR: Duration = Duration::from_secs(300);

/// The outcome of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Rows that are enrollments in force now.
    pub added: usize,
    /// Enrollments that have ended now.
    pub ended: usize,
    /// Refused changes, each with the reasons. The next import tries them again.
    pub refused: Vec<(Change, String)>,
}

/// The results of one call: per change `Ok`, or the reason of the refusal.
type Settled = Vec<(Change, Result<(), String>)>;

/// Carries the plan out. Rows that are not decided in time are an error; a repeated import continues with them.
pub async fn apply(
    orchestrator: &Channel,
    plan: &RosterPlan,
    charge: bool,
    progress: &Progress,
) -> anyhow::Result<Outcome> {
    progress.expect(plan.end.len() + plan.add.len());
    let mut outcome = Outcome::default();
    for (what, changes) in [("rosters: ends", &plan.end), ("rosters", &plan.add)] {
        progress.now(what);
        let calls = changes.chunks(ROWS_OF_CALL).map(|changes| {
            let client = RosterServiceClient::new(orchestrator.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
            settled(changes.to_vec(), RETRY_FOR, async move |rows: Vec<RosterRow>| {
                let request = TakeOverRequest { rows, charge, wait_ms: WAIT_MS };
                let call = async || client.clone().take_over(request.clone()).await;
                Ok(retried(CALL_PATIENCE, |_| (), call).await?.into_inner().results)
            })
        });
        let mut calls = stream::iter(calls).buffer_unordered(CALLS_MAX);
        while let Some(settled) = calls.try_next().await? {
            progress.advance(settled.len());
            outcome.count(settled);
        }
    }
    Ok(outcome)
}

impl Outcome {
    fn count(&mut self, settled: Settled) {
        for (change, result) in settled {
            match result {
                Ok(()) if change.section.is_some() => self.added += 1,
                Ok(()) => self.ended += 1,
                Err(why) => self.refused.push((change, why)),
            }
        }
    }
}

/// Sends changes until each is decided.
pub(super) async fn settled(
    changes: Vec<Change>,
    patience: Duration,
    send: impl AsyncFn(Vec<RosterRow>) -> Result<Vec<RosterResult>, Status>,
) -> anyhow::Result<Settled> {
    let give_up_at = Instant::now() + patience;
    let mut open = changes;
    let mut settled = Vec::with_capacity(open.len());
    loop {
        let results = send(open.iter().map(row).collect()).await.map_err(|status| explained(&status))?;
        anyhow::ensure!(results.len() == open.len(), "{} results for {} rows", results.len(), open.len());
        let (mut undecided, mut pause) = (Vec::new(), Duration::ZERO);
        for (change, result) in open.into_iter().zip(results) {
            match decided(result) {
                Ok(result) => settled.push((change, result)),
                Err(retry_after) => {
                    pause = pause.max(retry_after);
                    undecided.push(change);
                }
            }
        }
        if undecided.is_empty() {
            return Ok(settled);
        }
        if Instant::now() + pause >= give_up_at {
            let first = undecided[0].shown();
            let count = undecided.len();
            anyhow::bail!(
                "{count} rows of rosters are not decided yet, such as {first}; import the same bundle again later"
            );
        }
        open = undecided;
        tokio::time::sleep(pause).await;
    }
}

/// The result of a row, or the delay before it is sent again.
fn decided(result: RosterResult) -> Result<Result<(), String>, Duration> {
    match result.result {
        Some(Wire::Registration(registration)) => match registration.outcome() {
            Decision::Enrolled => Ok(Ok(())),
            // The call itself has already waited for the outcome.
            Decision::Pending => Err(Duration::ZERO),
            Decision::Refused | Decision::Cancelled | Decision::Unspecified => Ok(Err(reasons(&registration))),
        },
        Some(Wire::NotTakenOver(why)) if why.retry_after_ms > 0 => {
            Err(Duration::from_millis(why.retry_after_ms.unsigned_abs()))
        }
        Some(Wire::NotTakenOver(why)) => Ok(Err(why.message)),
        None => Ok(Err("the orchestrator returned no result".to_owned())),
    }
}

fn reasons(registration: &Registration) -> String {
    let reasons = registration.reasons.iter().map(|reason| {
        let name = reason.reason().as_str_name().trim_start_matches("REASON_");
        format!("{name}: {}", reason.message)
    });
    let reasons: Vec<String> = reasons.collect();
    match reasons.as_slice() {
        [] => format!("the outcome of registration {} is unknown to this version", registration.registration_id),
        reasons => reasons.join(" "),
    }
}

fn row(change: &Change) -> RosterRow {
    RosterRow {
        row_id: change.row.clone(),
        student_id: change.student.clone(),
        section_id: change.section.clone().unwrap_or_default(),
        ended_section_id: change.ended.clone().unwrap_or_default(),
    }
}
