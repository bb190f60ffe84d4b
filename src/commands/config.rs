//! `matricula config`: prints the effective configuration.

use std::process::ExitCode;

use crate::arguments::Format;
use crate::config::Config;
use crate::output;

/// Prints every setting, with secrets masked.
pub fn run(config: &Config, format: Format) -> anyhow::Result<ExitCode> {
    let shown = config.shown();
    match format {
        Format::Table => {
            let lines: Vec<String> = shown.iter().map(|(name, value)| format!("{name} = {value}")).collect();
            output::print(lines.join("\n"));
        }
        // Each value as the text by which it can be set.
        Format::Json => output::json(&serde_json::to_value(shown)?)?,
    }
    Ok(ExitCode::SUCCESS)
}
