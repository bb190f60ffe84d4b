//! Model checking of lease, adoption and fencing: up to three instances, one saga, and every order of lapses, marks,
//! renewals, adoptions, appends, crashes, and commits that succeed and report an error. A suspended instance is one
//! that takes no step for a while, so every order has that too.

use stateright::{Checker, Model, Property};

/// Events of the log until the saga is finished.
const EVENTS: u8 = 3;
const INSTANCES_MAX: usize = 3;

/// The missing guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Nothing,
    /// A commit checks the mark.
    Fence,
    /// An append checks the sequence.
    Sequence,
    /// Only sagas of marked instances are adopted.
    Mark,
    /// An adoption that reported an error is repeated.
    SecondAsking,
}

struct Leases {
    instances: usize,
    missing: Missing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Instance {
    runs: bool,
    lapsed: bool,
    dead: bool,
    /// It has chosen the saga, and repeats the adoption until it has an answer.
    adopting: bool,
    /// How many events of its saga it has in memory.
    knows: Option<u8>,
    /// An append that was sent: the number of events before it.
    writing: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    instances: [Instance; INSTANCES_MAX],
    owner: usize,
    /// For each event of the log the number of events that its writer knew before it.
    log: Vec<u8>,
    a_dead_one_wrote: bool,
    owners: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Lapse(usize),
    Renew(usize),
    Mark(usize),
    Choose(usize),
    Adopt { by: usize, reports_error: bool },
    Send(usize),
    Commit { by: usize, reports_error: bool },
    Crash(usize),
}

impl Leases {
    fn may_be_given_away(&self, owner: &Instance) -> bool {
        owner.dead || self.missing == Missing::Mark && owner.lapsed
    }

    fn adopt(&self, state: &mut State, by: usize, reports_error: bool) {
        if state.instances[by].dead {
            state.instances[by] = ended(state.instances[by]);
            return;
        }
        if state.owner != by && self.may_be_given_away(&state.instances[state.owner]) {
            state.owner = by;
            state.owners = 2;
        }
        if reports_error {
            state.instances[by].adopting = self.missing != Missing::SecondAsking;
            return;
        }
        state.instances[by].adopting = false;
        if state.owner == by {
            state.instances[by].knows = Some(state.log.len() as u8);
        }
    }

    fn commit(&self, state: &mut State, by: usize, reports_error: bool) {
        let Some(expected) = state.instances[by].writing else { return };
        if state.instances[by].dead && self.missing != Missing::Fence {
            state.instances[by] = ended(state.instances[by]);
            return;
        }
        let is_owner = state.owner == by;
        let length = state.log.len() as u8;
        let appends = is_owner && length == expected || self.missing == Missing::Sequence;
        if appends {
            state.a_dead_one_wrote |= state.instances[by].dead;
            state.log.push(expected);
        }
        // Written by an earlier try.
        let stands = appends || is_owner && length == expected + 1;
        let instance = &mut state.instances[by];
        if !instance.runs {
            instance.writing = None;
        } else if !reports_error {
            instance.writing = None;
            instance.knows = stands.then_some(expected + 1);
        }
    }
}

/// An instance that is fenced or has crashed: its memory is lost.
fn ended(instance: Instance) -> Instance {
    Instance { runs: false, adopting: false, knows: None, writing: None, ..instance }
}

impl Model for Leases {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let fresh = Instance { runs: true, lapsed: false, dead: false, adopting: false, knows: None, writing: None };
        let absent = Instance { runs: false, dead: true, ..fresh };
        let mut instances = [absent; INSTANCES_MAX];
        instances[..self.instances].fill(fresh);
        instances[0].knows = Some(1);
        vec![State { instances, owner: 0, log: vec![0], a_dead_one_wrote: false, owners: 1 }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        for no in 0..self.instances {
            let instance = &state.instances[no];
            if !instance.dead && !instance.lapsed {
                actions.push(Step::Lapse(no));
            }
            if instance.lapsed && !instance.dead {
                actions.push(Step::Mark(no));
            }
            // A commit that was sent arrives even if its sender has crashed.
            if instance.writing.is_some() {
                actions.extend([false, true].map(|reports_error| Step::Commit { by: no, reports_error }));
            }
            if !instance.runs {
                continue;
            }
            actions.extend([Step::Renew(no), Step::Crash(no)]);
            if instance.adopting {
                actions.extend([false, true].map(|reports_error| Step::Adopt { by: no, reports_error }));
            } else if state.owner != no && self.may_be_given_away(&state.instances[state.owner]) {
                actions.push(Step::Choose(no));
            }
            if instance.writing.is_none() && instance.knows.is_some_and(|known| known < EVENTS) {
                actions.push(Step::Send(no));
            }
        }
    }

    fn next_state(&self, before: &State, action: Step) -> Option<State> {
        let mut state = before.clone();
        match action {
            Step::Lapse(no) => state.instances[no].lapsed = true,
            Step::Renew(no) if state.instances[no].dead => state.instances[no] = ended(state.instances[no]),
            Step::Renew(no) => state.instances[no].lapsed = false,
            // Any other instance may mark it.
            Step::Mark(no) => {
                let seen = state.instances.iter().enumerate().any(|(other, instance)| other != no && instance.runs);
                state.instances[no].dead = seen;
            }
            Step::Choose(no) => state.instances[no].adopting = true,
            Step::Adopt { by, reports_error } => self.adopt(&mut state, by, reports_error),
            Step::Send(no) => state.instances[no].writing = state.instances[no].knows,
            Step::Commit { by, reports_error } => self.commit(&mut state, by, reports_error),
            Step::Crash(no) => {
                let writing = state.instances[no].writing;
                state.instances[no] = Instance { writing, ..ended(state.instances[no]) };
            }
        }
        (state != *before).then_some(state)
    }

    /// Enough to detect an event that is stored twice.
    fn within_boundary(&self, state: &State) -> bool {
        state.log.len() <= usize::from(EVENTS) + 1
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a dead one writes nothing", |_, state: &State| !state.a_dead_one_wrote),
            Property::always("an event stands once", |_, state: &State| {
                state.log.iter().enumerate().all(|(place, expected)| place == usize::from(*expected))
            }),
            Property::always("the living keep their sagas", |_, state: &State| {
                let drives = |instance: &Instance| instance.runs && !instance.dead && instance.knows.is_some();
                state.instances.iter().enumerate().all(|(no, instance)| !drives(instance) || state.owner == no)
            }),
            Property::always("a living owner knows its saga", |_, state: &State| {
                let owner = &state.instances[state.owner];
                !owner.runs || owner.dead || owner.knows.is_some() || owner.adopting
            }),
            Property::always("a living owner's memory is the log", |_, state: &State| {
                let owner = &state.instances[state.owner];
                let known = owner.knows.filter(|_| owner.runs && !owner.dead && owner.writing.is_none());
                known.is_none_or(|known| usize::from(known) == state.log.len())
            }),
            Property::sometimes("finishes after a takeover", |_, state: &State| {
                state.log.len() == usize::from(EVENTS) && state.owners == 2
            }),
            Property::sometimes("a fenced one ends", |_, state: &State| {
                state.instances[0].dead && !state.instances[0].runs && state.owner != 0
            }),
        ]
    }
}

#[track_caller]
fn check_all(instances: usize) {
    let checker = Leases { instances, missing: Missing::Nothing }.checker().spawn_bfs().join();
    println!("lease of {instances} instances: {} states", checker.unique_state_count());
    checker.assert_properties();
    assert!(checker.unique_state_count() > 300, "the model is not trivial");
}

#[test]
fn every_order_of_two_instances_is_safe() {
    check_all(2);
}

#[test]
fn every_order_of_three_instances_is_safe() {
    check_all(3);
}

#[track_caller]
fn check(missing: Missing, property: &'static str) {
    let checker = Leases { instances: 2, missing }.checker().spawn_bfs().join();
    println!("lease without {missing:?}: {} states", checker.unique_state_count());
    assert!(checker.discovery(property).is_some(), "{property:?} holds without {missing:?}");
}

#[test]
fn without_a_guard_an_order_is_found_that_is_not() {
    check(Missing::Fence, "a dead one writes nothing");
    check(Missing::Sequence, "an event stands once");
    check(Missing::Mark, "the living keep their sagas");
    check(Missing::SecondAsking, "a living owner knows its saga");
}
