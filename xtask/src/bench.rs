//! Measures the released binary: builds it together with the benchmark, and starts the benchmark.

use clap::Args;

use crate::{packages, release};

/// The package of the benchmark.
const PACKAGE: &str = "matricula-bench";

/// Arguments of the benchmark, which checks them.
#[derive(Debug, Args)]
pub struct Bench {
    /// A scenario with its flags, such as `campus --database postgres --in-flight 64,256 --seconds 10 --repeats 5`;
    /// `help` lists all scenarios.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    words: Vec<String>,
}

/// Runs it and returns its exit code: not 0 if a check failed.
pub fn run(bench: Bench) -> anyhow::Result<u8> {
    if !bench.words.iter().any(|word| word.ends_with("sqlite") || word == "help") {
        packages::find_or_install_postgres()?;
    }
    release::run(PACKAGE, bench.words)
}
