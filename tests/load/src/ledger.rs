//! All accepted registrations, as the orchestrator's ledger has them, and the order of their decisions.

use matricula_proto::ops::v1::ExportLedgerRequest;
use matricula_proto::ops::v1::saga_service_client::SagaServiceClient;
use matricula_proto::registration::v1::Registration;
use tonic::transport::Channel;

/// All registrations, by id.
pub(crate) async fn export(portal: &Channel) -> Vec<Registration> {
    let mut client = SagaServiceClient::new(portal.clone());
    let mut lines = client.export_ledger(ExportLedgerRequest {}).await.expect("a ledger").into_inner();
    let mut registrations = Vec::new();
    while let Some(line) = lines.message().await.expect("the ledger lasts") {
        registrations.push(line.registration.expect("a line has a registration"));
    }
    registrations.sort_by(|a, b| a.registration_id.cmp(&b.registration_id));
    registrations
}

/// When a registration was decided, in milliseconds since the epoch.
pub(crate) fn decided_at_ms(registration: &Registration) -> i64 {
    let at = registration.decided_at.as_ref().expect("it is decided");
    at.seconds * 1_000 + i64::from(at.nanos) / 1_000_000
}

/// The largest number of older registrations that were undecided when one was decided; the moments are in order of age.
pub(crate) fn most_overtaken(decided_at_ms: &[i64]) -> usize {
    let mut by_moment: Vec<usize> = (0..decided_at_ms.len()).collect();
    by_moment.sort_by_key(|index| decided_at_ms[*index]);
    let mut decided = Fenwick::new(decided_at_ms.len());
    let mut most = 0;
    for group in by_moment.chunk_by(|a, b| decided_at_ms[*a] == decided_at_ms[*b]) {
        // The order within one millisecond is unknown.
        group.iter().for_each(|index| decided.add(*index));
        most = group.iter().map(|index| index - decided.before(*index)).chain([most]).max().unwrap_or(0);
    }
    most
}

/// Counts of marked places below a place, in logarithmic time.
struct Fenwick(Vec<usize>);

impl Fenwick {
    fn new(places: usize) -> Self {
        Self(vec![0; places + 1])
    }

    fn add(&mut self, place: usize) {
        let mut node = place + 1;
        while node < self.0.len() {
            self.0[node] += 1;
            node += node & node.wrapping_neg();
        }
    }

    fn before(&self, place: usize) -> usize {
        let (mut node, mut count) = (place, 0);
        while node > 0 {
            count += self.0[node];
            node -= node & node.wrapping_neg();
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::most_overtaken;

    #[test]
    fn the_older_undecided_are_counted() {
        for (moments, most) in [
            (vec![], 0),
            (vec![1, 2, 3, 4], 0),
            (vec![1, 1, 1], 0),
            (vec![2, 1], 1),
            (vec![4, 3, 2, 1], 3),
            (vec![5, 6, 1, 7, 2], 3),
        ] {
            assert_eq!(most_overtaken(&moments), most, "{moments:?}");
        }
    }
}
