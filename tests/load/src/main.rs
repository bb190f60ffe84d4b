//! The long forms of the load tests: `cargo xtask load` builds the binary and runs them. The table goes to stdout.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use matricula_harness::Cluster;
use matricula_load::{Place, Table, line, spike, unfinished};
use matricula_postgres::Backend;
use tokio::signal::unix::{SignalKind, signal};

/// Load tests against separate processes of the binary beside this one.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask load", bin_name = "cargo xtask load")]
struct Cli {
    /// The database of every process.
    #[arg(long, global = true, value_enum, default_value = "postgres")]
    database: Database,
    #[command(subcommand)]
    load: Load,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Database {
    Sqlite,
    Postgres,
}

#[derive(Debug, Subcommand)]
enum Load {
    /// Starts an orchestrator that finds so many unfinished sagas.
    Unfinished {
        #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1_000..=500_000))]
        sagas: u32,
    },
    /// Ten times the load that the system can take.
    Spike {
        /// How long it lasts, in seconds.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60))]
        seconds: u64,
        /// Registrations without an outcome that are accepted at a time: the spike fills this queue and goes on.
        #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(10..=200_000))]
        queue: u32,
        /// Registrations at work at a time. Few, so that the same machine can send ten times their rate and has
        /// processors left for the system.
        #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1_024))]
        in_flight: u32,
        /// Clicks a second in the spike, at most, because the clients run on the same machine.
        #[arg(long, default_value_t = 6_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        clicks_per_s_max: u32,
    },
    /// A long waiting line: acceptance, memory, streams that show it, a restart in the middle of it, an open snapshot.
    ///
    /// With `--database sqlite` one process serves everything, and there is no snapshot. Memory and CPU are those of
    /// the process that has the orchestrator; 100 % is one processor. The PostgreSQL server does not sync its commits.
    #[command(after_help = "Examples:\n  \
        cargo xtask load line\n  \
        cargo xtask load line --waiting 200000 --streams 10000\n  \
        cargo xtask load line --waiting 2000 --streams 50 --seconds 2 --snapshot-seconds 2\n  \
        cargo xtask load line --database sqlite --seed 7")]
    Line {
        /// Registrations in line at the begin of each measurement.
        #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(500..=200_000))]
        waiting: u32,
        /// Streams of WatchLine, on at most 100 connections.
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        streams: u32,
        /// How long CPU and turns are measured each time, in seconds; less when the line is empty earlier.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60))]
        seconds: u64,
        /// The same before an open snapshot of the database, with it and after it, in seconds.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
        snapshot_seconds: u64,
        /// How long the line is emptied at the end, in minutes; a line that is not empty then is not audited.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=120))]
        minutes: u64,
        /// The seed that assigns sections to students.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// One thread for the clients: a second one would take CPU from the system, and from the first.
#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened to");
    let running = async {
        match cli.database {
            Database::Sqlite => run(cli.load, Place::Of(Backend::Sqlite)).await,
            Database::Postgres => run(cli.load, Place::On(&Cluster::start())).await,
        }
    };
    // However it ends, the processes that it has started end with it.
    tokio::select! {
        table = running => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
        _ = terminate.recv() => ExitCode::from(143),
    }
}

/// With the default settings, except those that the test is about.
async fn run(load: Load, place: Place<'_>) -> Table {
    match load {
        Load::Unfinished { sagas } => {
            let (in_flight_max, in_memory_max, adoption_chunk, lease_ttl_ms) = (1_024, 200_000, 500, 6_000);
            let spec = unfinished::Spec { sagas, in_flight_max, in_memory_max, adoption_chunk, lease_ttl_ms };
            unfinished::run(place, spec).await
        }
        Load::Spike { seconds, queue, in_flight, clicks_per_s_max } => {
            let (warm_up, spike) = (Duration::from_secs(5), Duration::from_secs(seconds));
            // Each student clicks once on each section: enough for a minute of ten times the rate of two cores.
            let students = 40_000;
            let (in_flight_max, queue_max, clicks_per_s_max) = (in_flight, queue, clicks_per_s_max.into());
            let spec = spike::Spec { in_flight_max, queue_max, warm_up, spike, clicks_per_s_max, students };
            spike::run(place, spec).await
        }
        Load::Line { waiting, streams, seconds, snapshot_seconds, minutes, seed } => {
            let spec = line::Spec {
                waiting,
                streams: streams as usize,
                measure: Duration::from_secs(seconds),
                snapshot: Duration::from_secs(snapshot_seconds),
                empty: Duration::from_secs(60 * minutes),
                seed,
            };
            line::run(place, spec).await
        }
    }
}
