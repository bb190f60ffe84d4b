//! The gate of admission: how much is accepted and not yet done, against its two bounds.
//!
//! Promises: whoever is let in is counted until the executor counts it off, whatever becomes of the caller.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::RuntimeConfig;

#[derive(Debug)]
pub(crate) struct Gate {
    /// Sagas whose outcome is open: let in, or adopted.
    open: AtomicUsize,
    open_max: usize,
    /// Sagas that the executor holds, those with a decided outcome too.
    in_memory: AtomicUsize,
    in_memory_max: usize,
}

impl Gate {
    pub(crate) fn new(config: &RuntimeConfig) -> Self {
        Self {
            open: AtomicUsize::new(0),
            open_max: config.admission_queue_max,
            in_memory: AtomicUsize::new(0),
            in_memory_max: config.sagas_in_memory_max,
        }
    }

    /// Lets one in and counts it, unless a bound is reached.
    pub(crate) fn enter(&self) -> bool {
        if self.in_memory.load(Ordering::Relaxed) >= self.in_memory_max {
            return false;
        }
        let counted = self
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < self.open_max).then_some(open + 1));
        counted.is_ok()
    }

    /// Counts sagas that come from another instance: they were let in there, so no bound holds them.
    pub(crate) fn adopted(&self, sagas: usize) {
        self.open.fetch_add(sagas, Ordering::Relaxed);
    }

    /// Counts off what is decided, given up, or was never new.
    pub(crate) fn leave(&self, sagas: usize) {
        self.open.fetch_sub(sagas, Ordering::Relaxed);
    }

    pub(crate) fn set_in_memory(&self, sagas: usize) {
        self.in_memory.store(sagas, Ordering::Relaxed);
    }
}
