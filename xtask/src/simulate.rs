//! Runs the simulation as a release build: it counts histories a second.

use tokio::process::Command;

use crate::child;

/// Builds and runs it with these arguments; returns its exit code.
pub fn run(args: &[String]) -> anyhow::Result<u8> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--release", "--package", "matricula-simulation", "--"]).args(args);
    child::run(command)
}
