//! `matricula-last-seat`: the long form; `cargo xtask last-seat` builds and starts it. The table goes to stdout.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use clap::value_parser;
use matricula_last_seat::{Bench, RedisServer, Report, Spec};
use matricula_postgres::Cluster;
use tokio::signal::unix::{SignalKind, signal};

/// Measures four designs for the last seat side by side, on servers of its own.
#[derive(Debug, Parser)]
#[command(name = "matricula-last-seat", bin_name = "cargo xtask last-seat")]
struct Arguments {
    /// Sections in which the clients request seats.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100], value_parser = count(1..=1_000))]
    sections: Vec<usize>,
    /// Clients at once.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 500], value_parser = count(1..=1_000))]
    clients: Vec<usize>,
    /// Seats in each section; more than the clients can take by default, so that every request has to be written.
    #[arg(long, default_value_t = 1_000_000, value_parser = value_parser!(i32).range(0..=1_000_000))]
    capacity: i32,
    /// Connections to PostgreSQL of the designs with a connection for each request. Further clients wait for one.
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(1..=300))]
    connections: u32,
    /// How long each cell is measured.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// How often each case of a lapsed lock is played.
    #[arg(long, default_value_t = 100, value_parser = count(0..=1_000))]
    lapses: usize,
    /// Write the report to this file, too, as JSON.
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
}

fn count(range: RangeInclusive<u64>) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(range)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(&arguments)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether no seat was sold twice. A signal ends the run, and the servers with it.
async fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let report = tokio::select! {
        report = measure(arguments) => report?,
        _ = interrupt.recv() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    };
    if let Some(file) = &arguments.report {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(file, text).with_context(|| format!("{}: the report can't be written", file.display()))?;
    }
    println!("{report}");
    Ok(report.holds())
}

async fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let binaries = matricula_postgres::find_binaries().context("PostgreSQL's server binaries are not here")?;
    // Every commit is on the disk before it is answered, as with PostgreSQL's default settings.
    let cluster = Cluster::start(&binaries)?;
    let bench = Bench {
        postgres: cluster.url().to_owned(),
        postgres_is_ours: true,
        redis: RedisServer::start_if_installed().await?,
    };
    let spec = Spec {
        sections: arguments.sections.clone(),
        clients: arguments.clients.clone(),
        capacity: arguments.capacity,
        connections: arguments.connections,
        window: Duration::from_secs(arguments.seconds),
        requests_min: 1,
        lapses: arguments.lapses,
    };
    bench.run(&spec).await
}
