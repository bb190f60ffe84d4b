//! Counts the results of the clicks, and compares the answers to repeated keys.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use matricula_kit::time::UnixMs;
use matricula_proto::registration::v1::{Outcome, Registration};
use tonic::Status;

use super::follow::{Followed, is_rejected};
use super::order::Click;
use super::waits::ObservedWaits;
use crate::commands::registration::{outcome_name, reason_name};

/// Number of differences and errors with their full text; all are counted.
const SHOWN_MAX: usize = 20;
/// Latencies have three significant digits, up to an hour; a click is given up long before.
const LATENCY_US_MAX: u64 = 3_600_000_000;
const LATENCY_DIGITS: u8 = 3;

/// The player's counts during the run.
#[derive(Debug, Default)]
pub struct Sent(Mutex<Flow>);

/// Outstanding clicks. Times count from the start of the run.
#[derive(Debug, Default)]
struct Flow {
    clicks: u64,
    outstanding: u64,
    outstanding_max: u64,
    held_back: u64,
    /// The last outcome, or the first click sent after a time in which none was outstanding.
    quiet_since: Duration,
    stall_longest: Duration,
}

/// A click that has ended. Times count from the start of the run.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The student.
    pub student_id: String,
    /// The idempotency key.
    pub key: String,
    /// How it ended.
    pub followed: Followed,
    /// When it should have been sent.
    pub due: Duration,
    /// When it was sent first.
    pub sent: Duration,
    /// When the first call was sent that was not rejected: no earlier call can have been accepted.
    pub admitted: Duration,
    /// The time and kind of the first answer, if first answers are measured.
    pub first_answer: Option<FirstAnswer>,
    /// When the first accepting call was answered, if first answers are measured.
    pub acknowledged: Option<Duration>,
    /// When it ended.
    pub ended: Duration,
}

/// The first answer to a click.
#[derive(Debug, Clone, Copy)]
pub struct FirstAnswer {
    /// Its time.
    pub at: Duration,
    /// Its kind.
    pub kind: AnswerKind,
}

/// The kinds of answers to a click.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerKind {
    /// The registration is accepted now, or was accepted before.
    Accepted,
    /// The call was rejected with a time to retry.
    RetryLater,
    /// Anything else: the answer was lost, or the click is invalid.
    Other,
}

impl AnswerKind {
    /// The kind of this answer.
    pub fn of<T>(answer: &Result<T, Status>) -> Self {
        match answer {
            Ok(_) => Self::Accepted,
            Err(status) if is_rejected(status) => Self::RetryLater,
            Err(_) => Self::Other,
        }
    }
}

/// Times of first answers, from the first sending of the click.
#[derive(Debug, Default)]
pub struct FirstAnswers {
    /// All first answers.
    pub all: Latency,
    /// Those that accepted the click.
    pub accepted: Latency,
    /// Those that rejected the call with a time to retry.
    pub retry_later: Latency,
}

/// All counts of a run.
#[derive(Debug, Default)]
pub struct Tally {
    /// When the run began, by this machine's clock.
    pub started_at: UnixMs,
    /// Clicks that were planned.
    pub planned: u64,
    /// Clicks that were sent.
    pub clicks: u64,
    /// Clicks that ended, decided or not.
    pub ended: u64,
    /// Clicks whose registration was decided.
    pub decided: u64,
    /// Registrations by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Refused registrations by reason; a registration with several reasons counts for each.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Why clicks have no outcome, with counts.
    pub errors: BTreeMap<String, u64>,
    /// Clicks with a repeated key.
    pub repeats: Repeats,
    /// Clicks with rejected calls.
    pub rejected: Troubled,
    /// Clicks with calls whose answer was lost.
    pub lost: Troubled,
    /// From the time when the click was due to its outcome.
    pub since_due: Latency,
    /// From the first sending of the click to its outcome.
    pub since_sent: Latency,
    /// Measured only with `--acknowledge`.
    pub first_answers: Option<FirstAnswers>,
    /// From the time when the click was due to its acknowledgement, with `--acknowledge`.
    pub acceptance: Latency,
    /// From the acknowledgement of a click to its outcome, with `--acknowledge`.
    pub accepted_to_outcome: Latency,
    /// The observed waits, with `--acknowledge`.
    pub waits: Option<ObservedWaits>,
    /// Every click, to judge the order.
    pub played: Vec<Click>,
    /// From the time when the click was due to its sending.
    pub lateness: Latency,
    /// Registrations decided in each second of the run.
    pub decided_per_s: Vec<u64>,
    /// When the first click was sent and the last registration was decided.
    pub active: Option<(Duration, Duration)>,
    /// Clicks that waited because too many were outstanding.
    pub held_back: u64,
    /// Most clicks outstanding at once.
    pub outstanding_max: u64,
    /// The longest time in which clicks were outstanding and none got its outcome.
    pub stall_longest: Duration,
    keys: HashMap<(String, String), (String, i32)>,
}

/// The answers to clicks with a repeated key.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Repeats {
    /// The same registration and outcome as before.
    pub same: u64,
    /// A different answer: there must be none.
    pub different: u64,
    /// The first of these differences.
    pub differences: Vec<String>,
}

/// Clicks that met an obstacle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Troubled {
    /// Number of clicks.
    pub clicks: u64,
    /// Number of affected calls.
    pub calls: u64,
    /// Clicks that got an outcome nevertheless.
    pub decided: u64,
}

/// Latencies in microseconds.
#[derive(Debug)]
pub struct Latency(Histogram<u64>);

impl Sent {
    /// Counts a click that is sent now.
    pub fn begin(&self, now: Duration) {
        let mut flow = self.flow();
        if flow.outstanding == 0 {
            flow.quiet_since = now;
        }
        flow.clicks += 1;
        flow.outstanding += 1;
        flow.outstanding_max = flow.outstanding_max.max(flow.outstanding);
    }

    /// Counts a click that has ended now, with or without an outcome.
    pub fn end(&self, now: Duration, is_decided: bool) {
        let mut flow = self.flow();
        flow.outstanding -= 1;
        if is_decided || flow.outstanding == 0 {
            flow.stall_longest = flow.stall_longest.max(now.saturating_sub(flow.quiet_since));
            flow.quiet_since = flow.quiet_since.max(now);
        }
    }

    /// Counts a click that must wait because too many are outstanding.
    pub fn held_back(&self) {
        self.flow().held_back += 1;
    }

    /// Clicks sent so far.
    pub fn clicks(&self) -> u64 {
        self.flow().clicks
    }

    /// Clicks that were sent and have not ended.
    pub fn outstanding(&self) -> u64 {
        self.flow().outstanding
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    /// A tally of a run with this many clicks and this start.
    pub fn of(planned: u64, started_at: UnixMs) -> Self {
        Self { planned, started_at, ..Self::default() }
    }

    /// Decided registrations: distinct keys.
    pub fn registrations(&self) -> u64 {
        self.keys.len() as u64
    }

    /// Clicks without an outcome.
    pub fn without_outcome(&self) -> u64 {
        self.clicks.saturating_sub(self.decided)
    }

    /// Counts a click.
    pub fn add(&mut self, answered: Answered) {
        self.ended += 1;
        self.lateness.record(answered.sent.saturating_sub(answered.due));
        if let Some(FirstAnswer { at, kind }) = answered.first_answer {
            let took = at.saturating_sub(answered.sent);
            let first_answers = self.first_answers.get_or_insert_default();
            first_answers.all.record(took);
            match kind {
                AnswerKind::Accepted => first_answers.accepted.record(took),
                AnswerKind::RetryLater => first_answers.retry_later.record(took),
                AnswerKind::Other => {}
            }
        }
        if let Some(acknowledged) = answered.acknowledged {
            self.acceptance.record(acknowledged.saturating_sub(answered.due));
        }
        self.played.push(answered.played());
        let is_decided = answered.followed.end.is_ok();
        self.rejected.add(answered.followed.rejected, is_decided);
        self.lost.add(answered.followed.lost, is_decided);
        let first_sent = self.active.map_or(answered.sent, |(first, _)| first.min(answered.sent));
        let last_ended = self.active.map_or(answered.ended, |(_, last)| last.max(answered.ended));
        self.active = Some((first_sent, last_ended));
        match answered.followed.end {
            Ok(registration) => {
                self.decided += 1;
                self.since_due.record(answered.ended.saturating_sub(answered.due));
                self.since_sent.record(answered.ended.saturating_sub(answered.sent));
                if let Some(acknowledged) = answered.acknowledged {
                    self.accepted_to_outcome.record(answered.ended.saturating_sub(acknowledged));
                }
                self.add_decided((answered.student_id, answered.key), &registration, answered.ended);
            }
            // Errors have few kinds. A server that sends a new text for every click must not fill the memory.
            Err(error) if self.errors.len() < SHOWN_MAX => *self.errors.entry(error).or_default() += 1,
            Err(_) => *self.errors.entry("others".to_owned()).or_default() += 1,
        }
    }

    fn add_decided(&mut self, key: (String, String), registration: &Registration, ended: Duration) {
        if let Some((id, outcome)) = self.keys.get(&key) {
            if (id, *outcome) == (&registration.registration_id, registration.outcome) {
                self.repeats.same += 1;
                return;
            }
            self.repeats.different += 1;
            if self.repeats.differences.len() < SHOWN_MAX {
                let (student, key) = key;
                self.repeats.differences.push(format!(
                    "student {student}, key {key}: first {id} {}, then {} {}",
                    outcome_name(*outcome),
                    registration.registration_id,
                    outcome_name(registration.outcome)
                ));
            }
            return;
        }
        self.keys.insert(key, (registration.registration_id.clone(), registration.outcome));
        *self.outcomes.entry(outcome_name(registration.outcome)).or_default() += 1;
        if registration.outcome() == Outcome::Refused {
            let mut reasons: Vec<&str> =
                registration.reasons.iter().map(|refusal| reason_name(refusal.reason)).collect();
            reasons.sort_unstable();
            reasons.dedup();
            for reason in reasons {
                *self.refusals.entry(reason).or_default() += 1;
            }
        }
        let second = ended.as_secs() as usize;
        if self.decided_per_s.len() <= second {
            self.decided_per_s.resize(second + 1, 0);
        }
        self.decided_per_s[second] += 1;
    }

    /// Adds the player's final counts.
    pub fn close(&mut self, sent: &Sent) {
        let flow = sent.flow();
        self.clicks = flow.clicks;
        self.held_back = flow.held_back;
        self.outstanding_max = flow.outstanding_max;
        self.stall_longest = flow.stall_longest;
    }
}

impl Answered {
    fn played(&self) -> Click {
        let registration = self.followed.end.as_ref().ok();
        let click = Click {
            key: (self.student_id.clone(), self.key.clone()),
            sent: self.sent,
            admitted: self.admitted,
            acknowledged: self.acknowledged,
            ended: registration.map(|_| self.ended),
            ..Click::default()
        };
        match registration {
            Some(registration) => click.decided_as(registration),
            None => click,
        }
    }
}

impl Troubled {
    fn add(&mut self, calls: u32, is_decided: bool) {
        if calls > 0 {
            self.clicks += 1;
            self.calls += u64::from(calls);
            self.decided += u64::from(is_decided);
        }
    }
}

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, LATENCY_DIGITS);
        Self(histogram.expect("the bounds are constants that every test makes"))
    }
}

impl Latency {
    /// Records a latency.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LATENCY_US_MAX));
    }

    /// Whether no latency was recorded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The percentile, in milliseconds.
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        self.0.value_at_percentile(percent) as f64 / 1_000.0
    }

    /// The longest latency, in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1_000.0
    }

    /// Removes all latencies.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
pub mod tests;
