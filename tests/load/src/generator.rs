//! Threads for a load that is far beyond what the system takes: they give way to what they measure, as they would if they
//! were on other machines. What they could not send in time for that is told by the rate that was offered.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

/// How far its threads give way: everything else that wants a processor comes first, most of the time.
const NICE: i32 = 10;
/// More would only take turns.
const THREADS: usize = 2;

/// A runtime whose threads give way to everything else.
pub(crate) struct Generator(Option<Runtime>);

impl Generator {
    /// Starts it.
    ///
    /// # Panics
    /// When there can be no threads.
    pub(crate) fn start() -> Self {
        let runtime =
            Builder::new_multi_thread().worker_threads(THREADS).enable_all().on_thread_start(give_way).build();
        Self(Some(runtime.expect("a runtime can be made")))
    }

    /// Runs a load to its end.
    ///
    /// # Panics
    /// When the load does.
    pub(crate) async fn run<T: Send + 'static>(&self, load: impl Future<Output = T> + Send + 'static) -> T {
        let runtime = self.0.as_ref().expect("it runs until it is dropped");
        match runtime.spawn(load).await {
            Ok(outcome) => outcome,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // It may be dropped where nothing may block.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn give_way() {
    // On Linux a thread has a priority of its own, and this one starts no processes.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        eprintln!("the load takes as much of the processors as what it measures: {error}");
    }
}
