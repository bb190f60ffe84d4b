//! The floor of a scenario: the rate of writing the rows of its registrations straight into tables of the same
//! definitions on the same server or disk, without RPC and saga.
//!
//! ```text
//! each database of the system ── its last registrations' rows ──► memory ──► copies of its tables
//!                                 set-wise, 100 registrations a commit, a connection a database, all at once
//! ```
//!
//! Rows that belong to no single registration (a section's count, a student's balance) and earlier states of a row are
//! left out. So the measured floor is higher than a complete one, and the system's share of it is lower.

mod store;

use std::time::Instant;

use serde::Serialize;
use tokio::task::JoinSet;

use crate::figures::median;
use crate::stage::Stage;
use matricula_harness::ROLES;
use store::{Copy, Table};

/// Registrations whose rows are written: enough for a second or more, and few enough for the memory.
const REGISTRATIONS_MAX: i64 = 10_000;
/// Registrations a commit.
const BATCH: usize = 100;

/// The measured floor.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Floor {
    /// Registrations whose rows were written.
    pub registrations: usize,
    /// Rows of one registration, in all databases.
    pub rows_per_registration: f64,
    /// Each repeat.
    pub repeats_per_s: Vec<f64>,
    /// The median: registrations a second.
    pub registrations_per_s: f64,
    /// The system's rate as a share of it.
    pub ratio: f64,
}

/// Measures it, while the system is idle.
///
/// # Panics
/// When a database fails.
pub(crate) async fn measure(stage: &Stage, repeats: usize, system_per_s: f64) -> Floor {
    let url = |role: &str| stage.system.database_url(role);
    let ids = store::last_sagas(&url("orchestrator"), REGISTRATIONS_MAX).await;
    let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Floor::default() };
    let mut databases: Vec<(&str, Vec<Table>)> = Vec::new();
    for role in ROLES {
        databases.push((role, store::read(&url(role), first, last).await));
    }
    let rows: usize = databases.iter().flat_map(|(_, tables)| tables).map(Table::len).sum();

    let mut repeats_per_s = Vec::new();
    for repeat in 1..=repeats {
        let mut copies = Vec::new();
        for (role, tables) in databases.drain(..) {
            copies.push((role, Copy::make(&url(role), repeat, tables).await));
        }
        let began = Instant::now();
        let mut writing = JoinSet::new();
        for (role, mut copy) in copies {
            let ends: Vec<String> = ids.chunks(BATCH).filter_map(|batch| batch.last().cloned()).collect();
            writing.spawn(async move {
                copy.write(&ends).await;
                (role, copy)
            });
        }
        let written = writing.join_all().await;
        repeats_per_s.push(ids.len() as f64 / began.elapsed().as_secs_f64());
        databases.extend(written.into_iter().map(|(role, copy)| (role, copy.into_tables())));
    }
    let registrations_per_s = median(repeats_per_s.clone());
    Floor {
        registrations: ids.len(),
        rows_per_registration: rows as f64 / ids.len() as f64,
        repeats_per_s,
        registrations_per_s,
        ratio: system_per_s / registrations_per_s,
    }
}
