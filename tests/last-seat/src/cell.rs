//! One cell of the table: a number of clients that request seats at once, for some time, with one design.
//!
//! A client sends the next request as soon as it is answered. Decisions within the window count for the rate and the
//! CPU. The times are of all requests that were sent within it, however late the answer came, so that no slow one is
//! left out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use matricula_kit::id::{SectionId, StudentId};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::cpu::{Cpu, Meters};
use crate::designs::{Decided, Decision, Design, SeatRequest};

/// The load of a cell.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Clients at once.
    pub clients: usize,
    /// Before the window.
    pub warm_up: Duration,
    /// The measured window.
    pub window: Duration,
    /// The minimum of requests of each client, even when the window is over.
    pub requests_min: usize,
}

/// The results of the clients.
#[derive(Debug, Default)]
pub struct Seen {
    /// Decided within the window.
    pub decided: u64,
    /// Attempts beyond the first, of requests that ended within the window.
    pub retries: u64,
    /// Granted, before and after the window too.
    pub granted: u64,
    /// Given up, before and after the window too.
    pub gave_up: u64,
    /// From request to decision, sorted.
    pub latencies: Vec<Duration>,
    /// CPU within the window.
    pub cpu: Cpu,
}

struct Sample {
    sent_at: Instant,
    decided_at: Instant,
    decided: Decided,
}

/// Runs the cell. Returns when every request is answered.
pub async fn run(
    design: &Arc<dyn Design>,
    sections: &Arc<[SectionId]>,
    load: Load,
    meters: &Meters,
) -> anyhow::Result<Seen> {
    let starts_at = Instant::now() + load.warm_up;
    let ends_at = starts_at + load.window;
    let mut clients = JoinSet::new();
    for client in 0..load.clients {
        let (design, sections) = (design.clone(), sections.clone());
        let student = StudentId::try_new(format!("S{client:06}"))?;
        clients.spawn(
            async move { send_requests(design.as_ref(), &sections, &student, ends_at, load.requests_min).await },
        );
    }
    sleep_until(starts_at.into()).await;
    let before = meters.read();
    sleep_until(ends_at.into()).await;
    let mut seen = Seen { cpu: meters.read().since(&before), ..Seen::default() };
    while let Some(samples) = clients.join_next().await {
        for sample in samples.context("a client panicked")?? {
            seen.add(&sample, starts_at, ends_at);
        }
    }
    seen.latencies.sort_unstable();
    Ok(seen)
}

async fn send_requests(
    design: &dyn Design,
    sections: &[SectionId],
    student: &StudentId,
    ends_at: Instant,
    requests_min: usize,
) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    while samples.len() < requests_min || Instant::now() < ends_at {
        let section = &sections[rand::random_range(0..sections.len())];
        let request = SeatRequest::new(student.clone(), section.clone());
        let sent_at = Instant::now();
        let decided = design.request(&request).await?;
        samples.push(Sample { sent_at, decided_at: Instant::now(), decided });
    }
    Ok(samples)
}

impl Seen {
    fn add(&mut self, sample: &Sample, starts_at: Instant, ends_at: Instant) {
        let gave_up = sample.decided.decision == Decision::GaveUp;
        self.granted += u64::from(sample.decided.decision == Decision::Granted);
        self.gave_up += u64::from(gave_up);
        if (starts_at..ends_at).contains(&sample.decided_at) {
            self.decided += u64::from(!gave_up);
            self.retries += u64::from(sample.decided.retries);
        }
        if !gave_up && (starts_at..ends_at).contains(&sample.sent_at) {
            self.latencies.push(sample.decided_at - sample.sent_at);
        }
    }

    /// The latency that this percentage of requests does not exceed; zero if there are none.
    pub fn latency(&self, percent: usize) -> Duration {
        let rank = (self.latencies.len() * percent).div_ceil(100);
        self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_counts_decisions_and_the_times_count_requests_of_the_window() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut seen = Seen::default();
        let mut add = |sent_at, decided_at, decision| {
            let decided = Decided { decision, retries: 1 };
            seen.add(&Sample { sent_at: at(sent_at), decided_at: at(decided_at), decided }, at(10), at(20));
        };
        add(0, 5, Decision::Granted);
        add(5, 12, Decision::Granted);
        add(12, 15, Decision::Refused);
        add(15, 18, Decision::GaveUp);
        add(18, 30, Decision::Granted);
        seen.latencies.sort_unstable();
        assert_eq!((seen.decided, seen.gave_up, seen.retries, seen.granted), (2, 1, 3, 3));
        assert_eq!((seen.latency(50), seen.latency(99)), (Duration::from_millis(3), Duration::from_millis(12)));
    }
}
