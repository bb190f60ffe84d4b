//! Ten times the load that the system can take: everybody is accepted until the queue is full, then a click is rejected
//! at once with a time to come back; nothing is lost, nothing is oversold; and after the spike every place of the queue
//! is free again.
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
/// The load of the spike, as a multiple of what the system takes.
const FACTOR: f64 = 10.0;
/// In the warm-up so many wait for each place at work, and somebody does all the time: a system in which nobody waits
/// has not measured what it takes, and spreads the first it turns away over some seconds that have nothing to do with
/// its rate.
const WAITING: u32 = 2;
/// On a slow machine the spike lasts until it has this many clicks: enough to tell whether hints are spread.
const CLICKS_MIN: f64 = 500.0;
/// One of so many that were turned away comes back when it is told to.
const COMES_BACK: u32 = 20;
/// One click of so many asks for its place in line instead of waiting, and follows its registration then.
const ASKS_FOR_PLACE: u32 = 20;
/// Those who are turned away must be told to come back in each of these parts of the time in which they come.
const PARTS: u32 = 4;
/// The default of `admission_wait_max_ms`.
const WAIT_MAX: Duration = Duration::from_secs(900);
/// Between two looks whether all is finished.
const LOOK: Duration = Duration::from_millis(50);

/// How large a spike, and the bounds that it meets.
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

/// What became of a click of the spike.
enum End {
    /// Accepted at once, and how long its outcome took; of those who asked for their place, what they were told.
    Accepted(Registration, Duration, Option<Told>),
    /// Turned away: after how long, and when it should come back, both since the spike began, and what became of it if
    /// it did.
    TurnedAway { took: Duration, told_to_come: Option<Duration>, hint: Option<Duration>, came_back: Option<CameBack> },
}

/// What one was told who did not wait for the outcome.
struct Told {
    /// How long the acknowledgement took.
    after: Duration,
    /// The wait that was expected, over what it took; none while the rate was not known.
    ratio: Option<f64>,
}

/// One that was turned away and came back when it was told to.
struct CameBack {
    registration: Registration,
    /// Whether it was let in the first time.
    at_once: bool,
}

/// What became of all clicks of the spike. Half a million ends as they are would be gigabytes, and the time to fill
/// them.
#[derive(Default)]
struct Seen {
    /// How long the outcome took of those who were accepted at once.
    accepted: Vec<Duration>,
    /// How long the acknowledgement took of those who did not wait for the outcome.
    acknowledged: Vec<Duration>,
    /// The wait that they were told, over what it took.
    expected: Vec<f64>,
    /// How long it took to hear of being turned away, when to come back, and when that is since the spike began.
    turned_away: Vec<Duration>,
    hints: Vec<Duration>,
    told_to_come: Vec<Duration>,
    came_back: usize,
    let_in_at_once: usize,
    /// Ids of all registrations that clients were told of.
    known: BTreeSet<String>,
}

impl Seen {
    fn add(&mut self, end: End) {
        match end {
            End::Accepted(registration, took, told) => {
                self.accepted.push(took);
                self.acknowledged.extend(told.iter().map(|told| told.after));
                self.expected.extend(told.and_then(|told| told.ratio));
                self.known.insert(registration.registration_id);
            }
            End::TurnedAway { took, told_to_come, hint, came_back } => {
                self.turned_away.push(took);
                self.hints.push(hint.expect("who is turned away is told when to come back"));
                self.told_to_come.extend(told_to_come);
                if let Some(came) = came_back {
                    self.came_back += 1;
                    self.let_in_at_once += usize::from(came.at_once);
                    self.known.insert(came.registration.registration_id);
                }
            }
        }
    }
}

/// Plays the spike, checks what must hold, and tells what was seen.
///
/// # Panics
/// When something does not hold.
pub async fn run(place: Place<'_>, spec: Spec) -> Table {
    let settings = [
        ("orchestrator.runtime.in_flight_max", spec.in_flight_max.to_string()),
        // While a service hangs, so many are taken out of the line and no more.
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
    // As a task, so that what it sends is begun by the same thread.
    let spiking = tokio::spawn(spike(portals, clicks.clone(), clicks_per_s, lasts));
    let (seen, spiked) = spiking.await.expect("the spike is played to its end");
    let all_ended = spike_began.elapsed();
    let offered = f64::from(clicks.sent() - before) / spiked.as_secs_f64();

    let Seen { accepted, acknowledged, mut expected, turned_away, hints, told_to_come, .. } = seen;
    let Seen { came_back, let_in_at_once, mut known, .. } = seen;
    let total = accepted.len() + turned_away.len();
    // All that the queue has room for are accepted.
    let is_beyond_bound = total > 2 * spec.queue_max as usize;
    if is_beyond_bound {
        assert!(turned_away.len() > total / 2, "only {} of {total} were turned away", turned_away.len());
        check_comings(&told_to_come);
        let is_earlier = percentile(&turned_away, 50) < percentile(&accepted, 50);
        assert!(is_earlier, "rejected clicks are answered before others have their outcome");
    }
    settled(&system).await;
    known.extend(warm.iter().map(|(registration, _)| registration.registration_id.clone()));
    // A queue that takes longer than the admitted wait is bounded by time instead: then its number of places is not
    // known.
    let is_bounded_by_count = is_beyond_bound && f64::from(spec.queue_max) < rate * WAIT_MAX.as_secs_f64() / 2.0;
    if is_bounded_by_count {
        known.extend(fill_the_line(&system, &clicks, spec).await);
    }
    check_ledger(&system, &known, spec.students).await;
    block_in_place(|| system.audit());

    let mut table = Table::default();
    let latencies: Vec<Duration> = warm.iter().map(|(_, took)| *took).collect();
    table.line("registrations a second that it takes", format!("{rate:.0}"));
    table.percentiles("their latency, p50 / p99", &latencies);
    table.line("clicks a second in the spike", format!("{offered:.0}"));
    table.line("clicks in the spike", total);
    table.line("accepted at once", accepted.len());
    table.percentiles("their latency, p50 / p99", &accepted);
    table.percentiles("acknowledged after, p50 / p99", &acknowledged);
    let in_spike = accepted.len() as f64 / spiked.as_secs_f64();
    table.line("accepted a second in the spike", format!("{in_spike:.0}"));
    table.line("turned away", turned_away.len());
    table.percentiles("after, p50 / p99", &turned_away);
    table.line("of them came back and have an outcome", came_back);
    table.line("let in when they came back first", let_in_at_once);
    expected.sort_by(f64::total_cmp);
    let ratio = |percent: usize| expected.get(expected.len() * percent / 100).copied().unwrap_or(f64::NAN);
    let ratios = format!("{:.2} / {:.2} / {:.2}", ratio(10), ratio(50), ratio(90));
    table.line("expected wait over the real one, p10 / p50 / p90", ratios);
    table.line("waits that were asked for", expected.len());
    table.line("the last of all after", crate::table::seconds(all_ended));
    table.percentiles("hints when to come back, p50 / p99", &hints);
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

/// Clicks that nobody has made before: all students for one section, then for the next.
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

/// As many at a time as may be at work, and some more: the rate that the system takes, and what each one took.
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

/// Sends clicks at their moments, whatever becomes of the earlier ones, and waits for the end of each. Also how long it
/// took to send them.
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
        sent.spawn(async move { one(&portals, click, number, (began, lasts)).await });
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
    (spike_began, spike_lasts): (Instant, Duration),
) -> End {
    let began = Instant::now();
    let wait_ms = click.wait_ms;
    let asks_for_place = number.is_multiple_of(ASKS_FOR_PLACE);
    if asks_for_place {
        click.wait_ms = 0;
    }
    let answer = submit(&portals.channel(portals.turn()), click.clone()).await;
    click.wait_ms = wait_ms;
    match answer {
        Ok(registration) if registration.outcome() == Outcome::Pending => {
            let (told, after) = (Instant::now(), began.elapsed());
            let expected = registration.expected_wait.and_then(|wait| Duration::try_from(wait).ok());
            let registration = watched(&portals.channel(portals.turn()), registration).await;
            let ratio = expected.map(|expected| expected.as_secs_f64() / told.elapsed().as_secs_f64());
            // A click that has waited in vain for its outcome says nothing of how fast it was accepted.
            End::Accepted(registration, began.elapsed(), asks_for_place.then_some(Told { after, ratio }))
        }
        Ok(registration) => End::Accepted(registration, began.elapsed(), None),
        Err(status) if status.code() == Code::ResourceExhausted => {
            let (took, hint) = (began.elapsed(), retry_delay(&status));
            let told_to_come = hint.map(|hint| spike_began.elapsed() + hint);
            let mut came_back = None;
            if number.is_multiple_of(COMES_BACK) {
                tokio::time::sleep(hint.unwrap_or_default()).await;
                let mut at_once = None;
                let registration = loop {
                    let came = Instant::now();
                    let followed = portals.follow(portals.turn(), click.clone()).await;
                    at_once.get_or_insert(followed.setbacks.is_empty());
                    // A client's patience may be shorter than the spike; it counts from the spike's end.
                    if followed.end.is_ok() || came >= spike_began + spike_lasts {
                        break followed.end.expect("who comes back gets an outcome");
                    }
                };
                came_back = Some(CameBack { registration, at_once: at_once == Some(true) });
            }
            End::TurnedAway { took, told_to_come, hint, came_back }
        }
        // A connection was lost, and what became of the click is not known: the same key finds it.
        Err(status) if is_retryable(&status) => {
            let followed = portals.follow(portals.turn(), click).await;
            End::Accepted(followed.end.expect("the click is decided"), began.elapsed(), None)
        }
        Err(status) => panic!("neither accepted nor turned away: {status:?}"),
    }
}

async fn submit(portal: &Channel, request: SubmitRegistrationRequest) -> Result<Registration, Status> {
    let answer = RegistrationServiceClient::new(portal.clone()).submit_registration(request).await?;
    Ok(answer.into_inner().registration.expect("an answer has a registration"))
}

/// Watches an accepted registration until its outcome stands.
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

/// Those who were turned away do not come back at one moment, but one after the other.
fn check_comings(comings: &[Duration]) {
    // A straggler makes no crowd, and leaves no gap.
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

/// While a service hangs nothing is decided: as many as are at work and as the line has places are accepted, and not
/// one more. Returns their ids.
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

/// What clients were told is accepted is there, nothing else is, and no section has given more seats than it has.
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
