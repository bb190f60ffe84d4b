//! `matricula-bench`: one run from the command line; `cargo xtask bench` builds and starts it. Tables go to stdout.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use matricula_bench::{Entry, Kind, Layout, Looking, Plan, Report};
use tokio::signal::unix::{SignalKind, signal};

/// Students of the smallest campus: with fewer, the proportions are not those of a real morning.
const STUDENTS_MIN: u32 = 1_000;
/// Students who want the hot section at a time, by default.
const IN_FLIGHT_HOT: u16 = 500;
const IN_FLIGHT: u16 = 256;
/// The numbers in flight with which the matrix plays the campus.
const IN_FLIGHT_ALL: [u16; 4] = [1, 64, 256, 1_024];

/// Measures the release binary in the folder of this program.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Clone, Args)]
struct Flags {
    /// The database: `postgres` with separate processes, or `sqlite` with one.
    #[arg(long, global = true, value_enum, default_value = "postgres")]
    database: Database,
    /// Orchestrators on PostgreSQL.
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    orchestrators: u8,
    /// Students who wait for an outcome at a time; several are measured one after the other [default: 256; `hot`: 500].
    #[arg(long, global = true, value_delimiter = ',')]
    in_flight: Vec<u16>,
    /// About how long a repeat takes.
    #[arg(long, global = true, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// How often it is repeated; figures are medians.
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=50))]
    repeats: u8,
    /// Don't measure the floor.
    #[arg(long, global = true)]
    no_floor: bool,
    /// Finished registrations of `prefilled`.
    #[arg(long, global = true, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10_000..=4_000_000))]
    finished: u64,
    /// Sections whose seats `reads` reads a second, in thousands.
    #[arg(long, global = true, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    reads_k: u32,
    /// Sections of one call of `reads`: as many as a page of a portal shows.
    #[arg(long, global = true, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    sections_of_read: u32,
    /// `reads` reads from an orchestrator of its own, which gets no submissions; separate processes only.
    #[arg(long, global = true)]
    reads_apart: bool,
    /// Watching streams of `reads`.
    #[arg(long, global = true, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    streams: u32,
    /// Write everything to this file, too, as JSON.
    #[arg(long, global = true, value_name = "FILE.json")]
    report: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Database {
    Sqlite,
    Postgres,
}

#[derive(Debug, Clone, Copy, PartialEq, Subcommand)]
enum Scenario {
    /// The calibrated campus: whole mornings, in order of arrival.
    Campus,
    /// One section that all students want: decided requests a second.
    Hot,
    /// Everything is refused, because no section has a seat.
    Refused,
    /// The campus, where 2 % are refused at the fee step.
    Compensated,
    /// The campus, with one service 50 ms slow; separate processes only.
    SlowService,
    /// The campus in an empty database, and in one with many finished registrations.
    Prefilled,
    /// Reads beside writes, and watching streams.
    Reads,
    /// All of it, on both databases; takes most of an hour.
    All,
}

impl Flags {
    fn layout(&self) -> Layout {
        match self.database {
            Database::Sqlite => Layout::OneProcess,
            Database::Postgres => Layout::Separate { orchestrators: self.orchestrators.into() },
        }
    }

    fn plans(&self, default: u16) -> Vec<Plan> {
        let said = if self.in_flight.is_empty() { vec![default] } else { self.in_flight.clone() };
        let plan = |in_flight: u16| Plan {
            layout: self.layout(),
            in_flight: in_flight.max(1).into(),
            length: Duration::from_secs(self.seconds),
            repeats: self.repeats.into(),
            floor: !self.no_floor,
            students_min: STUDENTS_MIN,
        };
        said.into_iter().map(plan).collect()
    }

    fn looking(&self) -> Looking {
        let sections_of_read = self.sections_of_read as usize;
        Looking {
            reads_per_s: self.reads_k * 1_000,
            sections_of_read,
            apart: self.reads_apart,
            streams: self.streams as usize,
        }
    }

    /// The same, on another system and with other numbers in flight.
    fn with(&self, database: Database, orchestrators: u8, in_flight: &[u16]) -> Self {
        Self { database, orchestrators, in_flight: in_flight.to_vec(), ..self.clone() }
    }
}

/// One thread, because the load takes its CPU from the measured system.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened to");
    let mut report = Report::default();
    // However it ends, the processes that it has started end with it.
    let outcome = tokio::select! {
        outcome = run(&cli, &mut report) => outcome,
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
        _ = terminate.recv() => return ExitCode::from(143),
    };
    match outcome.and_then(|()| written(&cli, &report)) {
        Ok(()) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: &Cli, report: &mut Report) -> anyhow::Result<()> {
    let steps = match cli.scenario {
        Scenario::All => all(&cli.flags),
        scenario => vec![(scenario, cli.flags.clone())],
    };
    for (scenario, flags) in steps {
        measure(scenario, &flags, report).await?;
        // The measurements so far are kept when a later one fails.
        written(cli, report)?;
    }
    Ok(())
}

/// The matrix.
fn all(flags: &Flags) -> Vec<(Scenario, Flags)> {
    use Database::{Postgres, Sqlite};
    use Scenario::{Campus, Compensated, Hot, Prefilled, Reads, Refused, SlowService};
    vec![
        (Campus, flags.with(Postgres, 1, &IN_FLIGHT_ALL)),
        (Campus, flags.with(Postgres, 3, &[IN_FLIGHT])),
        (Campus, flags.with(Sqlite, 1, &IN_FLIGHT_ALL)),
        (Hot, flags.with(Postgres, 1, &[IN_FLIGHT_HOT])),
        (Hot, flags.with(Sqlite, 1, &[IN_FLIGHT_HOT])),
        (Refused, flags.with(Postgres, 1, &[IN_FLIGHT])),
        (Compensated, flags.with(Postgres, 1, &[IN_FLIGHT])),
        (SlowService, flags.with(Postgres, 1, &IN_FLIGHT_ALL)),
        (Reads, flags.with(Postgres, 1, &[IN_FLIGHT])),
        (Prefilled, flags.with(Postgres, 1, &[IN_FLIGHT])),
    ]
}

async fn measure(scenario: Scenario, flags: &Flags, report: &mut Report) -> anyhow::Result<()> {
    let kind = match scenario {
        Scenario::Hot => Kind::Hot,
        Scenario::Refused => Kind::Refused,
        Scenario::Compensated => Kind::Compensated,
        Scenario::SlowService => Kind::SlowService,
        Scenario::Campus | Scenario::Prefilled | Scenario::Reads | Scenario::All => Kind::Campus,
    };
    anyhow::ensure!(
        kind != Kind::SlowService || flags.database == Database::Postgres,
        "slow-service: in one process there is no way between services that could be slow; use --database postgres"
    );
    anyhow::ensure!(
        !flags.reads_apart || flags.database == Database::Postgres,
        "--reads-apart: one process has no second orchestrator; use --database postgres"
    );
    for plan in flags.plans(if kind == Kind::Hot { IN_FLIGHT_HOT } else { IN_FLIGHT }) {
        let entry = match scenario {
            Scenario::Prefilled => Entry::Prefilled(Box::new(matricula_bench::prefilled(plan, flags.finished).await)),
            Scenario::Reads => Entry::Reads(Box::new(matricula_bench::reads(plan, flags.looking()).await)),
            _ => Entry::Scenario(Box::new(matricula_bench::play(kind, plan).await)),
        };
        println!("{entry}");
        report.add(entry);
    }
    Ok(())
}

fn written(cli: &Cli, report: &Report) -> anyhow::Result<()> {
    let Some(file) = &cli.flags.report else { return Ok(()) };
    let text = serde_json::to_string_pretty(report)? + "\n";
    std::fs::write(file, text).with_context(|| format!("{}: the report can't be written", file.display()))
}
