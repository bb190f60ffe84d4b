//! Clicks that fill the line: as many at a time as a portal sends. The client waits for each acknowledgement, not for
//! the outcome.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use matricula_harness::campus::bundle;
use matricula_harness::{PATIENCE, Portals, System, is_retryable, retry_delay, submission};
use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use matricula_proto::registration::v1::{Outcome, SubmitRegistrationRequest};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Clicks without an acknowledgement at a time.
const AT_A_TIME: u32 = 256;
/// Registrations of a student in a full line. Few: a registration costs more the more courses its student has.
const OF_A_STUDENT: u32 = 2;
/// Fewer students would exceed the rate limit of a student.
const STUDENTS_MIN: u32 = 500;
/// Registrations of a student in the whole run: enough to fill the line ten times.
const ROUNDS: u32 = 20;
/// Sections from which the seed chooses that of a click, each with seats for all.
const SECTIONS_OF_ROUND: u32 = 4;
const SEATS: i32 = 1_000_000;
/// Pause after a rejection without a time to come back.
const PAUSE: Duration = Duration::from_millis(50);

/// Clicks that were not made before: all students once, then all of them again.
pub(super) struct Clicks {
    students: u32,
    seed: u64,
    next: AtomicU32,
}

/// A registration that was accepted.
pub(super) struct Accepted {
    pub(super) id: String,
    pub(super) ticket: i64,
}

/// The cost of accepting some registrations.
#[derive(Default)]
pub(super) struct Filled {
    pub(super) accepted: Vec<Accepted>,
    /// From the first time that each was sent to its acknowledgement.
    pub(super) latencies: Vec<Duration>,
    /// Rejections with a time to come back.
    pub(super) sent_again: u32,
    pub(super) took: Duration,
}

impl Clicks {
    /// Clicks for lines of this length.
    pub(super) fn new(waiting: u32, seed: u64) -> Self {
        Self { students: (waiting / OF_A_STUDENT).max(STUDENTS_MIN), seed, next: AtomicU32::new(0) }
    }

    /// Imports the campus that they need.
    pub(super) fn import(&self, system: &System) {
        let names: Vec<String> = (0..ROUNDS)
            .flat_map(|round| (0..SECTIONS_OF_ROUND).map(move |number| format!("R{round}-{number}")))
            .collect();
        let sections: Vec<(&str, i32, &str)> = names.iter().map(|name| (name.as_str(), SEATS, "")).collect();
        system.import(&bundle(&sections, self.students));
    }

    fn click(&self, number: u32) -> SubmitRegistrationRequest {
        let (round, student) = (number / self.students, number % self.students + 1);
        assert!(round < ROUNDS, "every student has clicked as often as there are courses");
        let section = drawn(self.seed, number) % u64::from(SECTIONS_OF_ROUND);
        let request = submission(&format!("S{student}"), &format!("k{round}"), &[&format!("R{round}-{section}")], &[]);
        SubmitRegistrationRequest { wait_ms: 0, ..request }
    }

    /// Submits this many, and returns when all are accepted.
    pub(super) async fn fill(self: &Arc<Self>, portals: &Arc<Portals>, count: u32) -> Filled {
        let began = Instant::now();
        let end = self.next.load(Ordering::Relaxed) + count;
        let mut workers = JoinSet::new();
        for _ in 0..AT_A_TIME {
            let (clicks, portals) = (self.clone(), portals.clone());
            workers.spawn(async move {
                let mut filled = Filled::default();
                loop {
                    let number = clicks.next.fetch_add(1, Ordering::Relaxed);
                    if number >= end {
                        return filled;
                    }
                    accept(&portals, clicks.click(number), &mut filled).await;
                }
            });
        }
        let mut all = Filled::default();
        for mut filled in workers.join_all().await {
            all.accepted.append(&mut filled.accepted);
            all.latencies.append(&mut filled.latencies);
            all.sent_again += filled.sent_again;
        }
        // Each worker has taken a number that it did not need.
        self.next.store(end, Ordering::Relaxed);
        all.took = began.elapsed();
        all
    }
}

/// Submits one, again after each rejection.
async fn accept(portals: &Portals, request: SubmitRegistrationRequest, filled: &mut Filled) {
    let (began, portal) = (Instant::now(), portals.turn());
    loop {
        let mut client = RegistrationServiceClient::new(portals.channel(portal));
        match client.submit_registration(request.clone()).await {
            Ok(answer) => {
                filled.latencies.push(began.elapsed());
                let registration = answer.into_inner().registration.expect("an answer has a registration");
                assert_eq!(registration.outcome(), Outcome::Pending, "the door is paused: {registration:?}");
                let ticket = registration.ticket.expect("what is accepted has a ticket");
                return filled.accepted.push(Accepted { id: registration.registration_id, ticket });
            }
            Err(status) => {
                assert!(is_retryable(&status) && began.elapsed() < PATIENCE, "everybody is accepted: {status:?}");
                filled.sent_again += 1;
                sleep(retry_delay(&status).unwrap_or(PAUSE)).await;
            }
        }
    }
}

/// A number that looks random and is a function of both arguments: the generator SplitMix64.
fn drawn(seed: u64, number: u32) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(u64::from(number) + 1));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_click_is_repeated_and_a_seed_repeats_them_all() {
        let all = |seed: u64| -> Vec<SubmitRegistrationRequest> {
            let clicks = Clicks::new(2_000, seed);
            (0..2_000).map(|number| clicks.click(number)).collect()
        };
        let (clicks, other) = (all(7), all(8));
        assert_eq!(clicks, all(7));
        assert_ne!(clicks, other);
        let mut keys: Vec<_> = clicks.iter().map(|click| (&click.student_id, &click.idempotency_key)).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), clicks.len());
        assert!(clicks.iter().any(|click| click.adds == ["R0-3"]) && clicks.iter().any(|click| click.adds == ["R1-0"]));
    }
}
