//! At most one effect for every (saga, step), whatever is repeated, late or out of order.

use std::sync::atomic::AtomicI64;

use super::*;

/// The table of the barrier: what came before, what comes in, what is answered, whether the domain was asked in what
/// was committed, and what is on record then.
#[tokio::test]
async fn the_verdict_table_row_by_row() {
    use Direction::{Compensation as Undo, Forward as Action};
    use What::{Count, Keep, NotYet, Refuse};
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        let check = async |before: &[(Direction, What)], comes: (Direction, What), expect: (&str, usize, &str)| {
            let saga = SagaId::generate();
            for (direction, what) in before {
                written(&service.writer, operation(&saga, *direction, *what)).await;
            }
            let decided = service.counters.decisions.load(Ordering::SeqCst);
            let answer = written(&service.writer, operation(&saga, comes.0, comes.1)).await;
            let asked = service.counters.decisions.load(Ordering::SeqCst) - decided;
            let seen = (answer, asked, service.record(&saga).await);
            assert_eq!(seen, expect, "{backend:?}: {before:?}, then {comes:?}");
        };
        // Nothing on record.
        check(&[], (Action, Count), ("done", 1, "answered")).await;
        check(&[], (Action, Refuse), ("HOLD", 1, "answered")).await;
        check(&[], (Action, NotYet), ("not yet", 1, "none")).await;
        check(&[], (Undo, Count), ("done", 0, "tombstone")).await;
        // Answered. What the caller sends now does not matter.
        check(&[(Action, Count)], (Action, Refuse), ("done", 0, "answered")).await;
        check(&[(Action, Refuse)], (Action, Count), ("HOLD", 0, "answered")).await;
        check(&[(Action, Count)], (Action, NotYet), ("done", 0, "answered")).await;
        check(&[(Action, Refuse)], (Action, NotYet), ("HOLD", 0, "answered")).await;
        check(&[(Action, Count)], (Undo, Count), ("done", 1, "answered undone")).await;
        check(&[(Action, Refuse)], (Undo, Count), ("done", 0, "answered undone")).await;
        // What nothing undoes stays done, however often that is asked.
        check(&[(Action, Keep)], (Undo, Keep), ("HOLD", 1, "answered")).await;
        check(&[(Action, Keep), (Undo, Keep)], (Undo, Keep), ("HOLD", 1, "answered")).await;
        check(&[(Action, Keep), (Undo, Keep)], (Action, Keep), ("done", 0, "answered")).await;
        check(&[], (Undo, Keep), ("done", 0, "tombstone")).await;
        // Not decided is not on record: it is asked again.
        check(&[(Action, NotYet)], (Action, Count), ("done", 1, "answered")).await;
        check(&[(Action, NotYet)], (Undo, Count), ("done", 0, "tombstone")).await;
        // Answered, then undone.
        check(&[(Action, Count), (Undo, Count)], (Action, Count), ("done", 0, "answered undone")).await;
        check(&[(Action, Refuse), (Undo, Count)], (Action, Count), ("HOLD", 0, "answered undone")).await;
        check(&[(Action, Count), (Undo, Count)], (Undo, Count), ("done", 0, "answered undone")).await;
        // A tombstone.
        check(&[(Undo, Count)], (Action, Count), ("REGISTRATION_CANCELLED", 0, "tombstone")).await;
        check(&[(Undo, Count)], (Action, NotYet), ("REGISTRATION_CANCELLED", 0, "tombstone")).await;
        check(&[(Undo, Count)], (Undo, Count), ("done", 0, "tombstone")).await;
    }
}

#[tokio::test]
async fn every_order_ends_in_the_same_state() {
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        let step = |saga: SagaId| {
            (operation(&saga, Direction::Forward, What::Count), operation(&saga, Direction::Compensation, What::Count))
        };
        testing::barrier_holds(&service.writer, step, async || service.value("a").await.to_string()).await;
    }
}

/// Whatever a repeat asks for now, it is answered from the record, and those that it came with are done once.
#[tokio::test]
async fn a_repeat_spoils_nothing_of_the_new_ones_it_comes_with() {
    for backend in BACKENDS {
        for again in [What::Count, What::Refuse, What::NotYet, What::Break] {
            let service = Service::new(backend).await;
            let repeated = SagaId::generate();
            assert_eq!(written(&service.writer, operation(&repeated, Direction::Forward, What::Count)).await, "done");
            let new = |what| operation(&SagaId::generate(), Direction::Forward, what);
            let batch = vec![
                new(What::Count),
                operation(&repeated, Direction::Forward, again),
                new(What::NotYet),
                new(What::Count),
            ];
            let answers = service.writer.write(batch).await.expect("committed");
            let shown: Vec<&str> = answers.iter().map(shown).collect();
            assert_eq!(shown, ["done", "done", "not yet", "done"], "{backend:?}");
            assert_eq!(service.value("a").await, 3, "{backend:?}");
            assert_eq!(*service.counters.committed.lock().expect("not poisoned"), [1, 3], "{backend:?}");
        }
    }
}

#[tokio::test]
async fn staff_operations_have_no_barrier() {
    let service = Service::new(Backend::Sqlite).await;
    for _ in 0..3 {
        let operation = Operation::staff(Command { counter: "a", what: What::Count });
        assert_eq!(written(&service.writer, operation).await, "done");
    }
    assert_eq!(service.value("a").await, 3);
}

/// Two replicas hear every operation, at the same moment, in batches whose rows and keys cross: one effect each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_with_the_same_keys_have_one_effect() {
    let service = Service::new(Backend::Postgres).await;
    let second = Database::open(&service.test.url).await.expect("a second replica");
    let other = Writer::alone(Arc::new(Counters::default()), second, WriterLimits::default()).0;
    let names = ["a", "b", "c"];
    let undone = AtomicI64::new(0);
    let sagas: Vec<(usize, SagaId)> = (0..300).map(|index| (index, SagaId::generate())).collect();
    let requests = sagas.iter().map(|(index, saga)| {
        let action = on(names[index % 3], saga, Direction::Forward, What::Count);
        let undo = on(names[index % 3], saga, Direction::Compensation, What::Count);
        let (one, two) = (service.writer.clone(), other.clone());
        let undone = &undone;
        async move {
            let both = (sure(&one, action.clone()), sure(&two, action));
            let both = futures::join!(both.0, both.1);
            assert_eq!(both.0, both.1, "both replicas give the same answer");
            if index.is_multiple_of(4) {
                undone.fetch_add(1, Ordering::SeqCst);
                assert_eq!(futures::join!(sure(&two, undo.clone()), sure(&one, undo)), ("done", "done"));
            }
        }
    });
    join_all(requests).await;
    let mut total = 0;
    for name in names {
        total += service.value(name).await;
    }
    assert_eq!(total, 300 - undone.load(Ordering::SeqCst));
}

/// Sends an operation again while it is not known whether it was done, as the orchestrator does.
async fn sure(writer: &Writer<Counters>, operation: Operation<Command>) -> &'static str {
    /// Replicas that meet all the time still get through one by one.
    const ATTEMPTS_MAX: u32 = 20;
    for _ in 0..ATTEMPTS_MAX {
        match written(writer, operation.clone()).await {
            "not known" => {}
            answer => return answer,
        }
    }
    panic!("not known after {ATTEMPTS_MAX} attempts");
}
