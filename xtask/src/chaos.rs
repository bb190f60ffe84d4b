//! Tests the released binary under faults for minutes: builds it together with the chaos program, and starts that
//! program.

use std::path::PathBuf;

use clap::Args;

use crate::{packages, release};

/// The package of the chaos program.
const PACKAGE: &str = "matricula-chaos";

/// Flags of the chaos run; the chaos program checks them.
#[derive(Debug, Args)]
pub struct Chaos {
    /// Minutes with faults [default: 10].
    #[arg(long)]
    minutes: Option<f64>,
    /// The database of all processes: `sqlite` or `postgres` [default: postgres].
    #[arg(long)]
    database: Option<String>,
    /// Seed of the faults; the same seed repeats them [default: a new seed].
    #[arg(long)]
    seed: Option<u64>,
    /// Clicks per second [default: 60].
    #[arg(long)]
    clicks_per_second: Option<u32>,
    /// Also write the report to this file, as JSON.
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
}

/// Runs it and returns its exit code: 1 if an invariant is broken.
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
    fn only_the_given_flags_are_passed_on() {
        let none = Chaos { minutes: None, database: None, seed: None, clicks_per_second: None, report: None };
        assert!(arguments(&none).is_empty());
        let some = Chaos { minutes: Some(0.5), seed: Some(7), report: Some("a.json".into()), ..none };
        assert_eq!(arguments(&some), ["--minutes", "0.5", "--seed", "7", "--report", "a.json"]);
    }
}
