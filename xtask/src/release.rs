//! Builds the released binary together with a program that tests it, and runs that program; or builds and runs a
//! program that needs no binary.

use std::path::PathBuf;

use anyhow::Context;
use tokio::process::Command;

use crate::{child, say};

/// The released binary and the programs that test it. All are always built together: shared dependencies are built with
/// the union of the needed features, and a subset of the packages would rebuild them.
const TOGETHER: [&str; 4] = ["matricula", "matricula-bench", "matricula-chaos", "matricula-load"];

/// Builds them with optimisations, as users run them, and runs the program of this package. Returns its exit code, or
/// that of a failed build.
pub fn run(package: &str, arguments: Vec<String>) -> anyhow::Result<u8> {
    build_and_run(&TOGETHER, package, arguments)
}

/// Like [`run`], without the binary.
pub fn run_alone(package: &str, arguments: Vec<String>) -> anyhow::Result<u8> {
    build_and_run(&[package], package, arguments)
}

fn build_and_run(packages: &[&str], package: &str, arguments: Vec<String>) -> anyhow::Result<u8> {
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
