//! The test suite for every step of every participant, run against the real services.
//!
//! The model has two facts: whether the action was decided, and whether it was undone. They determine all answers.

use futures::future::join_all;

use crate::answer::{Answer, Reason};
use crate::id::SagaId;
use crate::participant::{Direction, Operation, Participant, Writer};

/// Operations in the longest sequence. Every sequence up to this length is run, with every division into requests.
const SEQUENCE_MAX: u32 = 4;

/// The barrier row of one step, as the barrier's documentation defines it.
#[derive(Default)]
struct Model {
    acted: bool,
    undone: bool,
}

impl Model {
    /// Applies an operation. Returns true if it is done, and false if it is refused.
    fn take(&mut self, direction: Direction) -> bool {
        match direction {
            Direction::Forward if !self.undone => {
                self.acted = true;
                true
            }
            Direction::Forward => self.acted,
            Direction::Compensation => {
                self.undone = true;
                true
            }
        }
    }

    fn has_effect(&self) -> bool {
        self.acted && !self.undone
    }
}

/// Runs an action and its undo in every order and number: separately, together in one request, and concurrently. Each
/// sequence has its own saga. The answers and the effect must always match the barrier's model.
///
/// `step` makes an action that succeeds, and its undo. `state` shows the effect as text, without the saga and
/// timestamps: the text is the same before every action, and different after it.
///
/// # Panics
/// If the step violates the model.
pub async fn barrier_holds<P>(
    writer: &Writer<P>,
    step: impl Fn(SagaId) -> (Operation<P::Command>, Operation<P::Command>),
    state: impl AsyncFn() -> String,
) where
    P: Participant,
    P::Command: Clone,
{
    let without = state().await;
    let (action, undo) = step(SagaId::generate());
    assert_eq!(write(writer, vec![action]).await, [true], "the action must be one that is done");
    let with = state().await;
    assert_ne!(without, with, "the action must have an effect that the state shows");
    write(writer, vec![undo]).await;
    assert_eq!(state().await, without, "the undo must undo all of it");

    for length in 1..=SEQUENCE_MAX {
        // The bits of two numbers: which direction each operation is, and whether a request ends after it.
        for (legs, cuts) in (0..1 << length).flat_map(|legs| (0..1 << (length - 1)).map(move |cuts| (legs, cuts))) {
            let saga = SagaId::generate();
            let mut model = Model::default();
            let (mut request, mut expected, mut shown) = (Vec::new(), Vec::new(), String::new());
            for index in 0..length {
                let (action, undo) = step(saga.clone());
                let operation = if legs >> index & 1 == 0 { action } else { undo };
                shown.push(if operation.direction == Direction::Forward { 'A' } else { 'U' });
                expected.push(model.take(operation.direction));
                request.push(operation);
                if cuts >> index & 1 == 1 || index == length - 1 {
                    let answers = write(writer, std::mem::take(&mut request)).await;
                    assert_eq!(answers, std::mem::take(&mut expected), "answers of {shown}");
                    shown.push('|');
                }
            }
            assert_eq!(state().await, *if model.has_effect() { &with } else { &without }, "state after {shown}");
            write(writer, vec![step(saga).1]).await;
            assert_eq!(state().await, without, "state after {shown} and an undo");
        }
    }

    let saga = SagaId::generate();
    let requests = (0..10).map(|_| write(writer, vec![step(saga.clone()).0]));
    assert_eq!(join_all(requests).await, vec![vec![true]; 10], "the same action ten times at once");
    assert_eq!(state().await, with, "one effect of ten actions at once");
    let requests = (0..10).map(|_| write(writer, vec![step(saga.clone()).1]));
    assert_eq!(join_all(requests).await, vec![vec![true]; 10], "the same undo ten times at once");
    assert_eq!(state().await, without, "state after ten undos at once");
}

/// The answers: done, or refused by a tombstone.
async fn write<P: Participant>(writer: &Writer<P>, operations: Vec<Operation<P::Command>>) -> Vec<bool> {
    let answers = writer.write(operations).await.expect("the batch is committed");
    let done = |answer: &Answer| match answer {
        Answer::Done(_) => true,
        Answer::Refused(reasons) => {
            let reasons: Vec<Reason> = reasons.iter().map(|refusal| refusal.reason).collect();
            assert_eq!(reasons, [Reason::RegistrationCancelled], "the only refusal is that of a tombstone");
            false
        }
        Answer::NotYet(why) => panic!("not decided: {why:?}"),
    };
    answers.iter().map(done).collect()
}
