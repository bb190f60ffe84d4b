//! Keeps this instance alive in the database, and takes over the sagas of instances that are not.
//!
//! The two are tasks of their own: a takeover of many sagas must not use up the time of the next renewal.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use matricula_engine::{Row, plan};
use matricula_kit::telemetry;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::executor::Entrant;
use crate::requests;
use crate::store::{InstanceId, SagaRow, SagaStore, StoreError};
use crate::word::{Wakes, Word};
use crate::{RuntimeConfig, Workload};

/// Time between two looks for instances that have ended, in heartbeats.
const LOOK_JITTER: std::ops::Range<f64> = 0.75..1.25;

fn heartbeat(config: &RuntimeConfig) -> Duration {
    Duration::from_millis(config.lease_ttl_ms.unsigned_abs() / 3)
}

/// Renews the lease three times in its time until `end`. Fails with `Fenced` when the others have given this instance
/// up. An instance that can't renew goes on: until it is marked dead its commits are good, and after that it has none.
pub(crate) async fn keep(
    store: SagaStore,
    instance: InstanceId,
    config: RuntimeConfig,
    clock: Clock,
    vigil: Vigil,
    end: CancellationToken,
) -> Result<(), StoreError> {
    let heartbeat = heartbeat(&config);
    loop {
        tokio::select! {
            () = tokio::time::sleep(heartbeat) => {}
            () = end.cancelled() => return Ok(()),
        }
        let asked = Instant::now();
        // A renewal that hangs must not use up the time of the next.
        let renewing = store.renew(&instance, config.lease_ttl_ms);
        let problem = match tokio::time::timeout(heartbeat, renewing).await {
            Ok(Ok(now_ms)) => {
                clock.set(now_ms, asked.elapsed());
                vigil.renewed();
                continue;
            }
            Ok(Err(StoreError::Fenced)) => return Err(StoreError::Fenced),
            Ok(Err(error)) => telemetry::chain(&error),
            Err(_) => format!("no answer within {} ms", heartbeat.as_millis()),
        };
        tracing::warn!(problem, "the lease could not be renewed; trying again");
    }
}

/// Whether this instance has renewed its lease without a gap. After one, it can't tell who has ended from who could not
/// renew either, because the database was away: then everybody gets the time of a lease to show that they live.
#[derive(Clone)]
pub(crate) struct Vigil {
    lease_ttl: Duration,
    moments: Arc<Mutex<Moments>>,
}

struct Moments {
    renewed: Instant,
    /// When the renewal came that ended the last gap.
    back: Option<Instant>,
}

impl Vigil {
    pub(crate) fn new(config: &RuntimeConfig) -> Self {
        let moments = Moments { renewed: Instant::now(), back: None };
        let lease_ttl = Duration::from_millis(config.lease_ttl_ms.unsigned_abs());
        Self { lease_ttl, moments: Arc::new(Mutex::new(moments)) }
    }

    fn renewed(&self) {
        let mut moments = self.moments.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let now = Instant::now();
        if now - moments.renewed > self.lease_ttl {
            moments.back = Some(now);
        }
        moments.renewed = now;
    }

    fn is_unbroken(&self) -> bool {
        let moments = self.moments.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        moments.renewed.elapsed() <= self.lease_ttl && moments.back.is_none_or(|back| back.elapsed() > self.lease_ttl)
    }
}

/// Takes over the sagas of instances that have ended, for one instance and one kind of saga.
pub(crate) struct Adoption<W: Workload> {
    pub store: SagaStore,
    pub instance: InstanceId,
    pub workload: Arc<W>,
    pub config: RuntimeConfig,
    pub adopted: mpsc::Sender<Vec<Entrant<W::Request>>>,
    pub wakes: Wakes,
    pub vigil: Vigil,
}

impl<W: Workload> Adoption<W> {
    /// Looks as often as the lease is renewed, until the shutdown.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), StoreError> {
        let adopting = async {
            let mut chosen = Vec::new();
            loop {
                match self.run_once(&mut chosen).await {
                    Ok(()) => {}
                    Err(StoreError::Fenced) => return Err(StoreError::Fenced),
                    Err(error) => {
                        tracing::warn!(error = telemetry::chain(&error), "sagas could not be adopted; trying again");
                    }
                }
                // With jitter: replicas that were started together should not all look at the same moment.
                let pause = heartbeat(&self.config).mul_f64(rand::random_range(LOOK_JITTER));
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.wakes.left.notified() => {}
                }
            }
        };
        tokio::select! {
            ended = adopting => ended,
            () = shutdown.cancelled() => Ok(()),
        }
    }

    /// Tells others that are new here that any saga of this instance may have moved: since they came they were told of
    /// none.
    async fn greet(&self) -> Result<(), StoreError> {
        let any = Word::Moved { instance: self.instance.as_str().to_owned(), sagas: Vec::new() };
        let told = self.store.tell(&[any]).await;
        if told.is_err() {
            self.wakes.has_others.store(false, Ordering::Relaxed);
        }
        Ok(told?)
    }

    /// Adopts in chunks until nothing is left. A chunk is handed over before the next is taken, so that memory grows
    /// with the executor and not ahead of it.
    ///
    /// `chosen` is what was chosen and not handed over yet. It outlives an error: what the database may have given to
    /// this instance is asked for again, because nobody else would.
    async fn run_once(&self, chosen: &mut Vec<String>) -> Result<(), StoreError> {
        let definition = (self.workload.definition().name(), self.workload.definition().version());
        if self.vigil.is_unbroken() {
            let has_others = self.store.mark_lapsed(&self.instance).await?;
            let had_others = self.wakes.has_others.swap(has_others, Ordering::Relaxed);
            if has_others && !had_others {
                self.greet().await?;
            }
        }
        requests::sweep(&self.store).await?;
        if self.store.is_shared() {
            self.store.sweep_outages().await?;
        }
        let unknown = self.store.flag_unknown(definition).await?;
        if unknown > 0 {
            tracing::error!(
                sagas = unknown,
                "sagas whose definition is not known here have no instance that drives them"
            );
        }
        loop {
            if chosen.is_empty() {
                *chosen = self.store.adoptable(definition, self.config.adoption_chunk).await?;
            }
            if chosen.is_empty() {
                return Ok(());
            }
            let rows = self.store.adopt(&self.instance, chosen).await?;
            let (entrants, left) = self.sort(rows);
            self.store.flag(&self.instance, &left).await?;
            chosen.clear();
            if entrants.is_empty() {
                continue;
            }
            tracing::info!(sagas = entrants.len(), "adopted sagas of an instance that has ended");
            if self.adopted.send(entrants).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Those that can be driven on, and the ids of those that must be left alone.
    fn sort(&self, rows: Vec<SagaRow>) -> (Vec<Entrant<W::Request>>, Vec<String>) {
        let mut facts = Vec::with_capacity(rows.len());
        let mut plan_rows = Vec::with_capacity(rows.len());
        for row in rows {
            let request = serde_json::from_str::<W::Request>(&row.request);
            let log = match &request {
                Ok(_) => row.log,
                Err(error) => Err(format!("request: {error}")),
            };
            plan_rows.push(Row { id: facts.len(), definition: row.definition, version: row.version, log });
            facts.push((row.id, request.ok().map(Arc::new), row.trace));
        }
        let plan = plan(plan_rows, [self.workload.definition()]);
        let mut left = Vec::with_capacity(plan.leave.len());
        for (index, reason) in plan.leave {
            // It is flagged and shown in lists, and all others run.
            tracing::error!(saga_id = facts[index].0.as_str(), %reason, "a saga is left alone");
            left.push(facts[index].0.as_str().to_owned());
        }
        let entrants = plan.resume.into_iter().filter_map(|(index, state)| {
            let (id, request, trace) = &facts[index];
            Some(Entrant { id: id.clone(), request: request.clone()?, trace: trace.clone(), state })
        });
        (entrants.collect(), left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved_back(vigil: &Vigil, by: Duration) {
        let mut moments = vigil.moments.lock().expect("no panic holds it");
        moments.renewed -= by;
        moments.back = moments.back.map(|back| back - by);
    }

    /// After an outage of the database every instance is late. The first that is back must not end the others.
    #[test]
    fn after_a_gap_others_get_a_lease_to_show_that_they_live() {
        let vigil = Vigil::new(&RuntimeConfig { lease_ttl_ms: 10_000, ..RuntimeConfig::default() });
        assert!(vigil.is_unbroken(), "one that has just started marks whom it finds lapsed");
        moved_back(&vigil, Duration::from_secs(11));
        assert!(!vigil.is_unbroken(), "it has a gap itself");
        vigil.renewed();
        assert!(!vigil.is_unbroken(), "it is back, and the others may be about to be");
        moved_back(&vigil, Duration::from_secs(5));
        vigil.renewed();
        assert!(!vigil.is_unbroken());
        moved_back(&vigil, Duration::from_secs(6));
        vigil.renewed();
        assert!(vigil.is_unbroken());
    }
}
