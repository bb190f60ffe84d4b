//! The cost of the engine for a registration, in memory: every decision of its saga, and the fold of its log.

use std::collections::VecDeque;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use matricula_engine::{CallAnswer, Definition, Effect, Input, Jitter, Recorded, SagaState, decide};
use matricula_registration::saga::{self, step};

/// An add of one section: what most registrations are.
const APPLIES: [&str; 6] =
    [step::RESERVE_COURSES, step::HOLD_SEATS, step::ASSESS_FEES, step::ENROLL, step::SETTLE_COURSES, step::NOTIFY];

/// Runs a saga whose calls are all done, except the one of this step, which is refused; returns its log.
fn run(def: &Definition, refusing: Option<&str>) -> Vec<Recorded> {
    let mut log = vec![Recorded::first(0, def.admit(APPLIES, 0))];
    let mut state = SagaState::replay(def, &log).expect("an admitted saga");
    let mut inputs = VecDeque::from([Input::Resume]);
    let mut now_ms = 0;
    while let Some(input) = inputs.pop_front() {
        now_ms += 1;
        // An answer may come after the step was called again, and is ignored.
        let Ok(decision) = decide(def, &state, input, now_ms, Jitter(0)) else { continue };
        for effect in decision.ahead.into_iter().chain(decision.effects) {
            if let Effect::Call { step, direction, attempt } = effect {
                let is_refused =
                    direction == matricula_engine::Direction::Forward && Some(def.step(step).name) == refusing;
                let answer = if is_refused {
                    CallAnswer::Refused("[]".to_owned())
                } else {
                    CallAnswer::Done(r#"{"added":[],"dropped":[]}"#.to_owned())
                };
                inputs.push_back(Input::Answered { step, direction, attempt, started_at_ms: now_ms, answer });
            }
        }
        log.extend(decision.events);
        state = decision.state;
    }
    assert!(state.phase().is_finished(), "the saga ends");
    log
}

fn engine(criterion: &mut Criterion) {
    let def = saga::definition(saga::VERSION_NEWEST).expect("the table is a saga");
    let cases =
        [("enrolled", None), ("refused at the seats", Some(step::HOLD_SEATS)), ("compensated", Some(step::ENROLL))];
    let mut group = criterion.benchmark_group("one registration");
    for (name, refusing) in cases {
        let log = run(&def, refusing);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("decide, {name}, {} events", log.len()), |bencher| {
            bencher.iter(|| run(black_box(&def), refusing));
        });
        group.bench_function(format!("fold, {name}, {} events", log.len()), |bencher| {
            bencher.iter(|| SagaState::replay(&def, black_box(&log)).expect("a log that folds"));
        });
    }
    group.finish();
}

criterion_group!(benches, engine);
criterion_main!(benches);
