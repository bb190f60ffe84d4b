//! A start with a large backlog: sagas that hang in several steps, and an orchestrator that was killed. When everything
//! is back, the oldest are driven first, within the limits, and every saga is finished once.
//!
//! ```text
//! notifications away: half of the sagas is decided and not finished
//! seats away, too:    the others hang in their second step, or wait for a place
//! kill -9 of the orchestrator; the services come back; it starts again ── measured from here
//! ```

use std::time::{Duration, Instant};

use matricula_harness::campus::bundle;
use matricula_harness::{Metrics, PATIENCE, System, is_settled, peak_memory_mib, submission, submit};
use matricula_proto::registration::v1::{Outcome, Registration};
use tokio::task::{JoinSet, block_in_place};
use tonic::transport::Channel;

use crate::Place;
use crate::ledger::{self, decided_at_ms, most_overtaken};
use crate::table::{Table, seconds};

const ORCHESTRATOR: &str = "orchestrator";
/// Clicks on their way at a time while the backlog is made.
const AT_A_TIME: u32 = 256;
/// Registrations of each student.
const OF_A_STUDENT: u32 = 4;
/// Sections for each registration of a student: one of them has too few seats.
const SECTIONS: u32 = 10;
const FEW: i32 = 10;
/// Between two reads of the metrics.
const LOOK: Duration = Duration::from_millis(20);
/// The limit of calls in flight to each destination: the default setting.
const CALLS_IN_FLIGHT_MAX: u64 = 3;

/// The size of the backlog, and the limits while it is worked off.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Sagas of the backlog.
    pub sagas: u32,
    /// `in_flight_max`: sagas at work at a time.
    pub in_flight_max: u64,
    /// `sagas_in_memory_max` after the start.
    pub in_memory_max: u64,
    /// `adoption_chunk`.
    pub adoption_chunk: u64,
    /// `lease_ttl_ms`: on PostgreSQL the lease of the killed orchestrator must lapse first.
    pub lease_ttl_ms: u64,
}

/// Observations while the backlog was worked off, from the start of the process on.
#[derive(Debug, Default)]
struct Seen {
    serving: Duration,
    first_step: Option<Duration>,
    first_outcome: Option<Duration>,
    last: Duration,
    in_memory_most: u64,
    calls_in_flight_most: u64,
    calls_waiting_most: u64,
    finished: u64,
}

/// Makes the backlog, works it off, asserts the invariants, and returns the measurements.
///
/// # Panics
/// When an invariant does not hold.
pub async fn run(place: Place<'_>, spec: Spec) -> Table {
    let Spec { sagas, in_flight_max, in_memory_max, adoption_chunk, lease_ttl_ms } = spec;
    let settings = [
        ("orchestrator.runtime.admission_queue_max", "1000000".to_owned()),
        // Without a time limit, so that everything is accepted as backlog.
        ("orchestrator.runtime.admission_wait_max_ms", "3600000".to_owned()),
        ("orchestrator.runtime.sagas_in_memory_max", "1000000".to_owned()),
        ("orchestrator.runtime.in_flight_max", in_flight_max.to_string()),
        ("orchestrator.runtime.adoption_chunk", adoption_chunk.to_string()),
        ("orchestrator.runtime.lease_ttl_ms", lease_ttl_ms.to_string()),
    ];
    let mut system = place.start(&settings).await;
    block_in_place(|| import(&system, sagas));
    let made = make_backlog(&mut system, sagas).await;

    system.set_own(ORCHESTRATOR, "orchestrator.runtime.sagas_in_memory_max", &in_memory_max.to_string());
    block_in_place(|| ["notifications", "seats"].map(|service| system.restart(service)));
    let started = Instant::now();
    block_in_place(|| system.restart(ORCHESTRATOR));
    let seen = work_off(&system, started, sagas).await;
    let memory_mib = peak_memory_mib(system.pid(ORCHESTRATOR));

    let portal = system.channel(ORCHESTRATOR).await;
    assert!(is_settled(&portal).await, "every saga has finished, and one is unfinished");
    let ledger = ledger::export(&portal).await;
    check_outcomes(&ledger, sagas);
    // The first half was decided before; the order of the others is that of this start.
    let moments: Vec<i64> = ledger[made.decided as usize..].iter().map(decided_at_ms).collect();
    let overtaken = most_overtaken(&moments) as u64;
    assert!(
        overtaken < in_flight_max,
        "{overtaken} older ones waited while a younger one was decided: not oldest first"
    );
    assert_eq!(seen.finished, u64::from(sagas), "each saga finishes once");
    assert!(seen.in_memory_most <= in_memory_max + adoption_chunk, "{} sagas in memory", seen.in_memory_most);
    assert!(seen.calls_in_flight_most <= CALLS_IN_FLIGHT_MAX, "{} calls in flight", seen.calls_in_flight_most);
    block_in_place(|| system.audit());

    let first_step = seen.first_step.expect("each takes one");
    let mut table = Table::default();
    table.line("unfinished sagas", sagas);
    table.line("of them with an outcome", made.decided);
    table.line("made in", seconds(made.took));
    table.line("start to serving", seconds(seen.serving));
    table.line("start to the first step", seconds(first_step));
    table.line("start to the first outcome", seconds(seen.first_outcome.expect("half of them had none")));
    table.line("start to the last finished", seconds(seen.last));
    let working = seen.last.saturating_sub(first_step);
    table.line("sagas finished a second", format!("{:.0}", f64::from(sagas) / working.as_secs_f64()));
    table.line("peak memory when the backlog was made", format!("{} MiB", made.memory_mib));
    table.line("peak memory when it was worked off", format!("{memory_mib} MiB"));
    table.line("most sagas in memory", seen.in_memory_most);
    table.line("most calls in flight to a service", seen.calls_in_flight_most);
    table.line("most calls waiting for a service", seen.calls_waiting_most);
    table.line("most older ones that a younger overtook", overtaken);
    table.line("audit", "clean");
    table
}

fn import(system: &System, sagas: u32) {
    let names: Vec<(String, i32)> = (0..OF_A_STUDENT)
        .flat_map(|round| (0..SECTIONS).map(move |number| (round, number)))
        .map(|(round, number)| (section(round, number), if number == 0 { FEW } else { 1_000_000 }))
        .collect();
    let sections: Vec<(&str, i32, &str)> = names.iter().map(|(name, seats)| (name.as_str(), *seats, "")).collect();
    system.import(&bundle(&sections, sagas.div_ceil(OF_A_STUDENT)));
}

fn section(round: u32, number: u32) -> String {
    format!("R{round}-{number}")
}

/// The parts of a backlog.
struct Made {
    /// Sagas that have an outcome.
    decided: u32,
    took: Duration,
    memory_mib: u64,
}

/// Accepts all sagas while services are away, and kills the orchestrator when it holds them all.
async fn make_backlog(system: &mut System, sagas: u32) -> Made {
    let began = Instant::now();
    let http = system.http_address(ORCHESTRATOR);
    let portal = system.channel(ORCHESTRATOR).await;
    let decided = sagas / 2;
    block_in_place(|| system.kill("notifications"));
    accept(&portal, 0..decided).await;
    until(&http, |metrics| metrics.sum("matricula_sagas_decided_total") == u64::from(decided)).await;
    block_in_place(|| system.kill("seats"));
    accept(&portal, decided..sagas).await;
    until(&http, |metrics| metrics.sum("matricula_sagas_in_memory") == u64::from(sagas)).await;
    let memory_mib = peak_memory_mib(system.pid(ORCHESTRATOR));
    block_in_place(|| system.kill(ORCHESTRATOR));
    Made { decided, took: began.elapsed(), memory_mib }
}

/// Submits these, some at a time, and waits until they are accepted.
async fn accept(portal: &Channel, clicks: std::ops::Range<u32>) {
    let mut accepting = JoinSet::new();
    for worker in 0..AT_A_TIME {
        let (portal, clicks) = (portal.clone(), clicks.clone());
        accepting.spawn(async move {
            for click in clicks.skip(worker as usize).step_by(AT_A_TIME as usize) {
                let (student, round) = (click / OF_A_STUDENT, click % OF_A_STUDENT);
                let section = section(round, student % SECTIONS);
                let mut request = submission(&format!("S{}", student + 1), &round.to_string(), &[&section], &[]);
                request.wait_ms = 0;
                submit(&portal, request).await;
            }
        });
    }
    accepting.join_all().await;
}

/// Reads the metrics until a condition holds.
async fn until(http: &str, fact: impl Fn(&Metrics) -> bool) {
    let looking = async {
        while !Metrics::read(http).await.is_ok_and(|metrics| fact(&metrics)) {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("the orchestrator gets there");
}

/// Reads the metrics until all remaining sagas have finished; continues as long as some do.
async fn work_off(system: &System, started: Instant, sagas: u32) -> Seen {
    let mut seen = Seen { serving: started.elapsed(), ..Seen::default() };
    let http = system.http_address(ORCHESTRATOR);
    let mut progress_at = Instant::now();
    while seen.finished < u64::from(sagas) {
        assert!(progress_at.elapsed() < PATIENCE, "nothing finishes any more: {seen:?}");
        let metrics = Metrics::read(&http).await.expect("it serves its metrics");
        let now = started.elapsed();
        if metrics.sum("matricula_log_commit_operations_sum") > 0 {
            seen.first_step.get_or_insert(now);
        }
        let finished = metrics.sum("matricula_sagas_finished_total");
        // Sagas that had their outcome before the start are not decided again.
        if metrics.sum("matricula_sagas_decided_total") > 0 {
            seen.first_outcome.get_or_insert(now);
        }
        if finished > seen.finished {
            (seen.finished, progress_at) = (finished, Instant::now());
        }
        seen.in_memory_most = seen.in_memory_most.max(metrics.sum("matricula_sagas_in_memory"));
        seen.calls_in_flight_most = seen.calls_in_flight_most.max(metrics.most("matricula_calls_in_flight"));
        seen.calls_waiting_most = seen.calls_waiting_most.max(metrics.most("matricula_calls_waiting"));
        tokio::time::sleep(LOOK).await;
    }
    seen.last = started.elapsed();
    seen
}

/// Every saga has its outcome, and the scarce seats went to as many students as there are seats.
fn check_outcomes(ledger: &[Registration], sagas: u32) {
    assert_eq!(ledger.len(), sagas as usize, "what was accepted is there, and nothing else");
    let mut seats = std::collections::HashMap::<&str, i32>::new();
    for registration in ledger {
        let section = registration.adds[0].as_str();
        let enrolled = registration.outcome() == Outcome::Enrolled;
        let may_be_refused = section.ends_with("-0") && registration.outcome() == Outcome::Refused;
        assert!(enrolled || may_be_refused, "{registration:?}");
        *seats.entry(section).or_default() += i32::from(enrolled);
    }
    let wanted = (sagas / OF_A_STUDENT / SECTIONS).min(FEW as u32) as i32;
    for round in 0..OF_A_STUDENT {
        let taken = seats[section(round, 0).as_str()];
        assert!((wanted..=FEW).contains(&taken), "{taken} seats of {FEW} in round {round}");
    }
}
