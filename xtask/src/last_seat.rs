//! Compares ways to sell the last seat: builds the benchmark, finds its servers, and starts it.

use clap::Args;

use crate::{packages, release};

/// The package of the benchmark.
const PACKAGE: &str = "matricula-last-seat";

/// Arguments of the benchmark, which checks them.
#[derive(Debug, Args)]
pub struct LastSeat {
    /// `--sections 1,100 --clients 64,500 --seconds 5 --report FILE.json`; `--help` shows all.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Runs it and returns its exit code: not 0 if a seat was sold twice.
pub fn run(last_seat: LastSeat) -> anyhow::Result<u8> {
    packages::find_or_install_postgres()?;
    packages::install_redis_if_missing();
    release::run_alone(PACKAGE, last_seat.words)
}
