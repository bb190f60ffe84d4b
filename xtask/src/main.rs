//! Development tasks. `cargo xtask test` runs the whole suite on a machine with nothing but a Rust toolchain.

mod bench;
mod chaos;
mod child;
mod last_seat;
mod load;
mod packages;
mod release;
mod simulate;
mod suite;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Development tasks of the project.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Runs all tests beside a throw-away PostgreSQL server.
    ///
    /// Installs missing server binaries with the system's package manager. If MATRICULA_TEST_POSTGRES_URL is set, that
    /// server is used, and none is started.
    Test {
        /// Further arguments of `cargo test`: `cargo xtask test -- -p matricula-seats hold -- --nocapture`.
        #[arg(last = true)]
        cargo_args: Vec<String>,
    },
    /// Measures the released binary: registrations per second, latency, CPU, memory, batches, and the cost of the
    /// database alone.
    ///
    /// Starts everything it needs on this machine, and prints tables. Exit code not 0: a check failed.
    Bench(bench::Bench),
    /// Tests the released binary under faults from a seed, then checks that nothing was lost.
    ///
    /// Kills, pauses and restarts processes, and breaks their connections and their PostgreSQL server. All processes
    /// are its own, on this machine. Exit code 1: an invariant is broken; the logs are then kept.
    Chaos(chaos::Chaos),
    /// Tests the released binary under load: many unfinished sagas at the start, ten times its capacity, a long line.
    ///
    /// Prints a table. Exit code not 0: a check failed.
    Load(load::Load),
    /// Compares four ways to sell the last seat: row lock, optimistic version, lock in Redis, one writer with batches.
    ///
    /// Prints a table. Starts its own PostgreSQL and Redis servers, and installs them if they are missing. Exit code
    /// not 0: a seat was sold twice.
    #[command(disable_help_flag = true)]
    LastSeat(last_seat::LastSeat),
    /// Runs simulated histories of sagas under faults, and checks every invariant after every event.
    ///
    /// `--minutes 10` sets the duration; `--seed 42` replays one history with its whole log; `--help` shows all
    /// options.
    #[command(disable_help_flag = true)]
    Simulate {
        /// Arguments of the simulation.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().chore {
        Chore::Test { cargo_args } => suite::run(&cargo_args),
        Chore::Bench(bench) => bench::run(bench),
        Chore::Chaos(chaos) => chaos::run(&chaos),
        Chore::Load(load) => load::run(load),
        Chore::LastSeat(last_seat) => last_seat::run(last_seat),
        Chore::Simulate { args } => simulate::run(&args),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Messages go to stderr; stdout belongs to the tests.
fn say(sentence: &str) {
    eprintln!("xtask: {sentence}");
}
