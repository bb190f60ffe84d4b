//! Free seats in portals, and changes of capacity.

use matricula_proto::catalog::v1::catalog_service_client::CatalogServiceClient;
use matricula_proto::catalog::v1::{Availability, WatchAvailabilityRequest};

use crate::campus::bundle;
use matricula_harness::{PATIENCE, System, submission, submit};

#[tokio::test]
async fn a_watching_portal_sees_every_last_state() {
    let system = System::up();
    system.import(&bundle(&[("A", 2, ""), ("B", 2, "")], 3));
    let portal = system.channel("orchestrator").await;
    let mut catalog = CatalogServiceClient::new(portal.clone());
    let request = WatchAvailabilityRequest { section_ids: vec!["A".to_owned()] };
    let mut watch = catalog.watch_availability(request).await.expect("a stream").into_inner();
    let mut see = async |wanted: (i32, i32)| {
        let seen = async {
            loop {
                let message = watch.message().await.expect("no error").expect("no end");
                let known = |section: &Availability| (section.capacity, section.free) == wanted;
                if message.sections.iter().any(known) {
                    return message;
                }
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("{wanted:?} was never seen"))
    };
    let first = see((2, 2)).await;
    assert!(first.freshness.expect("every answer says how fresh it is").live);
    submit(&portal, submission("S1", "k", &["A"], &[])).await;
    see((2, 1)).await;
    // Below the number of taken seats nobody is evicted and nothing is free.
    system.done(&["sections", "set-capacity", "A", "0"]);
    see((0, 0)).await;
    let frozen = submit(&portal, submission("S2", "k", &["A"], &[])).await;
    assert_eq!(frozen.reasons[0].reason(), matricula_proto::common::v1::Reason::ClosedSection);
    system.done(&["sections", "set-capacity", "A", "4"]);
    see((4, 3)).await;
    system.audit();
}
