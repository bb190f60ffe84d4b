//! Breaks the released binary for minutes: builds it with its tormentor and starts that.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use tokio::process::Command;

use crate::{child, packages, say};

/// What is built, both with optimisations: what is broken is what people run.
const PACKAGES: [&str; 2] = ["matricula", "matricula-chaos"];

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
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(&cargo);
    build.args(["build", "--release"]);
    build.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
    say("building the released binary and what breaks it.");
    match child::run(build)? {
        0 => {}
        code => return Ok(code),
    }
    let program = target()?.join("release").join("matricula-chaos");
    let mut command = Command::new(program);
    command.args(arguments(chaos));
    child::run(command)
}

/// Where cargo builds: this program is in a folder of it.
fn target() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("this program does not know where it is")?;
    let target = own.parent().and_then(|folder| folder.parent()).context("this program is in no folder of cargo's")?;
    Ok(target.to_owned())
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
