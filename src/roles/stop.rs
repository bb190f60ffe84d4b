//! When the process ends: at a signal, or when a role can't go on. A second signal exits at once.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that a second signal ended, as shells report an interrupt.
const EXIT_INTERRUPTED: i32 = 130;

/// The signal of a write beyond the limit of a file's size, on Linux and macOS alike.
const SIGXFSZ: i32 = 25;

/// The end of the process, in order: first the orchestrator, then the services that it calls.
#[derive(Clone)]
pub struct Stop {
    asked: CancellationToken,
    failed: Arc<AtomicBool>,
    hung_up: Arc<AtomicBool>,
}

impl Stop {
    /// Begins to listen for SIGINT, SIGTERM and SIGHUP; for SIGHUP only if it was not ignored at the start (`nohup`).
    pub fn listen() -> Self {
        let stop = Self { asked: CancellationToken::new(), failed: Arc::default(), hung_up: Arc::default() };
        let (asked, hung_up) = (stop.asked.clone(), Arc::clone(&stop.hung_up));
        // Looked at before anything listens for it: a handler would take the place of "ignored".
        let hangup = if heeds_hangup() { signal(SignalKind::hangup()).ok() } else { None };
        tokio::spawn(async move {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                tracing::warn!("signals can't be listened for; the process ends without a grace period");
                return;
            };
            let mut hangup = hangup;
            tokio::select! {
                () = either(&mut interrupt, &mut terminate) => {}
                () = received(&mut hangup) => hung_up.store(true, Ordering::Relaxed),
            }
            eprintln!("stopping: calls in flight may finish; press Ctrl-C again to stop at once");
            asked.cancel();
            tokio::select! {
                () = either(&mut interrupt, &mut terminate) => {}
                () = received(&mut hangup) => {}
            }
            std::process::exit(EXIT_INTERRUPTED);
        });
        stop
    }

    /// Waits until the process is to end.
    pub async fn asked(&self) {
        self.asked.cancelled().await;
    }

    /// Ends when the process is to end.
    pub fn token(&self) -> CancellationToken {
        self.asked.clone()
    }

    /// Ends the process because a role can't go on.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
        self.asked.cancel();
    }

    /// Whether it ends because its terminal was closed: what a command was to do is not done.
    pub fn hung_up(&self) -> bool {
        self.hung_up.load(Ordering::Relaxed)
    }

    /// What the process reports.
    pub fn exit_code(&self) -> ExitCode {
        if self.failed.load(Ordering::Relaxed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// Makes a file that may not grow further an error of the write, as on a full disk, and no end of the process.
pub fn outlive_file_limits() {
    // The handler stays when its receiver goes.
    drop(signal(SignalKind::from_raw(SIGXFSZ)));
}

/// Whether a hang-up is to end the process. One that was ignored at the start, as `nohup` does, stays ignored. Where the
/// system does not say so (there is no `/proc`), nothing listens, and what it does by default is left.
fn heeds_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status");
    status.is_ok_and(|status| is_ignored(&status, SignalKind::hangup()) == Some(false))
}

/// Whether a process with this `/proc/PID/status` ignores a signal: bit n - 1 of a hexadecimal mask is signal n.
fn is_ignored(status: &str, signal: SignalKind) -> Option<bool> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    Some(mask >> (signal.as_raw_value() - 1) & 1 == 1)
}

/// Waits for a signal; for ever, for one that is not listened for.
async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ignored_at_the_start_is_known() {
        let status = |mask: &str| format!("Name:\tmatricula\nSigBlk:\t0000000000000000\nSigIgn:\t{mask}\nSigCgt:\t0\n");
        let hangup = |mask| is_ignored(&status(mask), SignalKind::hangup());
        assert_eq!(hangup("0000000000000001"), Some(true));
        assert_eq!(hangup("0000000000001001"), Some(true), "SIGPIPE, too");
        assert_eq!(hangup("0000000000001000"), Some(false));
        assert_eq!(hangup("what"), None);
        assert_eq!(is_ignored("Name:\tmatricula\n", SignalKind::hangup()), None);
        assert_eq!(is_ignored(&status("4000"), SignalKind::terminate()), Some(true));
    }
}
