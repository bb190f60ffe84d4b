//! When the process ends: at a signal, or when a role can't go on. It has ended by one deadline; a second signal exits at
//! once.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use matricula_kit::serve::Serving;
use matricula_kit::shutdown::{GRACE, Shutdown};
use matricula_kit::tasks;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Exit code of a process that a second signal ended, as shells report an interrupt.
const EXIT_INTERRUPTED: i32 = 130;
/// Exit code of a process that did not end by its deadline.
const EXIT_OVERDUE: i32 = 1;

/// The signals that end the process.
const SIGNALS: [SignalKind; 2] = [SignalKind::interrupt(), SignalKind::terminate()];
/// The signal of a write beyond the limit of a file's size, on Linux and macOS alike.
const SIGXFSZ: i32 = 25;

/// The end of the process, in order: first the orchestrator, then the services that it calls.
#[derive(Clone)]
pub struct Stop {
    shutdown: Shutdown,
    failed: Arc<AtomicBool>,
}

impl Stop {
    /// Begins to listen for signals. A file that may not grow further is an error of the write then, as on a full disk,
    /// and no end of the process.
    pub fn listen() -> Self {
        Self::of(Shutdown::new(GRACE))
    }

    /// The same; when a signal comes, the process has ended after `grace`, whatever hangs in it.
    pub fn listen_and_end_within(grace: Duration) -> Self {
        let stop = Self::of(Shutdown::new(grace));
        let shutdown = stop.shutdown.clone();
        tasks::detached("deadline", async move {
            let deadline = shutdown.begun().await;
            // Every part ends by itself before; this is for a thread that is blocked, and so it is one of its own.
            std::thread::spawn(move || {
                std::thread::sleep(deadline.part(1.0).saturating_duration_since(Instant::now()));
                eprintln!("error: the process did not end within {} ms", grace.as_millis());
                std::process::exit(EXIT_OVERDUE);
            });
        });
        stop
    }

    fn of(shutdown: Shutdown) -> Self {
        let stop = Self { shutdown, failed: Arc::new(AtomicBool::new(false)) };
        if let Ok(mut file_too_large) = signal(SignalKind::from_raw(SIGXFSZ)) {
            tasks::detached("file_size_signal", async move { while file_too_large.recv().await.is_some() {} });
        }
        let (asked, mut signals) = mpsc::channel(1);
        for kind in SIGNALS {
            match signal(kind) {
                Ok(mut signal) => {
                    let asked = asked.clone();
                    tasks::detached("signals", async move {
                        while signal.recv().await.is_some() && asked.send(()).await.is_ok() {}
                    });
                }
                Err(error) => {
                    tracing::warn!(?kind, %error, "a signal can't be listened for: it ends the process at once");
                }
            }
        }
        let shutdown = stop.shutdown.clone();
        tasks::detached("stop", async move {
            if signals.recv().await.is_none() {
                return;
            }
            eprintln!("stopping: calls in flight may finish; press Ctrl-C again to stop at once");
            shutdown.begin();
            if signals.recv().await.is_some() {
                std::process::exit(EXIT_INTERRUPTED);
            }
        });
        stop
    }

    /// Waits until the process is to end.
    pub async fn asked(&self) {
        self.shutdown.token().cancelled().await;
    }

    /// Ends when the process is to end.
    pub fn token(&self) -> CancellationToken {
        self.shutdown.token()
    }

    /// The end of the process, with its deadline.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Ends the process when a task fails without which this role can't go on.
    pub fn fail_with(&self, serving: &Serving) {
        let (stop, failed) = (self.clone(), serving.failed());
        tasks::detached("failures", async move {
            // It has been logged where it happened.
            failed.await;
            stop.failed.store(true, Ordering::Relaxed);
            stop.shutdown.begin();
        });
    }

    /// What the process reports.
    pub fn exit_code(&self) -> ExitCode {
        if self.failed.load(Ordering::Relaxed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
