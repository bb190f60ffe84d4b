//! `matricula-chaos`: one run from the command line; `cargo xtask chaos` builds and starts it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use matricula_chaos::{Live, Plan, Tempo};
use matricula_postgres::Backend;
use tokio::signal::unix::{SignalKind, signal};

/// Runs shorter than this have more frequent faults and shorter leases.
const SHORT: Duration = Duration::from_secs(60);
/// A day. Several runs show more than a longer one.
const MINUTES_MAX: f64 = 24.0 * 60.0;
/// This machine also runs the system.
const CLICKS_PER_S_MAX: u32 = 2_000;

/// Breaks a running system from a seed, heals it, and proves that nothing was lost.
#[derive(Debug, Parser)]
#[command(name = "matricula-chaos", bin_name = "cargo xtask chaos")]
struct Arguments {
    /// How long faults are injected.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The database under all processes. On PostgreSQL there are three orchestrators, and the server is broken, too.
    #[arg(long, value_enum, default_value_t = Database::Postgres)]
    database: Database,
    /// Decides the faults and their times; the same seed gives the same faults [default: a new one].
    #[arg(long)]
    seed: Option<u64>,
    /// Clicks a second.
    #[arg(long, default_value_t = 60)]
    clicks_per_second: u32,
    /// Write the report to this file, too, as JSON.
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Database {
    Sqlite,
    Postgres,
}

impl Arguments {
    fn plan(&self) -> anyhow::Result<Plan> {
        anyhow::ensure!(
            self.minutes > 0.0 && self.minutes <= MINUTES_MAX,
            "--minutes: must be above 0 and at most {MINUTES_MAX}"
        );
        anyhow::ensure!(
            (1..=CLICKS_PER_S_MAX).contains(&self.clicks_per_second),
            "--clicks-per-second: must be 1 to {CLICKS_PER_S_MAX}"
        );
        let length = Duration::from_secs_f64(self.minutes * 60.0);
        Ok(Plan {
            database: match self.database {
                Database::Sqlite => Backend::Sqlite,
                Database::Postgres => Backend::Postgres,
            },
            length,
            seed: self.seed.unwrap_or_else(|| rand::random_range(0..1_000_000)),
            tempo: if length < SHORT { Tempo::of_seconds() } else { Tempo::of_minutes() },
            clicks_per_s: self.clicks_per_second,
        })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = arguments.plan().and_then(|plan| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(until_interrupted(&plan, &arguments))
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything holds. A signal ends the run and all its processes, between two faults.
async fn until_interrupted(plan: &Plan, arguments: &Arguments) -> anyhow::Result<bool> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    eprintln!("chaos on {:?} for {:.0} s, seed {}", plan.database, plan.length.as_secs_f64(), plan.seed);
    let mut live = Live::on_stderr();
    let report = tokio::select! {
        report = matricula_chaos::run(plan, &mut live) => report?,
        _ = interrupt.recv() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    };
    drop(live);
    if let Some(file) = &arguments.report {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(file, text).with_context(|| format!("{}: the report can't be written", file.display()))?;
    }
    println!("{report}");
    Ok(report.holds())
}
