//! When the process ends: at a signal, or when a role can't go on. It has ended by one deadline; a second signal exits
//! at once.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc as threads};
use std::time::Duration;

use matricula_kit::serve::Serving;
use matricula_kit::shutdown::{GRACE, Shutdown};
use matricula_kit::tasks;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Exit code after a second signal; shells use it for an interrupt.
const EXIT_INTERRUPTED: i32 = 130;
/// Exit code of a process that exceeded its deadline.
const EXIT_OVERDUE: i32 = 1;
/// How long the exit waits for its last message to be written. A pipe that is not read accepts none.
const LAST_MESSAGE_MAX: Duration = Duration::from_millis(200);

/// The signal of a write beyond the limit on file sizes, on Linux and macOS.
const SIGXFSZ: i32 = 25;

/// The shutdown of the process: first the orchestrator, then the services that it calls.
#[derive(Clone)]
pub struct Stop {
    shutdown: Shutdown,
    /// Starts the timer of the thread that ends the process at the deadline.
    deadline: Option<threads::Sender<()>>,
    failed: Arc<AtomicBool>,
    hung_up: Arc<AtomicBool>,
}

impl Stop {
    /// Handles SIGINT, SIGTERM and SIGHUP; SIGHUP only if it was not ignored at the start (`nohup`).
    pub fn listen() -> Self {
        Self::of(Shutdown::new(GRACE), None)
    }

    /// Like [`Self::listen`]; the process also ends at most `grace` after a signal, even if a part of it hangs.
    pub fn listen_and_end_within(grace: Duration) -> Self {
        let (deadline, begun) = threads::channel();
        // Every part of the shutdown has a shorter deadline. This one is for a blocked thread, so it uses no task, and
        // its thread exists before anything can block.
        std::thread::spawn(move || {
            // An error: the process has ended in order.
            if begun.recv().is_ok() {
                std::thread::sleep(grace);
                end_overdue(grace);
            }
        });
        Self::of(Shutdown::new(grace), Some(deadline))
    }

    fn of(shutdown: Shutdown, deadline: Option<threads::Sender<()>>) -> Self {
        let stop = Self { shutdown, deadline, failed: Arc::default(), hung_up: Arc::default() };
        let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
        // This is read before a handler is installed, which would replace "ignored".
        kinds.extend(heeds_hangup().then(SignalKind::hangup));
        let (requests, mut signals) = mpsc::channel(1);
        for kind in kinds {
            match signal(kind) {
                Ok(mut signal) => {
                    let requests = requests.clone();
                    tasks::detached("signals", async move {
                        while signal.recv().await.is_some() && requests.send(kind).await.is_ok() {}
                    });
                }
                Err(error) => {
                    tracing::warn!(?kind, %error, "a signal can't be handled: it ends the process at once");
                }
            }
        }
        let stopping = stop.clone();
        tasks::detached("stop", async move {
            let Some(first) = signals.recv().await else { return };
            stopping.hung_up.store(first == SignalKind::hangup(), Ordering::Relaxed);
            // Before the message, because its write can block.
            stopping.begin();
            // After a hang-up its reader may be gone, and a write that fails must not panic here.
            let _ = writeln!(io::stderr(), "stopping: calls in flight may finish; press Ctrl-C again to stop at once");
            if signals.recv().await.is_some() {
                std::process::exit(EXIT_INTERRUPTED);
            }
        });
        stop
    }

    fn begin(&self) {
        self.shutdown.begin();
        if let Some(deadline) = &self.deadline {
            // The thread takes only one message.
            let _ = deadline.send(());
        }
    }

    /// Waits until the process is to end.
    pub async fn requested(&self) {
        self.shutdown.token().cancelled().await;
    }

    /// Is cancelled when the process is to end.
    pub fn token(&self) -> CancellationToken {
        self.shutdown.token()
    }

    /// The shutdown, with its deadline.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Ends the process if a task fails that this role needs.
    pub fn fail_with(&self, serving: &Serving) {
        let (stop, failed) = (self.clone(), serving.failed());
        tasks::detached("failures", async move {
            // The failure was logged where it happened.
            failed.await;
            stop.failed.store(true, Ordering::Relaxed);
            stop.begin();
        });
    }

    /// Whether it ends because its terminal was closed: a command has not done its work.
    pub fn hung_up(&self) -> bool {
        self.hung_up.load(Ordering::Relaxed)
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> ExitCode {
        if self.failed.load(Ordering::Relaxed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// Ends the process, whatever is blocked in it. A thread that can't write may hold the lock of stderr. So another
/// thread writes the message, and this one waits for it only for a moment.
fn end_overdue(grace: Duration) -> ! {
    let (written, is_written) = threads::channel();
    std::thread::spawn(move || {
        let _ = writeln!(io::stderr(), "error: the process did not end within {} ms", grace.as_millis());
        let _ = written.send(());
    });
    let _ = is_written.recv_timeout(LAST_MESSAGE_MAX);
    std::process::exit(EXIT_OVERDUE);
}

/// Makes a write beyond the limit on file sizes an error, as on a full disk, instead of the end of the process.
pub fn survive_file_size_limit() {
    // The handler stays installed when its receiver is dropped.
    drop(signal(SignalKind::from_raw(SIGXFSZ)));
}

/// Whether a hang-up is to end the process. One that was ignored at the start, as `nohup` does, stays ignored. Where
/// the system does not say so (there is no `/proc`), nothing listens, and what it does by default is left.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_ignored_at_the_start_are_detected() {
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
