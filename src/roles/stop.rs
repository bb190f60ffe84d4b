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
}

impl Stop {
    /// Begins to listen for SIGINT and SIGTERM. A file that may not grow further is an error of the write then, as on a
    /// full disk, and no end of the process.
    pub fn listen() -> Self {
        let stop = Self { asked: CancellationToken::new(), failed: Arc::new(AtomicBool::new(false)) };
        let asked = stop.asked.clone();
        if let Ok(mut file_too_large) = signal(SignalKind::from_raw(SIGXFSZ)) {
            tokio::spawn(async move { while file_too_large.recv().await.is_some() {} });
        }
        tokio::spawn(async move {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                tracing::warn!("signals can't be listened for; the process ends without a grace period");
                return;
            };
            either(&mut interrupt, &mut terminate).await;
            eprintln!("stopping: calls in flight may finish; press Ctrl-C again to stop at once");
            asked.cancel();
            either(&mut interrupt, &mut terminate).await;
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

    /// What the process reports.
    pub fn exit_code(&self) -> ExitCode {
        if self.failed.load(Ordering::Relaxed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
