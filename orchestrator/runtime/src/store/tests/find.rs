//! A saga by the beginning of its id, on both databases: what is in the archive is found, too.

use matricula_kit::testing::BACKENDS;

use super::*;

async fn between(store: &SagaStore, first: &str, last: &str, limit: i64) -> Vec<String> {
    let found = store.ids_between(first, last, limit).await.unwrap();
    found.into_iter().map(String::from).collect()
}

#[tokio::test]
async fn ids_are_found_by_their_range() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        let ids: Vec<String> = fixture.admit(&["a", "b", "c"]).await.into_iter().map(String::from).collect();
        let (zeros, effs) = ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff");
        assert_eq!(between(&fixture.store, zeros, effs, 10).await, ids, "{backend:?}");
        assert_eq!(between(&fixture.store, zeros, effs, 2).await, ids[..2], "{backend:?}");
        assert_eq!(between(&fixture.store, &ids[1], &ids[1], 10).await, [ids[1].clone()], "{backend:?}");
        assert_eq!(between(&fixture.store, zeros, &ids[0], 10).await, [ids[0].clone()], "{backend:?}");
        assert!(between(&fixture.store, zeros, zeros, 10).await.is_empty(), "{backend:?}");
    }
}
