//! Admission control. A repeated submission is answered from memory, a submission beyond a bound is rejected with a
//! time to come back, and every other one goes to the database, which decides whether it is accepted.
//!
//! | type | one job |
//! |---|---|
//! | [`Repeats`] | the keys that were accepted lately |
//! | [`Bounds`] | the bounds, in the order of their checks |
//! | [`RateLimiter`] | how fast one subject may submit |
//! | [`RetryAfterScheduler`] | when rejected clients should come back |
//!
//! Promises: a rejected submission takes no token. Hash maps are never iterated in their own order.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::line::Line;
use crate::{CoreConfig, Moment, SagaId, fraction};

/// Keys that are kept, about 8 MB. People click again within seconds, and it takes at least 5 s to accept this many.
const KEYS_MAX: usize = 32_768;

/// Submissions are rejected while an older one has waited for this time to be written.
const DURABLE_MAX: Duration = Duration::from_secs(1);

/// The range of hints while the rate is unknown, because no saga is decided or none has waited yet. It begins early, so
/// that clients are there when work goes on, and it is wide, so that they do not come back all at once.
const RETRY_UNKNOWN: Range<Duration> = Duration::from_millis(500)..Duration::from_millis(2_500);
/// Shortest hint: no client comes back faster over a network.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest hint. An underestimated rate must not keep clients away for long. Many clients that have to wait for a
/// minute never come back, and their room would stay unused.
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Names the purpose of the random numbers of hints.
const RETRY_HINT: u64 = u64::from_be_bytes(*b"retryaft");
/// Random part by which a hint is longer or shorter, so that clients with coarse clocks do not fall into step.
const RETRY_JITTER: f64 = 0.05;

/// The most subjects in the rate limiter, about 10 MB. A subject stays until its burst is whole again, which takes
/// seconds, so only an attack with invented subjects reaches this number. Then new subjects pass the rate limiter; the
/// bounds of the line still apply to them.
const SUBJECTS_MAX: usize = 100_000;
/// With fewer subjects than this the rate limiter does not sweep.
const SUBJECTS_KEPT: usize = 1_000;

/// The submissions that this instance has accepted lately, by subject and key. A second click is answered from memory:
/// it costs neither a token nor a statement, however long the line is.
///
/// An entry never becomes wrong, because a key belongs to one saga for ever. A key that is missing here may still be in
/// the database.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    known: HashMap<Arc<str>, Known>,
    /// The oldest first.
    order: VecDeque<Arc<str>>,
}

#[derive(Debug)]
struct Known {
    id: SagaId,
    fingerprint: String,
}

impl Repeats {
    /// The saga of a key, and whether its fingerprint is the same.
    pub(crate) fn find(&self, subject: &str, key: &str, fingerprint: &str) -> Option<(SagaId, bool)> {
        let known = self.known.get(joined(subject, key).as_str())?;
        Some((known.id, known.fingerprint == fingerprint))
    }

    /// Adds a key whose saga is persisted.
    pub(crate) fn accepted(&mut self, subject: &str, key: &str, fingerprint: &str, id: SagaId) {
        let joined: Arc<str> = joined(subject, key).into();
        if self.known.insert(joined.clone(), Known { id, fingerprint: fingerprint.to_owned() }).is_none() {
            self.order.push_back(joined);
        }
        if self.order.len() > KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// Neither a subject nor a key has a line break.
fn joined(subject: &str, key: &str) -> String {
    format!("{subject}\n{key}")
}

/// Decides which submissions go to the database.
#[derive(Debug)]
pub(crate) struct Bounds {
    in_memory_max: usize,
    rate: RateLimiter,
    retries: RetryAfterScheduler,
}

/// Why a submission is rejected without the database.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// There is no room for it.
    QueueFull { retry_after: Duration },
    /// Its subject submits too fast.
    OverQuota { retry_after: Duration },
}

/// The load of the instance, which the bounds limit.
pub(crate) struct Load<'a, R> {
    pub line: &'a Line<R>,
    /// Submissions that are to be queued and are not written yet.
    pub coming: u64,
    /// Sagas in memory, and sagas whose first event is being written.
    pub in_memory: usize,
    /// The arrival of the oldest submission that is not written.
    pub unwritten_since: Option<Moment>,
}

impl Bounds {
    pub(crate) fn new(config: &CoreConfig, seed: u64) -> Self {
        Self {
            in_memory_max: config.sagas_in_memory_max,
            rate: RateLimiter::new(config.subject_per_second_max, config.subject_burst_max),
            retries: RetryAfterScheduler::new(seed),
        }
    }

    /// Lets one submission through, or returns when to come back. The subject's rate is checked last, so that a
    /// submission that is rejected for lack of room takes no token. Without a subject no rate is checked.
    pub(crate) fn check<R>(&mut self, subject: Option<&str>, load: &Load<'_, R>, now: Moment) -> Result<(), Rejection> {
        let Load { line, coming, in_memory, unwritten_since } = load;
        // Only a full line has a rate. Memory fills while a service is away, and submissions wait while the database is
        // slow: nothing here can predict when that ends.
        let is_stuck = unwritten_since.is_some_and(|since| since + DURABLE_MAX <= now);
        if is_stuck || *in_memory >= self.in_memory_max || line.is_full(*coming) {
            let rate = line.rate(now).filter(|_| line.is_full(*coming));
            return Err(Rejection::QueueFull { retry_after: self.retries.next(now, line.waiting(), rate) });
        }
        let Some(subject) = subject else { return Ok(()) };
        let too_fast = |wait: Duration| Rejection::OverQuota { retry_after: wait.clamp(RETRY_MIN, RETRY_MAX) };
        self.rate.take(subject, now).map_err(too_fast)
    }
}

/// When a subject should come back that has too many sagas without an outcome: when all that are in line are decided.
pub(crate) fn when_decided<R>(line: &Line<R>, now: Moment) -> Duration {
    let wait = line.rate(now).and_then(|rate| time_to_decide(line.waiting(), rate));
    wait.unwrap_or(RETRY_UNKNOWN.end).clamp(RETRY_MIN, RETRY_MAX)
}

/// Schedules when rejected clients should come back: from when there will be room, one after the other, at the rate at
/// which sagas are decided.
///
/// ```text
/// now ─────── the line is decided ──┬──┬──┬──┬──┬── ... ── RETRY_MAX
///                                   1  2  3  4  5          further clients get a random time in between
/// ```
#[derive(Debug)]
struct RetryAfterScheduler {
    /// When the next client may come.
    next: Option<Moment>,
    seed: u64,
    /// Hints so far.
    hints: u64,
}

impl RetryAfterScheduler {
    fn new(seed: u64) -> Self {
        Self { next: None, seed, hints: 0 }
    }

    /// The hint for one more rejected client, while `waiting` sagas have their turns at this rate.
    fn next(&mut self, now: Moment, waiting: u64, rate: Option<f64>) -> Duration {
        self.hints += 1;
        let random = fraction(self.seed, RETRY_HINT, self.hints);
        let Some(rate) = rate else { return spread(RETRY_UNKNOWN, random) };
        let room = time_to_decide(waiting, rate).unwrap_or(RETRY_MAX).min(RETRY_MAX);
        let turn = self.next.filter(|next| *next > now + room).unwrap_or(now + room);
        let wait = turn - now;
        if wait >= RETRY_MAX {
            // All the room until RETRY_MAX is already promised to earlier clients.
            return spread(room.min(RETRY_MAX / 2)..RETRY_MAX, random);
        }
        self.next = Some(turn + time_to_decide(1, rate).unwrap_or(RETRY_MAX));
        wait.mul_f64(1.0 + (random * 2.0 - 1.0) * RETRY_JITTER).max(RETRY_MIN)
    }
}

/// How long it takes to decide this many sagas at a rate; none if that is too long for a `Duration`.
fn time_to_decide(sagas: u64, rate: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(sagas as f64 / rate).ok()
}

fn spread(range: Range<Duration>, random: f64) -> Duration {
    range.start + (range.end - range.start).mul_f64(random)
}

/// Limits the submissions a second of each subject, with a burst after a quiet time: the generic cell rate algorithm
/// (GCRA).
///
/// For each subject it keeps one moment, the theoretical arrival time: the moment at which a client that submits once
/// an interval would be due again. A submission passes while that moment is at most a burst ahead. The crate `governor`
/// does the same, but it reads a clock itself, and here time is an argument.
#[derive(Debug)]
struct RateLimiter {
    interval: Duration,
    /// How far ahead the theoretical arrival time may be.
    tolerance: Duration,
    /// The theoretical arrival time of each subject.
    arrival_at: HashMap<Box<str>, Moment>,
    /// The number of subjects at which the next sweep runs.
    sweep_at: usize,
}

impl RateLimiter {
    fn new(per_second_max: u32, burst_max: u32) -> Self {
        let interval = (Duration::from_secs(1) / per_second_max.max(1)).max(Duration::from_nanos(1));
        let tolerance = interval * (burst_max.max(1) - 1);
        Self { interval, tolerance, arrival_at: HashMap::new(), sweep_at: SUBJECTS_KEPT }
    }

    /// Takes a token of the subject, or returns how long it has to wait for one.
    fn take(&mut self, subject: &str, now: Moment) -> Result<(), Duration> {
        if self.arrival_at.len() >= self.sweep_at {
            self.sweep(now);
            if self.arrival_at.len() >= SUBJECTS_MAX && !self.arrival_at.contains_key(subject) {
                return Ok(());
            }
        }
        if let Some(arrival_at) = self.arrival_at.get_mut(subject) {
            let may_come_at = arrival_at.saturating_sub(self.tolerance);
            if now < may_come_at {
                return Err(may_come_at - now);
            }
            *arrival_at = now.max(*arrival_at) + self.interval;
        } else {
            self.arrival_at.insert(subject.into(), now + self.interval);
        }
        Ok(())
    }

    /// Removes the subjects whose burst is whole again.
    fn sweep(&mut self, now: Moment) {
        self.arrival_at.retain(|_, arrival_at| *arrival_at > now);
        // The next sweep comes after as many new subjects as this one has kept, so the cost for each subject is
        // constant.
        self.sweep_at = (self.arrival_at.len() * 2).clamp(SUBJECTS_KEPT, SUBJECTS_MAX);
    }
}

#[cfg(test)]
mod tests;
