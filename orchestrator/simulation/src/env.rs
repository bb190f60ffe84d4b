//! The environment that all parts of a history share: the clock, the queue of future events, the draws from the seed,
//! the network, and the log for people.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use matricula_core::DoorState;
use matricula_engine::StepIndex;

use crate::broken::Broken;
use crate::clients::{ClientEvent, Request};
use crate::draws::{Draw, Message, Purpose, SetUp};
use crate::fact::Fact;
use crate::names::{ClientNo, InstanceNo, ProcessNo, SagaNo, SectionNo};
use crate::operators::OperatorEvent;
use crate::participants::Rpc;
use crate::replica::{InstanceInput, ProcessEvent};
use crate::shapes::Shape;
use crate::store::Transaction;
use crate::weather::Weather;

/// A future event.
#[derive(Debug)]
pub(crate) enum Event {
    /// An event for one instance; ignored if the instance has ended.
    Instance { process: ProcessNo, instance: InstanceNo, input: InstanceInput },
    /// An event for a process, whichever instance runs there.
    Process { process: ProcessNo, event: ProcessEvent },
    /// A transaction reaches the store.
    Store(Transaction),
    /// The transactions that the store has executed become durable.
    Flush { epoch: u32 },
    /// The store goes away for a moment.
    StoreCrash { loses_tail: bool, away_ms: i64, clock_jump_ms: i64 },
    /// A copy of a call reaches a service.
    Rpc { rpc: Rc<Rpc>, copy: u8 },
    /// A service can't be reached for a while.
    Away { destination: u8, for_ms: i64 },
    /// Something for a client.
    Client { client: ClientNo, event: ClientEvent },
    /// Something for the operators.
    Operator(OperatorEvent),
    /// A person repairs the ledgers after a manually decided saga.
    Mend { saga: SagaNo },
    /// A pivot has happened although an operator has resolved it as refused: a person undoes it in the service.
    MendPivot { saga: SagaNo, pivot: StepIndex },
    /// A section gets another number of seats.
    Capacity { section: SectionNo, seats: usize },
    /// A registrar sets the door.
    Door(DoorState),
    /// All faults end.
    Heal,
}

pub(crate) struct Env {
    /// True time. No part may look at it except through its own clock.
    pub now_ms: i64,
    pub weather: Weather,
    pub shape: Rc<Shape>,
    pub broken: Option<Broken>,
    pub healed: bool,
    /// Facts that were not shown to the invariants yet.
    pub facts: Vec<Fact>,
    /// The request of each client, by its number.
    pub requests: Vec<Rc<Request>>,
    seed: u64,
    /// For each future event: when it happens, how many were scheduled before it, and its place in `events`. The
    /// earliest is first. The heap moves its entries around, so the large events are stored apart.
    queue: BinaryHeap<Reverse<(i64, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    scheduled: u64,
    log: Option<Vec<String>>,
}

impl Env {
    pub(crate) fn new(seed: u64, shapes: &[Rc<Shape>], broken: Option<Broken>, logs: bool) -> Self {
        let draw = |part| Draw::new(seed, &Purpose::SetUp(part));
        // Half of the histories are registrations as they are.
        let mut of_shape = draw(SetUp::Shape);
        let shape = if of_shape.chance(512) { 0 } else { of_shape.below(shapes.len() as u32) as usize };
        Self {
            now_ms: 1_000_000_000,
            weather: Weather::draw(&mut draw(SetUp::Weather)),
            shape: shapes[shape].clone(),
            broken,
            healed: false,
            facts: Vec::with_capacity(16),
            requests: Vec::new(),
            seed,
            queue: BinaryHeap::with_capacity(64),
            events: Vec::with_capacity(64),
            free: Vec::with_capacity(64),
            scheduled: 0,
            log: logs.then(Vec::new),
        }
    }

    /// The numbers for a purpose, which are the same at each use.
    pub(crate) fn draw(&self, purpose: Purpose) -> Draw {
        Draw::new(self.seed, &purpose)
    }

    /// The seed that spreads the retries of an instance.
    pub(crate) fn core_seed(&self, instance: InstanceNo) -> u64 {
        let mut draw = self.draw(Purpose::Seed(instance));
        u64::from(draw.any()) << 32 | u64::from(draw.any())
    }

    /// Whether an instance runs the release before this one. One history in three has a rolling upgrade, with a way
    /// back: each start draws its release.
    pub(crate) fn is_earlier_release(&self, instance: InstanceNo) -> bool {
        let has_upgrade = self.shape.earlier.is_some() && self.draw(Purpose::SetUp(SetUp::Upgrade)).chance(340);
        has_upgrade && !self.healed && self.draw(Purpose::Release(instance)).chance(512)
    }

    pub(crate) fn is_broken(&self, guard: Broken) -> bool {
        self.broken == Some(guard)
    }

    pub(crate) fn schedule(&mut self, in_ms: i64, event: Event) {
        self.scheduled += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[slot] = Some(event);
        self.queue.push(Reverse((self.now_ms + in_ms.max(0), self.scheduled, slot)));
    }

    /// Takes the next event and moves the clock to it.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let Reverse((at_ms, _, slot)) = self.queue.pop()?;
        self.now_ms = at_ms;
        self.free.push(slot);
        self.events[slot].take()
    }

    /// Sends a message over the network, which may lose, repeat or delay it. `event` makes its first and second copy.
    pub(crate) fn send(&mut self, message: Message, event: impl Fn(u8) -> Event) {
        let mut draw = self.draw(Purpose::Message(message));
        if draw.chance(self.weather.twice) {
            self.send_once(&mut draw, || event(1));
        }
        self.send_once(&mut draw, || event(0));
    }

    fn send_once(&mut self, draw: &mut Draw, event: impl Fn() -> Event) {
        if draw.chance(self.weather.lost) {
            return;
        }
        let usual_ms = draw.below(self.weather.usual_ms);
        let late_ms = if draw.chance(self.weather.late) { draw.below(self.weather.late_ms) } else { 0 };
        self.schedule(i64::from(usual_ms + late_ms), event());
    }

    /// The request of a saga.
    pub(crate) fn request(&self, saga: SagaNo) -> &Rc<Request> {
        &self.requests[usize::from(saga.client())]
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
