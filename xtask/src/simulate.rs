//! Runs the simulation as a release build, because it measures histories per second.

use crate::child;

/// Builds and runs it with these arguments; returns its exit code.
pub fn run(args: &[String]) -> anyhow::Result<u8> {
    let mut command = child::cargo();
    command.args(["run", "--quiet", "--release", "--package", "matricula-simulation", "--"]).args(args);
    child::run(command)
}
