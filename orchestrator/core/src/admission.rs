//! Admission: which submissions are let in, which saga gets the next slot, where each one stands in line, and when a
//! rejected client should come back.
//!
//! ```text
//!  enter ──► entering ──accepted──► waiting, numbered ──next_turn──► at work ──► decided
//!            adopted ─────────────► waiting, numbered ──┘   (this lane goes first)
//! ```
//!
//! | type | one job |
//! |---|---|
//! | [`AdmissionControl`] | the bounds, the two lanes of the waiting line, the slots |
//! | [`ThroughputEstimator`] | how many sagas are decided a second |
//! | [`RetryAfterScheduler`] | when rejected clients should come back |
//! | [`Quota`], [`RateLimiter`] | what one subject has open, and how fast it submits |
//!
//! Promises: a saga that was let in is counted until it is decided, forgotten or withdrawn. A rejected submission takes
//! no place and no token. A subject hears of a saga only when its admission is persisted. A place in line is exact,
//! except that a saga which left the line early counts until the line has moved past it. Each call costs the same,
//! however long the line is. Hash maps are never read in their own order.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::random::fraction;
use crate::{CoreConfig, Moment, Reply, SagaId, Submission};

/// Decisions a second that are assumed until the rate is measured: fewer than most machines make. In a rush before the
/// first measurement some clients are rejected for half a second without need, and no saga waits for long.
const RATE_ASSUMED: f64 = 700.0;
/// The smallest part of `in_flight_max` that is at work, however low the rate is: where a service is slow and takes
/// many calls at a time, fewer sagas at work would lower the rate and speed up none of them.
const AT_WORK_LEAST_PART: usize = 4;
/// At least a quarter as many as are at work may wait. The rate is measured while sagas wait or clients are rejected,
/// so a bound from a rate that was too low must leave room for some to wait.
const WAITING_LEAST_PART: usize = 4;
/// Weight of the latest saga in the mean time of work: some dozens count.
const WORK_WEIGHT: f64 = 1.0 / 32.0;

/// One bucket of the measurement, and how many of them count: three seconds, so that batches even out and a change of
/// the load is seen soon.
const BUCKET: Duration = Duration::from_millis(100);
const BUCKETS: usize = 30;
/// Saturation is held for this long after the last wait or rejection. Sagas that wait again and again, each until the
/// end of a batch, are saturation. Counting only the moments of their waits would count many decisions in no time.
const HELD: Duration = Duration::from_millis(50);
/// With less time or fewer decisions the rate is unknown: one batch more or less would make all the difference.
const TIME_MIN: Duration = Duration::from_millis(500);
const DECIDED_MIN: u32 = 20;

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
/// Repeats of one subject that are let in for nothing at a time. Each takes a place in the queue until the database has
/// answered it, which takes milliseconds: a person clicks less often.
const REPEATS_MAX: usize = 10;

/// Where an accepted registration stands at the instance that drives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InLine {
    /// How many were accepted before it and wait for their turn; `None` when its own turn has come.
    pub ahead: Option<usize>,
    /// How long it will take to its outcome, as fast as registrations were decided in the last seconds; `None` while
    /// that is not known.
    pub expected_wait: Option<Duration>,
}

/// Lets submissions in, and gives slots to sagas in the order of the waiting line.
#[derive(Debug)]
pub(crate) struct AdmissionControl {
    config: CoreConfig,
    /// Sagas without an outcome: let in, or adopted.
    open: HashMap<SagaId, OpenSaga>,
    admitted: Lane,
    /// Adopted sagas are older, and go first.
    adopted: Lane,
    /// Slots that are taken.
    at_work: usize,
    throughput: ThroughputEstimator,
    /// Mean time from a turn to the outcome, in seconds.
    work_s: Option<f64>,
    retries: RetryAfterScheduler,
    quota: Quota,
}

#[derive(Debug)]
struct OpenSaga {
    stage: Stage,
    /// The subject whose quota it takes; an adopted saga takes none.
    subject: Option<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It was let in, and its admission is not persisted yet.
    Entering,
    /// It has a number in a lane.
    Waiting { is_adopted: bool, number: usize },
    /// It has a slot, since its turn or since before its turn.
    AtWork { since: Moment, had_turn: bool },
}

impl AdmissionControl {
    pub(crate) fn new(config: &CoreConfig, seed: u64) -> Self {
        Self {
            config: config.clone(),
            open: HashMap::new(),
            admitted: Lane::default(),
            adopted: Lane::default(),
            at_work: 0,
            throughput: ThroughputEstimator::new(config.in_flight_max),
            work_s: None,
            retries: RetryAfterScheduler::new(seed),
            quota: Quota::new(config),
        }
    }

    /// Lets one submission in and counts it, unless it is a repeat or a bound is reached: then its reply comes back.
    /// The common bounds come first and the subject's own quota last: a submission that is rejected for lack of room
    /// costs the subject nothing.
    pub(crate) fn enter<R>(&mut self, submission: &Submission<R>, in_memory: usize, now: Moment) -> Result<(), Reply> {
        if let Some((id, same_request)) = self.quota.known(submission) {
            return Err(Reply::Existing { id, same_request });
        }
        let has_memory = in_memory < self.config.sagas_in_memory_max;
        if !has_memory || self.open.len() >= self.open_max() {
            if has_memory {
                self.throughput.rejected(now);
            }
            // Memory is short because a service is away: when it will be free is unknown.
            let rate = self.throughput.rate(now).filter(|_| has_memory);
            return Err(Reply::QueueFull { retry_after: self.retries.next(now, self.open.len(), rate) });
        }
        let subject = self.quota.enter(submission, now).map_err(|wait| {
            let rate = self.throughput.rate(now);
            let wait = wait.or_else(|| time_to_decide(self.open.len(), rate?)).unwrap_or(RETRY_UNKNOWN.end);
            let retry_after = wait.clamp(RETRY_MIN, RETRY_MAX);
            let Submission { subject, key, fingerprint, .. } = submission;
            let (subject, key, fingerprint) = (subject.clone(), key.clone(), fingerprint.clone());
            Reply::OverQuota { retry_after, subject, key, fingerprint }
        })?;
        self.open.insert(submission.id, OpenSaga { stage: Stage::Entering, subject: Some(subject) });
        Ok(())
    }

    /// The admission is persisted: the saga joins the waiting line, and its subject may hear of it.
    pub(crate) fn accepted(&mut self, id: SagaId, now: Moment) {
        let Some(saga) = self.open.get_mut(&id) else { return };
        if let Some(subject) = &saga.subject {
            self.quota.accepted(subject, id);
        }
        if saga.stage == Stage::Entering {
            saga.stage = self.admitted.join(id, false);
            self.throughput.set_waiting(now, true);
        }
    }

    /// A saga comes from another instance, which let it in: no bound holds it. It joins the lane that goes first.
    pub(crate) fn adopted(&mut self, id: SagaId, now: Moment) {
        let saga = self.open.entry(id).or_insert(OpenSaga { stage: Stage::Entering, subject: None });
        if saga.stage == Stage::Entering {
            saga.stage = self.adopted.join(id, true);
            self.throughput.set_waiting(now, true);
        }
    }

    /// The saga that gets the next slot; `None` when all slots are taken or no saga waits.
    pub(crate) fn next_turn(&mut self, now: Moment) -> Option<SagaId> {
        if self.waiting() == 0 {
            self.throughput.set_waiting(now, false);
            return None;
        }
        if self.at_work >= self.at_work_max() {
            return None;
        }
        let is_adopted = self.adopted.waiting > 0;
        let lane = if is_adopted { &mut self.adopted } else { &mut self.admitted };
        loop {
            let number = lane.front();
            let id = lane.queue.pop_front()?;
            // One that left the line before its turn, or has joined again since, is passed over.
            let Some(saga) = self.open.get_mut(&id) else { continue };
            if saga.stage == (Stage::Waiting { is_adopted, number }) {
                lane.waiting -= 1;
                saga.stage = Stage::AtWork { since: now, had_turn: true };
                self.at_work += 1;
                self.throughput.set_waiting(now, self.waiting() > 0);
                return Some(id);
            }
        }
    }

    /// A waiting saga takes a slot before its turn, whatever the limit is. False when it does not wait.
    pub(crate) fn begin_early(&mut self, id: SagaId, now: Moment) -> bool {
        let Some(saga) = self.open.get_mut(&id) else { return false };
        let Stage::Waiting { is_adopted, .. } = saga.stage else { return false };
        saga.stage = Stage::AtWork { since: now, had_turn: false };
        self.lane_mut(is_adopted).waiting -= 1;
        self.at_work += 1;
        self.throughput.set_waiting(now, self.waiting() > 0);
        true
    }

    /// A saga at work has its outcome: it gives its slot back, and counts for the rate. More than once does no harm.
    pub(crate) fn decided(&mut self, id: SagaId, now: Moment) {
        let Some(&OpenSaga { stage: Stage::AtWork { since, had_turn }, .. }) = self.open.get(&id) else { return };
        self.throughput.decided(now);
        if had_turn {
            let took = now.saturating_sub(since).as_secs_f64();
            self.work_s = Some(self.work_s.map_or(took, |mean| mean + (took - mean) * WORK_WEIGHT));
        }
        self.leave(id);
    }

    /// Whether it is in the line, and its turn has not come.
    pub(crate) fn is_waiting(&self, id: SagaId) -> bool {
        self.open.get(&id).is_some_and(|saga| matches!(saga.stage, Stage::Waiting { .. }))
    }

    /// Sagas in the line.
    pub(crate) fn waiting(&self) -> usize {
        self.admitted.waiting + self.adopted.waiting
    }

    /// Adopted sagas in the line.
    pub(crate) fn waiting_adopted(&self) -> usize {
        self.adopted.waiting
    }

    /// Where a saga stands; `None` when it is not open here, or its admission is not persisted yet.
    pub(crate) fn place(&self, id: SagaId, now: Moment) -> Option<InLine> {
        match self.open.get(&id)?.stage {
            Stage::Entering => None,
            Stage::Waiting { is_adopted, number } => {
                let ahead = match is_adopted {
                    true => number - self.adopted.front(),
                    false => self.adopted.waiting + (number - self.admitted.front()),
                };
                Some(InLine { ahead: Some(ahead), expected_wait: self.expected_wait(ahead, now) })
            }
            Stage::AtWork { since, .. } => {
                let worked = now.saturating_sub(since);
                Some(InLine { ahead: None, expected_wait: self.work().map(|work| work.saturating_sub(worked)) })
            }
        }
    }

    /// How long a saga takes to its outcome with so many before it; `None` while that is not known.
    fn expected_wait(&self, ahead: usize, now: Moment) -> Option<Duration> {
        let rate = self.throughput.rate(now)?;
        // Its turn comes when those before it had theirs and one more slot is free.
        Some(time_to_decide(ahead + 1, rate)? + self.work()?)
    }

    fn work(&self) -> Option<Duration> {
        self.work_s.and_then(|mean| Duration::try_from_secs_f64(mean).ok())
    }

    /// As many as may be open: as many as are decided in time, always some more than may be at work, and never more
    /// than the fixed bound.
    fn open_max(&self) -> usize {
        let at_work = self.at_work_max();
        let in_time = self.decided_in(self.config.admission_wait_max_ms);
        in_time.max(at_work + at_work.div_ceil(WAITING_LEAST_PART)).min(self.config.admission_queue_max)
    }

    /// As many as may be at work.
    fn at_work_max(&self) -> usize {
        let most = self.config.in_flight_max;
        self.decided_in(self.config.in_flight_time_max_ms).clamp(most.div_ceil(AT_WORK_LEAST_PART), most)
    }

    /// As many as are decided in this time, as far as that is known.
    fn decided_in(&self, time_ms: u64) -> usize {
        (self.throughput.capacity.unwrap_or(RATE_ASSUMED) * Duration::from_millis(time_ms).as_secs_f64()) as usize
    }

    /// The saga has its outcome, is not driven here any more, is not new after all or can't be stored.
    pub(crate) fn leave(&mut self, id: SagaId) {
        let Some(OpenSaga { stage, subject }) = self.open.remove(&id) else { return };
        match stage {
            Stage::Entering => {}
            Stage::Waiting { is_adopted, .. } => self.lane_mut(is_adopted).waiting -= 1,
            Stage::AtWork { .. } => self.at_work -= 1,
        }
        if let Some(subject) = subject {
            self.quota.leave(&subject, id);
        }
    }

    fn lane_mut(&mut self, is_adopted: bool) -> &mut Lane {
        if is_adopted { &mut self.adopted } else { &mut self.admitted }
    }
}

/// Sagas that wait, in order. Numbers are given in order and taken from the front, so a place is a difference of two
/// numbers and not a search.
#[derive(Debug, Default)]
struct Lane {
    /// Those that wait, and those that left early and were not reached yet.
    queue: VecDeque<SagaId>,
    /// The number of the next that joins.
    next: usize,
    /// Those that wait.
    waiting: usize,
}

impl Lane {
    fn join(&mut self, id: SagaId, is_adopted: bool) -> Stage {
        if self.waiting == 0 {
            // Only such are left that have gone.
            self.queue.clear();
        }
        let number = self.next;
        self.next += 1;
        self.waiting += 1;
        self.queue.push_back(id);
        Stage::Waiting { is_adopted, number }
    }

    /// The number at the front.
    fn front(&self) -> usize {
        self.next - self.queue.len()
    }
}

/// How many sagas are decided a second, measured while the instance is saturated: some sagas wait for their turn, or
/// clients are rejected. Only then the rate is the capacity, and not the demand.
///
/// The estimator counts neither time without saturation nor decisions in it. It also skips the decisions right after
/// it, because their sagas began without saturation.
#[derive(Debug, Clone, Copy, Default)]
struct ThroughputEstimator {
    /// As many decisions give a rate before all buckets are full. Sagas that begin together go through their steps
    /// together, and the first decisions say nothing about how fast the rest come.
    decided_soon: u32,
    /// Decisions in each full bucket. `oldest` is overwritten next; buckets that were never full are 0.
    buckets: [u32; BUCKETS],
    oldest: usize,
    full: usize,
    /// Decisions in the bucket that is being filled, and how far it is.
    current: u32,
    filled: Duration,
    counting: Counting,
    /// When the saturation ends; none while a saga waits, and before one did.
    ends_at: Option<Moment>,
    /// The rate when something was last decided: it outlives the rush, and a standstill.
    capacity: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Counting {
    /// The instance is not saturated.
    #[default]
    Stopped,
    /// It is, and nothing was decided since.
    Ready,
    /// The first decision since was of a batch that began before, and the rest of it comes now.
    Settles {
        /// Counting starts then.
        until: Moment,
    },
    Runs {
        /// Up to when time is counted.
        until: Moment,
    },
}

impl ThroughputEstimator {
    /// Where so many may be at work at a time.
    fn new(at_work_max: usize) -> Self {
        let decided_soon = u32::try_from(at_work_max).unwrap_or(u32::MAX).max(DECIDED_MIN);
        Self { decided_soon, ..Self::default() }
    }

    /// From now on some saga waits, or none.
    fn set_waiting(&mut self, now: Moment, is_waiting: bool) {
        self.advance(now);
        if is_waiting {
            self.saturated();
            self.ends_at = None;
        } else {
            self.ends_at = self.ends_at.or(Some(now + HELD));
        }
    }

    /// A client was rejected, because as many sagas are open as may be.
    fn rejected(&mut self, now: Moment) {
        self.advance(now);
        // While a saga waits, the saturation has no end.
        if self.ends_at.is_some() || self.counting == Counting::Stopped {
            self.saturated();
            self.ends_at = Some(now + HELD);
        }
    }

    fn saturated(&mut self) {
        if self.counting == Counting::Stopped {
            self.counting = Counting::Ready;
        }
    }

    /// Counts a decision.
    fn decided(&mut self, now: Moment) {
        self.advance(now);
        match self.counting {
            Counting::Stopped | Counting::Settles { .. } => {}
            Counting::Ready => self.counting = Counting::Settles { until: now + BUCKET },
            Counting::Runs { .. } => self.current += 1,
        }
    }

    /// Decisions a second in the last seconds of saturation; `None` while that is not known, and when nothing is
    /// decided any more.
    fn rate(&self, now: Moment) -> Option<f64> {
        let mut at_now = *self;
        at_now.advance(now);
        at_now.measured(at_now.filled)
    }

    /// Over the full buckets, and the one that is filled so far.
    fn measured(&self, filled: Duration) -> Option<f64> {
        let decided = self.buckets.iter().sum::<u32>() + self.current;
        let time = BUCKET * self.full as u32 + filled;
        let is_full = self.full == BUCKETS && decided >= DECIDED_MIN;
        let is_known = is_full || (decided >= self.decided_soon && time >= TIME_MIN);
        is_known.then(|| f64::from(decided) / time.as_secs_f64())
    }

    fn advance(&mut self, now: Moment) {
        match self.ends_at {
            Some(ends_at) if ends_at <= now => {
                self.run_until(ends_at);
                self.counting = Counting::Stopped;
                // A part of a bucket would have a whole batch, or none.
                (self.current, self.filled) = (0, Duration::ZERO);
            }
            _ => self.run_until(now),
        }
    }

    fn run_until(&mut self, now: Moment) {
        if let Counting::Settles { until } = self.counting
            && until <= now
        {
            self.counting = Counting::Runs { until };
        }
        let Counting::Runs { until } = &mut self.counting else { return };
        self.filled += now.saturating_sub(*until);
        *until = now.max(*until);
        // Buckets beyond those that count push each other out: a long standstill costs no more than a short one.
        self.filled = self.filled.min(BUCKET * (BUCKETS as u32 + 1));
        while self.filled >= BUCKET {
            self.filled -= BUCKET;
            self.buckets[self.oldest] = self.current;
            self.oldest = (self.oldest + 1) % BUCKETS;
            self.full = (self.full + 1).min(BUCKETS);
            let has_decided = std::mem::take(&mut self.current) > 0;
            if has_decided {
                self.capacity = self.measured(Duration::ZERO).or(self.capacity);
            }
        }
    }
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

    /// The hint for one more rejected client, when so many sagas are open and are decided at this rate.
    fn next(&mut self, now: Moment, open: usize, rate: Option<f64>) -> Duration {
        self.hints += 1;
        let random = fraction(self.seed, RETRY_HINT, self.hints);
        let Some(rate) = rate else { return spread(RETRY_UNKNOWN, random) };
        let room = time_to_decide(open, rate).unwrap_or(RETRY_MAX).min(RETRY_MAX);
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
fn time_to_decide(sagas: usize, rate: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(sagas as f64 / rate).ok()
}

fn spread(range: Range<Duration>, random: f64) -> Duration {
    range.start + (range.end - range.start).mul_f64(random)
}

/// The quotas of subjects: how many registrations without an outcome each may have, and how many a second it may
/// submit. A program that clicks for one student must not take the places of all others. The quota also finds repeats:
/// a second click gets the saga of the first and takes no place, however long the line is.
///
/// Memory is bounded by the sagas that are open, and by [`SUBJECTS_MAX`].
#[derive(Debug)]
struct Quota {
    open_max: usize,
    /// Open submissions of each subject, a few at most.
    open: HashMap<Arc<str>, Vec<OpenSubmission>>,
    rate: RateLimiter,
}

/// A submission that was let in and has no outcome yet.
#[derive(Debug)]
struct OpenSubmission {
    id: SagaId,
    key: String,
    fingerprint: String,
    is_persisted: bool,
}

/// How many of the subject's places are taken: one by each key, however often it was submitted. Repeats beyond
/// [`REPEATS_MAX`] take places, too.
fn places(open: &[OpenSubmission]) -> usize {
    let is_first = |&(place, one): &(usize, &OpenSubmission)| open[..place].iter().all(|other| other.key != one.key);
    let keys = open.iter().enumerate().filter(is_first).count();
    keys.max(open.len().saturating_sub(REPEATS_MAX))
}

impl Quota {
    fn new(config: &CoreConfig) -> Self {
        let rate = RateLimiter::new(config.subject_per_second_max, config.subject_burst_max);
        Self { open_max: config.subject_open_max, open: HashMap::new(), rate }
    }

    /// The saga that the same key of the same subject has become, while it is open, and whether it asked for the same.
    fn known<R>(&self, submission: &Submission<R>) -> Option<(SagaId, bool)> {
        let mut open = self.open.get(submission.subject.as_str())?.iter();
        let known = open.find(|open| open.is_persisted && open.key == submission.key)?;
        Some((known.id, known.fingerprint == submission.fingerprint))
    }

    /// Counts a submission of a subject until it leaves, unless it is too many: then it returns how long the subject
    /// has to wait for a token, or none where it waits for an outcome. A repeat of one that is not persisted yet costs
    /// neither a place nor a token. A rejected one costs no token: the token is taken last.
    fn enter<R>(&mut self, submission: &Submission<R>, now: Moment) -> Result<Arc<str>, Option<Duration>> {
        // One name for all that is kept of a subject.
        let known = self.open.get_key_value(submission.subject.as_str());
        let subject = known.map_or_else(|| Arc::from(submission.subject.as_str()), |(subject, _)| subject.clone());
        let open = known.map_or(&[][..], |(_, open)| open);
        let places = places(open);
        let is_repeat = open.len() - places < REPEATS_MAX && open.iter().any(|open| open.key == submission.key);
        if !is_repeat {
            if places >= self.open_max {
                return Err(None);
            }
            self.rate.take(&subject, now).map_err(Some)?;
        }
        let (key, fingerprint) = (submission.key.clone(), submission.fingerprint.clone());
        let open = OpenSubmission { id: submission.id, key, fingerprint, is_persisted: false };
        self.open.entry(subject.clone()).or_default().push(open);
        Ok(subject)
    }

    /// It is persisted: from now on its subject may hear of it.
    fn accepted(&mut self, subject: &str, id: SagaId) {
        let mut open = self.open.get_mut(subject).into_iter().flatten();
        if let Some(open) = open.find(|open| open.id == id) {
            open.is_persisted = true;
        }
    }

    fn leave(&mut self, subject: &str, id: SagaId) {
        let Some(open) = self.open.get_mut(subject) else { return };
        open.retain(|open| open.id != id);
        if open.is_empty() {
            self.open.remove(subject);
        }
    }
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
    paid_at: HashMap<Arc<str>, Moment>,
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
    fn take(&mut self, subject: &Arc<str>, now: Moment) -> Result<(), Duration> {
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
            self.paid_at.insert(subject.clone(), now + self.interval);
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
