//! Portals that read: calls at fixed moments, whether or not earlier ones are answered, and a few watching clients.
//! They have a thread of their own, so that they do not delay the load.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hdrhistogram::Histogram;
use matricula_kit::time::{UnixMs, now};
use matricula_proto::catalog::v1::catalog_service_client::CatalogServiceClient;
use matricula_proto::catalog::v1::{
    Availability, GetAvailabilityRequest, GetAvailabilityResponse, WatchAvailabilityRequest,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::transport::Channel;

/// Between two moments at which reads are sent.
const TICK: Duration = Duration::from_millis(1);
/// Reads without an answer at a time; beyond it none is sent, and the report says so.
const OUTSTANDING_MAX: usize = 20_000;
/// The longest duration that the histograms distinguish, in microseconds or milliseconds.
const LONGEST: u64 = 600_000_000;
/// Watches on one connection.
const WATCHES_PER_CONNECTION: usize = 100;
/// Connections of the reads.
const CONNECTIONS: usize = 8;

/// The size of the read load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Readers {
    /// Calls a second; each is for this many sections.
    pub(crate) calls_per_s: u32,
    /// The sections of a call.
    pub(crate) sections_of_read: usize,
    /// Streams, open at once.
    pub(crate) watches: usize,
    /// Sections that each of them watches.
    pub(crate) sections_of_watch: usize,
}

/// The results of the readers.
#[derive(Debug)]
pub(crate) struct Seen {
    /// From the moment at which a read was due to its answer.
    pub(crate) latency_us: Histogram<u64>,
    /// From an answer's `as_of` to its arrival.
    pub(crate) age_ms: Histogram<u64>,
    /// From the commit of a change to its arrival at a watching client.
    pub(crate) staleness_ms: Histogram<u64>,
    /// Answers that said that the feed is not live.
    pub(crate) not_live: u64,
    pub(crate) failed: u64,
    pub(crate) not_sent: u64,
    /// Messages to the watching clients, after the first to each.
    pub(crate) messages: u64,
}

impl Seen {
    fn new() -> Self {
        let histogram = || Histogram::new_with_max(LONGEST, 3).expect("three digits are possible");
        let (latency_us, age_ms, staleness_ms) = (histogram(), histogram(), histogram());
        Self { latency_us, age_ms, staleness_ms, not_live: 0, failed: 0, not_sent: 0, messages: 0 }
    }

    fn answered(&mut self, answer: &GetAvailabilityResponse, took: Duration) {
        self.latency_us.saturating_record(took.as_micros() as u64);
        let freshness = answer.freshness.as_ref();
        self.not_live += u64::from(!freshness.is_some_and(|freshness| freshness.live));
        let as_of = freshness.and_then(|freshness| UnixMs::from_wire(freshness.as_of.as_ref()?));
        self.age_ms.saturating_record(as_of.map_or(0, since));
    }

    fn changed(&mut self, sections: &[Availability]) {
        self.messages += 1;
        for changed_at in sections.iter().filter_map(|section| UnixMs::from_wire(section.changed_at.as_ref()?)) {
            self.staleness_ms.saturating_record(since(changed_at));
        }
    }
}

/// Milliseconds since a moment; clocks of one machine agree.
fn since(moment: UnixMs) -> u64 {
    u64::try_from(now().0 - moment.0).unwrap_or(0)
}

/// Readers at work.
pub(crate) struct Reading {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Seen>,
}

impl Readers {
    /// Starts them; returns when every stream is open.
    ///
    /// # Panics
    /// When a stream can't be opened.
    pub(crate) fn start(self, addresses: Vec<String>, sections: Vec<String>) -> Reading {
        let (stop, stopped) = oneshot::channel();
        let (signal, all_open) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be made");
            runtime.block_on(self.run(addresses, sections.into(), signal, stopped))
        });
        all_open.recv().expect("every stream opens");
        Reading { stop, thread }
    }

    async fn run(
        self,
        addresses: Vec<String>,
        sections: Arc<[String]>,
        signal: mpsc::Sender<()>,
        stopped: oneshot::Receiver<()>,
    ) -> Seen {
        let seen = Arc::new(Mutex::new(Seen::new()));
        let connections = |number: usize| -> Vec<Channel> {
            let urls = addresses.iter().cycle().take(number).map(|address| format!("http://{address}"));
            urls.map(|url| matricula_kit::connect::lazily(&url).expect("a URL")).collect()
        };
        let channels = connections(self.watches.div_ceil(WATCHES_PER_CONNECTION));
        for watch in 0..self.watches {
            let ids = some(&sections, watch * self.sections_of_watch, self.sections_of_watch);
            let channel = channels[watch % channels.len()].clone();
            self::watch(channel, ids, seen.clone()).await;
        }
        let _ = signal.send(());
        let reading = self.read(connections(CONNECTIONS), sections, seen.clone());
        tokio::select! {
            () = reading => {}
            _ = stopped => {}
        }
        std::mem::replace(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner), Seen::new())
    }

    /// Sends reads at their moments, without an end.
    async fn read(self, channels: Vec<Channel>, sections: Arc<[String]>, seen: Arc<Mutex<Seen>>) {
        let outstanding = Arc::new(AtomicUsize::new(0));
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut tick, mut number) = (0_u64, 0_usize);
        loop {
            let due = ticks.tick().await;
            tick += 1;
            let due_by_now = tick * u64::from(self.calls_per_s) * TICK.as_millis() as u64 / 1_000;
            while (number as u64) < due_by_now {
                number += 1;
                if outstanding.load(Ordering::Relaxed) >= OUTSTANDING_MAX {
                    seen.lock().unwrap_or_else(PoisonError::into_inner).not_sent += 1;
                    continue;
                }
                outstanding.fetch_add(1, Ordering::Relaxed);
                let request = GetAvailabilityRequest { section_ids: some(&sections, number, self.sections_of_read) };
                let (channel, seen, outstanding) =
                    (channels[number % channels.len()].clone(), seen.clone(), outstanding.clone());
                tokio::spawn(async move {
                    one(channel, request, due, &seen).await;
                    outstanding.fetch_sub(1, Ordering::Relaxed);
                });
            }
        }
    }
}

impl Reading {
    /// Ends them.
    ///
    /// # Panics
    /// When a reader panicked.
    pub(crate) fn stop(self) -> Seen {
        let _ = self.stop.send(());
        self.thread.join().expect("the readers read until they are stopped")
    }
}

/// Opens a stream and waits for its first message; it is followed until the runtime ends.
async fn watch(channel: Channel, section_ids: Vec<String>, seen: Arc<Mutex<Seen>>) {
    let mut client = CatalogServiceClient::new(channel);
    let stream = client.watch_availability(WatchAvailabilityRequest { section_ids }).await;
    let mut stream = stream.expect("a stream opens").into_inner();
    stream.message().await.expect("a stream begins with the state");
    tokio::spawn(async move {
        while let Ok(Some(message)) = stream.message().await {
            seen.lock().unwrap_or_else(PoisonError::into_inner).changed(&message.sections);
        }
    });
}

async fn one(channel: Channel, request: GetAvailabilityRequest, due: Instant, seen: &Mutex<Seen>) {
    let answer = CatalogServiceClient::new(channel).get_availability(request).await;
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    match answer {
        Ok(answer) => seen.answered(answer.get_ref(), due.elapsed()),
        Err(_) => seen.failed += 1,
    }
}

/// This many sections from a position on, from the first again after the last.
fn some(sections: &[String], from: usize, count: usize) -> Vec<String> {
    (from..from + count.min(sections.len())).map(|at| sections[at % sections.len()].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::some;

    #[test]
    fn sections_are_taken_in_a_circle() {
        let sections = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(some(&sections, 4, 3), ["b", "c", "a"]);
        assert_eq!(some(&sections, 2, 9), ["c", "a", "b"]);
    }
}
