//! `matricula config`: prints the effective configuration.

use std::process::ExitCode;

use serde_json::json;

use crate::arguments::Format;
use crate::config::Config;
use crate::output;

/// Prints every setting, with secrets masked.
pub fn run(config: &Config, format: Format) -> anyhow::Result<ExitCode> {
    let shown = config.shown();
    let lines = || shown.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join("\n");
    output::show(format, lines, || json!(shown))?;
    Ok(ExitCode::SUCCESS)
}
