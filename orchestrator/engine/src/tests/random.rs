//! Random sagas, answers, commands, cancels, crashes and clocks: once the faults stop, every saga ends well.

use proptest::prelude::*;

use super::audit::audit;
use super::retry;
use super::world::{Script, World};
use crate::*;

const NAMES: [&str; 16] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];

/// Sizes of the stages before the pivot. For each stage after it, which of its steps are finalizers.
fn definitions() -> impl Strategy<Value = Definition> {
    let before = prop::collection::vec(1_usize..=3, 0..=3);
    let after = prop::collection::vec(prop::collection::vec(any::<bool>(), 1..=3), 0..=2);
    (before, after, any::<bool>(), any::<bool>()).prop_map(|(before, after, is_asked, is_withdrawable)| {
        let mut names = NAMES.into_iter();
        let mut stages = Vec::new();
        for size in before {
            stages.push(vec![Kind::Compensatable; size]);
        }
        stages.push(vec![Kind::Pivot]);
        for finalizers in after {
            stages.push(finalizers.into_iter().map(|it| if it { Kind::Finalizer } else { Kind::Retriable }).collect());
        }
        let steps = (1..).zip(stages).flat_map(|(stage, kinds)| kinds.into_iter().map(move |kind| (stage, kind)));
        let steps = steps.map(|(stage, kind)| Step {
            name: names.next().expect("at most 16 steps"),
            stage,
            destination: "there",
            action: "Do",
            undo: (kind == Kind::Compensatable || kind == Kind::Pivot && is_asked).then_some("Undo"),
            kind,
            retry: retry(),
        });
        let definition = Definition::try_new("random", 1, 5_000, steps.collect()).expect("sound by construction");
        if !(is_asked && is_withdrawable) {
            return definition;
        }
        definition.with_withdrawable_pivot().expect("its pivot has a compensation")
    })
}

/// An event of a random run.
#[derive(Debug, Clone)]
enum Happening {
    Done(usize),
    Refused(usize),
    Unknown(usize, i32),
    /// The answer comes twice.
    DoneTwice(usize),
    Wake,
    /// Time passes to the next timer, which the clock misses by this much.
    Time(i64),
    Cancel,
    /// An operator gives this command about this step.
    Operator(usize, usize),
    /// The process dies. The log survives, except this many events that no effect waited for.
    Crash(usize),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        6 => (0_usize..4).prop_map(Happening::Done),
        1 => (0_usize..4).prop_map(Happening::Refused),
        3 => (0_usize..4, 0..17).prop_map(|(place, code)| Happening::Unknown(place, code)),
        1 => (0_usize..4).prop_map(Happening::DoneTwice),
        1 => Just(Happening::Wake),
        2 => (-500_i64..500).prop_map(Happening::Time),
        1 => Just(Happening::Cancel),
        2 => (0_usize..5, 0_usize..16).prop_map(|(command, step)| Happening::Operator(command, step)),
        1 => (0_usize..6).prop_map(Happening::Crash),
    ];
    prop::collection::vec(one, 0..60)
}

fn happen(world: &mut World<'_>, happening: &Happening) {
    let answer = |world: &mut World<'_>, place: usize, answer: CallAnswer| {
        if !world.in_flight.is_empty() {
            let place = place % world.in_flight.len();
            world.answer(place, answer);
        }
    };
    match happening {
        Happening::Done(place) => answer(world, *place, CallAnswer::Done(String::new())),
        Happening::Refused(place) => answer(world, *place, CallAnswer::Refused("no".to_owned())),
        Happening::Unknown(place, code) => {
            let error = CallError::new(Code::from_number(*code), "lost", Some(i64::from(*code)));
            answer(world, *place, CallAnswer::Unknown(error));
        }
        Happening::DoneTwice(place) => {
            if let Some(&call) = world.in_flight.get(*place) {
                answer(world, *place, CallAnswer::Done(String::new()));
                let length = world.log.len();
                world.in_flight.insert(0, call);
                world.answer(0, CallAnswer::Refused("no".to_owned()));
                assert_eq!(world.log.len(), length, "the second answer was recorded");
            }
        }
        Happening::Wake => world.input(Input::Wake).unwrap(),
        Happening::Time(miss_ms) => {
            let at_ms = world.wake_at_ms.unwrap_or(world.now_ms);
            world.now_ms = at_ms + miss_ms;
            world.input(Input::Wake).unwrap();
        }
        Happening::Cancel => {
            let cancel = Input::Cancel { by: "ada".to_owned(), reason: String::new() };
            match world.input(cancel) {
                Ok(()) => assert!(matches!(world.state.cause(), Some(Cause::Cancelled { .. }))),
                Err(DecideError::TooLateToCancel { .. } | DecideError::AlreadyCompensating { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        Happening::Operator(command, step) => intervene(world, *command, *step),
        Happening::Crash(lost) => crash(world, *lost),
    }
}

/// An operator tries a command. An advised command is taken, and a command that is taken is safe.
fn intervene(world: &mut World<'_>, command: usize, step: usize) {
    let spec = &world.def.steps()[step % world.def.steps().len()];
    let (step, kind) = (spec.name.to_owned(), spec.kind);
    let command = match command {
        0 => OperatorCommand::Retry { step: None },
        1 => OperatorCommand::Skip { step },
        2 => OperatorCommand::Resolve { step, answer: Resolution::Done },
        3 => OperatorCommand::Resolve { step, answer: Resolution::Refused { refusal: "never".to_owned() } },
        _ => OperatorCommand::Abandon,
    };
    let (undoing, events) = (world.state.phase() == Phase::Compensating, world.log.len());
    match world.intervene(command.clone()) {
        Ok(()) if world.log.len() == events => {}
        Ok(()) => match command {
            OperatorCommand::Skip { .. } => assert!(undoing || !kind.may_refuse(), "skipped {kind}"),
            OperatorCommand::Resolve { .. } => {
                assert!(undoing || kind != Kind::Compensatable, "decided {kind} manually")
            }
            OperatorCommand::Abandon => assert_eq!(world.state.phase(), Phase::Abandoned),
            OperatorCommand::Retry { .. } => {}
        },
        Err(DecideError::Operator(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// The process loses its memory, and the end of the log that no effect waited for. Calls that have left are not lost.
/// Another instance adopts the saga.
fn crash(world: &mut World<'_>, lost: usize) {
    let mut log = std::mem::take(&mut world.log);
    log.truncate(log.len().saturating_sub(lost).max(world.durable));
    // The end of a saga has one effect: the saga leaves memory.
    if lost > 0 && log.last().is_some_and(|last| last.event == Event::Finished) {
        log.pop();
    }
    let mut revived = World::replay(world.def, log);
    revived.now_ms = world.now_ms;
    revived.called = std::mem::take(&mut world.called);
    revived.adopt();
    *world = revived;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_saga_ends_well(
        def in definitions(),
        mask in prop::collection::vec(any::<bool>(), 16),
        happenings in happenings(),
        jitter in any::<u32>(),
    ) {
        let applies = def.steps().iter().zip(mask).filter(|(step, it)| *it || step.kind == Kind::Pivot);
        let mut world = World::admit(&def, applies.map(|(step, _)| step.name).collect::<Vec<_>>());
        world.jitter = Jitter(jitter);
        let mut decided = Outcome::Pending;
        for happening in &happenings {
            happen(&mut world, happening);
            prop_assert!(decided == Outcome::Pending || world.state.outcome() == decided, "an outcome changed");
            decided = world.state.outcome();
            prop_assert_eq!(&SagaState::replay(&def, &world.log).unwrap(), &world.state);
        }
        // The faults have stopped: every call is answered, and done.
        audit(&world.run(&Script::default()));
    }

    /// Reading a log never panics, whatever the log has.
    #[test]
    fn shuffled_logs_are_refused_or_read(
        def in definitions(),
        happenings in happenings(),
        swaps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4),
    ) {
        let mut world = World::admit(&def, def.steps().iter().map(|step| step.name));
        for happening in &happenings {
            happen(&mut world, happening);
        }
        let mut log = world.log;
        for (one, other) in swaps {
            let (one, other) = (one.index(log.len()), other.index(log.len()));
            log.swap(one, other);
        }
        for (sequence, recorded) in (1..).zip(&mut log) {
            recorded.sequence = sequence;
        }
        let _ = SagaState::replay(&def, &log);
    }
}
