//! How fast sagas are decided, from a list of all decisions that count: the definition, without the core's buckets.
//!
//! Time counts while the instance is saturated: a saga waits for its turn, or did so or a client was rejected less than
//! 50 ms ago. After the first decision of a saturation 100 ms pass before time counts. When the saturation ends, the
//! last part of 100 ms counts no more.

use std::collections::VecDeque;
use std::time::Duration;

use matricula_core::Moment;

const HELD: Duration = Duration::from_millis(50);
const BUCKET: Duration = Duration::from_millis(100);
/// The rate is that of so much counted time.
const WINDOW: Duration = Duration::from_secs(3);
/// The rate is known from so much time on, with as many decisions as sagas may be at work; or from a whole window on,
/// with a few.
const TIME_MIN: Duration = Duration::from_millis(500);
const DECIDED_MIN: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counting {
    /// Nothing is saturated.
    Stopped,
    /// Nothing was decided since it is.
    Ready,
    /// Time counts from this moment on.
    From(Moment),
}

#[derive(Debug)]
pub(super) struct Rate {
    decided_soon: usize,
    is_waiting: bool,
    held_until: Moment,
    counting: Counting,
    /// The time that has counted.
    counted: Duration,
    /// At how much counted time something was decided.
    decisions: VecDeque<Duration>,
    capacity: Option<f64>,
}

impl Rate {
    /// Where so many may be at work.
    pub fn new(at_work_max: usize) -> Self {
        Self {
            decided_soon: at_work_max.max(DECIDED_MIN),
            is_waiting: false,
            held_until: Moment::ZERO,
            counting: Counting::Stopped,
            counted: Duration::ZERO,
            decisions: VecDeque::new(),
            capacity: None,
        }
    }

    /// From now on some saga waits, or none.
    pub fn set_waiting(&mut self, now: Moment, is_waiting: bool) {
        self.go_on(now);
        if is_waiting {
            self.is_saturated();
        } else if self.is_waiting {
            self.held_until = now + HELD;
        }
        self.is_waiting = is_waiting;
    }

    pub fn rejected(&mut self, now: Moment) {
        self.go_on(now);
        if !self.is_waiting {
            self.is_saturated();
            self.held_until = now + HELD;
        }
    }

    pub fn decided(&mut self, now: Moment) {
        self.go_on(now);
        match self.counting {
            Counting::Ready => self.counting = Counting::From(now + BUCKET),
            Counting::From(from) if from <= now => self.decisions.push_back(self.counted),
            Counting::Stopped | Counting::From(_) => {}
        }
    }

    /// Decisions a second.
    pub fn now(&self, now: Moment) -> Option<f64> {
        let counted = self.counted_at(now);
        if self.has_ended(now) {
            let whole = counted - part(counted);
            return self.measured(whole, whole);
        }
        self.measured(counted, Duration::MAX)
    }

    /// The same, when something was last decided.
    pub fn capacity(&self) -> Option<f64> {
        self.capacity
    }

    fn is_saturated(&mut self) {
        if self.counting == Counting::Stopped {
            self.counting = Counting::Ready;
        }
    }

    fn has_ended(&self, now: Moment) -> bool {
        !self.is_waiting && self.held_until <= now
    }

    fn counted_at(&self, now: Moment) -> Duration {
        let until = if self.is_waiting { now } else { now.min(self.held_until) };
        let Counting::From(from) = self.counting else { return self.counted };
        // A standstill that is longer than the window counts no more than the window.
        let more = until.saturating_sub(from).min(WINDOW + BUCKET - part(self.counted));
        self.counted + more
    }

    fn go_on(&mut self, now: Moment) {
        let (counted, bucket) = (self.counted_at(now), self.counted - part(self.counted));
        if counted >= bucket + BUCKET && self.decisions.back().is_some_and(|at| *at >= bucket) {
            self.capacity = self.measured(bucket + BUCKET, Duration::MAX).or(self.capacity);
        }
        self.counted = counted;
        if let Counting::From(from) = &mut self.counting {
            *from = now.max(*from);
        }
        if self.has_ended(now) {
            self.counting = Counting::Stopped;
            self.counted -= part(self.counted);
            while self.decisions.pop_back_if(|at| *at >= self.counted).is_some() {}
        }
        while self.decisions.pop_front_if(|at| *at + WINDOW + BUCKET < self.counted).is_some() {}
    }

    /// With so much counted time, of the decisions before some of it.
    fn measured(&self, counted: Duration, before: Duration) -> Option<f64> {
        let whole = counted - part(counted);
        let since = whole.saturating_sub(WINDOW);
        let decided = self.decisions.iter().filter(|at| (since..before).contains(at)).count();
        let time = whole.min(WINDOW) + part(counted);
        let is_known = whole >= WINDOW && decided >= DECIDED_MIN || time >= TIME_MIN && decided >= self.decided_soon;
        is_known.then(|| decided as f64 / time.as_secs_f64())
    }
}

/// The part of 100 ms that has begun.
fn part(counted: Duration) -> Duration {
    Duration::from_nanos((counted.as_nanos() % BUCKET.as_nanos()) as u64)
}
