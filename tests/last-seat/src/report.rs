//! The report of a run, for people and for programs.

use std::fmt;
use std::time::Duration;

use comfy_table::{LineStyle, Table, TableStyle};
use serde::Serialize;

use crate::bench::Spec;
use crate::cell::Seen;
use crate::designs::Kind;
use crate::lapse::{Guard, Lapse, Order};
use crate::store::{Settings, Tally};

/// One line under the header, as the binary's tables have it.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
/// The sign for no value.
const NONE: &str = "-";

/// The whole result.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    postgres: Settings,
    /// Version; `None`: there is no server, and the lock in Redis is not in the table.
    pub redis: Option<String>,
    connections: u32,
    capacity: i32,
    window_s: f64,
    /// Every cell, in the order of the table.
    pub cells: Vec<Cell>,
    /// The effects of lapsed locks; empty without Redis.
    pub lapses: Vec<Lapse>,
}

/// One design with one load.
#[derive(Debug, Clone, Serialize)]
pub struct Cell {
    /// The design.
    #[serde(rename = "way")]
    pub design: Kind,
    /// Sections in the requests.
    pub sections: usize,
    /// Clients at once.
    pub clients: usize,
    /// Requests decided, granted or refused, a second.
    pub decided_per_s: f64,
    /// The same, divided by that of the first design with this load.
    pub ratio: Option<f64>,
    p50_ms: f64,
    p99_ms: f64,
    /// CPU a decision, in microseconds.
    cpu_client_us: Option<f64>,
    cpu_postgres_us: Option<f64>,
    cpu_redis_us: Option<f64>,
    /// Attempts beyond the first, a decision.
    retries: f64,
    /// Requests that lost every race.
    pub gave_up: u64,
    /// Requests that got a seat.
    pub granted: u64,
    /// Rows of holds in the tables.
    pub holds: u64,
    /// Holds beyond the capacity of their section.
    pub oversold: u64,
    /// Sections whose count is not the number of their holds.
    pub miscounted: u64,
}

impl Cell {
    /// From the results of the clients and the tables.
    pub fn new(design: Kind, sections: usize, clients: usize, window: Duration, seen: &Seen, tally: Tally) -> Self {
        let each = |sum: u64| sum as f64 / seen.decided.max(1) as f64;
        let ms = |percent| seen.latency(percent).as_secs_f64() * 1_000.0;
        Self {
            design,
            sections,
            clients,
            decided_per_s: seen.decided as f64 / window.as_secs_f64(),
            ratio: None,
            p50_ms: ms(50),
            p99_ms: ms(99),
            cpu_client_us: seen.cpu.client_us.map(each),
            cpu_postgres_us: seen.cpu.postgres_us.map(each),
            cpu_redis_us: seen.cpu.redis_us.filter(|_| design == Kind::RedisLock).map(each),
            retries: each(seen.retries),
            gave_up: seen.gave_up,
            granted: seen.granted,
            holds: tally.holds,
            oversold: tally.oversold,
            miscounted: tally.sections_miscounted,
        }
    }

    /// Whether no seat was sold twice, and the tables agree with the answers to the clients.
    pub fn holds_up(&self) -> bool {
        self.oversold == 0 && self.miscounted == 0 && self.holds == self.granted
    }

    fn row(&self) -> [String; 9] {
        let parts = [self.cpu_client_us, self.cpu_postgres_us, self.cpu_redis_us];
        let parts: Vec<String> = parts.iter().flatten().map(|us| format!("{us:.0}")).collect();
        [
            self.design.title().to_owned(),
            format!("{:.0}", self.decided_per_s),
            self.ratio.map_or_else(|| NONE.to_owned(), |ratio| format!("{ratio:.2}")),
            format!("{:.1}", self.p50_ms),
            format!("{:.1}", self.p99_ms),
            parts.join(" + "),
            format!("{:.2}", self.retries),
            self.gave_up.to_string(),
            if self.holds_up() { self.oversold.to_string() } else { format!("{} (WRONG)", self.oversold) },
        ]
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (design, rate) = (self.design.title().trim(), self.decided_per_s);
        write!(f, "{design}, {} clients, sections: {}: {rate:.0} decided/s", self.clients, self.sections)
    }
}

impl Report {
    /// An empty report for a new run.
    pub fn new(spec: &Spec, postgres: Settings, redis: Option<String>) -> Self {
        let window_s = spec.window.as_secs_f64();
        let (connections, capacity) = (spec.connections, spec.capacity);
        Self { postgres, redis, connections, capacity, window_s, cells: Vec::new(), lapses: Vec::new() }
    }

    /// Adds a cell; its ratio is to the first design with the same load.
    pub fn add(&mut self, mut cell: Cell) {
        let first = self.cells.iter().find(|first| {
            first.design == Kind::ALL[0] && (first.sections, first.clients) == (cell.sections, cell.clients)
        });
        cell.ratio = first.map_or((cell.design == Kind::ALL[0]).then_some(1.0), |first| {
            (first.decided_per_s > 0.0).then(|| cell.decided_per_s / first.decided_per_s)
        });
        self.cells.push(cell);
    }

    /// Whether no design has sold a seat twice, and the full guard has stopped every lapsed lock.
    pub fn holds(&self) -> bool {
        let guarded = self.lapses.iter().filter(|lapse| lapse.guard == Guard::TokenAndState);
        self.cells.iter().all(Cell::holds_up) && guarded.into_iter().all(|lapse| lapse.sold_twice == 0)
    }

    fn blocks(&self) -> impl Iterator<Item = &[Cell]> {
        self.cells.chunk_by(|a, b| (a.sections, a.clients) == (b.sections, b.clients))
    }

    fn lapses(&self) -> Table {
        let mut table = new_table();
        table.set_header(["the lock lapsed; who writes first", "guard of the write", "rounds", "sold twice"]);
        for lapse in &self.lapses {
            let order = match lapse.order {
                Order::NewOwnerFirst => "the new owner",
                Order::LateOwnerFirst => "the late owner",
            };
            let guard = match lapse.guard {
                Guard::Nothing => "none",
                Guard::Token => "no newer token seen",
                Guard::TokenAndState => "the same, and the row as it was read",
            };
            table.add_row([order, guard, &lapse.rounds.to_string(), &lapse.sold_twice.to_string()]);
        }
        table
    }
}

fn new_table() -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    table
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { version, fsync, synchronous_commit } = &self.postgres;
        writeln!(f, "PostgreSQL {version}, fsync {fsync}, synchronous_commit {synchronous_commit}")?;
        match &self.redis {
            Some(version) => writeln!(f, "Redis {version}, appendonly no, no snapshots")?,
            None => writeln!(f, "no redis-server here: the lock in Redis was not measured")?,
        }
        writeln!(
            f,
            "{} connections to PostgreSQL where a request has one; {} seats a section; {} s a cell",
            self.connections, self.capacity, self.window_s
        )?;
        for block in self.blocks() {
            let Cell { sections, clients, .. } = block[0];
            let decided = if sections == 1 { "one section".to_owned() } else { format!("{sections} sections") };
            let mut table = new_table();
            table.set_header([
                &format!("{decided}, {clients} clients"),
                "decided/s",
                "ratio",
                "p50 ms",
                "p99 ms",
                "CPU us: clients + PostgreSQL + Redis",
                "retries",
                "gave up",
                "oversold",
            ]);
            table.add_rows(block.iter().map(Cell::row));
            writeln!(f, "\n{}", table.trim_fmt())?;
        }
        if !self.lapses.is_empty() {
            writeln!(f, "\n{}", self.lapses().trim_fmt())?;
        }
        let verdict = if self.holds() { "No design has sold a seat twice." } else { "A SEAT WAS SOLD TWICE." };
        write!(f, "\n{verdict}")
    }
}
