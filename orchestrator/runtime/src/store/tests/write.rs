//! Admissions and appends: their answers, and the log after them.

use matricula_kit::testing::BACKENDS;

use super::*;

#[tokio::test]
async fn a_new_saga_is_admitted_with_its_first_event() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        let new = NewSaga {
            request: r#"{"name":"Ünïcode ' \" \u0000 𝄞"}"#.to_owned(),
            trace: TraceContext { traceparent: "00-1-2-01".to_owned(), tracestate: "a=b".to_owned() },
            ..saga("ada", "k", "same")
        };
        let (admitted, appended) =
            write(&fixture.store, &fixture.instance, std::slice::from_ref(&new), &[]).await.unwrap();
        assert_eq!((admitted, appended), (vec![NEW], vec![]), "{backend:?}");
        let row = fixture.store.get(new.id).await.unwrap().unwrap();
        assert_eq!(row.log.unwrap(), vec![new.admitted]);
        assert_eq!((row.request, row.trace), (new.request, new.trace));
        assert_eq!((row.subject.as_str(), row.idempotency_key.as_str()), ("ada", "k"));
        assert_eq!((row.definition.as_str(), row.version), ("one", 1));
        assert_eq!((row.phase.as_str(), row.needs_attention), ("running", false));
        assert_eq!((row.owner.as_str(), row.owner_alive), (fixture.instance.as_str(), true));
    }
}

#[tokio::test]
async fn a_used_key_gets_the_existing_saga() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        let first = fixture.admit(&["k"]).await.remove(0);
        let again = [saga("ada", "k", "same"), saga("ada", "k", "other"), saga("bob", "k", "other")];
        let (admitted, _) = write(&fixture.store, &fixture.instance, &again, &[]).await.unwrap();
        let existing = |same_request| AdmissionOutcome::Existing { id: first, same_request };
        assert_eq!(admitted, [existing(true), existing(false), NEW], "{backend:?}");
        assert!(fixture.store.get(again[0].id).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn of_equal_keys_in_a_commit_the_first_is_admitted() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        let twins = [saga("ada", "k", "same"), saga("ada", "k", "same"), saga("ada", "k", "other")];
        let (admitted, _) = write(&fixture.store, &fixture.instance, &twins, &[]).await.unwrap();
        let existing = |same_request| AdmissionOutcome::Existing { id: twins[0].id, same_request };
        assert_eq!(admitted, [NEW, existing(true), existing(false)], "{backend:?}");
        assert_eq!(fixture.log(twins[0].id).await, [1]);
    }
}

/// After a commit that took effect and reported an error, the writer repeats it.
#[tokio::test]
async fn the_same_write_again_answers_the_same_and_doubles_nothing() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        let old = fixture.admit(&["old"]).await.remove(0);
        let admissions = [saga("ada", "new", "same"), saga("ada", "old", "same")];
        let appends = [events(old, 2, 4)];
        let first = write(&fixture.store, &fixture.instance, &admissions, &appends).await.unwrap();
        let again = write(&fixture.store, &fixture.instance, &admissions, &appends).await.unwrap();
        assert_eq!(first, again, "{backend:?}");
        assert_eq!(again.1, [AppendOutcome::Appended]);
        assert_eq!(fixture.log(old).await, [1, 2, 3, 4]);
        assert_eq!(fixture.log(admissions[0].id).await, [1]);
    }
}

#[tokio::test]
async fn appends_are_in_order() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        let ids = fixture.admit(&["a", "b", "c", "d"]).await;
        let batch = [
            events(ids[0], 2, 3),
            // A gap, a repetition of what is there, and a saga that is not.
            events(ids[1], 3, 3),
            events(ids[2], 1, 2),
            events(crate::new_saga_id(), 2, 2),
            finished(ids[3], 2),
        ];
        let (_, appended) = write(&fixture.store, &fixture.instance, &[], &batch).await.unwrap();
        use AppendOutcome::{Appended, Conflict};
        assert_eq!(appended, [Appended, Conflict, Conflict, Conflict, Appended], "{backend:?}");
        for (id, log) in ids.iter().zip([&[1, 2, 3][..], &[1], &[1], &[1, 2]]) {
            assert_eq!(fixture.log(*id).await, log);
        }
        assert_eq!(fixture.append(events(ids[0], 4, 4)).await, Appended);
        let row = fixture.store.get(ids[3]).await.unwrap().unwrap();
        assert_eq!((row.phase.as_str(), row.updated_at.0), ("completed", 20));
    }
}

#[tokio::test]
async fn another_instance_appends_nothing() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        let ids = fixture.admit(&["a"]).await;
        let other = InstanceId::generate();
        fixture.store.register(&other, LONG_MS).await.unwrap();
        let own = saga("bob", "b", "same");
        let (admitted, appended) =
            write(&fixture.store, &other, std::slice::from_ref(&own), &[events(ids[0], 2, 2)]).await.unwrap();
        assert_eq!((admitted, appended), (vec![NEW], vec![AppendOutcome::Conflict]), "{backend:?}");
        assert_eq!(fixture.log(ids[0]).await, [1]);
        // The stored sequence is the expected one, but another instance has written the events.
        let (_, appended) = write(&fixture.store, &other, &[], &[events(ids[0], 1, 1)]).await.unwrap();
        assert_eq!(appended, [AppendOutcome::Conflict]);
    }
}

/// Two instances submit the same keys in opposite order. Each key gets one saga, and there is no deadlock, which
/// PostgreSQL would need a second to resolve.
#[tokio::test]
async fn instances_that_admit_the_same_keys_agree() {
    let fixture = Fixture::new(Backend::Postgres).await;
    let other = InstanceId::generate();
    fixture.store.register(&other, LONG_MS).await.unwrap();
    for round in 0..5 {
        let keys: Vec<String> = (0..200).map(|key| format!("{round} {key}")).collect();
        let ours: Vec<NewSaga> = keys.iter().map(|key| saga("ada", key, "same")).collect();
        let theirs: Vec<NewSaga> = keys.iter().rev().map(|key| saga("ada", key, "same")).collect();
        let write = async |instance, sagas| write(&fixture.store, instance, sagas, &[]).await.unwrap().0;
        let (a, b): (Vec<AdmissionOutcome>, Vec<AdmissionOutcome>) =
            tokio::join!(write(&fixture.instance, &ours), write(&other, &theirs));
        for (saga, (ours, theirs)) in ours.iter().zip(a.iter().zip(b.iter().rev())) {
            assert_ne!(*ours == NEW, *theirs == NEW, "{}", saga.idempotency_key);
        }
    }
}
