//! What the core makes of the rate has to turn out true: the bound of the queue, the sagas at work, the promised waits,
//! and when rejected clients come back.

use super::*;

/// Three RPCs of twenty calls at a time, each for 150 ms. That is far from the rate that the core assumes until it has
/// measured one.
const DECIDED_A_SECOND: usize = 400;
/// Half as many again come, for so long.
const ARRIVE_A_SECOND: u64 = 600;
const ARRIVE_FOR_MS: u64 = 15_000;
const CLIENTS: u64 = ARRIVE_A_SECOND * ARRIVE_FOR_MS / 1_000;
/// From then on the rate is known.
const KNOWN_MS: u64 = 6_000;

fn rush(admission_wait_max_ms: u64) -> Rush {
    let plan = Plan {
        calls: 20,
        rpcs: 3,
        call_ms: 150,
        in_flight_max: 600,
        in_flight_time_max_ms: 500,
        admission_wait_max_ms,
        admission_queue_max: 100_000,
        clients_ms: (0..CLIENTS).map(|client| client * 1_000 / ARRIVE_A_SECOND).collect(),
        cancels: Vec::new(),
        standstill_ms: (0, 0),
    };
    Rush::new(plan, 7, None, false)
}

/// Runs until each client has its outcome; returns the mean number of tries, and how many were open at most.
fn run(mut rush: Rush) -> (f64, usize) {
    let mut accepted: HashMap<SagaId, (u64, Option<Moment>)> = HashMap::new();
    let (mut open_most, mut at_work, mut ratios) = (0, (usize::MAX, 0), Vec::new());
    while rush.tally.sagas < CLIENTS && rush.now_ms < 60_000 {
        let decided_before = rush.tally.sagas;
        rush.happen().expect("the core agrees with the account");
        if rush.tally.sagas > decided_before {
            for (_, (since_ms, promised)) in accepted.extract_if(|saga, _| !rush.accepted.contains_key(saga)) {
                let took_s = (rush.now_ms - since_ms) as f64 / 1_000.0;
                ratios.extend(promised.filter(|_| since_ms > KNOWN_MS).map(|wait| wait.as_secs_f64() / took_s));
            }
        }
        if rush.accepted.len() > accepted.len() {
            accepted.extend(&rush.accepted);
        }
        let working = rush.account.at_work.len();
        if rush.now_ms > KNOWN_MS {
            open_most = open_most.max(rush.account.open());
        }
        if rush.now_ms > KNOWN_MS && rush.core.queued() > 0 {
            at_work = (at_work.0.min(working), at_work.1.max(working));
        }
    }
    let near = ratios.iter().filter(|ratio| (0.8..1.25).contains(*ratio)).count();
    let tries_mean = rush.tries as f64 / CLIENTS as f64;
    println!(
        "{} decided after {} ms; open: {open_most}, at work: {at_work:?}, tries: {tries_mean:.2}; {near} of {} near",
        rush.tally.sagas,
        rush.now_ms,
        ratios.len()
    );
    assert_eq!(rush.tally.sagas, CLIENTS, "each client that comes back when told is let in sooner or later");
    // The service is never idle.
    let in_ms = CLIENTS * 1_000 / DECIDED_A_SECOND as u64;
    assert!((in_ms..in_ms + 3_000).contains(&rush.now_ms), "{} ms, not {in_ms}", rush.now_ms);
    // As many are at work as are decided in half a second.
    assert!(within(at_work.0, DECIDED_A_SECOND / 2) && within(at_work.1, DECIDED_A_SECOND / 2), "at work: {at_work:?}");
    assert!(ratios.len() > 3_000 && near * 10 > ratios.len() * 9, "{near} of {} waits are near", ratios.len());
    (tries_mean, open_most)
}

fn within(count: usize, expected: usize) -> bool {
    (expected * 4 / 5..expected * 6 / 5).contains(&count)
}

#[test]
fn a_rush_beyond_the_bound_is_let_in_as_fast_as_sagas_are_decided() {
    let (tries_mean, open_most) = run(rush(4_000));
    // Hardly any client comes back in vain. As many are open as are decided in 4 s.
    assert!((1.0..1.5).contains(&tries_mean), "{tries_mean} tries a client");
    assert!(within(open_most, DECIDED_A_SECOND * 4), "{open_most} open");
}

#[test]
fn a_rush_within_the_bound_waits_as_long_as_promised() {
    let (tries_mean, open_most) = run(rush(120_000));
    assert!((tries_mean - 1.0).abs() < f64::EPSILON, "{tries_mean} tries a client");
    assert!(open_most > DECIDED_A_SECOND * 4, "{open_most} open");
}
