//! Shows the progress of a rush: a bar on a terminal, otherwise a line every few seconds.

use std::io::IsTerminal as _;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::tally::{Answered, Latency, Sent, Tally};
use crate::output::{Progress, grouped};

/// Often enough to look alive.
const REDRAW: Duration = Duration::from_millis(500);
/// Rare enough for a log.
const LINE: Duration = Duration::from_secs(5);

/// The view, with the counts since it was last shown.
pub struct Live {
    clicks: u64,
    progress: Option<Progress>,
    tick: Interval,
    started: Instant,
    shown: Instant,
    outcomes: u64,
    latency: Latency,
}

impl Live {
    /// A view of a run with this many clicks.
    pub fn new(clicks: u64) -> Self {
        let progress = std::io::stderr().is_terminal().then(Progress::on_terminal);
        if let Some(progress) = &progress {
            progress.expect(usize::try_from(clicks).unwrap_or(usize::MAX));
        }
        let every = if progress.is_some() { REDRAW } else { LINE };
        let now = Instant::now();
        let mut tick = tokio::time::interval_at(now + every, every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { clicks, progress, tick, started: now, shown: now, outcomes: 0, latency: Latency::default() }
    }

    /// Returns when it is time to show the progress.
    pub async fn due(&mut self) {
        self.tick.tick().await;
    }

    /// Counts a click that has ended.
    pub fn add(&mut self, answered: &Answered) {
        if answered.followed.end.is_ok() {
            self.outcomes += 1;
            self.latency.record(answered.ended.saturating_sub(answered.due));
        }
        if let Some(progress) = &self.progress {
            progress.advance(1);
        }
    }

    /// Shows the progress and resets the counts.
    pub fn show(&mut self, tally: &Tally, sent: &Sent) {
        let seconds = self.shown.elapsed().as_secs_f64();
        let line = line(&Moment {
            elapsed_s: self.started.elapsed().as_secs_f64(),
            clicks: self.clicks,
            sent: sent.clicks(),
            answered: tally.ended,
            outstanding: sent.outstanding(),
            outcomes_per_s: if seconds > 0.0 { self.outcomes as f64 / seconds } else { 0.0 },
            p99_ms: self.latency.percentile_ms(99.0),
        });
        match &self.progress {
            Some(progress) => progress.now(line),
            None => eprintln!("{line}"),
        }
        self.shown = Instant::now();
        self.outcomes = 0;
        self.latency.clear();
    }
}

struct Moment {
    elapsed_s: f64,
    clicks: u64,
    sent: u64,
    answered: u64,
    outstanding: u64,
    outcomes_per_s: f64,
    p99_ms: f64,
}

fn line(moment: &Moment) -> String {
    format!(
        "{:.0} s: {} of {} clicks sent, {} answered, {} outstanding, {:.0} outcomes/s, p99 {:.1} ms",
        moment.elapsed_s,
        grouped(moment.sent),
        grouped(moment.clicks),
        grouped(moment.answered),
        grouped(moment.outstanding),
        moment.outcomes_per_s,
        moment.p99_ms,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_unit() {
        let moment = Moment {
            elapsed_s: 12.3,
            clicks: 15_600,
            sent: 5_200,
            answered: 5_100,
            outstanding: 100,
            outcomes_per_s: 423.4,
            p99_ms: 85.25,
        };
        insta::assert_snapshot!(line(&moment), @"12 s: 5,200 of 15,600 clicks sent, 5,100 answered, 100 outstanding, 423 outcomes/s, p99 85.2 ms");
    }
}
