//! Reads beside writes: how a fixed rate of reads and a full write load slow each other, how late watching clients
//! receive a change, and the cost of many watching clients.

use std::fmt;

use hdrhistogram::Histogram;
use matricula_harness::{memory_mib, peak_memory_mib};
use serde::Serialize;

use crate::campus::Morning;
use crate::figures::median;
use crate::load;
use crate::plan::Plan;
use crate::readers::{Readers, Seen};
use crate::scenario::{Kind, sized, warm_up};
use crate::stage::{LookedAt, Stage};

/// Clients that watch beside the reads; each has 50 sections on its page.
const WATCHES: usize = 20;
const SECTIONS_OF_WATCH: usize = 50;
/// The seed of the first morning.
const SEED: u64 = 100;

/// The number of readers.
#[derive(Debug, Clone, Copy)]
pub struct Looking {
    /// Sections whose seats are read a second.
    pub reads_per_s: u32,
    /// Sections that one call asks for.
    pub sections_of_read: usize,
    /// They read from an orchestrator of their own, which gets no submissions.
    pub apart: bool,
    /// Streams that are opened at the end, each of one section.
    pub streams: usize,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Reads {
    /// How the system ran.
    pub layout: String,
    /// Students who wait for an outcome at a time.
    pub in_flight: usize,
    /// Whether the readers had an orchestrator of their own, which got no submissions.
    pub apart: bool,
    /// Registrations a second without readers; each repeat.
    pub alone_per_s: Vec<f64>,
    /// Registrations a second beside the reads; each repeat.
    pub beside_per_s: Vec<f64>,
    /// Median with reads divided by median without.
    pub writes_ratio: f64,
    /// Sections whose seats were to be read a second.
    pub reads_per_s: u32,
    /// Sections of a call.
    pub sections_of_read: usize,
    /// Reads and watching clients of one repeat; the median of each figure.
    pub looks: Looks,
    /// Many streams.
    pub streams: Streams,
    /// The result of `matricula audit` at the end.
    pub audit: &'static str,
}

/// The results of readers and watching clients in one repeat.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Looks {
    /// Calls with an answer, a second.
    pub answered_per_s: f64,
    /// From the moment at which a read was due to its answer.
    pub p50_ms: f64,
    /// The same.
    pub p99_ms: f64,
    /// The same.
    pub p999_ms: f64,
    /// From an answer's `as_of` to its arrival.
    pub age_p99_ms: f64,
    /// From the commit of a change to its arrival at a watching client.
    pub stale_p50_ms: f64,
    /// The same.
    pub stale_p99_ms: f64,
    /// Answers that said that the feed is not live.
    pub not_live: f64,
    /// Reads that failed.
    pub failed: f64,
    /// Reads that were not sent, because too many had no answer yet.
    pub not_sent: f64,
}

/// The cost of many open streams for the orchestrator.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Streams {
    /// Open at once.
    pub open: usize,
    /// Memory before the first.
    pub before_mib: u64,
    /// Memory with all streams open and without changes.
    pub open_mib: u64,
    /// The most memory, under the write load.
    pub peak_mib: u64,
    /// Registrations a second meanwhile.
    pub registrations_per_s: f64,
    /// Messages a second to all.
    pub messages_per_s: f64,
    /// From the commit of a change to its arrival.
    pub stale_p50_ms: f64,
    /// The same.
    pub stale_p99_ms: f64,
}

/// Measures it.
///
/// # Panics
/// When an invariant does not hold.
pub async fn reads(plan: Plan, looking: Looking) -> Reads {
    let mut stage = Stage::start(plan.layout, &[]).await;
    let looked_at = if looking.apart { stage.start_reader() } else { stage.registering() };
    let rate = warm_up(&stage, Kind::Campus, plan).await;
    let students = sized(Kind::Campus, plan, rate);
    let mut mornings: Vec<Morning> = Vec::new();
    for number in 0..2 * plan.repeats as u64 + 1 {
        let morning = Morning::generate(&format!("L{number}"), students, SEED + number);
        stage.import(&morning.bundle);
        mornings.push(morning);
    }
    let streamed = mornings.pop().expect("one for the streams");

    let readers = Readers {
        calls_per_s: looking.reads_per_s / looking.sections_of_read.max(1) as u32,
        sections_of_read: looking.sections_of_read,
        watches: WATCHES,
        sections_of_watch: SECTIONS_OF_WATCH,
    };
    let (mut alone_per_s, mut beside_per_s, mut looks) = (Vec::new(), Vec::new(), Vec::new());
    for (number, morning) in mornings.into_iter().enumerate() {
        // In the order ABBA, so that neither system is warmer.
        if number % 4 == 0 || number % 4 == 3 {
            alone_per_s.push(play(&stage, plan, morning).await);
        } else {
            let reading = readers.start(looked_at.addresses.clone(), section_ids(&morning));
            let began = std::time::Instant::now();
            beside_per_s.push(play(&stage, plan, morning).await);
            let seconds = began.elapsed().as_secs_f64();
            looks.push(Looks::of(&reading.stop(), seconds));
        }
    }
    let streams = streams(&stage, looked_at, plan, looking.streams, streamed).await;
    stage.settled().await;
    stage.system.audit();
    Reads {
        layout: plan.layout.to_string(),
        in_flight: plan.in_flight,
        apart: looking.apart,
        writes_ratio: median(beside_per_s.clone()) / median(alone_per_s.clone()),
        alone_per_s,
        beside_per_s,
        reads_per_s: looking.reads_per_s,
        sections_of_read: looking.sections_of_read,
        looks: Looks::median(&looks),
        streams,
        audit: "clean",
    }
}

/// Registrations a second over a morning.
async fn play(stage: &Stage, plan: Plan, morning: Morning) -> f64 {
    let played = load::play(&stage.portals(), morning.clicks, plan.in_flight, plan.length_max()).await;
    stage.settled().await;
    played.registrations as f64 / played.took.as_secs_f64()
}

async fn streams(stage: &Stage, looked_at: LookedAt, plan: Plan, open: usize, morning: Morning) -> Streams {
    let LookedAt { mut addresses, pid } = looked_at;
    let before_mib = memory_mib(pid);
    let readers = Readers { calls_per_s: 0, sections_of_read: 1, watches: open, sections_of_watch: 1 };
    addresses.truncate(1);
    let reading = readers.start(addresses, section_ids(&morning));
    let open_mib = memory_mib(pid);
    let began = std::time::Instant::now();
    let registrations_per_s = play(stage, plan, morning).await;
    let seconds = began.elapsed().as_secs_f64();
    let peak_mib = peak_memory_mib(pid);
    let seen = reading.stop();
    Streams {
        open,
        before_mib,
        open_mib,
        peak_mib,
        registrations_per_s,
        messages_per_s: seen.messages as f64 / seconds,
        stale_p50_ms: at(&seen.staleness_ms, 0.5),
        stale_p99_ms: at(&seen.staleness_ms, 0.99),
    }
}

fn section_ids(morning: &Morning) -> Vec<String> {
    morning.bundle.sections.iter().map(|section| section.id.to_string()).collect()
}

fn at(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64
}

impl Looks {
    fn of(seen: &Seen, seconds: f64) -> Self {
        Self {
            answered_per_s: seen.latency_us.len() as f64 / seconds,
            p50_ms: at(&seen.latency_us, 0.5) / 1_000.0,
            p99_ms: at(&seen.latency_us, 0.99) / 1_000.0,
            p999_ms: at(&seen.latency_us, 0.999) / 1_000.0,
            age_p99_ms: at(&seen.age_ms, 0.99),
            stale_p50_ms: at(&seen.staleness_ms, 0.5),
            stale_p99_ms: at(&seen.staleness_ms, 0.99),
            not_live: seen.not_live as f64,
            failed: seen.failed as f64,
            not_sent: seen.not_sent as f64,
        }
    }

    fn median(all: &[Self]) -> Self {
        let number = |field: fn(&Self) -> f64| median(all.iter().map(field).collect());
        Self {
            answered_per_s: number(|looks| looks.answered_per_s),
            p50_ms: number(|looks| looks.p50_ms),
            p99_ms: number(|looks| looks.p99_ms),
            p999_ms: number(|looks| looks.p999_ms),
            age_p99_ms: number(|looks| looks.age_p99_ms),
            stale_p50_ms: number(|looks| looks.stale_p50_ms),
            stale_p99_ms: number(|looks| looks.stale_p99_ms),
            not_live: number(|looks| looks.not_live),
            failed: number(|looks| looks.failed),
            not_sent: number(|looks| looks.not_sent),
        }
    }
}

impl fmt::Display for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layout, in_flight, looks, streams, reads_per_s, sections_of_read, .. } = self;
        writeln!(
            f,
            "reads beside writes: {layout}, {in_flight} in flight, the seats of {reads_per_s} sections/s in calls for {sections_of_read}"
        )?;
        let looked_at = if self.apart { "an orchestrator of their own" } else { "the orchestrator that registers" };
        writeln!(f, "readers look at {looked_at}\n")?;
        let listed = |values: &[f64]| values.iter().map(|value| format!("{value:.0}")).collect::<Vec<_>>().join(", ");
        writeln!(f, "registrations/s alone          {}", listed(&self.alone_per_s))?;
        writeln!(f, "registrations/s beside reads   {}", listed(&self.beside_per_s))?;
        writeln!(f, "ratio of medians               {:.2}", self.writes_ratio)?;
        writeln!(f, "calls answered/s               {:.0}", looks.answered_per_s)?;
        let Looks { p50_ms, p99_ms, p999_ms, .. } = looks;
        writeln!(f, "read p50 / p99 / p99.9 ms      {p50_ms:.1} / {p99_ms:.1} / {p999_ms:.1}")?;
        writeln!(f, "age of an answer, p99 ms       {:.0}", looks.age_p99_ms)?;
        let Looks { not_live, failed, not_sent, .. } = looks;
        writeln!(f, "not live / failed / not sent   {not_live:.0} / {failed:.0} / {not_sent:.0}")?;
        writeln!(f, "commit to watcher, p50/p99 ms  {:.0} / {:.0}", looks.stale_p50_ms, looks.stale_p99_ms)?;
        let Streams { open, before_mib, open_mib, peak_mib, .. } = streams;
        writeln!(
            f,
            "streams                        {open}, orchestrator {before_mib} MiB before, {open_mib} MiB open, {peak_mib} MiB peak"
        )?;
        let Streams { registrations_per_s, messages_per_s, stale_p50_ms, stale_p99_ms, .. } = streams;
        writeln!(
            f,
            "beside them                    {registrations_per_s:.0} registrations/s, {messages_per_s:.0} messages/s, commit to watcher p50/p99 {stale_p50_ms:.0} / {stale_p99_ms:.0} ms"
        )?;
        writeln!(f, "audit                          {}", self.audit)
    }
}
