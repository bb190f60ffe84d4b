//! The report of a load test, a line for each fact.

use std::fmt;
use std::time::Duration;

/// Facts in the order of the report.
#[derive(Debug, Default)]
pub struct Table(Vec<(String, String)>);

impl Table {
    /// Adds a line.
    pub(crate) fn line(&mut self, fact: &str, value: impl fmt::Display) {
        self.0.push((fact.to_owned(), value.to_string()));
    }

    /// The value of a fact.
    pub fn value(&self, fact: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == fact).map(|(_, value)| value.as_str())
    }

    /// Adds a line with two percentiles of the durations.
    pub(crate) fn percentiles(&mut self, fact: &str, durations: &[Duration]) {
        let (half, most) = (percentile(durations, 50), percentile(durations, 99));
        self.line(fact, format!("{} / {} ms", half.as_millis(), most.as_millis()));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(fact, _)| fact.len()).max().unwrap_or(0);
        for (fact, value) in &self.0 {
            writeln!(f, "{fact:<width$}  {value:>16}")?;
        }
        Ok(())
    }
}

/// The smallest duration that this percentage does not exceed; zero if there are none.
pub(crate) fn percentile(durations: &[Duration], percent: usize) -> Duration {
    let mut sorted = durations.to_vec();
    sorted.sort();
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Seconds with two digits after the point.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks() {
        let durations: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&durations, 50), Duration::from_millis(100));
        assert_eq!(percentile(&durations, 99), Duration::from_millis(198));
        assert_eq!(percentile(&durations[..1], 50), Duration::from_millis(200));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
