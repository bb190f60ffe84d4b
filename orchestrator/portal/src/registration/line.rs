//! Where a registration stands in line, for those who wait.

use matricula_kit::id::SagaId;
use matricula_proto::registration::v1 as wire;
use matricula_proto::registration::v1::Outcome;

use crate::Orchestrator;

/// The registration with its place in line, when it waits for its outcome and this replica drives it.
pub(super) fn placed(runtime: &Orchestrator, mut registration: wire::Registration) -> wire::Registration {
    // A saga that has started its compensation is being undone: its place has no meaning any more.
    if registration.outcome() != Outcome::Pending || !registration.reasons.is_empty() {
        return registration;
    }
    let id = SagaId::stored(registration.registration_id.clone());
    if let Some(place) = runtime.line(&id) {
        registration.place_in_line = place.ahead.and_then(|ahead| i32::try_from(ahead).ok());
        registration.expected_wait = place.expected_wait.and_then(|wait| wait.try_into().ok());
    }
    registration
}

/// Whether two look the same but for how long it may take, which changes all the time.
pub(super) fn is_same(one: &wire::Registration, other: &wire::Registration) -> bool {
    let plain = |registration: &wire::Registration| wire::Registration { expected_wait: None, ..registration.clone() };
    plain(one) == plain(other)
}
