//! Random sagas, answers, orders, cancels, crashes and clocks: whatever happens, once it stops every saga ends well.

use proptest::prelude::*;

use super::audit::audit;
use super::retry;
use super::world::{Script, World};
use crate::*;

const NAMES: [&str; 16] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];

/// Sizes of the stages before the pivot, and of those after it with which of their steps close.
fn definitions() -> impl Strategy<Value = Definition> {
    let before = prop::collection::vec(1_usize..=3, 0..=3);
    let after = prop::collection::vec(prop::collection::vec(any::<bool>(), 1..=3), 0..=2);
    (before, after, any::<bool>()).prop_map(|(before, after, is_asked)| {
        let mut names = NAMES.into_iter();
        let mut stages = Vec::new();
        for size in before {
            stages.push(vec![Kind::Compensatable; size]);
        }
        stages.push(vec![Kind::Pivot]);
        for closing in after {
            stages.push(closing.into_iter().map(|it| if it { Kind::Closing } else { Kind::Retriable }).collect());
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
        Definition::try_new("random", 1, 5_000, steps.collect()).expect("sound by construction")
    })
}

/// One thing that happens to the saga.
#[derive(Debug, Clone)]
enum Happening {
    Done(usize),
    Refused(usize),
    Unknown(usize, i32),
    /// The answer comes twice.
    DoneTwice(usize),
    Wake,
    /// To the next timer, and by how much the clock misses it.
    Time(i64),
    Cancel,
    /// An operator: which verb, about which step.
    Steer(usize, usize),
    /// The process dies; the log survives, but for this many events that nothing waited for.
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
        2 => (0_usize..5, 0_usize..16).prop_map(|(verb, step)| Happening::Steer(verb, step)),
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
                Err(DecideError::TooLateToCancel { .. } | DecideError::AlreadyTurned { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        Happening::Steer(verb, step) => steer(world, *verb, *step),
        Happening::Crash(lost) => crash(world, *lost),
    }
}

/// An operator tries a verb. What is advised is taken; what is taken is safe.
fn steer(world: &mut World<'_>, verb: usize, step: usize) {
    let line = &world.def.steps()[step % world.def.steps().len()];
    let (step, kind) = (line.name.to_owned(), line.kind);
    let verb = match verb {
        0 => Verb::Retry { step: None },
        1 => Verb::Skip { step },
        2 => Verb::Resolve { step, answer: Resolution::Done },
        3 => Verb::Resolve { step, answer: Resolution::Refused { refusal: "never".to_owned() } },
        _ => Verb::Abandon,
    };
    let (undoing, events) = (world.state.phase() == Phase::Compensating, world.log.len());
    match world.steer(verb.clone()) {
        Ok(()) if world.log.len() == events => {}
        Ok(()) => match verb {
            Verb::Skip { .. } => assert!(undoing || !kind.may_refuse(), "skipped {kind}"),
            Verb::Resolve { .. } => assert!(undoing || kind != Kind::Compensatable, "decided {kind} by hand"),
            Verb::Abandon => assert_eq!(world.state.phase(), Phase::Abandoned),
            Verb::Retry { .. } => {}
        },
        Err(DecideError::Verb(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Everything in memory is gone, and of the log what nothing waited for; calls that have left are not. Somebody else
/// adopts the saga.
fn crash(world: &mut World<'_>, lost: usize) {
    let mut log = std::mem::take(&mut world.log);
    log.truncate(log.len().saturating_sub(lost).max(world.durable));
    // That a saga has ended makes only its process forget it.
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
        // Faults are off: all answers come, and they are good ones.
        audit(&world.run(&Script::default()));
    }

    /// Whatever stands in a log, reading it never panics.
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
