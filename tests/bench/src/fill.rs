//! A database after a hundred mornings: finished registrations, written straight into it.
//!
//! ```text
//! one morning, played ──► copies of its rows, with older ids and other students ──► fresh statistics of the tables
//! ```
//!
//! Every copy is a morning of other students in the sections of the played morning, which have seats for all of them.
//! So the audit of the filled databases is clean.

mod store;

use tokio::task::JoinSet;

use crate::campus::Morning;
use crate::load;
use crate::plan::Plan;
use crate::stage::Stage;
use matricula_harness::ROLES;

/// Students of the morning that is copied: about 10,000 registrations.
const STUDENTS: u32 = 2_000;
/// Registrations for each student of the morning, at least. A morning has about five, so a small run also consists of
/// several copies.
const REGISTRATIONS_PER_STUDENT_MIN: u64 = 20;
/// The seed of its campus.
const SEED: u64 = 999;
/// The prefix of its names, which no other name has.
const PREFIX: &str = "FILL";

/// Plays the morning, fills the databases with copies up to about this many finished registrations, and returns their
/// number.
///
/// # Panics
/// When there are not enough older ids.
pub(crate) async fn fill(stage: &Stage, finished: u64, plan: Plan) -> u64 {
    let students = STUDENTS.min((finished / REGISTRATIONS_PER_STUDENT_MIN) as u32).max(plan.students_min);
    let morning = Morning::generate(PREFIX, students, SEED);
    let registrations = morning.registrations() as u64;
    stage.import(&morning.bundle);
    load::play(&stage.portals(), morning.clicks, plan.in_flight, plan.length * 100).await;
    stage.settled().await;
    store::delivered(&stage.system.database_url("notifications")).await;

    let copies = finished.saturating_sub(registrations).div_ceil(registrations) as u32;
    let sagas = store::Sagas::all(&stage.system.database_url("orchestrator")).await;
    let mut filling = JoinSet::new();
    for role in ROLES {
        let (url, sagas) = (stage.system.database_url(role), sagas.clone());
        filling.spawn(async move { store::copy(&url, &sagas, PREFIX, copies).await });
    }
    filling.join_all().await;
    registrations * u64::from(copies + 1)
}
