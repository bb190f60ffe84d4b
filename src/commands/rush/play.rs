//! Sends each click at its moment, whatever the earlier ones do, and gathers what became of them.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use matricula_campus::{BundleErrors, Registration as Click};
use matricula_proto::registration::v1::SubmitRegistrationRequest;
use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::transport::Channel;

use super::Morning;
use super::follow::follow;
use super::live::Live;
use super::tally::{Answered, FirstAnswer, Said, Sent, Tally};
use crate::clients::ANSWER_MARGIN;

/// Clicks outstanding at once, about 10 kB each; beyond it the next one is late, and the report says so.
pub const OUTSTANDING_MAX: usize = 50_000;
/// Rows read ahead, so that the disk is never what a click waits for.
const READ_AHEAD: usize = 10_000;
/// Answers taken in one turn.
const ANSWERS_PER_TURN: usize = 1_000;
/// How long one call waits for the outcome: the contract's longest.
const WAIT: Duration = Duration::from_secs(30);

/// When a click is due, counted from the first moment of the run.
pub fn due(arrival_ms: u64, speed: f64) -> Duration {
    Duration::from_secs_f64(arrival_ms as f64 / 1_000.0 / speed)
}

/// How clicks are sent.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How much faster than in the file.
    pub speed: f64,
    /// Whether the first call of a click waits for no outcome.
    pub acknowledge: bool,
}

/// Plays the whole morning, or until `stop`, and waits until every click that was sent has ended.
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
    let player = Player { pace, channels: channels.into(), answers, sent: Arc::clone(&sent), stop };
    let player = tokio::spawn(player.run(clicks));

    let mut tally = Tally::of(morning.clicks);
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
    tally.close(&sent);
    Ok(tally)
}

/// Reads the morning row by row on a thread of its own.
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
}

impl Player {
    /// Returns when the last click is sent; the answers end when the last click has ended.
    async fn run(self, mut clicks: mpsc::Receiver<Click>) {
        let places = Arc::new(Semaphore::new(OUTSTANDING_MAX));
        let started = Instant::now();
        let mut first = 0;
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
                    // Nobody closes the semaphore.
                    let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                    place
                }
            };
            first = (first + 1) % self.channels.len();
            let ways = Ways { channels: Arc::clone(&self.channels), next: AtomicUsize::new(first) };
            let (answers, sent, acknowledge) = (self.answers.clone(), Arc::clone(&self.sent), self.pace.acknowledge);
            tokio::spawn(async move {
                sent.begin(started.elapsed());
                let answer = send(click, due, started, ways, acknowledge).await;
                sent.end(answer.ended, answer.followed.end.is_ok());
                // The receiver outlives every click.
                let _ = answers.send(answer).await;
                drop(place);
            });
        }
    }
}

/// The connections as one click takes them: another one, and with it another replica, after each call that failed.
struct Ways {
    channels: Arc<[Channel]>,
    next: AtomicUsize,
}

impl Ways {
    fn now(&self) -> Channel {
        self.channels[self.next.load(Ordering::Relaxed) % self.channels.len()].clone()
    }

    fn failed(&self) {
        self.next.fetch_add(1, Ordering::Relaxed);
    }
}

async fn send(click: Click, due: Duration, started: Instant, ways: Ways, acknowledge: bool) -> Answered {
    let request = SubmitRegistrationRequest {
        idempotency_key: click.key.into_string(),
        student_id: click.student_id.into_string(),
        adds: click.adds.into_iter().map(|section| section.into_string()).collect(),
        drops: click.drops.into_iter().map(|section| section.into_string()).collect(),
        seen_versions: Vec::new(),
        wait_ms: 0,
    };
    let sent = started.elapsed();
    let first_answer = OnceLock::new();
    let mut is_first = true;
    let followed = follow(|| {
        let wait = if std::mem::take(&mut is_first) && acknowledge { Duration::ZERO } else { WAIT };
        // 30 s fit.
        let wait_ms = wait.as_millis() as i32;
        let mut attempt = Request::new(SubmitRegistrationRequest { wait_ms, ..request.clone() });
        attempt.set_timeout(wait + ANSWER_MARGIN);
        let (ways, first_answer) = (&ways, &first_answer);
        async move {
            let answer = RegistrationServiceClient::new(ways.now()).submit_registration(attempt).await;
            first_answer.get_or_init(|| FirstAnswer { at: started.elapsed(), said: Said::of(&answer) });
            let answer = answer.inspect_err(|_| ways.failed())?;
            Ok(answer.into_inner().registration.unwrap_or_default())
        }
    })
    .await;
    let ended = started.elapsed();
    let first_answer = acknowledge.then(|| first_answer.into_inner()).flatten();
    let SubmitRegistrationRequest { student_id, idempotency_key: key, .. } = request;
    Answered { student_id, key, followed, due, sent, first_answer, ended }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clicks_come_faster_in_the_same_order() {
        for (arrival_ms, speed, due_ms) in
            [(0, 1.0, 0.0), (60_000, 1.0, 60_000.0), (60_000, 60.0, 1_000.0), (1, 0.5, 2.0), (1, 8.0, 0.125)]
        {
            assert_eq!(due(arrival_ms, speed), Duration::from_secs_f64(due_ms / 1_000.0), "{arrival_ms} at {speed}");
        }
    }
}
