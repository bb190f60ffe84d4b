//! The closed loop: a fixed number of students, each of which waits for the outcome of a click and takes the next of
//! the morning.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use matricula_harness::{Followed, Portals};
use tokio::task::JoinSet;

use crate::campus::Click;

/// The limit for following one click; no click takes that long.
const LATENCY_MAX_US: u64 = 600_000_000;

/// The results of the clicks of one repeat.
#[derive(Debug)]
pub(crate) struct Played {
    /// From the first click to the last outcome.
    pub(crate) took: Duration,
    /// Registrations with an outcome.
    pub(crate) registrations: u64,
    /// Clicks that repeat the key of an earlier one.
    pub(crate) repeated: u64,
    /// Calls that were rejected or failed, and were sent again.
    pub(crate) sent_again: u64,
    /// Clicks that were left when time was up.
    pub(crate) left: usize,
    /// From the first click to the outcome of each registration, in microseconds.
    pub(crate) latency_us: Histogram<u64>,
    /// Registrations by outcome.
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// Refused ones by reason; one may have several.
    pub(crate) reasons: BTreeMap<String, u64>,
}

impl Played {
    fn new() -> Self {
        Self {
            took: Duration::ZERO,
            registrations: 0,
            repeated: 0,
            sent_again: 0,
            left: 0,
            latency_us: Histogram::new_with_max(LATENCY_MAX_US, 3).expect("three digits are possible"),
            outcomes: BTreeMap::new(),
            reasons: BTreeMap::new(),
        }
    }

    fn add(&mut self, followed: &Followed, is_first: bool) {
        let registration = followed.end.as_ref().expect("every click is decided");
        self.sent_again += followed.setbacks.len() as u64;
        if !is_first {
            self.repeated += 1;
            return;
        }
        self.registrations += 1;
        self.latency_us.saturating_record(followed.took.as_micros() as u64);
        let outcome = registration.outcome().as_str_name().trim_start_matches("OUTCOME_");
        *self.outcomes.entry(outcome.to_owned()).or_default() += 1;
        for refusal in &registration.reasons {
            let reason = refusal.reason().as_str_name().trim_start_matches("REASON_");
            *self.reasons.entry(reason.to_owned()).or_default() += 1;
        }
    }
}

/// Plays the clicks in their order, until all have their outcome or `length_max` is over.
///
/// # Panics
/// When a click gets no outcome.
pub(crate) async fn play(portals: &Arc<Portals>, clicks: Vec<Click>, in_flight: usize, length_max: Duration) -> Played {
    let clicks = Arc::new(Mutex::new(clicks.into_iter()));
    let played = Arc::new(Mutex::new(Played::new()));
    let began = Instant::now();
    let mut students = JoinSet::new();
    for _ in 0..in_flight {
        let (portals, clicks, played) = (portals.clone(), clicks.clone(), played.clone());
        students.spawn(async move {
            while began.elapsed() < length_max {
                let Some(click) = clicks.lock().unwrap_or_else(PoisonError::into_inner).next() else { break };
                let followed = portals.follow(portals.turn(), click.request).await;
                played.lock().unwrap_or_else(PoisonError::into_inner).add(&followed, click.is_first);
            }
        });
    }
    students.join_all().await;
    let left = clicks.lock().unwrap_or_else(PoisonError::into_inner).len();
    let played = std::mem::replace(&mut *played.lock().unwrap_or_else(PoisonError::into_inner), Played::new());
    Played { took: began.elapsed(), left, ..played }
}
