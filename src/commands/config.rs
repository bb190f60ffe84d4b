//! `matricula config`: what is in force.

use std::process::ExitCode;

use crate::config::Config;

/// Prints every setting, secrets masked.
pub fn run(config: &Config) -> anyhow::Result<ExitCode> {
    for (name, value) in config.shown() {
        println!("{name} = {value}");
    }
    Ok(ExitCode::SUCCESS)
}
