//! One history: everything that happens from one seed, with every invariant checked after every event.
//!
//! ```text
//! trouble (faults of all kinds) ──► heal (none any more): everything must finish ──► late messages ──► at rest
//! ```

use std::mem::take;
use std::rc::Rc;

use matricula_engine::{CallStatus, Outcome, Phase, StepIndex};

use crate::broken::Broken;
use crate::clients::Clients;
use crate::disasters;
use crate::draws::Purpose;
use crate::env::{Env, Event};
use crate::fact::Fact;
use crate::invariants::{self, NOTHING_FORGOTTEN, Named, View};
use crate::names::{ProcessNo, SagaNo};
use crate::operators::Operators;
use crate::participants::Participants;
use crate::replica::{Process, ProcessEvent};
use crate::shapes::Shape;
use crate::store::Store;
use crate::tally::Tally;
use crate::weather::Weather;
use crate::witness::Witness;

/// Within so much simulated time after the last fault everything must have finished. The longest wait that a policy
/// allows is 70 s (a slow retry after a service's wish to be left alone), and a lease of a dead instance is 6 s.
const FINISH_WITHIN_MS: i64 = 600_000;
/// Time from the end of a manually decided saga until a person repairs its entries. Other sagas of the student wait for
/// that.
const MENDED_AFTER_MS: i64 = 1_000;
/// No history needs more: one that does is stuck in a loop that takes no time.
const EVENTS_MAX: u64 = 200_000;

/// A violated invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant.
    pub invariant: &'static str,
    /// How it is violated.
    pub what: String,
}

/// The result of a history.
#[derive(Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Name of the sagas' definition.
    pub shape: &'static str,
    /// The counts of the history.
    pub tally: Tally,
    /// The first violation; the history ends with it.
    pub violation: Option<Violation>,
    /// Every line of its log, if one was wanted.
    pub log: Vec<String>,
}

/// Options of a history.
pub struct Simulation {
    shapes: Vec<Rc<Shape>>,
    broken: Option<Broken>,
    only: Option<&'static str>,
}

impl Default for Simulation {
    fn default() -> Self {
        Self { shapes: Shape::all().into_iter().map(Rc::new).collect(), broken: None, only: None }
    }
}

impl Simulation {
    /// A world from which a guard is taken out.
    pub fn without(guard: Broken) -> Self {
        Self { broken: Some(guard), ..Self::default() }
    }

    /// Checks only one invariant, so that no other one can report the fault first.
    pub fn watching(self, invariant: &'static str) -> Self {
        assert!(Self::invariants().contains(&invariant), "no invariant {invariant:?}");
        Self { only: Some(invariant), ..self }
    }

    /// The names of all invariants.
    pub fn invariants() -> Vec<&'static str> {
        invariants::all().iter().map(|invariant| invariant.name).collect()
    }

    /// Runs the history of a seed.
    pub fn run(&self, seed: u64) -> Report {
        History::new(seed, self, false).run()
    }

    /// Runs the history of a seed, and keeps its whole log.
    pub fn run_with_log(&self, seed: u64) -> Report {
        History::new(seed, self, true).run()
    }
}

struct History {
    seed: u64,
    env: Env,
    store: Store,
    processes: Vec<Process>,
    participants: Participants,
    clients: Clients,
    operators: Operators,
    witness: Witness,
    invariants: Vec<Named>,
    tally: Tally,
}

impl History {
    fn new(seed: u64, simulation: &Simulation, logs: bool) -> Self {
        let mut env = Env::new(seed, &simulation.shapes, simulation.broken, logs);
        env.say(|| format!("seed {seed}"));
        let shape = env.shape.clone();
        shape.definitions.all().for_each(|definition| env.say(|| definition.render()));
        let trouble_ms = disasters::trouble_ms(&env);
        let ledgers = disasters::campus(&env);
        let sections = ledgers.capacity.len();
        let store = Store::new(disasters::store_ahead_ms(&env));
        let mut processes = Vec::new();
        for (process, ahead_ms) in (0..).map(ProcessNo).zip(disasters::clocks_ahead_ms(&env)) {
            processes.push(Process::new(process, ahead_ms));
            env.schedule(0, Event::Process { process, event: ProcessEvent::Start });
        }
        let clients = disasters::clients(&mut env, processes.len() as u32, sections, trouble_ms);
        let operators = disasters::operators(&mut env, processes.len() as u32, trouble_ms);
        disasters::schedule(&mut env, processes.len() as u32, sections, trouble_ms);
        let mut invariants = invariants::all();
        invariants.retain(|invariant| simulation.only.is_none_or(|only| only == invariant.name));
        Self {
            seed,
            participants: Participants::new(&env, ledgers),
            witness: Witness::default(),
            env,
            store,
            processes,
            clients,
            operators,
            invariants,
            tally: Tally::default(),
        }
    }

    fn run(mut self) -> Report {
        let violation = self.live().err();
        if let Some(Violation { invariant, what }) = &violation {
            self.env.say(|| format!("VIOLATION of {invariant:?}: {what}"));
        }
        self.count_outcomes();
        let shape = self.env.shape.name;
        let log = self.env.take_log();
        Report { seed: self.seed, shape, tally: self.tally, violation, log }
    }

    fn live(&mut self) -> Result<(), Violation> {
        let mut finish_by_ms = i64::MAX;
        while let Some(event) = self.env.next() {
            if matches!(event, Event::Heal) {
                finish_by_ms = self.env.now_ms + FINISH_WITHIN_MS;
            }
            self.happen(event)?;
            if self.tally.events > EVENTS_MAX || self.env.now_ms > finish_by_ms {
                if self.invariants.iter().all(|invariant| invariant.name != NOTHING_FORGOTTEN) {
                    return Ok(());
                }
                let what = invariants::overdue(&self.view());
                return Err(Violation { invariant: NOTHING_FORGOTTEN, what });
            }
            if self.env.healed && self.witness.unfinished() == 0 && self.clients.unanswered() == 0 {
                break;
            }
        }
        self.env.say(|| "all is finished; late calls arrive".to_owned());
        while let Some(event) = self.env.next() {
            if matches!(event, Event::Rpc { .. }) {
                self.happen(event)?;
            }
        }
        self.check_end()
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        self.tally.events += 1;
        self.dispatch(event);
        self.check()
    }

    fn dispatch(&mut self, event: Event) {
        let Self { env, store, processes, participants, clients, operators, witness, tally, .. } = self;
        match event {
            Event::Instance { process, instance, input } => processes[usize::from(process)].input(env, instance, input),
            Event::Process { process, event } => {
                tally.disaster(&event, env.healed);
                if env.healed && is_disaster(&event) {
                    return;
                }
                if let Some(process) = processes.get_mut(usize::from(process)) {
                    process.handle(env, event);
                }
            }
            Event::Store(transaction) => {
                let key = transaction.key;
                let lives = processes[usize::from(key.instance.process())].instance() == Some(key.instance);
                // Transactions that a process sent before its end may still arrive, or not.
                if lives || env.draw(Purpose::StoreOutlived(key)).chance(512) {
                    store.request(env, transaction);
                }
            }
            Event::Flush { epoch } => store.flush(env, epoch),
            Event::StoreCrash { loses_tail, away_ms, clock_jump_ms } => {
                tally.store_crashes += 1;
                env.say(|| format!("the store crashes for {away_ms} ms, loses its tail: {loses_tail}"));
                store.crash(env, loses_tail, away_ms, clock_jump_ms);
            }
            Event::Rpc { rpc, copy } => {
                tally.calls += 1;
                participants.call(env, &rpc, copy);
            }
            Event::Away { destination, for_ms } => {
                let name = env.shape.destinations[usize::from(destination)];
                env.say(|| format!("{name} is away for {for_ms} ms"));
                participants.away(env, destination, for_ms);
            }
            Event::Client { client, event } => clients.handle(env, client, event),
            Event::Operator(event) => operators.handle(env, witness, event),
            Event::Mend { saga } => self.mend(saga),
            Event::MendPivot { saga, pivot } => self.mend_pivot(saga, pivot),
            Event::Door(_) if env.healed => {}
            Event::Door(door) => {
                env.say(|| format!("the door is {door:?}"));
                store.set_door(env, door);
            }
            Event::Capacity { section, seats } => {
                env.say(|| format!("{section} has {seats} seats now"));
                participants.ledgers.capacity[usize::from(section)] = seats;
            }
            Event::Heal => self.heal(),
        }
    }

    /// A person repairs the entries of a manually decided saga.
    fn mend(&mut self, saga: SagaNo) {
        self.env.say(|| format!("somebody mends what {saga} has left"));
        let Some(seen) = self.witness.saga(saga) else { return };
        let definition = self.env.shape.definitions.of(&seen.state);
        let pivot = definition.pivot();
        let is_withdrawn = seen.state.phase() == Phase::Compensated && definition.step(pivot).undo.is_some();
        let is_committed = seen.state.outcome() == Outcome::Committed;
        self.participants.mend(saga, definition, is_committed, is_withdrawn.then_some(pivot));
    }

    /// If the pivot has happened, a person undoes it once, and gives the saga up until that is in its log.
    fn mend_pivot(&mut self, saga: SagaNo, pivot: StepIndex) {
        let effects = self.witness.effects(saga, pivot);
        if effects.done > effects.undone {
            self.participants.mend_pivot(&mut self.env, saga, pivot);
        }
        let seen = self.witness.saga(saga).filter(|seen| !seen.state.phase().is_finished());
        if let Some(seen) = seen.filter(|_| effects.done > 0) {
            self.operators.abandon(&mut self.env, saga, seen.owner);
        }
    }

    /// All faults end.
    fn heal(&mut self) {
        let env = &mut self.env;
        env.say(|| "all faults end".to_owned());
        env.healed = true;
        self.processes.iter_mut().for_each(|process| process.upgrade(env));
        env.facts.push(Fact::Healed);
        env.weather = Weather::calm();
        self.store.heal(env);
        self.participants.heal();
        self.processes.iter_mut().for_each(|process| process.heal(env));
    }

    fn view(&self) -> View<'_> {
        View {
            shape: &self.env.shape,
            witness: &self.witness,
            participants: &self.participants,
            requests: &self.env.requests,
            clients: &self.clients,
            now_ms: self.env.now_ms,
        }
    }

    /// Shows the new facts to every invariant.
    fn check(&mut self) -> Result<(), Violation> {
        // Both are put aside, so that the view can borrow the rest.
        let (mut facts, mut invariants) = (take(&mut self.env.facts), take(&mut self.invariants));
        for fact in &facts {
            self.learn(fact);
            let view = self.view();
            for Named { name, invariant } in &mut invariants {
                invariant.see(fact, &view).map_err(|what| Violation { invariant: name, what })?;
            }
            self.schedule_repairs(fact);
        }
        facts.clear();
        (self.env.facts, self.invariants) = (facts, invariants);
        Ok(())
    }

    /// The tally, the witness and the operators receive a fact.
    fn learn(&mut self, fact: &Fact) {
        self.tally.fact(fact);
        self.witness.learn(&self.env.shape, fact);
        if let Fact::Appended { saga, .. } | Fact::Adopted { saga, .. } = fact
            && let Some(seen) = self.witness.saga(*saga)
        {
            let pivot = self.env.shape.definitions.of(&seen.state).pivot();
            self.tally.saga_fact(fact, seen, pivot);
            let undo = &seen.state.steps()[pivot.get()].undo;
            if undo.status == CallStatus::Trying && undo.attempts == 1 {
                self.operators.look_at_once(&mut self.env);
            }
        }
    }

    /// A person repairs what operators have decided manually.
    fn schedule_repairs(&mut self, fact: &Fact) {
        let Fact::Appended { saga, .. } = *fact else { return };
        let Some(seen) = self.witness.saga(saga) else { return };
        if seen.is_decided_manually() && seen.state.phase().is_finished() {
            self.env.schedule(MENDED_AFTER_MS, Event::Mend { saga });
        }
        if let Some(pivot) = seen.owes_withdrawal(&self.env.shape) {
            self.env.schedule(MENDED_AFTER_MS, Event::MendPivot { saga, pivot });
        }
    }

    /// Shows every invariant the world at rest.
    fn check_end(&mut self) -> Result<(), Violation> {
        let mut invariants = take(&mut self.invariants);
        let view = self.view();
        for Named { name, invariant } in &mut invariants {
            invariant.end(&view).map_err(|what| Violation { invariant: name, what })?;
        }
        Ok(())
    }

    fn count_outcomes(&mut self) {
        for (_, seen) in self.witness.sagas() {
            self.tally.sagas += 1;
            let current = self.env.shape.definitions.current().version();
            self.tally.of_earlier_version += u64::from(!seen.is_queued && seen.state.definition().1 != current);
            match (seen.state.outcome(), seen.state.phase()) {
                (_, Phase::Abandoned) => self.tally.abandoned += 1,
                (Outcome::Committed, Phase::Completed) => self.tally.committed += 1,
                (Outcome::Refused, _) => self.tally.refused += 1,
                (Outcome::Cancelled, _) => self.tally.cancelled += 1,
                (Outcome::TimedOut, _) => self.tally.timed_out += 1,
                _ => self.tally.open += 1,
            }
        }
    }
}

fn is_disaster(event: &ProcessEvent) -> bool {
    matches!(
        event,
        ProcessEvent::Crash { .. }
            | ProcessEvent::Stop
            | ProcessEvent::Pause { .. }
            | ProcessEvent::ClockJump { .. }
            | ProcessEvent::Limit { .. }
    )
}
