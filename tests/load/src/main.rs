//! The long forms of the load tests: `cargo xtask load` builds the binary and runs them. The table goes to stdout.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use matricula_harness::Cluster;
use matricula_kit::testing::Backend;
use matricula_load::{Place, Table, spike, unfinished};
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
        /// Registrations that are at work at a time. Few, so that ten times what they come to can be sent from the same
        /// machine and leaves processors to the system.
        #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1_024))]
        in_flight: u32,
    },
}

/// One thread for the clients: a second one would take turns from the system, and from the first.
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
    // Whichever way it ends, the processes that it has started end with it.
    tokio::select! {
        table = running => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
        _ = terminate.recv() => ExitCode::from(143),
    }
}

/// With the default settings, beside those that the test is about.
async fn run(load: Load, place: Place<'_>) -> Table {
    match load {
        Load::Unfinished { sagas } => {
            let (in_flight_max, in_memory_max, adoption_chunk, lease_ttl_ms) = (1_024, 200_000, 500, 6_000);
            let spec = unfinished::Spec { sagas, in_flight_max, in_memory_max, adoption_chunk, lease_ttl_ms };
            unfinished::run(place, spec).await
        }
        Load::Spike { seconds, queue, in_flight } => {
            let (warm_up, spike) = (Duration::from_secs(5), Duration::from_secs(seconds));
            // Each clicks once on each section: enough for a minute of ten times what two cores take.
            let students = 40_000;
            let spec = spike::Spec { in_flight_max: in_flight, queue_max: queue, warm_up, spike, students };
            spike::run(place, spec).await
        }
    }
}
