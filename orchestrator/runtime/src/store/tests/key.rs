//! Sagas by the beginning of their keys, on both databases: those in the archive are found, too.

use matricula_kit::testing::BACKENDS;

use super::*;

async fn keys(store: &SagaStore, subjects: &[&str]) -> Vec<String> {
    let found = store.of_prefix(subjects, "import·").await.unwrap();
    found.into_iter().map(|saga| format!("{} {} {}", saga.subject, saga.idempotency_key, saga.outcome)).collect()
}

#[tokio::test]
async fn sagas_are_found_by_the_beginning_of_their_keys() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        let ids = fixture.admit(&["import·E1·0", "a click", "import·E1·1"]).await;
        let other = saga("bob", "import·E1·0", "same");
        write(&fixture.store, &fixture.instance, &[other], &[]).await.unwrap();
        let of_ada = ["ada import·E1·0 pending", "ada import·E1·1 pending"];
        assert_eq!(keys(&fixture.store, &["ada"]).await, of_ada, "{backend:?}");
        assert_eq!(keys(&fixture.store, &["bob", "eve"]).await, ["bob import·E1·0 pending"], "{backend:?}");
        assert!(keys(&fixture.store, &[]).await.is_empty(), "{backend:?}");

        // The first is taken to the archive: finished as far as the tables know.
        fixture.sabotage("UPDATE sagas SET finished = 1, phase = 'completed', outcome = 'committed'").await;
        let receipts = [(ids[0], "{}".to_owned())];
        fixture.store.keep_receipts(&fixture.instance, "a file", &receipts).await.unwrap();
        let both = ["ada import·E1·0 committed", "ada import·E1·1 committed"];
        assert_eq!(keys(&fixture.store, &["ada"]).await, both, "{backend:?}: between receipt and removal");
        fixture.store.remove(&fixture.instance, &ids[..1]).await.unwrap();
        assert_eq!(keys(&fixture.store, &["ada"]).await, both, "{backend:?}: removed");
    }
}
