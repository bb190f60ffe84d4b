//! Tests the released binary under load: builds it together with the load tests, and starts these.

use clap::Args;

use crate::{packages, release};

/// The package of the load tests.
const PACKAGE: &str = "matricula-load";

/// Arguments of the load test, which checks them.
#[derive(Debug, Args)]
pub struct Load {
    /// `unfinished [--sagas 50000]`, `spike [--seconds 10] [--queue 1000]` or `line [--waiting 20000] [--streams
    /// 1000]`; `--database sqlite|postgres` and `--help` for each.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    words: Vec<String>,
}

/// Runs it and returns its exit code: not 0 if a check failed.
pub fn run(load: Load) -> anyhow::Result<u8> {
    if !load.words.iter().any(|word| word.ends_with("sqlite")) {
        packages::find_or_install_postgres()?;
    }
    release::run(PACKAGE, load.words)
}
