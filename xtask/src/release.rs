//! Builds the released binary together with a program that puts it to the test, and runs that program beside it; or a
//! program that needs no other.

use std::path::PathBuf;

use anyhow::Context;
use tokio::process::Command;

use crate::{child, say};

/// The released binary and what puts it to the test. All are built together, whichever is run: what they share is built
/// with the features that any of them needs, and would be built anew for each other set.
const TOGETHER: [&str; 4] = ["matricula", "matricula-bench", "matricula-chaos", "matricula-load"];

/// Builds them with optimisations, because what is tested is what people run, and runs the program of this package.
/// Returns its exit code, or that of a build that failed.
pub fn run(package: &str, arguments: Vec<String>) -> anyhow::Result<u8> {
    build_and_run(&TOGETHER, package, arguments)
}

/// The same without the binary.
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

/// Where cargo builds: this program is in a folder of it.
fn target() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("this program does not know where it is")?;
    let target = own.parent().and_then(|folder| folder.parent()).context("this program is in no folder of cargo's")?;
    Ok(target.to_owned())
}
