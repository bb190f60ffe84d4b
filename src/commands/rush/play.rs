//! Sends each click at its time, independently of earlier clicks, and collects the results.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use matricula_campus::{BundleErrors, Registration as Click};
use matricula_kit::time;
use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use matricula_proto::registration::v1::{
    Outcome, Registration, SubmitAndWatchRegistrationRequest, SubmitAndWatchRegistrationResponse,
    SubmitRegistrationRequest,
};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::Morning;
use super::follow::{RETRY_FOR, follow};
use super::live::Live;
use super::tally::{AnswerKind, Answered, FirstAnswer, Sent, Tally};
use super::waits::{self, Waits};
use crate::clients::ANSWER_MARGIN;

/// Maximum number of outstanding clicks, about 10 kB each. Beyond it, the next click is late, and the report shows it.
pub const OUTSTANDING_MAX: usize = 200_000;
/// Rows read ahead, so that no click waits for the disk.
const READ_AHEAD: usize = 10_000;
/// Maximum number of answers processed at once.
const ANSWERS_PER_TURN: usize = 1_000;
/// The wait of one call: the longest that the API allows.
const WAIT: Duration = Duration::from_secs(30);

/// When a click is due, relative to the start of the run.
pub fn due(arrival_ms: u64, speed: f64) -> Duration {
    Duration::from_secs_f64(arrival_ms as f64 / 1_000.0 / speed)
}

/// How clicks are sent.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Speed compared to the file.
    pub speed: f64,
    /// Whether the acknowledgement of each click is measured: the click is submitted and watched in one call.
    pub acknowledge: bool,
}

/// Plays the whole morning, or until `stop`, and waits until every sent click has ended.
pub async fn play(
    dir: &Path,
    morning: &Morning,
    pace: Pace,
    channels: Vec<Channel>,
    stop: CancellationToken,
) -> anyhow::Result<Tally> {
    let (clicks, reader) = read(dir);
    let (answers, mut answered) = mpsc::channel(OUTSTANDING_MAX);
    let sent = Arc::new(Sent::default());
    let started = Instant::now();
    let waits = pace.acknowledge.then(|| Arc::new(Waits::default()));
    let asking = waits.clone().map(|waits| AbortOnDropHandle::new(tokio::spawn(waits::sample(waits, started))));
    let run = Run { started, waits: waits.clone() };
    let player = Player { pace, channels: channels.into(), answers, sent: Arc::clone(&sent), stop, run };
    let player = tokio::spawn(player.run(clicks));

    let mut tally = Tally::of(morning.clicks, time::now());
    let mut live = Live::new(morning.clicks);
    let mut batch = Vec::with_capacity(ANSWERS_PER_TURN);
    loop {
        tokio::select! {
            taken = answered.recv_many(&mut batch, ANSWERS_PER_TURN) => {
                if taken == 0 {
                    break;
                }
                for answer in batch.drain(..) {
                    live.add(&answer);
                    tally.add(answer);
                }
            }
            () = live.due() => live.show(&tally, &sent),
        }
    }
    drop(live);
    player.await?;
    reader.await??;
    drop(asking);
    tally.close(&sent);
    tally.waits = waits.map(|waits| waits.close());
    Ok(tally)
}

/// Reads the morning row by row on its own thread.
fn read(dir: &Path) -> (mpsc::Receiver<Click>, JoinHandle<Result<(), BundleErrors>>) {
    let (sender, clicks) = mpsc::channel(READ_AHEAD);
    let dir = dir.to_owned();
    let reader = tokio::task::spawn_blocking(move || {
        for click in matricula_campus::registrations(&dir)? {
            if sender.blocking_send(click?).is_err() {
                break;
            }
        }
        Ok(())
    });
    (clicks, reader)
}

struct Player {
    pace: Pace,
    channels: Arc<[Channel]>,
    answers: mpsc::Sender<Answered>,
    sent: Arc<Sent>,
    stop: CancellationToken,
    run: Run,
}

/// Shared by all clicks of a run.
#[derive(Debug, Clone)]
struct Run {
    started: Instant,
    /// Set if the acceptance is measured.
    waits: Option<Arc<Waits>>,
}

impl Player {
    /// Returns when the last click is sent. The channel of answers closes when the last click has ended.
    async fn run(self, mut clicks: mpsc::Receiver<Click>) {
        let places = Arc::new(Semaphore::new(OUTSTANDING_MAX));
        let started = self.run.started;
        let (mut first, mut number) = (0, 0);
        while let Some(Some(click)) = self.stop.run_until_cancelled(clicks.recv()).await {
            let due = due(click.arrival_ms, self.pace.speed);
            if started.elapsed() < due {
                let moment = tokio::time::sleep_until(started + due);
                if self.stop.run_until_cancelled(moment).await.is_none() {
                    return;
                }
            }
            let place = match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => place,
                Err(_) => {
                    self.sent.held_back();
                    // The semaphore is never closed.
                    let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                    place
                }
            };
            first = (first + 1) % self.channels.len();
            let connections = Connections { channels: Arc::clone(&self.channels), next: AtomicUsize::new(first) };
            let (answers, sent, run) = (self.answers.clone(), Arc::clone(&self.sent), self.run.clone());
            number += 1;
            tokio::spawn(async move {
                sent.begin(started.elapsed());
                let answer = send((number, click), due, run, connections).await;
                sent.end(answer.ended, answer.followed.end.is_ok());
                // The receiver outlives every click.
                let _ = answers.send(answer).await;
                drop(place);
            });
        }
    }
}

/// The connections of one click. After each failed call the next connection is used, and with it another replica.
struct Connections {
    channels: Arc<[Channel]>,
    next: AtomicUsize,
}

impl Connections {
    fn current(&self) -> Channel {
        self.channels[self.next.load(Ordering::Relaxed) % self.channels.len()].clone()
    }

    fn failed(&self) {
        self.next.fetch_add(1, Ordering::Relaxed);
    }
}

/// The results of one click's calls so far.
#[derive(Debug, Default)]
struct Calls {
    first_answer: Option<FirstAnswer>,
    /// When the first call was sent that was not rejected.
    admitted: Option<Duration>,
    acknowledged: Option<Duration>,
    may_be_accepted: bool,
}

impl Calls {
    fn sent(&mut self, now: Duration) {
        self.admitted.get_or_insert(now);
    }

    fn answered(&mut self, kind: AnswerKind, now: Duration) {
        self.first_answer.get_or_insert(FirstAnswer { at: now, kind });
        match kind {
            AnswerKind::Accepted => drop(self.acknowledged.get_or_insert(now)),
            // This call has accepted nothing. An earlier call may have accepted the click, if its answer was lost or
            // confirmed it.
            AnswerKind::RetryLater if !self.may_be_accepted => self.admitted = None,
            AnswerKind::RetryLater | AnswerKind::Other => {}
        }
        self.may_be_accepted |= kind != AnswerKind::RetryLater;
    }
}

async fn send((number, click): (u64, Click), due: Duration, run: Run, connections: Connections) -> Answered {
    let request = SubmitRegistrationRequest {
        idempotency_key: click.key.into_string(),
        student_id: click.student_id.into_string(),
        adds: click.adds.into_iter().map(|section| section.into_string()).collect(),
        drops: click.drops.into_iter().map(|section| section.into_string()).collect(),
        seen_versions: Vec::new(),
        wait_ms: 0,
    };
    let Run { started, waits } = run;
    let sent = started.elapsed();
    let calls = Mutex::new(Calls::default());
    let calls = || calls.lock().unwrap_or_else(PoisonError::into_inner);
    let followed = follow(|| {
        let (request, waits) = (request.clone(), waits.as_ref());
        let (connections, calls) = (&connections, &calls);
        async move {
            calls().sent(started.elapsed());
            let channel = connections.current();
            let accepted = |registration: &Registration| {
                let now = started.elapsed();
                let is_first = calls().acknowledged.is_none();
                calls().answered(AnswerKind::Accepted, now);
                if let Some(waits) = waits.filter(|_| is_first && registration.outcome() == Outcome::Pending) {
                    waits.accepted(number, registration, Some(channel.clone()), now);
                }
            };
            let client = RegistrationServiceClient::new(channel.clone());
            let answer = match waits {
                None => submit(client, request).await,
                Some(_) => submit_and_watch(client, request, accepted).await,
            };
            calls().answered(AnswerKind::of(&answer), started.elapsed());
            if answer.is_err() {
                connections.failed();
            }
            answer
        }
    })
    .await;
    let ended = started.elapsed();
    if let Some(waits) = &waits {
        waits.ended(number, followed.end.is_ok(), ended);
    }
    let Calls { first_answer, admitted, acknowledged, .. } = std::mem::take(&mut *calls());
    let is_measured = waits.is_some();
    let SubmitRegistrationRequest { student_id, idempotency_key: key, .. } = request;
    Answered {
        student_id,
        key,
        followed,
        due,
        sent,
        admitted: admitted.unwrap_or(sent),
        first_answer: first_answer.filter(|_| is_measured),
        acknowledged: acknowledged.filter(|_| is_measured),
        ended,
    }
}

/// Submits a click and waits for the outcome.
async fn submit(
    mut client: RegistrationServiceClient<Channel>,
    request: SubmitRegistrationRequest,
) -> Result<Registration, Status> {
    // 30 s fit into an i32.
    let wait_ms = WAIT.as_millis() as i32;
    let mut request = Request::new(SubmitRegistrationRequest { wait_ms, ..request });
    request.set_timeout(WAIT + ANSWER_MARGIN);
    Ok(client.submit_registration(request).await?.into_inner().registration.unwrap_or_default())
}

/// Submits a click and watches it until the outcome, or until [`RETRY_FOR`] has passed. `accepted` gets the first
/// message, which acknowledges the click.
async fn submit_and_watch(
    mut client: RegistrationServiceClient<Channel>,
    request: SubmitRegistrationRequest,
    accepted: impl FnOnce(&Registration),
) -> Result<Registration, Status> {
    let SubmitRegistrationRequest { idempotency_key, student_id, adds, drops, seen_versions, wait_ms: _ } = request;
    let request = SubmitAndWatchRegistrationRequest { idempotency_key, student_id, adds, drops, seen_versions };
    let first = async {
        let mut changes = client.submit_and_watch_registration(request).await?.into_inner();
        let first = next(&mut changes).await?;
        Ok::<_, Status>((changes, first))
    };
    let no_answer = |_| Status::unavailable(format!("no answer within {} s", ANSWER_MARGIN.as_secs()));
    let (mut changes, mut registration) = timeout(ANSWER_MARGIN, first).await.map_err(no_answer)??;
    accepted(&registration);
    let watching = async {
        while registration.outcome() == Outcome::Pending {
            registration = next(&mut changes).await?;
        }
        Ok::<_, Status>(())
    };
    // A click that is still pending is given up by `follow`.
    timeout(RETRY_FOR, watching).await.unwrap_or(Ok(()))?;
    Ok(registration)
}

async fn next(changes: &mut Streaming<SubmitAndWatchRegistrationResponse>) -> Result<Registration, Status> {
    let change = changes.message().await?.and_then(|change| change.registration);
    change.ok_or_else(|| Status::unavailable("the stream ended before the outcome"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers one call after the other, one second apart, and checks when the click was admitted and acknowledged.
    #[track_caller]
    fn check_calls(kind: &[AnswerKind], admitted_s: Option<u64>, acknowledged_s: Option<u64>) {
        let mut calls = Calls::default();
        for (second, kind) in (0..).zip(kind) {
            calls.sent(Duration::from_secs(second));
            calls.answered(*kind, Duration::from_secs(second));
        }
        let seen = [calls.admitted, calls.acknowledged].map(|at| at.map(|at| at.as_secs()));
        assert_eq!(seen, [admitted_s, acknowledged_s], "{kind:?}");
    }

    #[test]
    fn a_click_is_admitted_by_the_first_call_that_can_have_been_accepted() {
        use AnswerKind::{Accepted, Other, RetryLater};
        check_calls(&[Accepted, Accepted], Some(0), Some(0));
        check_calls(&[RetryLater, RetryLater, Accepted], Some(2), Some(2));
        check_calls(&[RetryLater, Other, Accepted], Some(1), Some(2));
        check_calls(&[RetryLater, Other, RetryLater, Accepted], Some(1), Some(3));
        check_calls(&[Accepted, RetryLater, Accepted], Some(0), Some(0));
        check_calls(&[RetryLater], None, None);
    }

    #[test]
    fn clicks_come_faster_in_the_same_order() {
        for (arrival_ms, speed, due_ms) in
            [(0, 1.0, 0.0), (60_000, 1.0, 60_000.0), (60_000, 60.0, 1_000.0), (1, 0.5, 2.0), (1, 8.0, 0.125)]
        {
            assert_eq!(due(arrival_ms, speed), Duration::from_secs_f64(due_ms / 1_000.0), "{arrival_ms} at {speed}");
        }
    }
}
