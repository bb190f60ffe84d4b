//! What all parts of a history share: the one clock, the one source of randomness, the queue of what is to come, the
//! network between the parts, and the log for people.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::rc::Rc;

use matricula_engine::Jitter;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::broken::Broken;
use crate::clients::{ClientEvent, Request};
use crate::fact::Fact;
use crate::names::{ClientNo, InstanceNo, ProcessNo, SagaNo, SectionNo};
use crate::operators::OperatorEvent;
use crate::owner::{OwnerInput, ProcessEvent};
use crate::participants::Rpc;
use crate::shapes::Shape;
use crate::store::StoreRequest;
use crate::weather::Weather;

/// What is to come.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// Something for one instance; nothing when it is gone by then.
    Owner { process: ProcessNo, instance: InstanceNo, input: OwnerInput },
    /// Something for a process, whatever instance runs there.
    Process { process: ProcessNo, event: ProcessEvent },
    /// A transaction reaches the store.
    Store { process: ProcessNo, instance: InstanceNo, request: StoreRequest },
    /// What the store has executed becomes durable.
    Flush { epoch: u32 },
    /// The store goes away for a moment.
    StoreCrash { loses_tail: bool, away_ms: i64, clock_jump_ms: i64 },
    /// A call reaches a service.
    Rpc { rpc: Rc<Rpc> },
    /// A service can't be reached for a while.
    Away { destination: u8, for_ms: i64 },
    /// Something for a client.
    Client { client: ClientNo, event: ClientEvent },
    /// Something for the operators.
    Operator(OperatorEvent),
    /// A person takes care of what a saga has left that was decided by hand.
    Mend { saga: SagaNo },
    /// A section gets another number of seats.
    Capacity { section: SectionNo, seats: usize },
    /// All faults end.
    Heal,
}

struct Scheduled {
    at_ms: i64,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest is the greatest, for the heap; what is due at the same moment comes in the order of scheduling.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_ms, other.number).cmp(&(self.at_ms, self.number))
    }
}

pub(crate) struct Env {
    /// True time. No part may look at it except through its own clock.
    pub now_ms: i64,
    pub weather: Weather,
    pub shape: Rc<Shape>,
    pub broken: Option<Broken>,
    pub healed: bool,
    /// What has happened and no invariant has seen yet.
    pub facts: Vec<Fact>,
    /// What each saga was asked for, by its number.
    pub requests: Vec<Rc<Request>>,
    /// The instances so far.
    pub instances: u16,
    rng: ChaCha8Rng,
    queue: BinaryHeap<Scheduled>,
    scheduled: u64,
    log: Option<Vec<String>>,
}

impl Env {
    pub(crate) fn new(seed: u64, shapes: &[Rc<Shape>], broken: Option<Broken>, logs: bool) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Half of the histories are registrations as they are.
        let shape = if rng.next_u32() & 1 == 0 { 0 } else { rng.next_u32() as usize % shapes.len() };
        Self {
            now_ms: 1_000_000_000,
            weather: Weather::draw(&mut rng),
            shape: shapes[shape].clone(),
            broken,
            healed: false,
            facts: Vec::with_capacity(16),
            requests: Vec::new(),
            instances: 0,
            rng,
            queue: BinaryHeap::with_capacity(64),
            scheduled: 0,
            log: logs.then(Vec::new),
        }
    }

    /// A number below `bound`; 0 for 0.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        if bound == 0 { 0 } else { self.rng.next_u32() % bound }
    }

    /// True for so many of 1,024 cases.
    pub(crate) fn chance(&mut self, of_1024: u32) -> bool {
        of_1024 > 0 && self.rng.next_u32() & 1_023 < of_1024
    }

    pub(crate) fn jitter(&mut self) -> Jitter {
        Jitter(self.rng.next_u32())
    }

    pub(crate) fn is_broken(&self, guard: Broken) -> bool {
        self.broken == Some(guard)
    }

    pub(crate) fn schedule(&mut self, in_ms: i64, event: Event) {
        self.scheduled += 1;
        self.queue.push(Scheduled { at_ms: self.now_ms + in_ms.max(0), number: self.scheduled, event });
    }

    /// Takes the next event and moves the clock to it.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let next = self.queue.pop()?;
        self.now_ms = next.at_ms;
        Some(next.event)
    }

    /// Sends something over the network, with what the weather does to it.
    pub(crate) fn send(&mut self, event: Event) {
        if self.chance(self.weather.twice) {
            self.send_once(event.clone());
        }
        self.send_once(event);
    }

    fn send_once(&mut self, event: Event) {
        if self.chance(self.weather.lost) {
            return;
        }
        let usual_ms = self.below(self.weather.usual_ms);
        let late_ms = if self.chance(self.weather.late) { self.below(self.weather.late_ms) } else { 0 };
        self.schedule(i64::from(usual_ms + late_ms), event);
    }

    /// Registers what a new saga is asked for.
    pub(crate) fn new_saga(&mut self, request: Rc<Request>) -> SagaNo {
        self.requests.push(request);
        SagaNo((self.requests.len() - 1) as u16)
    }

    pub(crate) fn new_instance(&mut self) -> InstanceNo {
        self.instances += 1;
        InstanceNo(self.instances - 1)
    }

    /// Writes a line of the log, if one is kept.
    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            let since_ms = self.now_ms - 1_000_000_000;
            log.push(format!("{:>6}.{:03}  {}", since_ms / 1_000, since_ms % 1_000, line()));
        }
    }

    pub(crate) fn take_log(&mut self) -> Vec<String> {
        self.log.take().unwrap_or_default()
    }
}
