//! Adoption of the unfinished sagas of dead instances: the oldest first, each by one instance.

use std::collections::HashSet;

use matricula_kit::testing::BACKENDS;

use super::*;

const KNOWN: &[(&str, u32)] = &[("one", 1)];

/// A second instance, beside the one of the fixture.
async fn heir(fixture: &Fixture) -> InstanceId {
    let heir = InstanceId::generate();
    fixture.store.register(&heir, LONG_MS).await.unwrap();
    heir
}

fn taken(rows: Vec<SagaRow>) -> Vec<SagaId> {
    rows.into_iter().map(|row| row.id).collect()
}

#[tokio::test]
async fn sagas_of_a_dead_instance_are_adopted_oldest_first() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        let ids = fixture.admit(&["a", "b", "c", "d"]).await;
        fixture.append(finished(ids[1], 2)).await;
        let store = &fixture.store;
        assert!(store.adoptable(KNOWN, 10).await.unwrap().is_empty(), "{backend:?}: its instance lives");

        let heir = heir(&fixture).await;
        store.release(&fixture.instance).await.unwrap();
        let own = saga("bob", "b", "same");
        write(store, &heir, std::slice::from_ref(&own), &[]).await.unwrap();
        assert_eq!(store.adoptable(KNOWN, 2).await.unwrap(), [ids[0], ids[2]], "{backend:?}");
        let unfinished = [ids[0], ids[2], ids[3]];
        assert_eq!(store.adoptable(KNOWN, 10).await.unwrap(), unfinished, "{backend:?}");

        let rows = store.adopt(&heir, &unfinished[..2]).await.unwrap();
        assert_eq!(taken(rows), unfinished[..2]);
        assert_eq!(store.adoptable(KNOWN, 10).await.unwrap(), unfinished[2..], "{backend:?}");
        let row = store.get(ids[0]).await.unwrap().unwrap();
        assert_eq!((row.owner.as_str(), row.owner_alive), (heir.as_str(), true));
        let (_, appended) = write(store, &heir, &[], &[events(ids[0], 2, 2)]).await.unwrap();
        assert_eq!(appended, [AppendOutcome::Appended], "{backend:?}");
    }
}

/// The answer to the commit of an adoption may be lost. Then no instance except the adopter can repeat it.
#[tokio::test]
async fn the_same_adoption_again_returns_the_same() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        let ids = fixture.admit(&["a", "b"]).await;
        let heir = heir(&fixture).await;
        fixture.store.release(&fixture.instance).await.unwrap();
        for _ in 0..2 {
            assert_eq!(taken(fixture.store.adopt(&heir, &ids).await.unwrap()), ids, "{backend:?}");
        }
    }
}

#[tokio::test]
async fn only_unfinished_sagas_of_dead_instances_are_adopted() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        let ids = fixture.admit(&["a", "b"]).await;
        fixture.append(finished(ids[1], 2)).await;
        let (heir, third) = (heir(&fixture).await, heir(&fixture).await);
        if backend == Backend::Postgres {
            assert!(fixture.store.adopt(&heir, &ids).await.unwrap().is_empty(), "their instance lives");
            fixture.store.release(&fixture.instance).await.unwrap();
            fixture.store.adopt(&heir, &ids).await.unwrap();
        }
        let by_third = taken(fixture.store.adopt(&third, &ids).await.unwrap());
        // On a file, the registration of the third instance has ended the second one.
        let expected = if backend == Backend::Sqlite { ids[..1].to_vec() } else { Vec::new() };
        assert_eq!(by_third, expected, "{backend:?}");
    }
}

#[tokio::test]
async fn instances_that_adopt_concurrently_share_the_sagas() {
    let fixture = Fixture::new(Backend::Postgres).await;
    let keys: Vec<String> = (0..300).map(|key| format!("k{key}")).collect();
    let ids = fixture.admit(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (one, two) = (heir(&fixture).await, heir(&fixture).await);
    fixture.store.release(&fixture.instance).await.unwrap();
    let adopt_all = async |heir: &InstanceId| {
        let mut all = Vec::new();
        loop {
            let chosen = fixture.store.adoptable(KNOWN, 20).await.unwrap();
            if chosen.is_empty() {
                return all;
            }
            all.extend(taken(fixture.store.adopt(heir, &chosen).await.unwrap()));
        }
    };
    let (by_one, by_two) = tokio::join!(adopt_all(&one), adopt_all(&two));
    let all: HashSet<&SagaId> = by_one.iter().chain(&by_two).collect();
    assert_eq!(by_one.len() + by_two.len(), ids.len(), "no saga was given to both");
    assert_eq!(all, ids.iter().collect());
}

#[tokio::test]
async fn unknown_definitions_are_left_where_they_are_and_flagged() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        let newer = NewSaga { definition: ("one", 2), ..saga("ada", "newer", "same") };
        let other = NewSaga { definition: ("two", 1), ..saga("ada", "other", "same") };
        let known = saga("ada", "known", "same");
        for new in [&newer, &other, &known] {
            write(&fixture.store, &fixture.instance, std::slice::from_ref(new), &[]).await.unwrap();
        }
        assert_eq!(fixture.store.flag_unknown(KNOWN).await.unwrap(), 0, "{backend:?}: their instance lives");
        let heir = heir(&fixture).await;
        fixture.store.release(&fixture.instance).await.unwrap();
        assert_eq!(fixture.store.adoptable(KNOWN, 10).await.unwrap(), [known.id], "{backend:?}");
        assert_eq!(fixture.store.flag_unknown(KNOWN).await.unwrap(), 2, "{backend:?}");
        assert_eq!(fixture.store.flag_unknown(KNOWN).await.unwrap(), 0, "{backend:?}: once is enough");
        let row = fixture.store.get(newer.id).await.unwrap().unwrap();
        assert_eq!((row.needs_attention, row.owner_alive), (true, false), "{backend:?}");

        // An instance that has the version adopts it, and its next event removes the mark.
        assert_eq!(fixture.store.adoptable(&[("one", 2)], 10).await.unwrap(), [newer.id]);
        let both = fixture.store.adoptable(&[("one", 2), ("one", 1)], 10).await.unwrap();
        assert_eq!(both, [newer.id, known.id], "{backend:?}: a set of versions");
        fixture.store.adopt(&heir, &[newer.id]).await.unwrap();
        write(&fixture.store, &heir, &[], &[events(newer.id, 2, 2)]).await.unwrap();
        assert!(!fixture.store.get(newer.id).await.unwrap().unwrap().needs_attention, "{backend:?}");
    }
}

#[tokio::test]
async fn flags_are_set_on_own_unfinished_sagas() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        let ids = fixture.admit(&["a", "b"]).await;
        fixture.append(finished(ids[1], 2)).await;
        fixture.store.flag(&InstanceId::generate(), &ids).await.unwrap();
        assert!(!fixture.store.get(ids[0]).await.unwrap().unwrap().needs_attention, "{backend:?}");
        fixture.store.flag(&fixture.instance, &ids).await.unwrap();
        fixture.store.flag(&fixture.instance, &[]).await.unwrap();
        let rows = fixture.store.get_many(ids).await.unwrap();
        let flags: Vec<bool> = rows.iter().map(|row| row.needs_attention).collect();
        assert_eq!(flags, [true, false], "{backend:?}");
    }
}
