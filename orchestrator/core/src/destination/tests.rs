//! Tests of destinations: which calls leave together and when, halves, breakers, silence, and what operators see.

use matricula_engine::{Definition, Kind, Recorded, RetryPolicy, SagaState, Step};

use super::*;
use crate::Clearance;

const MS: Duration = Duration::from_millis(1);
const NOW: Moment = Moment::from_secs(1_000);
/// The database's clock, at the moment 0.
const DATABASE_MS: i64 = 5_000_000;

const RESERVE: StepIndex = StepIndex(0);
const COMMIT: StepIndex = StepIndex(2);
const NOTIFY: StepIndex = StepIndex(3);

fn definition() -> Definition {
    let retry = RetryPolicy::try_new(50, 2_000, 10_000, 30).expect("a policy");
    let step =
        |stage, name, destination, action, undo, kind| Step { name, stage, destination, action, undo, kind, retry };
    let steps = vec![
        step(1, "reserve", "alpha", "Reserve", Some("Remove"), Kind::Compensatable),
        step(2, "hold", "beta", "Hold", Some("Release"), Kind::Compensatable),
        step(3, "commit", "alpha", "Commit", None, Kind::Pivot),
        step(4, "notify", "gamma", "Notify", None, Kind::Finalizer),
    ];
    Definition::try_new("order", 1, 600_000, steps).expect("a sound table")
}

fn clock(now: Moment) -> ClockReading {
    ClockReading { now, now_ms: ms(now) }
}

fn ms(at: Moment) -> i64 {
    DATABASE_MS + i64::try_from(at.as_millis()).expect("no long time")
}

fn id(number: u128) -> SagaId {
    SagaId::from_u128(number)
}

/// The destinations, and their notices.
struct World {
    destinations: Destinations<&'static str>,
    state: Arc<SagaState>,
    notices: Vec<Notice>,
}

impl World {
    fn new(change: impl FnOnce(&mut CoreConfig)) -> Self {
        let (mut config, definition) = (CoreConfig::default(), definition());
        change(&mut config);
        let admitted = Recorded::first(0, definition.admit(["reserve", "hold", "commit", "notify"], 0));
        let state = Arc::new(SagaState::replay(&definition, [&admitted]).expect("a sound log"));
        Self { destinations: Destinations::new(&definition.into(), &config), state, notices: Vec::new() }
    }

    /// With one RPC to a destination at a time.
    fn with_one_at_a_time() -> Self {
        Self::new(|config| config.destination_in_flight_max = 1)
    }

    fn call(&self, number: u128, step: StepIndex, direction: Direction) -> Call<&'static str> {
        Call {
            saga: id(number),
            step,
            step_name: definition().step(step).name,
            direction,
            attempt: 1,
            request: "request",
            state: self.state.clone(),
            clearance: Clearance::AheadOfLog,
            owner_alive_at_ms: 0,
        }
    }

    fn queue(&mut self, number: u128, step: StepIndex, direction: Direction, now: Moment) {
        let definition = definition();
        let spec = definition.step(step);
        let call = self.call(number, step, direction);
        let may_gather = direction == Direction::Forward && spec.kind == Kind::Finalizer;
        let rpc = spec.rpc(direction).expect("it has one");
        self.destinations.queue(spec.destination, call, rpc, may_gather, now);
    }

    fn reserve(&mut self, numbers: impl IntoIterator<Item = u128>, now: Moment) {
        numbers.into_iter().for_each(|number| self.queue(number, RESERVE, Direction::Forward, now));
    }

    fn send(&mut self, now: Moment) -> Vec<Sent> {
        let rpcs = self.destinations.send(clock(now), &mut self.notices);
        let sagas = |rpc: &Rpc<_>| rpc.calls.iter().map(|call| call.saga.as_u128()).collect();
        rpcs.iter().map(|rpc| Sent { number: rpc.number, name: rpc.name, sagas: sagas(rpc) }).collect()
    }

    /// Sends, and returns the only RPC.
    #[track_caller]
    fn send_one(&mut self, now: Moment) -> Sent {
        let mut sent = self.send(now);
        let (first, more) = (sent.pop(), sent);
        assert!(more.is_empty(), "{more:?}");
        first.expect("an RPC")
    }

    fn ended(&mut self, sent: &Sent, answer: Result<Vec<CallAnswer>, CallError>, now: Moment) -> Vec<Answered> {
        self.destinations.ended(sent.number, answer, now, &mut self.notices)
    }

    /// The service does all calls of an RPC.
    fn succeeded(&mut self, sent: &Sent, now: Moment) -> Vec<Answered> {
        self.ended(sent, Ok(sent.sagas.iter().map(|saga| done(*saga)).collect()), now)
    }

    fn failed(&mut self, sent: &Sent, code: Code, now: Moment) -> Vec<Answered> {
        self.ended(sent, Err(error(code)), now)
    }

    fn status(&self, destination: &str, now: Moment) -> DestinationStatus {
        let mut statuses = self.destinations.statuses(clock(now)).into_iter();
        statuses.find(|status| status.name == destination).expect("it is in the table")
    }

    fn notices(&mut self) -> Vec<String> {
        self.notices.drain(..).map(|notice| format!("{notice:?}")).collect()
    }
}

/// An RPC that has left.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    number: RpcNo,
    name: &'static str,
    sagas: Vec<u128>,
}

fn done(saga: u128) -> CallAnswer {
    CallAnswer::Done(saga.to_string())
}

fn error(code: Code) -> CallError {
    CallError::new(code, "no", None)
}

fn summary(sent: &[Sent]) -> Vec<(&'static str, Vec<u128>)> {
    sent.iter().map(|sent| (sent.name, sent.sagas.clone())).collect()
}

fn answers(answered: &[Answered]) -> Vec<(u128, CallAnswer)> {
    answered.iter().map(|answered| (answered.saga.as_u128(), answered.answer.clone())).collect()
}

#[test]
fn an_idle_destination_is_called_at_once_and_a_busy_one_in_batches() {
    let mut world = World::new(|config| (config.destination_in_flight_max, config.call_batch_max) = (2, 3));
    assert_eq!(world.send(NOW), []);
    world.reserve([1], NOW);
    let first = world.send_one(NOW);
    assert_eq!((first.name, &*first.sagas), ("Reserve", &[1][..]));
    world.reserve([2, 3], NOW + MS);
    let second = world.send_one(NOW + MS);
    assert_eq!(second.sagas, [2, 3], "they leave together");
    world.reserve(4..9, NOW + 2 * MS);
    assert_eq!((world.send(NOW + 2 * MS), world.destinations.wake_at(NOW + 2 * MS)), (vec![], None));
    let answered = world.succeeded(&first, NOW + 5 * MS);
    let answer = Answered {
        saga: id(1),
        step: RESERVE,
        direction: Direction::Forward,
        attempt: 1,
        started_at: NOW,
        answer: done(1),
    };
    assert_eq!(answered, [answer]);
    assert_eq!(world.send_one(NOW + 5 * MS).sagas, [4, 5, 6], "no more than one RPC carries");
    world.succeeded(&second, NOW + 6 * MS);
    assert_eq!(world.send_one(NOW + 6 * MS).sagas, [7, 8]);
    assert_eq!(world.destinations.in_flight(), 2);
    // Another destination has a limit of its own.
    world.queue(1, StepIndex(1), Direction::Compensation, NOW);
    assert_eq!(world.send_one(NOW + 6 * MS).name, "Release");
}

#[test]
fn the_rpc_whose_first_call_has_waited_longest_goes_next() {
    let mut world = World::with_one_at_a_time();
    world.reserve([1], NOW);
    let first = world.send_one(NOW);
    world.reserve([2], NOW + 2 * MS);
    world.queue(9, COMMIT, Direction::Forward, NOW + MS);
    world.queue(8, RESERVE, Direction::Compensation, NOW + 3 * MS);
    world.reserve([3], NOW + 4 * MS);
    world.succeeded(&first, NOW + 5 * MS);
    let mut order = Vec::new();
    for _ in 0..3 {
        let sent = world.send_one(NOW + 5 * MS);
        world.succeeded(&sent, NOW + 5 * MS);
        order.push(sent);
    }
    assert_eq!(summary(&order), [("Commit", vec![9]), ("Reserve", vec![2, 3]), ("Remove", vec![8])]);
}

#[test]
fn a_call_that_no_client_waits_for_gathers() {
    let mut world = World::new(|_| {});
    world.queue(1, NOTIFY, Direction::Forward, NOW);
    assert_eq!((world.send(NOW), world.destinations.wake_at(NOW)), (vec![], Some(NOW + GATHER_MAX)));
    world.queue(2, NOTIFY, Direction::Forward, NOW + 20 * MS);
    assert_eq!(world.send(NOW + 49 * MS), []);
    assert_eq!(world.send_one(NOW + GATHER_MAX).sagas, [1, 2], "the first takes the others along");
    world.queue(3, NOTIFY, Direction::Forward, NOW + GATHER_MAX);
    assert_eq!((world.send(NOW + GATHER_MAX), world.destinations.wake_at(NOW)), (vec![], Some(NOW + 2 * GATHER_MAX)));
}

#[test]
fn gathered_calls_leave_with_an_urgent_one() {
    let world = World::new(|_| {});
    let call = |number| world.call(number, NOTIFY, Direction::Forward);
    let taken = |calls: Arc<[Call<_>]>| calls.iter().map(|call| call.saga.as_u128()).collect::<Vec<_>>();
    let mut queue = Queue::new("Notify");
    let later = NOW + GATHER_MAX;
    assert_eq!((queue.ready_at(), queue.is_ready(NOW)), (None, false));
    queue.push(call(1), true, NOW);
    queue.push(call(2), true, NOW + MS);
    assert_eq!((queue.ready_at(), queue.is_ready(NOW + MS)), (Some(later), false));
    assert_eq!(taken(queue.take(1)), [1]);
    assert!(queue.is_ready(later), "a call that the batch had no room for goes next");
    assert_eq!(taken(queue.take(10)), [2]);
    queue.push(call(3), true, later);
    assert!(!queue.is_ready(later), "the next gather again");
    queue.push(call(4), false, later);
    assert!(queue.is_ready(later));
    assert_eq!(taken(queue.take(10)), [3, 4]);
}

/// A call that failed is made again at any time, and keeps its turn.
#[test]
fn calls_leave_in_the_order_of_turns() {
    let mut world = World::with_one_at_a_time();
    world.reserve([5, 9, 2, 7, 2, 11], NOW);
    assert_eq!(world.send_one(NOW).sagas, [2, 2, 5, 7, 9, 11]);
}

/// A service that does not answer, and one whose calls an operator has parked.
#[test]
fn sagas_of_a_service_that_becomes_away_are_returned_once() {
    let mut world = World::with_one_at_a_time();
    let numbers = |sagas: Vec<SagaId>| sagas.into_iter().map(|saga| saga.as_u128()).collect::<Vec<_>>();
    world.reserve([1], NOW);
    let sent = world.send_one(NOW);
    world.reserve([2, 3], NOW);
    let away = NOW + AWAY_AFTER;
    assert_eq!(numbers(world.destinations.sagas_of_newly_away(away - MS)), []);
    assert_eq!(numbers(world.destinations.sagas_of_newly_away(away)), [1, 2, 3]);
    assert!(world.destinations.is_away("alpha"));
    assert_eq!(numbers(world.destinations.sagas_of_newly_away(away + MS)), []);
    world.succeeded(&sent, away + 2 * MS);
    assert_eq!(numbers(world.destinations.sagas_of_newly_away(away + 2 * MS)), []);
    assert!(!world.destinations.is_away("alpha"));
    world.destinations.set_limit("alpha", 0);
    assert_eq!(numbers(world.destinations.sagas_of_newly_away(away + 3 * MS)), [2, 3]);
}

#[test]
fn an_invalid_batch_is_sent_again_in_halves() {
    let mut world = World::with_one_at_a_time();
    world.reserve(1..=5, NOW);
    let whole = world.send_one(NOW);
    world.reserve([6], NOW);
    // The third operation is invalid.
    let (mut now, mut seen, mut last) = (NOW, vec![whole.number], whole);
    let mut parts = Vec::new();
    let answered = loop {
        now += MS;
        parts.push(last.sagas.clone());
        let answered = match last.sagas.contains(&3) {
            true => world.failed(&last, Code::InvalidArgument, now),
            false => world.succeeded(&last, now),
        };
        if !answered.is_empty() {
            break answered;
        }
        assert_eq!((world.destinations.in_flight(), world.destinations.wake_at(now)), (1, Some(now)));
        last = world.send_one(now);
        assert!(!seen.contains(&last.number), "each part is an RPC of its own");
        seen.push(last.number);
    };
    assert_eq!(parts, [vec![1, 2, 3, 4, 5], vec![1, 2], vec![3, 4, 5], vec![3], vec![4, 5]]);
    let invalid = (3, CallAnswer::Unknown(error(Code::InvalidArgument)));
    assert_eq!(answers(&answered), [(1, done(1)), (2, done(2)), invalid, (4, done(4)), (5, done(5))]);
    assert!(answered.iter().all(|answered| answered.started_at == NOW), "since the whole batch left");
    assert_eq!((world.notices(), world.status("alpha", now).last_error), (vec![], String::new()), "it has answered");
    assert_eq!(world.send_one(now).sagas, [6], "its place is free");
}

#[test]
fn a_withdrawn_call_is_left_out_of_the_half_that_has_not_left() {
    let mut world = World::with_one_at_a_time();
    world.reserve(1..=6, NOW);
    let whole = world.send_one(NOW);
    assert_eq!(world.failed(&whole, Code::InvalidArgument, NOW), []);
    let first = world.send_one(NOW);
    assert_eq!(first.sagas, [1, 2, 3]);
    let has_waited = [1, 4, 5].map(|number| world.destinations.withdraw(id(number), RESERVE, Direction::Forward));
    assert_eq!(has_waited, [false; 3], "they end with their batch");
    assert_eq!(world.succeeded(&first, NOW), []);
    let second = world.send_one(NOW);
    assert_eq!(second.sagas, [6]);
    let left_out = CallAnswer::Unknown(CallError::new(Code::Cancelled, "the saga does not wait for it any more", None));
    let rest = [(1, done(1)), (2, done(2)), (3, done(3)), (4, left_out.clone()), (5, left_out), (6, done(6))];
    assert_eq!(answers(&world.succeeded(&second, NOW)), rest);
}

/// The service finds something invalid in a batch in which a call was withdrawn meanwhile: no half has that call.
#[test]
fn a_call_that_was_withdrawn_in_flight_is_left_out_of_both_halves() {
    let mut world = World::with_one_at_a_time();
    world.reserve(1..=6, NOW);
    let whole = world.send_one(NOW);
    for number in [1, 2, 3, 5] {
        assert!(!world.destinations.withdraw(id(number), RESERVE, Direction::Forward), "it is in flight");
    }
    assert_eq!(world.failed(&whole, Code::InvalidArgument, NOW), []);
    let first = world.send_one(NOW);
    assert_eq!(first.sagas, [4], "half of what is left");
    assert_eq!(world.succeeded(&first, NOW), []);
    let last = world.send_one(NOW);
    assert_eq!(last.sagas, [6]);
    let left_out =
        || CallAnswer::Unknown(CallError::new(Code::Cancelled, "the saga does not wait for it any more", None));
    let rest = [(1, left_out()), (2, left_out()), (3, left_out()), (4, done(4)), (5, left_out()), (6, done(6))];
    assert_eq!(answers(&world.succeeded(&last, NOW)), rest);

    world.reserve(7..=8, NOW);
    let whole = world.send_one(NOW);
    for number in [7, 8] {
        world.destinations.withdraw(id(number), RESERVE, Direction::Forward);
    }
    assert_eq!(answers(&world.failed(&whole, Code::InvalidArgument, NOW)), [(7, left_out()), (8, left_out())]);
    assert_eq!(world.destinations.in_flight(), 0);
}

#[test]
fn a_batch_fails_only_when_no_part_of_it_was_answered() {
    let mut world = World::with_one_at_a_time();
    world.reserve(1..=2, NOW);
    let whole = world.send_one(NOW);
    assert_eq!(world.failed(&whole, Code::InvalidArgument, NOW), []);
    let first = world.send_one(NOW);
    assert_eq!(world.failed(&first, Code::Unavailable, NOW), []);
    let second = world.send_one(NOW);
    let answered = world.failed(&second, Code::DeadlineExceeded, NOW + MS);
    let unknown = |code| CallAnswer::Unknown(error(code));
    assert_eq!(answers(&answered), [(1, unknown(Code::Unavailable)), (2, unknown(Code::DeadlineExceeded))]);
    assert_eq!(world.notices(), [r#"CallFailed { destination: "alpha" }"#]);
    assert_eq!(world.status("alpha", NOW).last_error, error(Code::DeadlineExceeded).to_string());
    // An invalid operation is an answer.
    world.reserve([3], NOW + MS);
    let sent = world.send_one(NOW + MS);
    let answered = world.failed(&sent, Code::InvalidArgument, NOW + MS);
    assert_eq!(answers(&answered), [(3, unknown(Code::InvalidArgument))]);
    assert_eq!(world.status("alpha", NOW).last_error, "");
}

#[test]
fn a_wrong_number_of_answers_is_an_error_of_all_calls() {
    let mut world = World::new(|_| {});
    world.reserve(1..=2, NOW);
    let sent = world.send_one(NOW);
    let answered = world.ended(&sent, Ok(vec![done(1)]), NOW);
    let problem = CallError::new(Code::Internal, "alpha gave 1 answers to 2 operations", None);
    let unknown = CallAnswer::Unknown(problem.clone());
    assert_eq!(answers(&answered), [(1, unknown.clone()), (2, unknown)]);
    assert_eq!(world.status("alpha", NOW).last_error, problem.to_string());
}

#[test]
fn a_second_answer_changes_nothing() {
    let mut world = World::new(|_| {});
    world.reserve(1..=2, NOW);
    let sent = world.send_one(NOW);
    assert_eq!(world.failed(&sent, Code::InvalidArgument, NOW), []);
    assert_eq!(world.succeeded(&sent, NOW), [], "the whole batch has ended");
    let half = world.send_one(NOW);
    assert_eq!(world.succeeded(&sent, NOW), []);
    assert_eq!(world.succeeded(&half, NOW), []);
    let half = world.send_one(NOW);
    assert_eq!(world.succeeded(&half, NOW).len(), 2);
    assert_eq!((world.failed(&half, Code::Unavailable, NOW), world.notices()), (vec![], vec![]));
}

#[test]
fn a_withdrawn_call_is_not_made_if_it_still_waits() {
    let mut world = World::with_one_at_a_time();
    world.reserve([1], NOW);
    let first = world.send_one(NOW);
    world.reserve([2, 3], NOW);
    world.queue(2, COMMIT, Direction::Forward, NOW);
    let has_waited = [1, 2].map(|number| world.destinations.withdraw(id(number), RESERVE, Direction::Forward));
    assert_eq!(has_waited, [false, true], "the first has left");
    assert_eq!(world.succeeded(&first, NOW).len(), 1, "it was in flight");
    let next = world.send_one(NOW);
    assert_eq!(next.sagas, [3]);
    world.succeeded(&next, NOW);
    assert_eq!(summary(&world.send(NOW)), [("Commit", vec![2])]);
}

#[test]
fn an_operator_sets_the_limit() {
    let mut world = World::new(|_| {});
    world.destinations.set_limit("alpha", 0);
    world.destinations.set_limit("nobody", 7);
    world.reserve([1, 2], NOW);
    assert_eq!((world.send(NOW), world.destinations.wake_at(NOW)), (vec![], None));
    let since_ms = ms(NOW);
    let wait = CallWait::new("reserve", Direction::Forward, Wait::Limit { since_ms, ahead: 1 });
    assert_eq!(world.destinations.waits_of(id(2), clock(NOW + MS)), [wait]);
    world.destinations.set_limit("alpha", 1);
    assert_eq!(world.destinations.wake_at(NOW), Some(NOW));
    assert_eq!(world.send_one(NOW + MS).sagas, [1, 2]);
    let status = world.status("alpha", NOW + MS);
    assert_eq!((status.in_flight, status.in_flight_max, status.waiting), (1, 1, 0));
}

#[test]
fn an_open_breaker_parks_calls_until_a_probe_succeeds() {
    let mut world = World::new(|config| (config.breaker_failures, config.destination_in_flight_max) = (2, 1));
    let mut now = NOW;
    for number in [1, 2] {
        world.reserve([number], now);
        let sent = world.send_one(now);
        now += MS;
        world.failed(&sent, Code::Unavailable, now);
    }
    let error = error(Code::Unavailable).to_string();
    world.reserve([3, 4], now);
    assert_eq!((world.send(now), world.destinations.wake_at(now)), (vec![], Some(now + 250 * MS)));
    let failed = r#"CallFailed { destination: "alpha" }"#.to_owned();
    let opened = format!(r#"BreakerOpened {{ destination: "alpha", error: "{error}" }}"#);
    let changed = r#"DestinationChanged { destination: "alpha" }"#.to_owned();
    // The first failure was noticed when the second call was sent.
    assert_eq!(world.notices(), [failed.clone(), changed.clone(), failed.clone(), opened]);
    let (since_ms, probe_at_ms, failing_since_ms) = (ms(now), Some(ms(now + 250 * MS)), Some(ms(NOW)));
    let wait = Wait::Breaker { since_ms, ahead: 1, probe_at_ms };
    let expected = CallWait {
        step: "reserve".to_owned(),
        direction: Direction::Forward,
        wait,
        failing_since_ms,
        last_error: error,
    };
    assert_eq!(world.destinations.waits_of(id(4), clock(now)), std::slice::from_ref(&expected));
    let status = world.status("alpha", now + 5 * MS);
    assert_eq!((status.breaker, status.waiting, status.longest_wait), ("open", 2, 5 * MS));
    assert_eq!((status.probe_at_ms, status.failing_since_ms), (probe_at_ms, failing_since_ms));
    assert_eq!(status.last_error, expected.last_error);

    now += 250 * MS;
    let probe = world.send_one(now);
    assert_eq!((probe.sagas.as_slice(), world.status("alpha", now).breaker), (&[3][..], "probing"));
    assert_eq!((world.destinations.wake_at(now), world.status("alpha", now).probe_at_ms), (None, None));
    world.failed(&probe, Code::Unavailable, now);
    assert_eq!((world.send(now), world.destinations.wake_at(now)), (vec![], Some(now + 500 * MS)), "twice as long");
    now += 500 * MS;
    let probe = world.send_one(now);
    world.succeeded(&probe, now);
    assert_eq!(world.send(now), []);
    let closed = r#"BreakerClosed { destination: "alpha" }"#.to_owned();
    assert_eq!(world.notices(), [failed, closed, changed]);
    let status = world.status("alpha", now);
    assert_eq!((status.breaker, status.failing_since_ms, &*status.last_error), ("closed", None, ""));
}

#[test]
fn a_probe_may_be_halved_no_further_and_its_answer_closes_the_breaker() {
    let mut world = World::new(|config| config.breaker_failures = 1);
    world.reserve([1], NOW);
    let sent = world.send_one(NOW);
    world.failed(&sent, Code::Unavailable, NOW);
    world.reserve([2, 3], NOW);
    let probe = world.send_one(NOW + 250 * MS);
    assert_eq!(world.failed(&probe, Code::InvalidArgument, NOW + 251 * MS).len(), 1);
    assert_eq!(world.status("alpha", NOW).breaker, "closed");
    assert_eq!(world.send_one(NOW + 251 * MS).sagas, [3]);
}

/// Its calls hang for longer than a service may be silent.
#[test]
fn a_silent_service_counts_as_failing() {
    let mut world = World::new(|config| {
        (config.call_timeout_ms, config.destination_attention_after_ms) = (60_000, 1_000);
    });
    world.reserve([1], NOW);
    let answered = world.send_one(NOW);
    world.succeeded(&answered, NOW + MS);
    // It leaves in the step that has brought the success.
    world.reserve([2], NOW + MS);
    let hangs = world.send_one(NOW + MS);
    assert_eq!(world.destinations.wake_at(NOW + MS), Some(NOW + 1_001 * MS));
    assert_eq!((world.send(NOW + 1_000 * MS), world.notices()), (vec![], vec![]));
    let changed = [r#"DestinationChanged { destination: "alpha" }"#];
    assert_eq!((world.send(NOW + 1_001 * MS), world.notices()), (vec![], changed.map(str::to_owned).to_vec()));
    assert_eq!(world.destinations.wake_at(NOW + 1_001 * MS), None);
    assert_eq!(world.status("alpha", NOW + 2_000 * MS).failing_since_ms, Some(ms(NOW + MS)));
    let [wait] = &*world.destinations.waits_of(id(2), clock(NOW + 2_000 * MS)) else { panic!("one call waits") };
    assert_eq!(wait.wait, Wait::Call { since_ms: ms(NOW + MS), until_ms: ms(NOW + 60_001 * MS) });
    assert_eq!((wait.failing_since_ms, &*wait.last_error), (Some(ms(NOW + MS)), ""));
    world.succeeded(&hangs, NOW + 3_000 * MS);
    assert_eq!((world.send(NOW + 3_000 * MS), world.notices()), (vec![], changed.map(str::to_owned).to_vec()));
}

/// A call that times out before the service counts as silent needs no timer.
#[test]
fn a_short_timeout_needs_no_look_at_silence() {
    let mut world = World::new(|_| {});
    world.reserve([1], NOW);
    world.send_one(NOW);
    assert_eq!(world.destinations.wake_at(NOW), None);
}

/// A batch that left before the last success does not count for the time before that success.
#[test]
fn a_service_fails_since_its_last_success_at_the_earliest() {
    let mut world = World::new(|_| {});
    world.reserve([1], NOW);
    let slow = world.send_one(NOW);
    world.reserve([2], NOW + MS);
    let fast = world.send_one(NOW + MS);
    world.succeeded(&fast, NOW + 5 * MS);
    world.failed(&slow, Code::DeadlineExceeded, NOW + 9 * MS);
    world.send(NOW + 9 * MS);
    assert_eq!(world.status("alpha", NOW).failing_since_ms, Some(ms(NOW + 5 * MS)));
}

#[test]
fn after_the_close_no_call_leaves_and_rpcs_in_flight_may_end() {
    let mut world = World::new(|_| {});
    world.reserve([1, 2], NOW);
    let first = world.send_one(NOW);
    world.reserve([3, 4], NOW);
    let second = world.send_one(NOW);
    world.reserve([5, 6], NOW);
    let third = world.send_one(NOW);
    // Its halves were not sent yet.
    world.failed(&third, Code::InvalidArgument, NOW);
    world.reserve([7], NOW);
    world.destinations.close();
    world.reserve([8], NOW);
    assert_eq!((world.send(NOW), world.destinations.in_flight(), world.destinations.wake_at(NOW)), (vec![], 2, None));
    assert_eq!(world.succeeded(&first, NOW).len(), 2);
    // The next owners of the sagas make the calls again.
    assert_eq!(world.failed(&second, Code::InvalidArgument, NOW), []);
    assert_eq!((world.send(NOW), world.destinations.in_flight()), (vec![], 0));
}

#[test]
fn destinations_are_in_the_order_of_the_table() {
    let world = World::new(|_| {});
    let statuses = world.destinations.statuses(clock(NOW));
    assert_eq!(statuses.iter().map(|status| status.name).collect::<Vec<_>>(), ["alpha", "beta", "gamma"]);
    assert!(statuses.iter().all(|status| status.breaker == "closed" && status.in_flight_max == 3));
}

#[test]
fn a_breaker_opens_after_failures_in_a_row_and_closes_after_a_probe() {
    let mut breaker = Breaker::new(3, 100 * MS, 300 * MS);
    breaker.failed(NOW);
    breaker.failed(NOW);
    breaker.succeeded();
    breaker.failed(NOW);
    breaker.failed(NOW);
    assert_eq!(breaker.permit(NOW, 500), 500, "a success in between starts the count again");
    breaker.failed(NOW);
    assert_eq!((breaker.permit(NOW, 500), breaker.opens_at()), (0, Some(NOW + 100 * MS)));
    assert_eq!(breaker.permit(NOW + 100 * MS, 500), 1, "a probe");
    assert_eq!((breaker.permit(NOW + 100 * MS, 500), breaker.opens_at()), (0, None), "it has not ended");
    breaker.succeeded();
    assert_eq!(breaker.permit(NOW + 100 * MS, 500), 500);
}

#[test]
fn a_breaker_waits_longer_after_each_failed_probe() {
    let mut now = NOW;
    let mut breaker = Breaker::new(1, 100 * MS, 300 * MS);
    breaker.failed(now);
    for wait in [100, 200, 300, 300] {
        assert_eq!(breaker.permit(now, 500), 0);
        assert_eq!(breaker.opens_at(), Some(now + wait * MS));
        now += wait * MS;
        assert_eq!(breaker.permit(now, 500), 1);
        breaker.failed(now);
    }
}

#[test]
fn a_late_failure_does_not_keep_a_breaker_open() {
    let mut breaker = Breaker::new(1, 100 * MS, 300 * MS);
    breaker.failed(NOW);
    breaker.failed(NOW + 50 * MS);
    assert_eq!(breaker.permit(NOW + 100 * MS, 500), 1);
}
