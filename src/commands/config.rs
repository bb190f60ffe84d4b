//! `matricula config`: what is in force.

use std::process::ExitCode;

use crate::config::Config;
use crate::output;

/// Prints every setting, secrets masked.
pub fn run(config: &Config) -> anyhow::Result<ExitCode> {
    for (name, value) in config.shown() {
        output::print(format_args!("{name} = {value}"));
    }
    Ok(ExitCode::SUCCESS)
}
