//! Model checking of the barrier: three parallel steps and a pivot. Every message that was ever sent may arrive at
//! any later time, in any order and any number of times, including answers. The saga may start its compensation at any
//! moment before its pivot is called.

use stateright::{Checker, Model, Property};

/// The steps; the last is the pivot.
const STEPS: usize = 4;
const PIVOT: usize = 3;
/// Counts stop here: two are already too many.
const COUNT_MAX: u8 = 2;

/// The missing guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Nothing,
    RecordedAnswers,
    RecordedRefusals,
    Tombstones,
    UndoOfUnanswered,
}

struct Barrier(Missing);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Answer {
    Done,
    Refused,
}

/// The barrier row of a step, and its effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Row {
    answer: Option<Answer>,
    undone: bool,
    times_done: u8,
    times_undone: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Running,
    Compensating,
    Undone,
    Committed,
}

/// The saga in the memory of its owner, and the network as the set of all messages that were ever sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    phase: Phase,
    known: [Option<Answer>; STEPS],
    undos_known: [bool; STEPS],
    actions_sent: [bool; STEPS],
    undos_sent: [bool; STEPS],
    answers_sent: [[bool; 2]; STEPS],
    undo_answers_sent: [bool; STEPS],
    rows: [Row; STEPS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Action { step: usize, refuses: bool },
    Undo(usize),
    Answer { step: usize, answer: Answer },
    UndoAnswer(usize),
    Cancel,
}

impl Barrier {
    fn act(&self, row: &mut Row, refuses: bool) -> Answer {
        let is_recorded = |answer: &Answer| match self.0 {
            Missing::RecordedAnswers => false,
            Missing::RecordedRefusals => *answer == Answer::Done,
            Missing::Nothing | Missing::Tombstones | Missing::UndoOfUnanswered => true,
        };
        if let Some(answer) = row.answer.filter(is_recorded) {
            return answer;
        }
        if row.undone && row.answer.is_none() {
            return Answer::Refused;
        }
        let answer = if refuses { Answer::Refused } else { Answer::Done };
        if answer == Answer::Done {
            row.times_done = (row.times_done + 1).min(COUNT_MAX);
        }
        row.answer = Some(answer);
        answer
    }

    fn undo(&self, row: &mut Row) {
        if row.answer == Some(Answer::Done) && !row.undone {
            row.times_undone = (row.times_undone + 1).min(COUNT_MAX);
        }
        row.undone |= row.answer.is_some() || self.0 != Missing::Tombstones;
    }

    /// The next phase of the saga, after an answer.
    fn settle(&self, state: &mut State) {
        if state.phase == Phase::Running {
            let (stage, pivot) = (&state.known[..PIVOT], state.known[PIVOT]);
            let all_answered = stage.iter().all(Option::is_some);
            let refused = all_answered && stage.contains(&Some(Answer::Refused)) || pivot == Some(Answer::Refused);
            if refused {
                self.compensate(state);
            } else if pivot == Some(Answer::Done) {
                state.phase = Phase::Committed;
            } else if all_answered {
                state.actions_sent[PIVOT] = true;
            }
        }
        if state.phase == Phase::Compensating && state.undos_known[..PIVOT].iter().all(|known| *known) {
            state.phase = Phase::Undone;
        }
    }

    fn compensate(&self, state: &mut State) {
        state.phase = Phase::Compensating;
        for step in 0..PIVOT {
            match state.known[step] {
                // It is recorded, and rejects later messages of the step.
                Some(Answer::Refused) => state.undos_known[step] = true,
                None if self.0 == Missing::UndoOfUnanswered => state.undos_known[step] = true,
                Some(Answer::Done) | None => state.undos_sent[step] = true,
            }
        }
    }
}

impl Model for Barrier {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            phase: Phase::Running,
            known: [None; STEPS],
            undos_known: [false; STEPS],
            actions_sent: [true, true, true, false],
            undos_sent: [false; STEPS],
            answers_sent: [[false; 2]; STEPS],
            undo_answers_sent: [false; STEPS],
            rows: [Row::default(); STEPS],
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        for step in 0..STEPS {
            if state.actions_sent[step] {
                actions.extend([false, true].map(|refuses| Step::Action { step, refuses }));
            }
            if state.undos_sent[step] {
                actions.push(Step::Undo(step));
            }
            for answer in [Answer::Done, Answer::Refused] {
                if state.answers_sent[step][answer as usize] && state.known[step].is_none() {
                    actions.push(Step::Answer { step, answer });
                }
            }
            if state.undo_answers_sent[step] && !state.undos_known[step] {
                actions.push(Step::UndoAnswer(step));
            }
        }
        if state.phase == Phase::Running && !state.actions_sent[PIVOT] {
            actions.push(Step::Cancel);
        }
    }

    fn next_state(&self, before: &State, action: Step) -> Option<State> {
        let mut state = before.clone();
        match action {
            Step::Action { step, refuses } => {
                let answer = self.act(&mut state.rows[step], refuses);
                state.answers_sent[step][answer as usize] = true;
            }
            Step::Undo(step) => {
                self.undo(&mut state.rows[step]);
                state.undo_answers_sent[step] = true;
            }
            // Answers that come after the compensation has started are not waited for.
            Step::Answer { step, answer } => {
                if state.phase == Phase::Running {
                    state.known[step] = Some(answer);
                }
            }
            Step::UndoAnswer(step) => state.undos_known[step] = true,
            Step::Cancel => self.compensate(&mut state),
        }
        self.settle(&mut state);
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn stands(row: &Row) -> u8 {
            row.times_done - row.times_undone.min(row.times_done)
        }
        vec![
            Property::always("effects once", |_, state: &State| {
                state.rows.iter().all(|row| row.times_done <= 1 && row.times_undone <= row.times_done)
            }),
            Property::always("no way back", |_, state: &State| {
                state.rows[PIVOT].times_done == 0 || state.rows.iter().all(|row| stands(row) == 1)
            }),
            Property::always("nothing left behind", |_, state: &State| match state.phase {
                Phase::Running | Phase::Compensating => true,
                Phase::Undone => state.rows.iter().all(|row| stands(row) == 0),
                Phase::Committed => state.rows.iter().all(|row| stands(row) == 1),
            }),
            Property::sometimes("commits", |_, state: &State| state.phase == Phase::Committed),
            Property::sometimes("undoes", |_, state: &State| state.phase == Phase::Undone),
            Property::sometimes("an action comes after its undo", |_, state: &State| {
                state.phase == Phase::Undone
                    && state.answers_sent[0][Answer::Refused as usize]
                    && state.rows[0].answer.is_none()
            }),
        ]
    }
}

#[test]
fn every_order_of_messages_ends_well() {
    let checker = Barrier(Missing::Nothing).checker().spawn_bfs().join();
    println!("barrier: {} states", checker.unique_state_count());
    checker.assert_properties();
    assert!(checker.unique_state_count() > 1_000, "the model is not trivial");
}

#[track_caller]
fn check(missing: Missing, property: &'static str) {
    let checker = Barrier(missing).checker().spawn_bfs().join();
    println!("barrier without {missing:?}: {} states", checker.unique_state_count());
    assert!(checker.discovery(property).is_some(), "{property:?} holds without {missing:?}");
}

#[test]
fn without_a_guard_an_order_is_found_that_does_not() {
    check(Missing::RecordedAnswers, "effects once");
    check(Missing::RecordedRefusals, "nothing left behind");
    check(Missing::Tombstones, "nothing left behind");
    check(Missing::UndoOfUnanswered, "nothing left behind");
}
