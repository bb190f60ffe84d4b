//! Runs a program to its end, and forwards interrupting signals to it and to its child processes.

use std::process::ExitStatus;

use anyhow::Context;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::say;

/// Prefixes of the variables that cargo sets for a program it runs, about that program's package.
const OF_XTASK: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// Cargo, without the variables that `cargo xtask` has set for this program. Build scripts of some dependencies watch
/// these variables: with them, each switch between `cargo xtask` and plain `cargo` would rebuild these dependencies.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let of_xtask = name.to_str().is_some_and(|name| OF_XTASK.iter().any(|prefix| name.starts_with(prefix)));
        if of_xtask {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a program and returns its exit code.
pub fn run(command: Command) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { until_ended(command, &mut Signals::install()?).await })
}

/// Runs a program and returns its exit code; a signal ends the program early.
pub async fn until_ended(mut command: Command, signals: &mut Signals) -> anyhow::Result<u8> {
    // Its own process group, so that a signal reaches the program and its child processes at once.
    command.process_group(0);
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().with_context(|| format!("can't start {program}"))?;
    tokio::select! {
        status = child.wait() => Ok(exit_code(status?)),
        signal = signals.next() => {
            say("interrupted: stopping the running program.");
            stop(&mut child, signals).await?;
            Ok(128 + signal)
        }
    }
}

/// Ends a program and its child processes; a second signal kills them without a chance to clean up.
async fn stop(child: &mut Child, signals: &mut Signals) -> anyhow::Result<()> {
    let Some(group) = child.id() else { return Ok(()) };
    kill("-TERM", group).await?;
    tokio::select! {
        _ = child.wait() => return Ok(()),
        _ = signals.next() => kill("-KILL", group).await?,
    }
    child.wait().await?;
    Ok(())
}

async fn kill(signal: &str, group: u32) -> anyhow::Result<()> {
    Command::new("kill").args([signal, "--", &format!("-{group}")]).status().await.context("can't run kill")?;
    Ok(())
}

fn exit_code(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// The signals that interrupt a run, with their POSIX numbers.
pub struct Signals {
    hang_up: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// Installs the handlers.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for a signal and returns its number.
    pub async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.hang_up.recv() => 1,
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }
}
