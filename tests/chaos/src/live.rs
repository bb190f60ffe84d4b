//! The display during a run: a bar on a terminal, otherwise a line now and then.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Rare enough for a log.
const LINE: Duration = Duration::from_secs(15);

/// The view.
pub struct Live {
    bar: Option<ProgressBar>,
    line_at: Instant,
}

impl Live {
    /// A bar when stderr is a terminal, otherwise lines.
    pub fn on_stderr() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            // The template is fixed. Without it the bar is only plainer.
            if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos}/{len} s  {wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, line_at: Instant::now() }
    }

    /// The current phase.
    pub fn now(&mut self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None if self.line_at <= Instant::now() => {
                eprintln!("{what}");
                self.line_at = Instant::now() + LINE;
            }
            None => {}
        }
    }

    /// The progress, the faults, and the last line of the load.
    pub fn show(&mut self, elapsed: Duration, length: Duration, faults: &BTreeMap<String, u64>, load: &str) {
        let (elapsed_s, length_s) = (elapsed.as_secs(), length.as_secs());
        let what = format!("{}; {load}", sums(faults));
        match &self.bar {
            Some(bar) => {
                bar.set_length(length_s);
                bar.set_position(elapsed_s);
                bar.set_message(what);
            }
            None => self.now(&format!("{elapsed_s} of {length_s} s: {what}")),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Faults, counted by the text before the colon.
fn sums(faults: &BTreeMap<String, u64>) -> String {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (fault, count) in faults {
        let kind = fault.split(':').next().unwrap_or(fault);
        *sums.entry(kind).or_default() += count;
    }
    sums.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_summed_by_kind() {
        let faults = [("kill -9: a service", 3), ("kill -9: an orchestrator", 2), ("network: hang", 1)];
        let faults = faults.map(|(name, count)| (name.to_owned(), count)).into();
        assert_eq!(sums(&faults), "kill -9 5, network 1");
    }
}
