//! Breaks the released binary for minutes: builds it with its tormentor and starts that.

use std::path::PathBuf;

use clap::Args;

use crate::{packages, release};

/// The package with the tormentor.
const PACKAGE: &str = "matricula-chaos";

/// Flags of the chore; the tormentor checks them.
#[derive(Debug, Args)]
pub struct Chaos {
    /// How long things are broken [default: 10].
    #[arg(long)]
    minutes: Option<f64>,
    /// The database under all processes: `sqlite` or `postgres` [default: postgres].
    #[arg(long)]
    database: Option<String>,
    /// What is broken when; the same seed does the same again [default: a new one].
    #[arg(long)]
    seed: Option<u64>,
    /// Clicks that come in a second [default: 60].
    #[arg(long)]
    clicks_per_second: Option<u32>,
    /// Write the report to this file, too, as JSON.
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
}

/// Runs it and returns its exit code: 1 when something does not hold.
pub fn run(chaos: &Chaos) -> anyhow::Result<u8> {
    if chaos.database.as_deref() != Some("sqlite") {
        packages::find_or_install_postgres()?;
    }
    release::run(PACKAGE, arguments(chaos))
}

fn arguments(chaos: &Chaos) -> Vec<String> {
    let flags = [
        ("--minutes", chaos.minutes.map(|minutes| minutes.to_string())),
        ("--database", chaos.database.clone()),
        ("--seed", chaos.seed.map(|seed| seed.to_string())),
        ("--clicks-per-second", chaos.clicks_per_second.map(|clicks| clicks.to_string())),
        ("--report", chaos.report.as_ref().map(|file| file.display().to_string())),
    ];
    flags.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?])).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_passed_on_and_no_more() {
        let none = Chaos { minutes: None, database: None, seed: None, clicks_per_second: None, report: None };
        assert!(arguments(&none).is_empty());
        let some = Chaos { minutes: Some(0.5), seed: Some(7), report: Some("a.json".into()), ..none };
        assert_eq!(arguments(&some), ["--minutes", "0.5", "--seed", "7", "--report", "a.json"]);
    }
}
