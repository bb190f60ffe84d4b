//! The line of accepted registrations: how many wait before each, and how long it will take.
//!
//! ```text
//! admitted ──► waiting, numbered ──► at work ──► decided
//! adopted  ──► waiting, numbered ──┘   (these go first)
//! ```
//!
//! The executor takes from the front of each lane, so a place is the difference of two numbers, and not a search.
//!
//! Promises: a place is exact, but that one who is cancelled while waiting counts until the line has moved past it; whoever
//! entered is remembered until it is decided or forgotten; each call costs the same, however long the line is.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use matricula_kit::id::SagaId;

use super::meter::Meter;

/// Weight of the latest registration in the mean time of work: some dozens count.
const WORK_WEIGHT: f64 = 1.0 / 32.0;

/// Where an accepted registration stands at the instance that drives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InLine {
    /// How many were accepted before it and wait for their turn; `None` when its own turn has come.
    pub ahead: Option<usize>,
    /// How long it will take to its outcome, as fast as registrations were decided in the last seconds; `None` while that
    /// is not known.
    pub expected_wait: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Line {
    open: HashMap<SagaId, Stage>,
    admitted: Lane,
    adopted: Lane,
    pub(super) meter: Meter,
    /// Mean time from a turn to the outcome, in seconds.
    work_s: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Waiting {
        is_adopted: bool,
        number: u64,
    },
    AtWork {
        since: Instant,
    },
    /// Decided or given up before its turn came: its number still stands in the lane.
    Gone {
        is_adopted: bool,
        number: u64,
    },
}

/// Numbers are given in order and taken from the front.
#[derive(Debug, Default)]
struct Lane {
    next: u64,
    front: u64,
}

impl Lane {
    fn waiting(&self) -> u64 {
        self.next - self.front
    }
}

impl Line {
    /// Where so many may be at work at a time.
    pub(super) fn new(at_work_max: usize) -> Self {
        let (admitted, adopted) = (Lane::default(), Lane::default());
        Self { open: HashMap::new(), admitted, adopted, meter: Meter::new(at_work_max), work_s: None }
    }

    /// It waits for its turn from now on, behind all others of its lane.
    pub(super) fn join(&mut self, id: SagaId, is_adopted: bool, now: Instant) {
        let lane = self.lane(is_adopted);
        let number = lane.next;
        lane.next += 1;
        self.open.insert(id, Stage::Waiting { is_adopted, number });
        self.meter.set_waiting(now, true);
    }

    /// It was taken from the front of its lane.
    pub(super) fn turn_of(&mut self, id: &SagaId, now: Instant) {
        let (is_adopted, number) = match self.open.get(id).copied() {
            Some(Stage::Waiting { is_adopted, number }) => {
                self.open.insert(id.clone(), Stage::AtWork { since: now });
                (is_adopted, number)
            }
            Some(Stage::Gone { is_adopted, number }) => {
                self.open.remove(id);
                (is_adopted, number)
            }
            Some(Stage::AtWork { .. }) | None => return,
        };
        let lane = self.lane(is_adopted);
        // A saga that was adopted twice has two numbers.
        lane.front = lane.front.max(number + 1);
        self.meter.set_waiting(now, self.waiting() > 0);
    }

    /// It has an outcome.
    pub(super) fn decided(&mut self, id: &SagaId, now: Instant) {
        self.meter.decided(now);
        if let Some(since) = self.leave(id) {
            let took = now.saturating_duration_since(since).as_secs_f64();
            self.work_s = Some(self.work_s.map_or(took, |mean| mean + (took - mean) * WORK_WEIGHT));
        }
    }

    /// It is no concern of this instance any more.
    pub(super) fn forgot(&mut self, id: &SagaId) {
        self.leave(id);
    }

    /// Where it stands; `None` when it is not open here.
    pub(super) fn place(&mut self, id: &SagaId, now: Instant) -> Option<InLine> {
        match *self.open.get(id)? {
            Stage::Waiting { is_adopted, number } => {
                let ahead = match is_adopted {
                    true => number.saturating_sub(self.adopted.front),
                    false => self.adopted.waiting() + number.saturating_sub(self.admitted.front),
                };
                let expected_wait = self.expected_wait(ahead, now);
                Some(InLine { ahead: usize::try_from(ahead).ok(), expected_wait })
            }
            Stage::AtWork { since } => {
                let worked = now.saturating_duration_since(since);
                let expected_wait = self.work().map(|work| work.saturating_sub(worked));
                Some(InLine { ahead: None, expected_wait })
            }
            Stage::Gone { .. } => None,
        }
    }

    /// How long one takes to its outcome with so many before it; `None` while that is not known.
    fn expected_wait(&mut self, ahead: u64, now: Instant) -> Option<Duration> {
        let rate = self.meter.rate(now)?;
        // Its turn comes when those before it had theirs and one more place is free.
        let turn = Duration::try_from_secs_f64((ahead + 1) as f64 / rate).ok()?;
        Some(turn + self.work()?)
    }

    fn work(&self) -> Option<Duration> {
        self.work_s.and_then(|mean| Duration::try_from_secs_f64(mean).ok())
    }

    /// Takes it out; since when it was at work, if it was.
    fn leave(&mut self, id: &SagaId) -> Option<Instant> {
        match *self.open.get(id)? {
            Stage::AtWork { since } => {
                self.open.remove(id);
                Some(since)
            }
            Stage::Waiting { is_adopted, number } => {
                self.open.insert(id.clone(), Stage::Gone { is_adopted, number });
                None
            }
            Stage::Gone { .. } => None,
        }
    }

    fn lane(&mut self, is_adopted: bool) -> &mut Lane {
        if is_adopted { &mut self.adopted } else { &mut self.admitted }
    }

    fn waiting(&self) -> u64 {
        self.admitted.waiting() + self.adopted.waiting()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn id(number: usize) -> SagaId {
        SagaId::stored(number.to_string())
    }

    fn ahead(line: &mut Line, number: usize) -> Option<Option<usize>> {
        line.place(&id(number), Instant::now()).map(|place| place.ahead)
    }

    #[test]
    fn a_place_is_how_many_go_first() {
        let (mut line, now) = (Line::new(1), Instant::now());
        (0..5).for_each(|number| line.join(id(number), false, now));
        assert_eq!([0, 3, 9].map(|number| ahead(&mut line, number)), [Some(Some(0)), Some(Some(3)), None]);
        line.turn_of(&id(0), now);
        assert_eq!([0, 1, 3].map(|number| ahead(&mut line, number)), [Some(None), Some(Some(0)), Some(Some(2))]);
        // What is adopted goes first.
        (10..12).for_each(|number| line.join(id(number), true, now));
        assert_eq!([11, 1, 3].map(|number| ahead(&mut line, number)), [Some(Some(1)), Some(Some(2)), Some(Some(4))]);
        line.turn_of(&id(10), now);
        assert_eq!([11, 3].map(|number| ahead(&mut line, number)), [Some(Some(0)), Some(Some(3))]);
        line.decided(&id(0), now);
        assert_eq!(ahead(&mut line, 0), None);
    }

    #[test]
    fn one_that_goes_before_its_turn_leaves_nothing_behind() {
        let (mut line, now) = (Line::new(1), Instant::now());
        (0..3).for_each(|number| line.join(id(number), false, now));
        line.decided(&id(2), now);
        line.forgot(&id(1));
        line.forgot(&id(1));
        assert_eq!([0, 1, 2].map(|number| ahead(&mut line, number)), [Some(Some(0)), None, None]);
        (0..3).for_each(|number| line.turn_of(&id(number), now));
        assert_eq!((line.open.len(), line.waiting()), (1, 0));
        line.decided(&id(0), now);
        assert!(line.open.is_empty());
    }

    /// A queue that is worked off by so many places, each taking so long: every promise that was made turns out true.
    #[test]
    fn the_expected_wait_turns_out_true_within_a_fifth() {
        let (mut line, start) = (Line::new(50), Instant::now());
        let (places, arrivals_s, ms) = (50, 400, Duration::from_millis);
        // 250 a second are decided, 400 a second arrive: the line grows all the time.
        let takes = |number: usize| ms(150 + 100 * (number as u64 % 2));
        let mut queued: VecDeque<usize> = VecDeque::new();
        let mut at_work: Vec<(Instant, usize)> = Vec::new();
        let mut promised: HashMap<usize, (Instant, InLine)> = HashMap::new();
        let (mut arrived, mut kept) = (0, 0);
        for at in 1..15_000 {
            let now = start + ms(at);
            while arrived < at as usize * arrivals_s / 1_000 {
                line.join(id(arrived), false, now);
                queued.push_back(arrived);
                let place = line.place(&id(arrived), now).expect("it waits");
                assert_eq!(place.ahead, Some(queued.len() - 1));
                promised.insert(arrived, (now, place));
                arrived += 1;
            }
            for (_, number) in at_work.extract_if(.., |(ends, _)| *ends <= now).collect::<Vec<_>>() {
                line.decided(&id(number), now);
                let (since, place) = promised.remove(&number).expect("it was promised");
                let Some(expected) = place.expected_wait.filter(|_| since > start + ms(3_000)) else { continue };
                let ratio = expected.as_secs_f64() / (now - since).as_secs_f64();
                assert!((0.8..1.2).contains(&ratio), "{number}: {expected:?}, not {:?}", now - since);
                kept += 1;
            }
            while at_work.len() < places {
                let Some(number) = queued.pop_front() else { break };
                line.turn_of(&id(number), now);
                at_work.push((now + takes(number), number));
            }
        }
        assert!(kept > 1_500, "only {kept} promises were looked at");
    }
}
