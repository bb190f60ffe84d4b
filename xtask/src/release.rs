//! Builds the released binary together with a program that tests it, and runs that program; or builds and runs a
//! program that needs no binary. The programs check their arguments themselves.

use std::path::PathBuf;

use anyhow::Context;
use tokio::process::Command;

use crate::{child, packages, say};

/// The released binary and the programs that test it. All are always built together: shared dependencies are built with
/// the union of the needed features, and a subset of the packages would rebuild them.
const TOGETHER: [&str; 4] = ["matricula", "matricula-bench", "matricula-chaos", "matricula-load"];

/// Builds them with optimisations, as users run them, and runs the program of this package, with PostgreSQL unless the
/// arguments need none. Returns its exit code, or that of a failed build.
pub fn run(package: &str, arguments: &[String]) -> anyhow::Result<u8> {
    if !wants_help(arguments) && !arguments.iter().any(|argument| argument.ends_with("sqlite")) {
        packages::find_or_install_postgres()?;
    }
    build_and_run(&TOGETHER, package, arguments)
}

/// Compares ways to sell the last seat, in PostgreSQL and in Redis. Needs no binary.
pub fn compare_last_seat(arguments: &[String]) -> anyhow::Result<u8> {
    if !wants_help(arguments) {
        packages::find_or_install_postgres()?;
        packages::install_redis_if_missing();
    }
    let package = "matricula-last-seat";
    build_and_run(&[package], package, arguments)
}

/// Runs the simulation, which needs neither the binary nor a database.
pub fn simulate(arguments: &[String]) -> anyhow::Result<u8> {
    let mut command = child::cargo();
    command.args(["run", "--quiet", "--release", "--package", "matricula-simulation", "--"]).args(arguments);
    child::run(command)
}

/// Whether the program will only print its help: then nothing is installed for it.
fn wants_help(arguments: &[String]) -> bool {
    arguments.iter().any(|argument| matches!(argument.as_str(), "help" | "--help" | "-h"))
}

fn build_and_run(packages: &[&str], package: &str, arguments: &[String]) -> anyhow::Result<u8> {
    let mut build = child::cargo();
    build.args(["build", "--release"]).args(packages.iter().flat_map(|package| ["--package", package]));
    say(&format!("building with optimisations: {}.", packages.join(", ")));
    match child::run(build)? {
        0 => {}
        code => return Ok(code),
    }
    let mut command = Command::new(target()?.join("release").join(package));
    command.args(arguments);
    child::run(command)
}

/// The target folder of cargo; this program is in a subfolder of it.
fn target() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program is unknown")?;
    let target =
        own.parent().and_then(|folder| folder.parent()).context("this program is not in a target folder of cargo")?;
    Ok(target.to_owned())
}
