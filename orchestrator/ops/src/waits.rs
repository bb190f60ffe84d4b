//! The service that a saga waits for, because it fails; or the other saga that it waits for, and the service of that
//! one.
//!
//! ```text
//! saga ──waits for──► saga of the same student ──waits for──► ... ──waits for──► service
//! ```
//!
//! Promises: the sagas of many chains are read set-wise, and no chain is followed beyond [`CHAIN_MAX`].

use std::collections::HashMap;

use matricula_engine::{Definition, Definitions, SagaState};
use matricula_kit::database::DbError;
use matricula_proto::ops::v1 as ops;
use matricula_registration::StoredRegistration;
use matricula_runtime::{Outage, SagaId, Workload as _};

use crate::{Orchestrator, wire};

/// Sagas of a chain that are followed. A student has few registrations at a time.
const CHAIN_MAX: usize = 16;

/// The saga and the service that a saga waits for, by its log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Link {
    saga: Option<SagaId>,
    service: Option<&'static str>,
}

impl Link {
    fn of(definitions: &Definitions, stored: &StoredRegistration, outages: &[Outage]) -> Self {
        let Some(state) = stored.state() else { return Self::default() };
        let definition = definitions.of(state);
        // Another instance may reach the service.
        let own = || outages.iter().filter(|outage| outage.instance == stored.row.owner);
        let is_out = |name: &str| own().any(|outage| outage.destination == name);
        Self { saga: waits_for(definition, state), service: failing_service(definition, state, is_out) }
    }
}

/// The service that keeps a saga from going on: a service that does not answer the instance that drives the saga;
/// otherwise a service that has failed a call of the saga.
pub(crate) fn failing_service(
    definition: &Definition,
    state: &SagaState,
    is_out: impl Fn(&str) -> bool,
) -> Option<&'static str> {
    let own = || state.trying(definition).filter(|(_, _, call)| call.waits_for().is_none());
    let service = |index| definition.step(index).destination;
    let out = own().map(|(index, _, _)| service(index)).find(|name| is_out(name));
    out.or_else(|| own().find(|(_, _, call)| call.last_error.is_some()).map(|(index, _, _)| service(index)))
}

/// The rows of a list, in the order of the sagas, each with the saga and the service that its saga waits for.
pub(crate) async fn summaries(
    runtime: &Orchestrator,
    stored: &[StoredRegistration],
) -> Result<Vec<ops::SagaSummary>, DbError> {
    let (definitions, outages) = (runtime.workload().definitions(), runtime.outages());
    let link = |one: &StoredRegistration| (one.row.id, Link::of(definitions, one, &outages));
    let mut links: HashMap<SagaId, Link> = stored.iter().map(link).collect();
    for _ in 0..CHAIN_MAX {
        let wanted = links.values().filter_map(|link| link.saga);
        let mut missing: Vec<SagaId> = wanted.filter(|id| !links.contains_key(id)).collect();
        if missing.is_empty() {
            break;
        }
        missing.sort_unstable();
        missing.dedup();
        // A saga that is not stored here is not read again.
        links.extend(missing.iter().map(|id| (*id, Link::default())));
        let rows = runtime.store().get_many(missing).await?;
        links.extend(rows.into_iter().map(|row| link(&runtime.workload().read(row))));
    }
    let summary = |one: &StoredRegistration| {
        let link = &links[&one.row.id];
        ops::SagaSummary {
            waits_for_saga_id: link.saga.map(String::from).unwrap_or_default(),
            waits_for_service: service_of(link, &links).unwrap_or_default().to_owned(),
            ..wire::summary(one)
        }
    };
    Ok(stored.iter().map(summary).collect())
}

/// The service of a saga, or of the one at the end of its chain.
fn service_of(link: &Link, links: &HashMap<SagaId, Link>) -> Option<&'static str> {
    let mut link = link;
    for _ in 0..CHAIN_MAX {
        match link.saga.as_ref().and_then(|saga| links.get(saga)) {
            Some(next) => link = next,
            None => return link.service,
        }
    }
    None
}

/// The saga that a saga waits for. A service may have named a saga of another orchestrator.
fn waits_for(definition: &Definition, state: &SagaState) -> Option<SagaId> {
    state.waits_for(definition)?.parse().ok()
}

/// The sagas that a saga waits for, each waiting for the next, and the last one of them as it is stored; empty for a
/// saga that waits for no other.
pub(crate) async fn chain(
    runtime: &Orchestrator,
    state: &SagaState,
) -> Result<(Vec<SagaId>, Option<StoredRegistration>), DbError> {
    let definitions = runtime.workload().definitions();
    let (mut chain, mut last) = (Vec::new(), None);
    let mut wanted = waits_for(definitions.of(state), state);
    while let Some(id) = wanted.take().filter(|id| chain.len() < CHAIN_MAX && !chain.contains(id)) {
        let row = runtime.store().get(id).await?;
        chain.push(id);
        let Some(row) = row else { return Ok((chain, None)) };
        let one = runtime.workload().read(row);
        wanted = one.state().and_then(|state| waits_for(definitions.of(state), state));
        last = Some(one);
    }
    Ok((chain, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_at_the_end_of_a_chain_is_found_and_a_cycle_ends() {
        let id = |letter: char| SagaId::from_u128(u128::from(letter as u32));
        let waits = |saga: char| Link { saga: Some(id(saga)), service: None };
        let fees = Link { saga: None, service: Some("fees") };
        let links = HashMap::from([
            (id('a'), waits('b')),
            (id('b'), waits('c')),
            (id('c'), fees.clone()),
            (id('x'), waits('y')),
            (id('y'), waits('x')),
        ]);
        assert_eq!(service_of(&links[&id('a')], &links), Some("fees"));
        assert_eq!(service_of(&fees, &links), Some("fees"));
        assert_eq!(service_of(&links[&id('x')], &links), None);
        assert_eq!(service_of(&waits('g'), &links), None);
    }
}
