//! Admission: which submissions are answered from memory, because they repeat one; which go to the database, where it is
//! decided whether they are accepted; and when a client that is rejected should come back.
//!
//! | type | one job |
//! |---|---|
//! | [`Repeats`] | what was accepted lately |
//! | [`Bounds`] | the bounds, in their order |
//! | [`RateLimiter`] | how fast one subject may submit |
//! | [`RetryAfterScheduler`] | when rejected clients should come back |
//!
//! Promises: a rejected submission takes no token. Hash maps are never read in their own order.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::line::Line;
use crate::{CoreConfig, Moment, SagaId, fraction};

/// Keys that are remembered, about 8 MB: people click again within seconds, and this many are accepted in at least five.
const KEYS_MAX: usize = 32_768;

/// Submissions are rejected while an older one has waited for this time to be written.
const DURABLE_MAX: Duration = Duration::from_secs(1);

/// The range of hints while the rate is unknown: nothing is decided, or nothing has waited yet. It begins soon enough
/// to be served as soon as work goes on, and is wide enough that clients do not come back all at once.
const RETRY_UNKNOWN: Range<Duration> = Duration::from_millis(500)..Duration::from_millis(2_500);
/// Shortest hint: no client comes back faster over a network.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest hint. A rate that is underestimated must keep nobody away for long. Many clients that are sent away for a
/// minute never come back, and room would be kept for them in vain.
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Names the purpose of the random numbers of hints.
const RETRY_HINT: u64 = u64::from_be_bytes(*b"retryaft");
/// Part of a hint by which it is longer or shorter, so that clients with coarse clocks do not fall into step.
const RETRY_JITTER: f64 = 0.05;

/// Subjects whose last submissions are remembered at most, about 10 MB. A subject is remembered until its allowance is
/// whole again, which takes seconds: only made-up names come to so many. Beyond it, subjects that are not remembered
/// pass, and the bounds of the queue hold them.
const SUBJECTS_MAX: usize = 100_000;
/// Below this many the rate limiter does not look for subjects whose allowance is whole again.
const SUBJECTS_KEPT: usize = 1_000;

/// Repeats: what was accepted through this instance lately, by subject and key. A second click is answered from memory,
/// and costs neither a token nor a statement, however long the line is.
///
/// What is known here is true for ever: a key belongs to one saga. What is not known here, the database knows.
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
    /// The saga of a key, and whether it asked for the same.
    pub(crate) fn find(&self, subject: &str, key: &str, fingerprint: &str) -> Option<(SagaId, bool)> {
        let known = self.known.get(joined(subject, key).as_str())?;
        Some((known.id, known.fingerprint == fingerprint))
    }

    /// A key was accepted, durably.
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

/// Why a submission does not go to the database.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// There is no room for it.
    QueueFull { retry_after: Duration },
    /// Its subject submits too fast.
    OverQuota { retry_after: Duration },
}

/// What the bounds look at.
pub(crate) struct Room<'a, R> {
    pub line: &'a Line<R>,
    /// Submissions that are to be queued and are not written yet.
    pub coming: u64,
    /// Sagas in memory, and those that are about to be.
    pub in_memory: usize,
    /// Since when the oldest submission waits to be written.
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

    /// Lets one submission through, or says when to come back. The bounds of all come first and the subject's own last:
    /// a submission that is rejected for lack of room costs the subject nothing. No subject: no rate counts.
    pub(crate) fn enter<R>(&mut self, subject: Option<&str>, room: &Room<'_, R>, now: Moment) -> Result<(), Rejection> {
        let Room { line, coming, in_memory, unwritten_since } = room;
        // Memory is short because a service is away, and submissions wait because the database is slow: when that ends
        // is not known.
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

/// When a subject should come back that has as many sagas without an outcome as it may: all of them are in line or at
/// work.
pub(crate) fn when_decided<R>(line: &Line<R>, now: Moment) -> Duration {
    let wait = line.rate(now).and_then(|rate| time_to_decide(line.waiting(), rate));
    wait.unwrap_or(RETRY_UNKNOWN.end).clamp(RETRY_MIN, RETRY_MAX)
}

/// When rejected clients should come back: when there will be room, and one after the other as fast as sagas are
/// decided.
///
/// ```text
/// now ─────── those in line are decided ──┬──┬──┬──┬──┬── ... ── RETRY_MAX
///                                         1  2  3  4  5          then anywhere between
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

    /// The hint for one more rejected client, when so many sagas wait and their turns come at this rate.
    fn next(&mut self, now: Moment, waiting: u64, rate: Option<f64>) -> Duration {
        self.hints += 1;
        let random = fraction(self.seed, RETRY_HINT, self.hints);
        let Some(rate) = rate else { return spread(RETRY_UNKNOWN, random) };
        let room = time_to_decide(waiting, rate).unwrap_or(RETRY_MAX).min(RETRY_MAX);
        let turn = self.next.filter(|next| *next > now + room).unwrap_or(now + room);
        let wait = turn - now;
        if wait >= RETRY_MAX {
            // As many clients as there is room for in that time have their hints already.
            return spread(room.min(RETRY_MAX / 2)..RETRY_MAX, random);
        }
        self.next = Some(turn + time_to_decide(1, rate).unwrap_or(RETRY_MAX));
        wait.mul_f64(1.0 + (random * 2.0 - 1.0) * RETRY_JITTER).max(RETRY_MIN)
    }
}

/// How long it takes to decide so many at a rate.
fn time_to_decide(sagas: u64, rate: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(sagas as f64 / rate).ok()
}

fn spread(range: Range<Duration>, random: f64) -> Duration {
    range.start + (range.end - range.start).mul_f64(random)
}

/// Submissions a second of each subject, with a burst after a quiet time: the generic cell rate algorithm (GCRA).
///
/// Of a subject it keeps one moment, the theoretical arrival time: when all of its submissions so far are paid for, at
/// one an interval. The next may come while that moment is at most a burst ahead. The crate `governor` does the same,
/// but it reads a clock itself, and here time is an argument.
#[derive(Debug)]
struct RateLimiter {
    interval: Duration,
    /// How far ahead the moment may be.
    tolerance: Duration,
    paid_at: HashMap<Box<str>, Moment>,
    /// As many subjects are looked through again.
    sweep_at: usize,
}

impl RateLimiter {
    fn new(per_second_max: u32, burst_max: u32) -> Self {
        let interval = (Duration::from_secs(1) / per_second_max.max(1)).max(Duration::from_nanos(1));
        let tolerance = interval * (burst_max.max(1) - 1);
        Self { interval, tolerance, paid_at: HashMap::new(), sweep_at: SUBJECTS_KEPT }
    }

    /// Takes a token of the subject, or returns how long it has to wait for one.
    fn take(&mut self, subject: &str, now: Moment) -> Result<(), Duration> {
        if self.paid_at.len() >= self.sweep_at {
            self.sweep(now);
            if self.paid_at.len() >= SUBJECTS_MAX && !self.paid_at.contains_key(subject) {
                return Ok(());
            }
        }
        if let Some(paid_at) = self.paid_at.get_mut(subject) {
            let may_come_at = paid_at.saturating_sub(self.tolerance);
            if now < may_come_at {
                return Err(may_come_at - now);
            }
            *paid_at = now.max(*paid_at) + self.interval;
        } else {
            self.paid_at.insert(subject.into(), now + self.interval);
        }
        Ok(())
    }

    /// Forgets the subjects whose allowance is whole again.
    fn sweep(&mut self, now: Moment) {
        self.paid_at.retain(|_, paid_at| *paid_at > now);
        // Each sweep is paid for by as many new subjects as it has looked through.
        self.sweep_at = (self.paid_at.len() * 2).clamp(SUBJECTS_KEPT, SUBJECTS_MAX);
    }
}

#[cfg(test)]
mod tests;
