//! A long waiting line: the cost of accepting many registrations, of keeping them, and of showing the line to many
//! portals; a restart in the middle of it; and turns beside an open snapshot of the database.
//!
//! ```text
//! door paused: the line is filled ── acceptance and memory; CPU without streams and with them
//! door open:   the line moves ── CPU with streams and without them
//! kill -9:     the orchestrator starts again ── the time to the first new turn, and the order of turns
//! snapshot:    turns a second before an open snapshot, with it and after it (PostgreSQL)
//! the end:     the line is emptied; the ledger and the audit
//! ```
//!
//! Before each measurement the door is paused, and the line is filled up again, so that each begins with the same line.

mod clicks;
mod streams;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use matricula_harness::{PATIENCE, Portals, System, cpu, is_retryable, is_settled, memory_mib, peak_memory_mib};
use matricula_proto::ops::v1::SetDoorRequest;
use matricula_proto::ops::v1::door_service_client::DoorServiceClient;
use matricula_proto::registration::v1::{Door, Outcome, Registration};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, timeout};

use self::clicks::{Accepted, Clicks, Filled};
use self::streams::{Streams, line_now};
use self::turns::{Snapshot, Turns};
use crate::Place;
use crate::ledger::{self, decided_at_ms, most_overtaken};
use crate::table::{Table, seconds};

const ORCHESTRATOR: &str = "orchestrator";
/// Connections of the clients that submit.
const CONNECTIONS: usize = 8;
/// The orchestrator is killed when this share of the line has had its turn.
const KILLED_AFTER: u32 = 10;
/// Registrations that are accepted beyond those of the line: this test does not cover the limit of the line.
const ROOM: u32 = 50_000;
/// The longest wait that the setting allows, in milliseconds, so that a slow machine does not reject a long line.
const WAIT_MAX_MS: u64 = 3_600_000;
/// Between two queries for turns.
const LOOK: Duration = Duration::from_millis(10);

/// The length of the line and of each measurement.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Registrations in line at the begin of each measurement.
    pub waiting: u32,
    /// Streams of `WatchLine`.
    pub streams: usize,
    /// How long CPU and turns are measured; a measurement ends earlier when the line is empty.
    pub measure: Duration,
    /// The same beside an open snapshot.
    pub snapshot: Duration,
    /// How long the line is emptied at the end, at most.
    pub empty: Duration,
    /// The seed that assigns sections to students.
    pub seed: u64,
}

/// A measurement over some seconds.
struct Window {
    took: Duration,
    turns: i64,
    /// Of the orchestrator's process.
    cpu: Duration,
}

impl Window {
    /// CPU, where 100 % is one processor, and over how many seconds.
    fn cpu_percent(&self) -> String {
        let took = self.took.as_secs_f64();
        format!("{:.1} % in {took:.1} s", 100.0 * self.cpu.as_secs_f64() / took)
    }

    /// Turns a second, and over how many seconds.
    fn turns(&self) -> String {
        format!("{:.0} in {:.1} s", self.turns_per_second(), self.took.as_secs_f64())
    }

    fn turns_per_second(&self) -> f64 {
        self.turns as f64 / self.took.as_secs_f64()
    }
}

/// The system, and the submissions so far.
struct Stage {
    system: System,
    /// The process of the orchestrator.
    process: &'static str,
    portals: Arc<Portals>,
    turns: Turns,
    clicks: Arc<Clicks>,
    accepted: Vec<Accepted>,
    /// The ticket that was given last.
    last: i64,
    waiting: u32,
}

/// Runs the test, asserts the invariants, and returns the measurements.
///
/// # Panics
/// When an invariant does not hold.
pub async fn run(place: Place<'_>, spec: Spec) -> Table {
    let mut table = Table::default();
    table.line("seed", spec.seed);
    let mut stage = Stage::start(place, spec).await;
    stage.fill_and_report(&mut table).await;
    stage.streams(&mut table, spec).await;
    stage.restart(&mut table, spec).await;
    stage.snapshot(&mut table, spec).await;
    stage.end(&mut table, spec).await;
    table
}

impl Stage {
    async fn start(place: Place<'_>, spec: Spec) -> Self {
        let settings = [
            ("orchestrator.runtime.admission_queue_max", (spec.waiting + ROOM).to_string()),
            ("orchestrator.runtime.admission_wait_max_ms", WAIT_MAX_MS.to_string()),
        ];
        let (system, process) = place.start_or_up(&settings).await;
        let clicks = Arc::new(Clicks::new(spec.waiting, spec.seed));
        block_in_place(|| clicks.import(&system));
        let portals = Arc::new(Portals::at((0..CONNECTIONS).map(|_| system.address(ORCHESTRATOR))));
        let turns = Turns::open(&system.database_url(ORCHESTRATOR)).await;
        Self { system, process, portals, turns, clicks, accepted: Vec::new(), last: 0, waiting: spec.waiting }
    }

    /// Fills the line for the first time, while the door is paused.
    async fn fill_and_report(&mut self, table: &mut Table) {
        let memory = |stage: &Self| {
            let pid = stage.system.pid(stage.process);
            format!("{} / {} MiB", memory_mib(pid), peak_memory_mib(pid))
        };
        let before = memory(self);
        let filled = self.refill().await;
        table.line("registrations in line (rows queued)", self.turns.queued().await);
        table.line("accepted a second", format!("{:.0}", f64::from(self.waiting) / filled.took.as_secs_f64()));
        table.percentiles("acceptance, p50 / p99", &filled.latencies);
        table.line("submissions sent again", filled.sent_again);
        table.line("memory of the orchestrator before, now / peak", before);
        table.line("memory of the orchestrator with the line, now / peak", memory(self));
    }

    /// CPU of the orchestrator without streams and with them, while the line stands and while it moves.
    async fn streams(&mut self, table: &mut Table, spec: Spec) {
        let alone = self.measure(spec.measure).await;
        let mut streams = Streams::open(self.system.address(ORCHESTRATOR), spec.streams).await;
        table.line("streams of WatchLine, on connections", format!("{} on {}", spec.streams, streams.connections));
        let standing = self.measure(spec.measure).await;
        let standing_messages = streams.take_messages();
        assert_eq!((alone.turns, standing.turns), (0, 0), "no turn comes while the door is paused");
        self.go().await;
        streams.take_messages();
        let moving = self.measure(spec.measure).await;
        let moving_messages = streams.take_messages();
        assert_eq!(streams.ended(), 0, "streams that have ended");
        drop(streams);
        let moving_alone = self.measure_anew(spec.measure).await;

        let per_second = |messages: u64, window: &Window| format!("{:.0}", messages as f64 / window.took.as_secs_f64());
        table.line("CPU, door paused, no stream", alone.cpu_percent());
        table.line("CPU, door paused, with the streams", standing.cpu_percent());
        table.line("messages a second, door paused", per_second(standing_messages, &standing));
        table.line("CPU, line moving, no stream", moving_alone.cpu_percent());
        table.line("CPU, line moving, with the streams", moving.cpu_percent());
        table.line("messages a second, line moving", per_second(moving_messages, &moving));
        table.line("turns a second, no stream", moving_alone.turns());
        table.line("turns a second, with the streams", moving.turns());
    }

    /// Kills the orchestrator while the line moves, and starts it again at once.
    async fn restart(&mut self, table: &mut Table, spec: Spec) {
        self.refill().await;
        self.go().await;
        let far = self.turns.served().await + i64::from(self.waiting / KILLED_AFTER);
        self.served(far).await;
        block_in_place(|| self.system.kill(self.process));
        self.gone().await;
        let (served, queued) = (self.turns.served().await, self.turns.queued().await);
        assert!(queued > 0, "the line was empty when the orchestrator was killed: a longer one is needed");
        assert_eq!(self.turns.out_of_order().await, 0, "turns before that of an older registration, at the kill");

        let started = Instant::now();
        block_in_place(|| self.system.relaunch(self.process));
        self.served(served + 1).await;
        let first_turn = started.elapsed();
        assert_eq!(self.turns.out_of_order().await, 0, "turns before that of an older registration, after the start");
        let moving = self.measure(spec.measure).await;
        assert_eq!(self.turns.out_of_order().await, 0, "turns before that of an older registration, later");
        let shown = line_now(&self.portals).await;
        assert!(shown.now_serving >= served, "the line shows turn {} after {served}", shown.now_serving);

        table.line("registrations in line when it was killed", queued);
        table.line("its start to the first new turn", seconds(first_turn));
        table.line("turns a second after that", moving.turns());
        table.line("turns in the order of tickets", "all");
    }

    /// Turns a second with an open snapshot of the database, and without one before it and after it: the databases grow
    /// meanwhile, too.
    async fn snapshot(&mut self, table: &mut Table, spec: Spec) {
        let url = self.system.database_url(ORCHESTRATOR);
        if !url.starts_with("postgres") {
            return table.line("beside an open snapshot", "PostgreSQL only");
        }
        let before = self.measure_anew(spec.snapshot).await;
        self.refill().await;
        self.go().await;
        let snapshot = Snapshot::open(&url).await;
        let with = self.measure(spec.snapshot).await;
        snapshot.close().await;
        let after = self.measure_anew(spec.snapshot).await;

        let without = (before.turns_per_second() + after.turns_per_second()) / 2.0;
        table.line("turns a second before an open snapshot", before.turns());
        table.line("turns a second with an open snapshot", with.turns());
        table.line("turns a second after it", after.turns());
        table.line("with it over the mean of before and after", format!("{:.2}", with.turns_per_second() / without));
    }

    /// Empties the line, as far as there is time, and asserts the invariants.
    async fn end(&mut self, table: &mut Table, spec: Spec) {
        let is_empty = self.empty(spec.empty).await;
        table.line("accepted in all", self.accepted.len());
        table.line("left in line at the end", self.turns.queued().await);
        if !is_empty {
            return table.line("audit", "no time");
        }
        let mut ledger = ledger::export(&self.portals.channel(0)).await;
        check_ledger(&ledger, &mut self.accepted);
        ledger.sort_by_key(|registration| registration.ticket);
        let moments: Vec<i64> = ledger.iter().map(decided_at_ms).collect();
        table.line("most older ones that a younger overtook", most_overtaken(&moments));
        block_in_place(|| self.system.audit());
        table.line("audit", "clean");
    }

    /// Pauses the door, waits until nothing is at work, and fills the line up.
    async fn refill(&mut self) -> Filled {
        self.set_door(Door::Paused).await;
        let ending = async {
            while self.turns.at_work().await > 0 {
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, ending).await.expect("what is at work ends while the door is paused");
        let queued = u32::try_from(self.turns.queued().await).expect("a count");
        let mut filled = self.clicks.fill(&self.portals, self.waiting.saturating_sub(queued)).await;
        assert_eq!(self.turns.queued().await, i64::from(self.waiting), "all that were accepted are in line");
        self.accepted.append(&mut filled.accepted);
        self.last = self.accepted.iter().map(|accepted| accepted.ticket).max().unwrap_or_default();
        filled
    }

    /// Measures while a full line moves.
    async fn measure_anew(&mut self, length: Duration) -> Window {
        self.refill().await;
        self.go().await;
        self.measure(length).await
    }

    /// Opens the door, and waits until the line moves.
    async fn go(&mut self) {
        let served = self.turns.served().await;
        self.set_door(Door::Open).await;
        self.served(served + 1).await;
    }

    /// Waits until a ticket has had its turn.
    async fn served(&mut self, ticket: i64) {
        let turning = async {
            while self.turns.served().await < ticket {
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, turning).await.expect("the line moves");
    }

    /// Waits until the database has ended everything that a killed orchestrator has sent, so that a turn of it does not
    /// count as one of its successor.
    async fn gone(&mut self) {
        let ending = async {
            while self.turns.others().await > 0 {
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, ending).await.expect("the sessions of a killed process end");
    }

    /// Measures for so long, or until the last registration in line has had its turn.
    async fn measure(&mut self, length: Duration) -> Window {
        let pid = self.system.pid(self.process);
        let before = self.turns.served().await;
        let (began, cpu_before) = (Instant::now(), cpu(pid));
        let mut served = before;
        while began.elapsed() < length && served < self.last {
            sleep(LOOK).await;
            served = self.turns.served().await;
        }
        Window { took: began.elapsed(), turns: served - before, cpu: cpu(pid) - cpu_before }
    }

    /// Opens the door until no registration is unfinished; false when that takes too long.
    async fn empty(&mut self, within: Duration) -> bool {
        self.set_door(Door::Open).await;
        let portal = self.portals.channel(0);
        let emptying = async {
            while self.turns.served().await < self.last || !is_settled(&portal).await {
                sleep(LOOK).await;
            }
        };
        timeout(within, emptying).await.is_ok()
    }

    /// Sets the door, and waits for an orchestrator that has just been started.
    async fn set_door(&self, door: Door) {
        let (by, reason) = ("load".to_owned(), "a load test of the line".to_owned());
        let request = SetDoorRequest { door: door.into(), sentence: String::new(), by, reason };
        let setting = async {
            let mut client = DoorServiceClient::new(self.portals.channel(0));
            while let Err(status) = client.set_door(request.clone()).await {
                assert!(is_retryable(&status), "the door can be set: {status:?}");
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, setting).await.expect("the door is set");
    }
}

/// Every accepted registration is in the ledger with its ticket, and is enrolled. The ledger has no other, and no
/// ticket was given twice.
fn check_ledger(ledger: &[Registration], accepted: &mut [Accepted]) {
    accepted.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(ledger.len(), accepted.len(), "what was accepted is there, and nothing else");
    for (registration, accepted) in ledger.iter().zip(accepted.iter()) {
        let found = (&registration.registration_id, registration.ticket, registration.outcome());
        assert_eq!(found, (&accepted.id, Some(accepted.ticket), Outcome::Enrolled), "{registration:?}");
    }
    let mut tickets: Vec<i64> = accepted.iter().map(|accepted| accepted.ticket).collect();
    tickets.sort_unstable();
    assert!(tickets.is_sorted_by(|a, b| a < b), "a ticket was given twice");
}
