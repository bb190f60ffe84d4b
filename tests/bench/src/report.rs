//! The report of a run, for people and for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use comfy_table::{LineStyle, Table, TableStyle};
use serde::Serialize;

use crate::figures::Figures;
use crate::floor::Floor;
use crate::plan::Plan;
use crate::prefilled::Prefilled;
use crate::reads::Reads;
use crate::targets::{self, Target};

/// One line under the header, as the binary's tables have it.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
/// The sign for no value in a table.
const NONE: &str = "-";

/// Everything of one run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    entries: Vec<Entry>,
    targets: Vec<Target>,
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A scenario of the closed loop.
    Scenario(Box<Measured>),
    /// An empty database against a filled one.
    Prefilled(Box<Prefilled>),
    /// Reads beside writes.
    Reads(Box<Reads>),
}

impl Report {
    /// Takes one more measurement.
    pub fn add(&mut self, entry: Entry) {
        self.entries.push(entry);
        self.targets = targets::of(&self.entries);
    }
}

impl fmt::Display for Report {
    /// The aims with their results, and a line for each scenario.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns =
            ["scenario", "system", "in flight", "registrations/s", "p50 ms", "p99 ms", "p99.9 ms", "of the floor"];
        let mut all = table(columns);
        for entry in &self.entries {
            match entry {
                Entry::Scenario(measured) => all.add_row(measured.summary("")),
                Entry::Prefilled(prefilled) => {
                    all.add_row(prefilled.empty.summary(", empty"));
                    all.add_row(prefilled.filled.summary(&format!(", {} finished", prefilled.finished)))
                }
                Entry::Reads(_) => &mut all,
            };
        }
        writeln!(f, "{}\n", all.trim_fmt())?;
        if self.targets.is_empty() {
            return Ok(());
        }
        let mut aims = table(["aim, on two cores", "", "measured", ""]);
        for target in &self.targets {
            let reached = if target.reached { "reached" } else { "not reached" };
            let measured = format!("{:.2}", target.measured);
            aims.add_row([target.what.clone(), target.aim.clone(), measured, reached.to_owned()]);
        }
        writeln!(f, "{}", aims.trim_fmt())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scenario(measured) => measured.fmt(f),
            Self::Prefilled(prefilled) => prefilled.fmt(f),
            Self::Reads(reads) => reads.fmt(f),
        }
    }
}

/// One scenario with all its repeats.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Its name.
    pub scenario: String,
    /// How the system ran.
    pub layout: String,
    /// Students who wait for an outcome at a time.
    pub in_flight: usize,
    /// Medians of the repeats.
    pub median: Figures,
    /// Each repeat.
    pub repeats: Vec<Figures>,
    /// The peak memory of each process, in MiB, from its start to the end of the last repeat.
    pub memory_peak_mib: BTreeMap<String, u64>,
    /// The floor of the same run, where it was measured.
    pub floor: Option<Floor>,
    /// The result of `matricula audit` at the end; a scenario whose audit is not clean ends the run.
    pub audit: &'static str,
}

impl Measured {
    /// Of a scenario whose audit was clean.
    pub(crate) fn new(scenario: String, plan: &Plan, repeats: Vec<Figures>, memory: BTreeMap<String, u64>) -> Self {
        Self {
            scenario,
            layout: plan.layout.to_string(),
            in_flight: plan.in_flight,
            median: Figures::median(&repeats),
            repeats,
            memory_peak_mib: memory,
            floor: None,
            audit: "clean",
        }
    }

    fn summary(&self, what: &str) -> [String; 8] {
        let median = &self.median;
        [
            format!("{}{what}", self.scenario),
            self.layout.clone(),
            self.in_flight.to_string(),
            format!("{:.0}", median.registrations_per_s),
            format!("{:.1}", median.p50_ms),
            format!("{:.1}", median.p99_ms),
            format!("{:.1}", median.p999_ms),
            self.floor.as_ref().map_or(NONE.to_owned(), |floor| format!("{:.2}", floor.ratio)),
        ]
    }

    fn speed(&self) -> Table {
        let mut table =
            table(["repeat", "registrations/s", "p50 ms", "p99 ms", "p99.9 ms", "registrations", "seconds"]);
        let repeats = self.repeats.iter().enumerate().map(|(at, figures)| ((at + 1).to_string(), figures));
        for (name, figures) in repeats.chain([("median".to_owned(), &self.median)]) {
            table.add_row([
                name,
                format!("{:.0}", figures.registrations_per_s),
                format!("{:.1}", figures.p50_ms),
                format!("{:.1}", figures.p99_ms),
                format!("{:.1}", figures.p999_ms),
                format!("{:.0}", figures.registrations),
                format!("{:.2}", figures.seconds),
            ]);
        }
        table
    }

    fn costs(&self) -> Table {
        let mut table = table(["process", "CPU us/registration", "peak MiB"]);
        for (process, cpu_us) in &self.median.cpu_us {
            let memory = self.memory_peak_mib.get(process).map_or(NONE.to_owned(), u64::to_string);
            table.add_row([process.clone(), format!("{cpu_us:.0}"), memory]);
        }
        let sum: f64 = self.median.cpu_us.values().sum();
        table.add_row(["all".to_owned(), format!("{sum:.0}"), NONE.to_owned()]);
        table
    }

    fn batches(&self) -> Table {
        let mut table = table(["batches", "commits/s", "operations", "ms", "RPCs/s", "operations", "ms"]);
        let median = &self.median;
        let names: BTreeSet<&String> = median.commits_per_s.keys().chain(median.calls_per_s.keys()).collect();
        for name in names {
            let columns = [
                &median.commits_per_s,
                &median.commit_operations,
                &median.commit_ms,
                &median.calls_per_s,
                &median.call_operations,
                &median.call_ms,
            ];
            let columns = columns.map(|column| column.get(name).map_or(NONE.to_owned(), |value| format!("{value:.1}")));
            table.add_row([name.clone()].into_iter().chain(columns));
        }
        table
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, layout, in_flight, median, .. } = self;
        writeln!(f, "{scenario}: {layout}, {in_flight} in flight\n")?;
        for table in [self.speed(), self.costs(), self.batches()] {
            writeln!(f, "{}\n", table.trim_fmt())?;
        }
        writeln!(f, "outcomes       {}", listed(&median.outcomes))?;
        writeln!(f, "refused for    {}", listed(&median.reasons))?;
        writeln!(f, "repeated keys  {:.0}", median.repeated_clicks)?;
        writeln!(f, "sent again     {:.0}", median.sent_again)?;
        if median.clicks_left > 0.0 {
            writeln!(f, "left           {:.0} clicks of the morning, when time was up", median.clicks_left)?;
        }
        if let Some(floor) = &self.floor {
            let Floor { rows_per_registration, registrations_per_s, ratio, .. } = floor;
            let floor = format!("{registrations_per_s:.0} registrations/s of {rows_per_registration:.1} rows each");
            writeln!(f, "floor          {floor}; the system is at {ratio:.2} of it")?;
        }
        writeln!(f, "audit          {}", self.audit)
    }
}

fn listed(counts: &BTreeMap<String, f64>) -> String {
    let listed = counts.iter().map(|(name, count)| format!("{name} {count:.0}"));
    if counts.is_empty() { NONE.to_owned() } else { listed.collect::<Vec<_>>().join(", ") }
}

/// An empty table with these columns.
fn table<const N: usize>(columns: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(columns);
    table
}
