//! The load: a generated campus, whose clicks are spread evenly over the run, played by `matricula rush`.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context as _, bail};
use matricula_harness::{PATIENCE, RunningCommand, System};
use serde_json::Value;

/// Clicks of a student of a generated campus, on average, second clicks too.
const CLICKS_PER_STUDENT: f64 = 5.5;
/// Students a section: as on the campus that `matricula up` makes.
const STUDENTS_PER_SECTION: u32 = 5;
/// Connections of `rush`: some for each orchestrator.
const CONNECTIONS: &str = "9";

/// The size of the load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    /// How long clicks are sent.
    pub length: Duration,
    /// Clicks a second.
    pub clicks_per_s: u32,
    /// Seed of the campus.
    pub seed: u64,
}

/// Generates the campus and imports it; returns its folder.
///
/// # Errors
/// When its files can't be written.
pub fn prepare(system: &System, size: Size) -> anyhow::Result<PathBuf> {
    let clicks = size.length.as_secs_f64() * f64::from(size.clicks_per_s);
    let students = ((clicks / CLICKS_PER_STUDENT) as u32).max(STUDENTS_PER_SECTION * 4);
    let sections = students / STUDENTS_PER_SECTION;
    let folder = system.folder().join("campus");
    let (path, students, sections) = (folder.display().to_string(), students.to_string(), sections.to_string());
    let seed = size.seed.to_string();
    system.done(&["campus", "generate", &path, "--students", &students, "--sections", &sections, "--seed", &seed]);
    spread(&folder.join("registrations.csv"), size.length)?;
    system.done(&["import", &path]);
    Ok(folder)
}

/// A morning has most of its clicks at its beginning. Here they are spread evenly, so that every fault meets some.
fn spread(file: &Path, length: Duration) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    std::fs::write(file, spread_text(&text, length)).with_context(|| file.display().to_string())
}

fn spread_text(text: &str, length: Duration) -> String {
    let (header, rows) = text.split_once('\n').unwrap_or((text, ""));
    let count = rows.lines().count().max(1) as u128;
    let mut spread = format!("{header}\n");
    for (at, row) in rows.lines().enumerate() {
        let arrival_ms = length.as_millis() * at as u128 / count;
        let rest = row.split_once(',').map_or("", |(_, rest)| rest);
        spread.push_str(&format!("{arrival_ms},{rest}\n"));
    }
    spread
}

/// A running `rush`. It is killed when this is dropped.
pub struct Rush {
    child: RunningCommand,
    said: Arc<Mutex<String>>,
    report: PathBuf,
    printed: Option<std::thread::JoinHandle<String>>,
}

impl Rush {
    /// Begins to play, and returns when the first clicks are on their way.
    ///
    /// # Errors
    /// When it ends before.
    pub fn start(system: &System, campus: &Path, portals: &[String]) -> anyhow::Result<Self> {
        let report = system.folder().join("rush.json");
        let (campus, report_path) = (campus.display().to_string(), report.display().to_string());
        let mut arguments = vec!["rush", &campus, "--report", &report_path, "--connections", CONNECTIONS];
        arguments.extend(portals.iter().flat_map(|url| ["--orchestrator", url.as_str()]));
        // From here on it is killed whatever happens.
        let mut rush = Self { child: system.spawn(&arguments), said: Arc::default(), report, printed: None };
        let (stdout, stderr) = (rush.child.stdout.take(), rush.child.stderr.take());
        let (mut stdout, stderr) = (stdout.context("stdout is piped")?, stderr.context("stderr is piped")?);
        rush.printed = Some(std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stdout.read_to_string(&mut text);
            text
        }));
        let (first, begun) = mpsc::channel();
        let mut log = File::create(system.logs().join("rush.log")).context("the folder is ours")?;
        let last = rush.said.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = writeln!(log, "{line}");
                let _ = first.send(());
                *last.lock().unwrap_or_else(PoisonError::into_inner) = line;
            }
        });
        if begun.recv_timeout(PATIENCE).is_err() {
            bail!("rush did not begin: {}", rush.said());
        }
        Ok(rush)
    }

    /// Its last line.
    pub fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// When the operating system can't find the process.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().context("rush")
    }

    /// Its report and its output, after it has ended.
    ///
    /// # Errors
    /// When there is no readable report.
    pub fn report(&mut self) -> anyhow::Result<(Value, String)> {
        let printed = self.printed.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let text = std::fs::read_to_string(&self.report)
            .with_context(|| format!("rush left no report; it said last: {}", self.said()))?;
        Ok((serde_json::from_str(&text).context("the report of rush")?, printed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clicks_come_evenly_and_in_the_same_order() {
        let text = "arrivalMs,idempotencyKey,rest\n3,a,x|y\n5,b,\n900000,c,z\n";
        let spread = spread_text(text, Duration::from_secs(30));
        assert_eq!(spread, "arrivalMs,idempotencyKey,rest\n0,a,x|y\n10000,b,\n20000,c,z\n");
    }
}
