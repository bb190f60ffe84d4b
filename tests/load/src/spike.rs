//! Ten times the load that the system can take. Every click is accepted until the queue is full; later ones are
//! rejected at once with a time to come back. Nothing is lost and nothing is oversold. After the spike every place of
//! the queue is free again.
//!
//! ```text
//! warm-up: closed loop, some of them waiting ── the rate that it takes, and the system has measured it, too
//! spike:   open loop at ten times that rate, whatever is answered; some of those who are turned away come back
//! after:   a queue filled to its last place, so that a place that was lost in the spike would be missed
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use matricula_harness::campus::bundle;
use matricula_harness::{PATIENCE, Portals, System, is_retryable, is_settled, retry_delay, submission};
use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use matricula_proto::registration::v1::{Outcome, Registration, SubmitRegistrationRequest, WatchRegistrationRequest};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::Place;
use crate::ledger;
use crate::table::{Table, percentile};

const ORCHESTRATOR: &str = "orchestrator";
/// Connections of the clients, at least. A connection carries 1,024 calls at a time, and every accepted click waits for
/// its outcome: with fewer connections than the queue has thousands, clicks would wait in the client.
const CONNECTIONS_MIN: usize = 32;
const CALLS_OF_CONNECTION: usize = 1_000;
/// Sections that the students go through, one registration each; every fourth has seats for half of the students.
const SECTIONS: u32 = 40;
/// The load of the spike, as a multiple of the system's rate.
const FACTOR: f64 = 10.0;
/// In the warm-up this many clients wait for each place at work, so that a line exists all the time. Without a line the
/// system measures no rate of turns, and spreads its first rejections over a time that does not depend on its rate.
const WAITING: u32 = 2;
/// On a slow machine the spike lasts until it has this many clicks: enough to check the spread of the times to come
/// back.
const CLICKS_MIN: f64 = 500.0;
/// One rejected click of this many comes back at its time.
const COMES_BACK: u32 = 20;
/// One click of this many does not wait for its outcome: it gets its place in line, and then watches its registration.
const ASKS_FOR_PLACE: u32 = 20;
/// The times to come back are divided into this many parts, and each part must have some.
const PARTS: u32 = 4;
/// The default of `admission_wait_max_ms`.
const WAIT_MAX: Duration = Duration::from_secs(900);
/// Between two checks whether all sagas are finished.
const LOOK: Duration = Duration::from_millis(50);

/// The size of a spike, and the limits that it meets.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// `in_flight_max`: sagas at work at a time.
    pub in_flight_max: u32,
    /// `admission_queue_max`: sagas without an outcome.
    pub queue_max: u32,
    /// How long the rate is measured.
    pub warm_up: Duration,
    /// How long the spike lasts.
    pub spike: Duration,
    /// Clicks a second in the spike, at most: the clients run on the same machine.
    pub clicks_per_s_max: f64,
    /// Students; each clicks once a section.
    pub students: u32,
}

/// The end of a click of the spike.
enum End {
    /// Accepted at once, with the time to the outcome, and the acknowledgement if the client did not wait.
    Accepted(Registration, Duration, Option<Acknowledgement>),
    /// Rejected: the time to the rejection, the time to come back (since the start of the spike), and the end of the
    /// second click if there was one.
    Rejected { took: Duration, comes_back_after: Option<Duration>, hint: Option<Duration>, came_back: Option<CameBack> },
}

/// The answer to a client that did not wait for the outcome.
struct Acknowledgement {
    /// How long the acknowledgement took.
    after: Duration,
    /// The expected wait divided by the real one; none while the rate was unknown.
    ratio: Option<f64>,
}

/// A rejected click that came back at its time.
struct CameBack {
    registration: Registration,
    /// Whether it was accepted at the first return.
    at_once: bool,
}

/// The results of all clicks of the spike. Half a million single ends would take gigabytes.
#[derive(Default)]
struct Seen {
    /// The time to the outcome of clicks that were accepted at once.
    accepted: Vec<Duration>,
    /// The time to the acknowledgement of clicks that did not wait for the outcome.
    acknowledged: Vec<Duration>,
    /// Their expected waits divided by the real ones.
    expected: Vec<f64>,
    /// Rejections: the time to the answer, the time to come back, and its moment since the start of the spike.
    rejected: Vec<Duration>,
    hints: Vec<Duration>,
    comes_back_after: Vec<Duration>,
    came_back: usize,
    accepted_at_once: usize,
    /// Ids of all registrations in the answers to clients.
    known: BTreeSet<String>,
}

impl Seen {
    fn add(&mut self, end: End) {
        match end {
            End::Accepted(registration, took, acknowledgement) => {
                self.accepted.push(took);
                self.acknowledged.extend(acknowledgement.iter().map(|acknowledgement| acknowledgement.after));
                self.expected.extend(acknowledgement.and_then(|acknowledgement| acknowledgement.ratio));
                self.known.insert(registration.registration_id);
            }
            End::Rejected { took, comes_back_after, hint, came_back } => {
                self.rejected.push(took);
                self.hints.push(hint.expect("a rejected client gets a time to come back"));
                self.comes_back_after.extend(comes_back_after);
                if let Some(came) = came_back {
                    self.came_back += 1;
                    self.accepted_at_once += usize::from(came.at_once);
                    self.known.insert(came.registration.registration_id);
                }
            }
        }
    }
}

/// Runs the spike, asserts the invariants, and returns the measurements.
///
/// # Panics
/// When an invariant does not hold.
pub async fn run(place: Place<'_>, spec: Spec) -> Table {
    let settings = [
        ("orchestrator.runtime.in_flight_max", spec.in_flight_max.to_string()),
        // While a service hangs, exactly this many are taken out of the line.
        ("orchestrator.runtime.parked_max", "0".to_owned()),
        ("orchestrator.runtime.admission_queue_max", spec.queue_max.to_string()),
    ];
    let system = place.start(&settings).await;
    block_in_place(|| import(&system, spec.students));
    let connections = spec.queue_max as usize / CALLS_OF_CONNECTION + CONNECTIONS_MIN;
    let portals = Arc::new(Portals::at((0..connections).map(|_| system.address(ORCHESTRATOR))));
    let clicks = Arc::new(Clicks { students: spec.students, next: AtomicU32::new(0) });

    let (warm, rate) = warm_up(portals.clone(), clicks.clone(), spec).await;
    let before = clicks.sent();
    let spike_began = Instant::now();
    let clicks_per_s = (rate * FACTOR).min(spec.clicks_per_s_max);
    let lasts = spec.spike.max(Duration::from_secs_f64(CLICKS_MIN / clicks_per_s));
    // As a task, so that the same thread begins everything that it sends.
    let spiking = tokio::spawn(spike(portals, clicks.clone(), clicks_per_s, lasts));
    let (seen, spiked) = spiking.await.expect("the spike is played to its end");
    let all_ended = spike_began.elapsed();
    let offered = f64::from(clicks.sent() - before) / spiked.as_secs_f64();

    let Seen { accepted, acknowledged, mut expected, rejected, hints, comes_back_after, .. } = seen;
    let Seen { came_back, accepted_at_once, mut known, .. } = seen;
    let total = accepted.len() + rejected.len();
    // All that the queue has room for are accepted.
    let is_beyond_bound = total > 2 * spec.queue_max as usize;
    if is_beyond_bound {
        assert!(rejected.len() > total / 2, "only {} of {total} were rejected", rejected.len());
        check_comings(&comes_back_after);
        let is_earlier = percentile(&rejected, 50) < percentile(&accepted, 50);
        assert!(is_earlier, "rejected clicks are answered before others have their outcome");
    }
    settled(&system).await;
    known.extend(warm.iter().map(|(registration, _)| registration.registration_id.clone()));
    // A queue that takes longer than the allowed wait is limited by time instead. Then its number of places is unknown.
    let is_bounded_by_count = is_beyond_bound && f64::from(spec.queue_max) < rate * WAIT_MAX.as_secs_f64() / 2.0;
    if is_bounded_by_count {
        known.extend(fill_the_line(&system, &clicks, spec).await);
    }
    check_ledger(&system, &known, spec.students).await;
    block_in_place(|| system.audit());

    let mut table = Table::default();
    let latencies: Vec<Duration> = warm.iter().map(|(_, took)| *took).collect();
    table.line("rate of the system, registrations a second", format!("{rate:.0}"));
    table.percentiles("their latency, p50 / p99", &latencies);
    table.line("clicks a second in the spike", format!("{offered:.0}"));
    table.line("clicks in the spike", total);
    table.line("accepted at once", accepted.len());
    table.percentiles("their latency, p50 / p99", &accepted);
    table.percentiles("acknowledged after, p50 / p99", &acknowledged);
    let in_spike = accepted.len() as f64 / spiked.as_secs_f64();
    table.line("accepted a second in the spike", format!("{in_spike:.0}"));
    table.line("rejected", rejected.len());
    table.percentiles("after, p50 / p99", &rejected);
    table.line("came back and have an outcome", came_back);
    table.line("accepted at the first return", accepted_at_once);
    expected.sort_by(f64::total_cmp);
    let ratio = |percent: usize| expected.get(expected.len() * percent / 100).copied().unwrap_or(f64::NAN);
    let ratios = format!("{:.2} / {:.2} / {:.2}", ratio(10), ratio(50), ratio(90));
    table.line("expected wait over the real one, p10 / p50 / p90", ratios);
    table.line("clients that got an expected wait", expected.len());
    table.line("last outcome after", crate::table::seconds(all_ended));
    table.percentiles("time to come back, p50 / p99", &hints);
    let again = if is_bounded_by_count { spec.queue_max.to_string() } else { "not tried".to_owned() };
    table.line("admitted again after the spike", again);
    table.line("registrations in the ledger", known.len());
    table.line("audit", "clean");
    table
}

fn import(system: &System, students: u32) {
    let names: Vec<(String, i32)> = (0..SECTIONS)
        .map(|number| (format!("C{number}"), if number % 4 == 0 { students / 2 } else { 1_000_000 } as i32))
        .collect();
    let sections: Vec<(&str, i32, &str)> = names.iter().map(|(name, seats)| (name.as_str(), *seats, "")).collect();
    system.import(&bundle(&sections, students));
}

/// New clicks: all students for one section, then for the next.
struct Clicks {
    students: u32,
    next: AtomicU32,
}

impl Clicks {
    fn next(&self) -> SubmitRegistrationRequest {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (section, student) = (number / self.students, number % self.students + 1);
        assert!(section < SECTIONS, "every student has clicked on every section: more students are needed");
        submission(&format!("S{student}"), &format!("k{section}"), &[&format!("C{section}")], &[])
    }

    fn sent(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }
}

/// As many clients at a time as may be at work, and some more: the system's rate, and the time of each click.
async fn warm_up(portals: Arc<Portals>, clicks: Arc<Clicks>, spec: Spec) -> (Vec<(Registration, Duration)>, f64) {
    let began = Instant::now();
    let mut working = JoinSet::new();
    for _ in 0..(spec.in_flight_max * (1 + WAITING)).min(spec.queue_max) {
        let (portals, clicks) = (portals.clone(), clicks.clone());
        working.spawn(async move {
            let mut ends = Vec::new();
            while began.elapsed() < spec.warm_up {
                let followed = portals.follow(portals.turn(), clicks.next()).await;
                ends.push((followed.end.expect("a click is decided"), followed.took));
            }
            ends
        });
    }
    let ends: Vec<(Registration, Duration)> = working.join_all().await.into_iter().flatten().collect();
    let rate = ends.len() as f64 / began.elapsed().as_secs_f64();
    (ends, rate)
}

/// Sends clicks at their moments, whether or not earlier ones are answered, and waits for the end of each. Also returns
/// how long the sending took.
async fn spike(portals: Arc<Portals>, clicks: Arc<Clicks>, rate: f64, lasts: Duration) -> (Seen, Duration) {
    let began = Instant::now();
    let (mut sent, mut seen) = (JoinSet::new(), Seen::default());
    let count = (rate * lasts.as_secs_f64()) as u32;
    for number in 0..count {
        let due = began + lasts.mul_f64(f64::from(number) / f64::from(count));
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        }
        let (portals, click) = (portals.clone(), clicks.next());
        sent.spawn(async move { one(&portals, click, number, due, (began, lasts)).await });
        while let Some(end) = sent.try_join_next() {
            seen.add(end.expect("a click comes to its end"));
        }
    }
    let sending = began.elapsed();
    while let Some(end) = sent.join_next().await {
        seen.add(end.expect("a click comes to its end"));
    }
    (seen, sending)
}

async fn one(
    portals: &Portals,
    mut click: SubmitRegistrationRequest,
    number: u32,
    due: Instant,
    (spike_began, spike_lasts): (Instant, Duration),
) -> End {
    // A click that is sent late was clicked at its moment.
    let began = due;
    let wait_ms = click.wait_ms;
    let asks_for_place = number.is_multiple_of(ASKS_FOR_PLACE);
    if asks_for_place {
        click.wait_ms = 0;
    }
    let answer = submit(&portals.channel(portals.turn()), click.clone()).await;
    click.wait_ms = wait_ms;
    match answer {
        Ok(registration) if registration.outcome() == Outcome::Pending => {
            let (acknowledged, after) = (Instant::now(), began.elapsed());
            let expected = registration.expected_wait.and_then(|wait| Duration::try_from(wait).ok());
            let registration = watched(&portals.channel(portals.turn()), registration).await;
            let ratio = expected.map(|expected| expected.as_secs_f64() / acknowledged.elapsed().as_secs_f64());
            // The time of a click whose wait has expired is not a time of acceptance.
            End::Accepted(registration, began.elapsed(), asks_for_place.then_some(Acknowledgement { after, ratio }))
        }
        Ok(registration) => End::Accepted(registration, began.elapsed(), None),
        Err(status) if status.code() == Code::ResourceExhausted => {
            let (took, hint) = (began.elapsed(), retry_delay(&status));
            let comes_back_after = hint.map(|hint| spike_began.elapsed() + hint);
            let mut came_back = None;
            if number.is_multiple_of(COMES_BACK) {
                tokio::time::sleep(hint.unwrap_or_default()).await;
                let mut at_once = None;
                let registration = loop {
                    let came = Instant::now();
                    let followed = portals.follow(portals.turn(), click.clone()).await;
                    at_once.get_or_insert(followed.setbacks.is_empty());
                    // A client's time limit may be shorter than the spike; it counts from the spike's end.
                    if followed.end.is_ok() || came >= spike_began + spike_lasts {
                        break followed.end.expect("a client that comes back gets an outcome");
                    }
                };
                came_back = Some(CameBack { registration, at_once: at_once == Some(true) });
            }
            End::Rejected { took, comes_back_after, hint, came_back }
        }
        // A connection was lost, and the result of the click is unknown: the same key finds it.
        Err(status) if is_retryable(&status) => {
            let followed = portals.follow(portals.turn(), click).await;
            End::Accepted(followed.end.expect("the click is decided"), began.elapsed(), None)
        }
        Err(status) => panic!("neither accepted nor rejected: {status:?}"),
    }
}

async fn submit(portal: &Channel, request: SubmitRegistrationRequest) -> Result<Registration, Status> {
    let answer = RegistrationServiceClient::new(portal.clone()).submit_registration(request).await?;
    Ok(answer.into_inner().registration.expect("an answer has a registration"))
}

/// Watches an accepted registration until it has its outcome.
async fn watched(portal: &Channel, registration: Registration) -> Registration {
    let request = WatchRegistrationRequest { registration_id: registration.registration_id };
    let watching = RegistrationServiceClient::new(portal.clone()).watch_registration(request).await;
    let mut changes = watching.expect("what is accepted can be watched").into_inner();
    loop {
        let change = changes.message().await.expect("the watch goes on").expect("to the outcome");
        let registration = change.registration.expect("a change has the registration");
        if registration.outcome() != Outcome::Pending {
            return registration;
        }
    }
}

/// Rejected clients do not come back at one moment, but one after the other.
fn check_comings(comings: &[Duration]) {
    // A single late client makes no crowd, and leaves no gap.
    let (first, last) = (percentile(comings, 1), percentile(comings, 99));
    let width = (last - first) / PARTS;
    for part in 0..PARTS {
        let range = first + width * part..=first + width * (part + 1);
        let inside = comings.iter().filter(|coming| range.contains(coming)).count();
        let expected = comings.len() / PARTS as usize;
        assert!(inside > expected / 4, "{inside} of {} come back in {range:?}: they are not spread", comings.len());
    }
}

async fn settled(system: &System) {
    let portal = system.channel(ORCHESTRATOR).await;
    let settling = async {
        while !is_settled(&portal).await {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, settling).await.expect("everything finishes when the spike is over");
}

/// While a service hangs nothing is decided: exactly as many are accepted as fit at work and in line. Returns their
/// ids.
async fn fill_the_line(system: &System, clicks: &Clicks, spec: Spec) -> Vec<String> {
    system.pause("academics");
    let portal = system.channel(ORCHESTRATOR).await;
    let mut ids = Vec::new();
    let one_more = loop {
        let click = SubmitRegistrationRequest { wait_ms: 0, ..clicks.next() };
        match submit(&portal, click).await {
            Ok(registration) => ids.push(registration.registration_id),
            Err(error) => break error,
        }
    };
    assert_eq!(one_more.code(), Code::ResourceExhausted, "{one_more:?}");
    let (places, most) = (spec.queue_max as usize, (spec.queue_max + spec.in_flight_max) as usize);
    assert!((places..=most).contains(&ids.len()), "{} were accepted, of {places} in line", ids.len());
    system.resume("academics");
    settled(system).await;
    ids
}

/// The ledger has exactly the registrations that clients know as accepted, and no section has given more seats than it
/// has.
async fn check_ledger(system: &System, known: &BTreeSet<String>, students: u32) {
    let ledger = ledger::export(&system.channel(ORCHESTRATOR).await).await;
    let ids: BTreeSet<String> = ledger.iter().map(|registration| registration.registration_id.clone()).collect();
    let lost = known.difference(&ids).count();
    let unknown = ids.difference(known).count();
    assert_eq!((lost, unknown), (0, 0), "accepted and not in the ledger, in the ledger and not accepted");
    for number in (0..SECTIONS).step_by(4) {
        let section = format!("C{number}");
        let of_section = ledger.iter().filter(|registration| registration.adds == [section.as_str()]);
        let enrolled = of_section.filter(|registration| registration.outcome() == Outcome::Enrolled).count();
        assert!(enrolled <= students as usize / 2, "{section} has given {enrolled} seats");
    }
}
