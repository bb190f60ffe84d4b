//! Chores of the project. `cargo xtask test` runs the whole suite on a machine that has nothing but a Rust toolchain.

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

/// Chores of the project.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Runs all tests, with a throw-away PostgreSQL server beside them.
    ///
    /// Installs the server's binaries through the system's package manager where they are missing. A server that
    /// MATRICULA_TEST_POSTGRES_URL names is used instead, and then none is started.
    Test {
        /// What `cargo test` gets too: `cargo xtask test -- -p matricula-seats hold -- --nocapture`.
        #[arg(last = true)]
        cargo_args: Vec<String>,
    },
    /// Measures the released binary: registrations a second, latency, CPU, memory, batches, and the floor under them.
    ///
    /// Starts what it needs, all of it on this machine, and prints tables. Exit code not 0: something does not hold.
    Bench(bench::Bench),
    /// Breaks the released binary from a seed, heals it, and proves that nothing was lost.
    ///
    /// Kills, pauses and restarts processes, breaks their connections and their PostgreSQL server, all on this machine
    /// and all its own. Exit code 1: something does not hold; the logs are kept then.
    Chaos(chaos::Chaos),
    /// Puts the released binary under load: a large backlog at the start, ten times what it can take, a long line.
    ///
    /// Prints a table. Exit code not 0: something does not hold.
    Load(load::Load),
    /// Measures the four ways to the last seat side by side: row lock, optimistic version, lock in Redis, one writer a batch.
    ///
    /// Prints a table. Starts PostgreSQL and Redis servers of its own, and installs them where they are missing. Exit code
    /// not 0: a seat was sold twice.
    #[command(disable_help_flag = true)]
    LastSeat(last_seat::LastSeat),
    /// Runs simulated histories of sagas under faults, and checks every invariant after every event.
    ///
    /// `--minutes 10` goes on for so long; `--seed 42` replays one history with its whole log; `--help` has the rest.
    #[command(disable_help_flag = true)]
    Simulate {
        /// What the simulation gets.
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

/// Talk goes to stderr; stdout belongs to the tests.
fn say(sentence: &str) {
    eprintln!("xtask: {sentence}");
}
