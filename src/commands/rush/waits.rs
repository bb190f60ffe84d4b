//! Compares the wait estimates with the actual waits.
//!
//! The answer that accepts a registration has an estimate. Afterwards [`sample`] queries some of the waiting
//! registrations once a second, the same share of each part of the line. An answer has a weight: the number of
//! registrations that it represents. So each second counts with all registrations that waited in it, and a long line
//! costs the system no more than a short one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use hdrhistogram::Histogram;
use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use matricula_proto::registration::v1::{GetRegistrationRequest, Outcome, Registration};
use tokio::time::{Instant, MissedTickBehavior};
use tonic::Request;
use tonic::transport::Channel;

/// Time between two rounds of queries.
const ROUND: Duration = Duration::from_secs(1);
/// Maximum number of queries in a round.
const QUERIES_PER_ROUND_MAX: usize = 100;
/// Maximum number of queries in flight.
const QUERIES_IN_FLIGHT_MAX: usize = 10;
/// Timeout of a query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Ratios are counted in thousandths with three significant digits, up to a million.
const RATIO_MILLI_MAX: u64 = 1_000_000_000;
const RATIO_DIGITS: u8 = 3;

/// The accepted registrations that wait for their outcome, and the observed waits of decided ones.
#[derive(Debug, Default)]
pub struct Waits(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<u64, Waiting>,
    rounds: usize,
    seen: ObservedWaits,
}

/// A waiting registration. Times count from the start of the run.
#[derive(Debug)]
struct Waiting {
    registration_id: String,
    /// The connection to the replica that accepted it.
    channel: Option<Channel>,
    accepted_at: Duration,
    at_acceptance: Option<Duration>,
    /// Later estimates: the time of each, the estimated wait, and its weight.
    later: Vec<(Duration, Duration, u64)>,
}

/// The observed waits that are over.
#[derive(Debug, Default)]
pub struct ObservedWaits {
    /// The largest place in the line in any answer.
    pub longest_line: i32,
    /// Estimates during the wait, weighted so that each second counts with the registrations that waited in it.
    pub later: Ratios,
    /// Estimates in accepting answers.
    pub at_acceptance: Ratios,
}

/// Estimated waits divided by actual waits: 1 is correct, 2 is twice the actual wait.
#[derive(Debug)]
pub struct Ratios {
    milli: Histogram<u64>,
    /// Number of estimates, without weights.
    pub count: u64,
}

/// A registration to query.
#[derive(Debug)]
struct Query {
    click: u64,
    registration_id: String,
    channel: Option<Channel>,
    weight: u64,
}

impl Waits {
    /// Adds an accepted registration that waits for its outcome.
    pub fn accepted(&self, click: u64, registration: &Registration, channel: Option<Channel>, now: Duration) {
        let mut state = self.state();
        state.record_place(registration);
        let waiting = Waiting {
            registration_id: registration.registration_id.clone(),
            channel,
            accepted_at: now,
            at_acceptance: estimate(registration),
            later: Vec::new(),
        };
        state.waiting.insert(click, waiting);
    }

    /// Adds the answer to a query. An answer without an estimate, or of a decided registration, is not counted.
    fn answered(&self, click: u64, registration: &Registration, weight: u64, now: Duration) {
        let mut state = self.state();
        if registration.outcome() != Outcome::Pending {
            return;
        }
        state.record_place(registration);
        let Some(wait) = estimate(registration) else { return };
        if let Some(waiting) = state.waiting.get_mut(&click) {
            waiting.later.push((now, wait, weight));
        }
    }

    /// Ends the wait of a click. Without an outcome, its actual wait is unknown and not counted.
    pub fn ended(&self, click: u64, is_decided: bool, now: Duration) {
        let mut state = self.state();
        let Some(waiting) = state.waiting.remove(&click).filter(|_| is_decided) else { return };
        let seen = &mut state.seen;
        if let Some(wait) = waiting.at_acceptance {
            seen.at_acceptance.record(wait, now.saturating_sub(waiting.accepted_at), 1);
        }
        for (at, wait, weight) in waiting.later {
            seen.later.record(wait, now.saturating_sub(at), weight);
        }
    }

    /// The observed waits that are over.
    pub fn close(&self) -> ObservedWaits {
        std::mem::take(&mut self.state().seen)
    }

    /// At most `max` of the waiting registrations, evenly spread over the order of their clicks.
    fn queries(&self, max: usize) -> Vec<Query> {
        let mut state = self.state();
        let step = state.waiting.len().div_ceil(max).max(1);
        // Each round starts at another registration, so that every part of the line is sampled.
        let first = state.rounds % step;
        state.rounds += 1;
        let queries = state.waiting.iter().skip(first).step_by(step).map(|(click, waiting)| Query {
            click: *click,
            registration_id: waiting.registration_id.clone(),
            channel: waiting.channel.clone(),
            weight: step as u64,
        });
        queries.collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn record_place(&mut self, registration: &Registration) {
        self.seen.longest_line = self.seen.longest_line.max(registration.place_in_line.unwrap_or_default());
    }
}

impl Default for Ratios {
    fn default() -> Self {
        let milli = Histogram::new_with_bounds(1, RATIO_MILLI_MAX, RATIO_DIGITS);
        Self { milli: milli.expect("the bounds are constants that every test makes"), count: 0 }
    }
}

impl Ratios {
    fn record(&mut self, given: Duration, real: Duration, weight: u64) {
        let real_us = real.as_micros().max(1);
        let milli = u64::try_from(given.as_micros() * 1_000 / real_us).unwrap_or(RATIO_MILLI_MAX);
        self.milli.saturating_record_n(milli, weight);
        self.count += 1;
    }

    /// The percentile of the ratios.
    pub fn percentile(&self, percent: f64) -> f64 {
        self.milli.value_at_percentile(percent) as f64 / 1_000.0
    }
}

/// The estimated wait of a registration in line. A registration whose turn has come has no place any more.
fn estimate(registration: &Registration) -> Option<Duration> {
    registration.place_in_line?;
    registration.expected_wait.and_then(|wait| Duration::try_from(wait).ok())
}

/// Queries some of the waiting registrations each second, until it is dropped.
pub async fn sample(waits: Arc<Waits>, started: Instant) {
    let mut tick = tokio::time::interval_at(started + ROUND, ROUND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let waits = &waits;
        let queries = futures::stream::iter(waits.queries(QUERIES_PER_ROUND_MAX));
        let sampling = queries.for_each_concurrent(QUERIES_IN_FLIGHT_MAX, |query| async move {
            let Query { click, registration_id, channel, weight } = query;
            let Some(channel) = channel else { return };
            let mut request = Request::new(GetRegistrationRequest { registration_id });
            request.set_timeout(QUERY_TIMEOUT);
            // A lost answer is one sample less.
            let Ok(answer) = RegistrationServiceClient::new(channel).get_registration(request).await else { return };
            let registration = answer.into_inner().registration.unwrap_or_default();
            waits.answered(click, &registration, weight, started.elapsed());
        });
        sampling.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A waiting registration with this place and estimate.
    fn pending(place: i32, wait_ms: Option<u64>) -> Registration {
        Registration {
            outcome: Outcome::Pending.into(),
            place_in_line: Some(place),
            expected_wait: wait_ms.and_then(|ms| Duration::from_millis(ms).try_into().ok()),
            ..Registration::default()
        }
    }

    fn percentiles(ratios: &Ratios) -> (u64, [f64; 3]) {
        (ratios.count, [10.0, 50.0, 90.0].map(|percent| (ratios.percentile(percent) * 100.0).round() / 100.0))
    }

    #[test]
    fn wait_estimates_are_compared_with_actual_waits() {
        let ms = Duration::from_millis;
        let waits = Waits::default();
        waits.accepted(1, &pending(7, Some(4_000)), None, ms(1_000));
        waits.accepted(2, &pending(8, None), None, ms(1_000));
        // Of ten registrations, nine have estimates of half the actual wait, and one of twice the actual wait.
        waits.answered(1, &pending(5, Some(1_000)), 9, ms(1_000));
        waits.answered(1, &pending(3, Some(2_000)), 1, ms(2_000));
        waits.answered(1, &pending(3, None), 9, ms(2_500));
        waits.answered(1, &Registration { outcome: Outcome::Enrolled.into(), ..pending(9, Some(1)) }, 9, ms(3_000));
        let at_work = Registration { place_in_line: None, ..pending(0, Some(1_000)) };
        waits.answered(1, &at_work, 9, ms(2_500));
        waits.ended(1, true, ms(3_000));
        waits.ended(2, true, ms(1_500));
        waits.answered(1, &pending(3, Some(2_000)), 9, ms(3_500));
        let seen = waits.close();
        assert_eq!(percentiles(&seen.at_acceptance), (1, [2.0, 2.0, 2.0]));
        assert_eq!(percentiles(&seen.later), (2, [0.5, 0.5, 0.5]));
        assert_eq!((seen.later.percentile(99.0).round(), seen.longest_line), (2.0, 8));
    }

    #[test]
    fn a_click_without_an_outcome_counts_for_nothing() {
        let waits = Waits::default();
        waits.accepted(1, &pending(3, Some(4_000)), None, Duration::ZERO);
        waits.ended(1, false, Duration::from_secs(300));
        let seen = waits.close();
        assert_eq!((seen.at_acceptance.count, seen.longest_line), (0, 3));
    }

    #[test]
    fn rounds_sample_all_parts_of_the_line_and_count_for_the_whole() {
        let waits = Waits::default();
        assert!(waits.queries(10).is_empty());
        for click in 0..25 {
            waits.accepted(click, &pending(0, None), None, Duration::ZERO);
        }
        let round = || -> (Vec<u64>, u64) {
            let queries = waits.queries(10);
            (queries.iter().map(|query| query.click).collect(), queries.iter().map(|one| one.weight).sum())
        };
        assert_eq!(round(), (vec![1, 4, 7, 10, 13, 16, 19, 22], 24));
        assert_eq!(round(), (vec![2, 5, 8, 11, 14, 17, 20, 23], 24));
        assert_eq!(round(), (vec![0, 3, 6, 9, 12, 15, 18, 21, 24], 27));
        assert_eq!(waits.queries(25).len(), 25);
    }
}
