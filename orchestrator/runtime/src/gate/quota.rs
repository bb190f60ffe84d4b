//! What one student may take: so many registrations without an outcome at a time, and so many submissions a second. A
//! program that clicks for somebody must not take the places of all others. And what a student has taken: who clicks twice
//! is known, and takes nothing more, however long the queue is.
//!
//! Promises: what is rejected costs a student nothing; nobody is told of a registration before it is durable; a place that a student has taken comes back when the
//! registration is decided or forgotten, whatever becomes of the caller; the memory is bounded by the places there are, and
//! by [`KEYS_MAX`].

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota as Allowance, RateLimiter};
use matricula_kit::id::SagaId;

use crate::RuntimeConfig;

/// What asks to be let in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// The saga that it would become.
    pub id: &'a SagaId,
    /// The student.
    pub subject: &'a str,
    /// The student's own name for it.
    pub key: &'a str,
    /// The request in one canonical form.
    pub fingerprint: &'a str,
}

/// One that was let in and has no outcome yet.
#[derive(Debug)]
struct Open {
    id: SagaId,
    key: String,
    fingerprint: String,
    is_durable: bool,
    /// The student had submitted the same key before, and it was not durable yet: it takes no place of its own.
    is_repeat: bool,
}

/// Students whose last submissions are remembered at most, about 10 MB. One is remembered until the allowance is whole
/// again, which takes seconds: only made-up names come to so many. Beyond it, those who are not remembered are let in,
/// and the queue's own bounds hold them.
const KEYS_MAX: usize = 100_000;
/// Below this many it is not worth looking for those whose allowance is whole again.
const KEYS_KEPT: usize = 1_000;

/// Repeats of one student that are let in for nothing at a time. Each takes a place in the queue of all until the log has
/// answered it, which takes milliseconds: a person clicks less often.
const REPEATS_MAX: usize = 10;

type Limiter<C> = RateLimiter<Arc<str>, HashMapStateStore<Arc<str>>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// Why one more is too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OverQuota {
    /// As many are without an outcome as one may have.
    Open,
    /// They come too fast; the next may come after this time.
    Rate(Duration),
}

pub(super) struct Quota<C: Clock = MonotonicClock> {
    open_max: usize,
    /// What each subject has open, a few at most, and whose each is.
    open: HashMap<Arc<str>, Vec<Open>>,
    subjects: HashMap<SagaId, Arc<str>>,
    limiter: Limiter<C>,
    clock: C,
    /// As many keys as are looked through again.
    sweep_at: usize,
}

impl Quota {
    pub(super) fn new(config: &RuntimeConfig) -> Self {
        Self::with_clock(config, MonotonicClock)
    }
}

impl<C: Clock + Clone> Quota<C> {
    fn with_clock(config: &RuntimeConfig, clock: C) -> Self {
        let at_least_one = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let allowance = Allowance::per_second(at_least_one(config.subject_per_second_max));
        let allowance = allowance.allow_burst(at_least_one(config.subject_burst_max));
        Self {
            open_max: config.subject_open_max,
            open: HashMap::new(),
            subjects: HashMap::new(),
            limiter: RateLimiter::hashmap_with_clock(allowance, clock.clone()),
            clock,
            sweep_at: KEYS_KEPT,
        }
    }

    /// The registration that the same key of the same student has become, while it is open, and whether it asked for the
    /// same.
    pub(super) fn known(&self, entry: Entry<'_>) -> Option<(SagaId, bool)> {
        let open = self.open.get(entry.subject)?.iter().find(|open| open.is_durable && open.key == entry.key)?;
        Some((open.id.clone(), open.fingerprint == entry.fingerprint))
    }

    /// Counts one that a subject submits, until it leaves; or returns why it is too many. A repeat of what is being made
    /// durable costs neither a place nor a token. What is rejected costs no token: the token is taken last.
    pub(super) fn enter(&mut self, entry: Entry<'_>) -> Result<(), OverQuota> {
        // One name for all that is kept of a subject.
        let known = self.open.get_key_value(entry.subject);
        let name = known.map_or_else(|| Arc::from(entry.subject), |(name, _)| name.clone());
        let open = known.map_or(&[][..], |(_, open)| open);
        let repeats = open.iter().filter(|open| open.is_repeat).count();
        let is_repeat = repeats < REPEATS_MAX && open.iter().any(|open| open.key == entry.key);
        if !is_repeat {
            if open.len() - repeats >= self.open_max {
                return Err(OverQuota::Open);
            }
            self.check_rate(&name)?;
        }
        let (id, key, fingerprint) = (entry.id.clone(), entry.key.to_owned(), entry.fingerprint.to_owned());
        let open = Open { id, key, fingerprint, is_durable: false, is_repeat };
        self.open.entry(name.clone()).or_default().push(open);
        self.subjects.insert(entry.id.clone(), name);
        Ok(())
    }

    /// It is accepted, durably: from now on its student may hear of it.
    pub(super) fn accepted(&mut self, id: &SagaId) {
        let open = self.subjects.get(id).and_then(|name| self.open.get_mut(name));
        if let Some(open) = open.and_then(|open| open.iter_mut().find(|open| open.id == *id)) {
            // A repeat that is accepted was the first: what came before it has never become durable.
            (open.is_durable, open.is_repeat) = (true, false);
        }
    }

    /// It is decided, forgotten, or was never new. Once is enough, and more does no harm.
    pub(super) fn leave(&mut self, id: &SagaId) {
        let Some(name) = self.subjects.remove(id) else { return };
        if let Some(open) = self.open.get_mut(&name) {
            open.retain(|open| open.id != *id);
            if open.is_empty() {
                self.open.remove(&name);
            }
        }
    }

    fn check_rate(&mut self, name: &Arc<str>) -> Result<(), OverQuota> {
        if self.limiter.len() >= self.sweep_at {
            self.limiter.retain_recent();
            let kept = self.limiter.len();
            if kept >= KEYS_MAX {
                return Ok(());
            }
            // Each look is paid for by as many new keys as it has looked through.
            self.sweep_at = (kept * 2).clamp(KEYS_KEPT, KEYS_MAX);
        }
        let now = self.clock.now();
        self.limiter.check_key(name).map_err(|not_until| OverQuota::Rate(not_until.wait_time_from(now)))
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn quota(open: usize, per_second: u32, burst: u32) -> (Quota<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let config = RuntimeConfig {
            subject_open_max: open,
            subject_per_second_max: per_second,
            subject_burst_max: burst,
            ..RuntimeConfig::default()
        };
        (Quota::with_clock(&config, clock.clone()), clock)
    }

    fn id(number: usize) -> SagaId {
        SagaId::stored(number.to_string())
    }

    /// A subject submits what has no key like any other.
    fn enter(quota: &mut Quota<FakeRelativeClock>, number: usize, subject: &str) -> Result<(), OverQuota> {
        let (id, key) = (id(number), format!("key {number}"));
        quota.enter(Entry { id: &id, subject, key: &key, fingerprint: "" })
    }

    #[test]
    fn a_second_click_is_known_from_when_the_first_is_durable_until_it_is_decided() {
        let (mut quota, _clock) = quota(10, 1_000, 1_000);
        let (first, second) = (id(1), id(2));
        let entry = Entry { id: &first, subject: "ada", key: "k", fingerprint: "A" };
        quota.enter(entry).expect("there is room");
        let again = Entry { id: &second, ..entry };
        assert_eq!(quota.known(again), None, "it may never become durable");
        quota.accepted(&first);
        assert_eq!(quota.known(again), Some((first.clone(), true)));
        assert_eq!(quota.known(Entry { fingerprint: "B", ..again }), Some((first.clone(), false)));
        assert_eq!(quota.known(Entry { key: "l", ..again }), None);
        assert_eq!(quota.known(Entry { subject: "bob", ..again }), None, "a key is of its student");
        quota.leave(&first);
        assert_eq!(quota.known(again), None);
        quota.accepted(&first);
        assert!(quota.open.is_empty() && quota.subjects.is_empty());
    }

    #[test]
    fn so_many_may_be_open_and_each_comes_back_once() {
        let (mut quota, _clock) = quota(2, 1_000, 1_000);
        assert_eq!([0, 1, 2].map(|number| enter(&mut quota, number, "ada")), [Ok(()), Ok(()), Err(OverQuota::Open)]);
        assert_eq!(enter(&mut quota, 9, "bob"), Ok(()), "another one is not held up");
        quota.leave(&id(0));
        quota.leave(&id(0));
        quota.leave(&id(2));
        assert_eq!([3, 4].map(|number| enter(&mut quota, number, "ada")), [Ok(()), Err(OverQuota::Open)]);
        [1, 3, 9].iter().for_each(|number| quota.leave(&id(*number)));
        assert!(quota.open.is_empty() && quota.subjects.is_empty(), "nothing is left behind");
    }

    #[test]
    fn a_double_click_costs_neither_a_place_nor_a_token() {
        let (mut quota, _clock) = quota(2, 1, 2);
        let [first, again, other, third] = [1, 2, 3, 4].map(id);
        fn entry<'a>(id: &'a SagaId, key: &'a str) -> Entry<'a> {
            Entry { id, subject: "ada", key, fingerprint: "A" }
        }
        quota.enter(entry(&first, "k")).expect("there is room");
        // Not durable yet, so it can't be answered: the log will find that it exists.
        quota.enter(entry(&again, "k")).expect("a repeat takes no place");
        quota.enter(entry(&other, "l")).expect("a repeat took no token");
        assert_eq!(quota.enter(entry(&third, "m")), Err(OverQuota::Open));
        // A program that clicks all the time has no more for nothing than a person.
        let repeats = (5..50).filter(|number| quota.enter(entry(&id(*number), "k")).is_ok()).count();
        assert_eq!(repeats, REPEATS_MAX - 1);
        // The first was never durable, and the repeat is: it has the place of the first.
        quota.leave(&first);
        quota.accepted(&again);
        assert_eq!(quota.known(entry(&third, "k")), Some((again.clone(), true)));
        assert_eq!(quota.enter(entry(&third, "m")), Err(OverQuota::Open));
    }

    #[test]
    fn what_is_rejected_for_its_number_costs_no_token() {
        let (mut quota, _clock) = quota(1, 1, 2);
        assert_eq!(enter(&mut quota, 0, "ada"), Ok(()));
        for number in 1..20 {
            assert_eq!(enter(&mut quota, number, "ada"), Err(OverQuota::Open));
        }
        quota.leave(&id(0));
        assert_eq!(enter(&mut quota, 20, "ada"), Ok(()), "the second token is there");
    }

    #[test]
    fn so_many_a_second_after_a_burst() {
        let (mut quota, clock) = quota(1_000, 10, 30);
        let mut numbers = 0..;
        let mut tries = |count: usize| {
            let results = numbers.by_ref().take(count).map(|number| enter(&mut quota, number, "bot"));
            results.filter(Result::is_ok).count()
        };
        assert_eq!(tries(100), 30);
        clock.advance(Duration::from_secs(1));
        assert_eq!(tries(100), 10);
        clock.advance(Duration::from_secs(60));
        assert_eq!(tries(100), 30, "the burst is whole again");
        let Err(OverQuota::Rate(wait)) = enter(&mut quota, 9_000, "bot") else { panic!("it is over its quota") };
        assert!(wait > Duration::ZERO && wait <= Duration::from_millis(100), "{wait:?}");
        clock.advance(wait);
        assert_eq!(enter(&mut quota, 9_000, "bot"), Ok(()), "the hint is true");
    }

    #[test]
    fn made_up_names_cost_no_memory() {
        let (mut quota, clock) = quota(10, 10, 30);
        for number in 0..200_000 {
            enter(&mut quota, number, &format!("nobody-{number}")).expect("a new one is let in");
            quota.leave(&id(number));
            clock.advance(Duration::from_micros(100));
        }
        let kept = quota.limiter.len();
        // A thousand are not whole again yet, and as many more may come before the next look.
        assert!(kept <= 3 * KEYS_KEPT, "{kept} are remembered");
        assert!(quota.open.is_empty() && quota.subjects.is_empty());
    }
}
