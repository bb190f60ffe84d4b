//! Development tasks. `cargo xtask test` runs the whole suite on a machine with nothing but a Rust toolchain.

mod child;
mod packages;
mod release;
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
    Bench {
        /// A scenario with its flags, such as `campus --database postgres --in-flight 64,256 --seconds 10 --repeats 5`;
        /// `help` lists all scenarios.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        words: Vec<String>,
    },
    /// Tests the released binary under faults from a seed, then checks that nothing was lost.
    ///
    /// Kills, pauses and restarts processes, and breaks their connections and their PostgreSQL server. All processes
    /// are its own, on this machine. Exit code 1: an invariant is broken; the logs are then kept.
    Chaos {
        /// `--minutes 10`, `--database sqlite|postgres` [default: postgres], `--seed N` to repeat the faults of a run,
        /// `--clicks-per-second 60` and `--report FILE.json`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Tests the released binary under load: many unfinished sagas at the start, ten times its capacity, a long line.
    ///
    /// Prints a table. Exit code not 0: a check failed.
    Load {
        /// `unfinished [--sagas 50000]`, `spike [--seconds 10] [--queue 1000]` or `line [--waiting 20000] [--streams
        /// 1000]`; `--database sqlite|postgres` and `--help` for each.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        words: Vec<String>,
    },
    /// Compares four ways to sell the last seat: row lock, optimistic version, lock in Redis, one writer with batches.
    ///
    /// Prints a table. Starts its own PostgreSQL and Redis servers, and installs them if they are missing. Exit code
    /// not 0: a seat was sold twice.
    #[command(disable_help_flag = true)]
    LastSeat {
        /// `--sections 1,100 --clients 64,500 --seconds 5 --report FILE.json`; `--help` shows all.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Runs simulated histories of sagas under faults, and checks every invariant after every event.
    ///
    /// `--minutes 10` sets the duration; `--seed 42` replays one history with its whole log; `--help` shows all
    /// options.
    #[command(disable_help_flag = true)]
    Simulate {
        /// Arguments of the simulation.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().chore {
        Chore::Test { cargo_args } => suite::run(&cargo_args),
        Chore::Bench { words } => release::run("matricula-bench", &words),
        Chore::Chaos { words } => release::run("matricula-chaos", &words),
        Chore::Load { words } => release::run("matricula-load", &words),
        Chore::LastSeat { words } => release::compare_last_seat(&words),
        Chore::Simulate { words } => release::simulate(&words),
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
