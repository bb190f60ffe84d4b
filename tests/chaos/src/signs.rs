//! Signs of how the system behaved: counters of its metrics over all restarts, and findings in its logs.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::stage::Stage;

/// Calls of the orchestrators that ended without an answer, by the service that was called.
const CALL_FAILURES: &str = "matricula_call_failures_total{destination=\"";
/// A process that does not return its metrics at once is read again next time.
const SCRAPE_TIMEOUT: Duration = Duration::from_millis(200);
/// The log message of an orchestrator that adopts sagas.
const ADOPTED: &str = "adopted sagas of an instance that has ended";
/// Panics that are spelled out; all are counted.
const PANICS_SHOWN_MAX: usize = 5;

/// Counters that a restart sets back to zero, added up over the restarts.
#[derive(Debug, Default)]
pub struct Counters {
    /// By process and service: what was counted before the last restart, and since.
    counts: BTreeMap<(&'static str, String), (u64, u64)>,
}

impl Counters {
    /// Reads the metrics of the running orchestrators. Counts of a killed one since its last read are lost: the sums
    /// are lower bounds.
    pub fn read(&mut self, stage: &Stage) {
        for name in stage.orchestrators() {
            let log = stage.system.log(name);
            let address = log.iter().rev().find_map(|line| line.trim().strip_prefix("http://")?.split_once("/metrics"));
            let Some(text) = address.and_then(|(address, _)| scrape(address.parse().ok()?)) else { continue };
            for (destination, count) in failures(&text) {
                self.add(name, destination, count);
            }
        }
    }

    fn add(&mut self, process: &'static str, destination: String, count: u64) {
        let (before, since) = self.counts.entry((process, destination)).or_default();
        if count < *since {
            *before += *since;
        }
        *since = count;
    }

    /// Calls without an answer, which were made again, by service.
    pub fn calls_failed(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for ((_, destination), (before, since)) in &self.counts {
            *sums.entry(destination.clone()).or_default() += before + since;
        }
        sums
    }
}

fn failures(text: &str) -> Vec<(String, u64)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(CALL_FAILURES)?.split_once("\"} "));
    lines.filter_map(|(destination, count)| Some((destination.to_owned(), count.parse().ok()?))).collect()
}

fn scrape(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, SCRAPE_TIMEOUT).ok()?;
    stream.set_read_timeout(Some(SCRAPE_TIMEOUT)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// The findings in the logs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// How often an orchestrator adopted sagas of another, or of its own earlier instance.
    pub takeovers: u64,
    /// Sagas taken over.
    pub sagas_adopted: u64,
    /// Panics.
    pub panics: u64,
    /// The first of them.
    pub panics_shown: Vec<String>,
}

impl Findings {
    /// Reads every log of a folder.
    ///
    /// # Errors
    /// When one can't be read.
    pub fn read(logs: &Path) -> std::io::Result<Self> {
        let mut findings = Self::default();
        for entry in logs.read_dir()?.flatten() {
            // A process that was killed may have been in the middle of a letter.
            let text = std::fs::read(entry.path())?;
            String::from_utf8_lossy(&text).lines().for_each(|line| findings.add(line));
        }
        Ok(findings)
    }

    fn add(&mut self, line: &str) {
        if line.contains(ADOPTED) {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            self.takeovers += 1;
            self.sagas_adopted += line["fields"]["sagas"].as_u64().unwrap_or_default();
        }
        if line.contains("panicked at") {
            self.panics += 1;
            if self.panics_shown.len() < PANICS_SHOWN_MAX {
                self.panics_shown.push(line.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_added_up_over_restarts() {
        let text = "# TYPE x counter\nmatricula_call_failures_total{destination=\"fees\"} 7\nother 3\n";
        assert_eq!(failures(text), [("fees".to_owned(), 7)]);
        let mut counters = Counters::default();
        for count in [3, 7, 2, 4] {
            counters.add("orchestrator", "fees".to_owned(), count);
        }
        counters.add("orchestrator-2", "fees".to_owned(), 100);
        assert_eq!(counters.calls_failed(), BTreeMap::from([("fees".to_owned(), 111)]));
    }

    #[test]
    fn logs_show_takeovers_and_panics() {
        let mut findings = Findings::default();
        findings
            .add(r#"{"level":"INFO","fields":{"message":"adopted sagas of an instance that has ended","sagas":12}}"#);
        findings.add("thread 'main' panicked at src/main.rs:1:1:");
        findings.add("something else");
        assert_eq!((findings.takeovers, findings.sagas_adopted, findings.panics), (1, 12, 1));
    }
}
