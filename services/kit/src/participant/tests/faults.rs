//! What the database refuses, loses, leaves open or has no room for.

use std::time::Duration;

use super::*;

/// What the database never takes fails alone, whatever it is batched with; and it fails again when it comes again.
#[tokio::test]
async fn one_bad_request_keeps_nobody_out() {
    for backend in BACKENDS {
        for bad in [What::Break, What::Collide] {
            let service = Service::new(backend).await;
            let whats = [What::Count, bad, What::Count, What::Refuse, What::Count];
            let sagas: Vec<SagaId> = whats.iter().map(|_| SagaId::generate()).collect();
            for _ in 0..2 {
                let requests = whats.iter().zip(&sagas);
                let requests =
                    requests.map(|(what, saga)| written(&service.writer, operation(saga, Direction::Forward, *what)));
                let answers = join_all(requests).await;
                assert_eq!(answers, ["done", "not known", "done", "HOLD", "done"], "{backend:?} {bad:?}");
            }
            assert_eq!(service.value("a").await, 3);
            assert_eq!(service.record(&sagas[1]).await, "none", "what is not committed is not on record");
            let published = service.counters.committed.lock().expect("not poisoned").iter().copied().max();
            assert_eq!(published, Some(3), "what is not committed is not published");
        }
    }
}

/// The same within one request: those beside it are done and have their answers, and it is to be sent again.
#[tokio::test]
async fn one_bad_operation_keeps_no_other_of_its_request_out() {
    for backend in BACKENDS {
        for bad in [What::Break, What::Collide, What::Dangle, What::Panic] {
            let service = Service::new(backend).await;
            let sagas: Vec<SagaId> = (0..50).map(|_| SagaId::generate()).collect();
            let what = |index: usize| if index == 33 { bad } else { What::Count };
            let operations = sagas.iter().enumerate();
            let operations: Vec<_> =
                operations.map(|(index, saga)| operation(saga, Direction::Forward, what(index))).collect();
            for _ in 0..2 {
                let answers = service.writer.write(operations.clone()).await.expect("answered");
                let seen: Vec<&str> = answers.iter().map(shown).collect();
                let expected = (0..50).map(|index| if index == 33 { "not yet" } else { "done" });
                assert_eq!(seen, expected.collect::<Vec<_>>(), "{backend:?} {bad:?}");
            }
            assert_eq!(service.value("a").await, 49, "{backend:?} {bad:?}");
            assert_eq!(service.record(&sagas[33]).await, "none");
            // Alone it is an error, and the writer goes on.
            let alone = written(&service.writer, operations[33].clone()).await;
            assert!(["not known", "panicked"].contains(&alone), "{alone}");
            assert_eq!(written(&service.writer, operation(&sagas[33], Direction::Forward, What::Count)).await, "done");
        }
    }
}

/// When everything fails, the fault is not an operation's: the callers hear an error, and the search has a bound.
#[tokio::test]
async fn a_database_that_refuses_everything_is_not_asked_for_each_operation() {
    let service = Service::new(Backend::Sqlite).await;
    let operations = (0..1_000).map(|_| operation(&SagaId::generate(), Direction::Forward, What::Break)).collect();
    assert!(matches!(service.writer.write(operations).await, Err(WriteError::NotCommitted(_))));
    let commits = service.counters.commits.load(Ordering::SeqCst);
    assert!(commits < 300, "{commits}");
}

/// What may have been committed and is not published is told, and told again when it is decided, though nothing else is
/// written.
#[tokio::test]
async fn a_commit_in_doubt_is_told_and_settled() {
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        let told = || service.counters.told.lock().expect("not poisoned").clone();
        let failed = written(&service.writer, operation(&SagaId::generate(), Direction::Forward, What::Break)).await;
        assert_eq!((failed, told()), ("not known", vec!["not committed"]), "{backend:?}: it failed before the commit");
        let failed = written(&service.writer, operation(&SagaId::generate(), Direction::Forward, What::Dangle)).await;
        assert_eq!(failed, "not known", "{backend:?}");
        let settled = async {
            while told() != ["not committed", "in doubt", "settled"] {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), settled)
            .await
            .unwrap_or_else(|_| panic!("{backend:?}: {:?}", told()));
    }
}

/// The answer to a commit is lost, twice in a row: the caller hears "not known", asks again, and it was done once.
#[tokio::test]
async fn a_commit_whose_answer_is_lost_has_one_effect() {
    let service = Service::new(Backend::Postgres).await;
    let proxy = testing::Proxy::before(&service.test.url).await;
    let database = Database::open(proxy.url()).await.expect("a way through the proxy");
    let counters = Arc::new(Counters::default());
    let writer = Writer::alone(counters.clone(), database, WriterLimits::default()).0;
    let saga = SagaId::generate();
    proxy.lose_answers_of_commits(2);
    let mut answers = Vec::new();
    while answers.last() != Some(&"done") {
        answers.push(written(&writer, operation(&saga, Direction::Forward, What::Count)).await);
        // What another caller reads meanwhile is the truth already.
        assert_eq!((service.value("a").await, service.record(&saga).await), (1, "answered"), "{answers:?}");
    }
    assert_eq!(answers, ["not known", "not known", "done"]);
    let told = counters.told.lock().expect("not poisoned").clone();
    assert_eq!((told.iter().filter(|word| **word == "in doubt").count(), told.last()), (2, Some(&"settled")));
}

/// The way to the database is gone and nobody says so, in the middle of a commit or before a batch: what hangs is given
/// up, and the next batch takes another way.
#[tokio::test]
async fn a_connection_that_hangs_is_given_up() {
    let service = Service::new(Backend::Postgres).await;
    let proxy = testing::Proxy::before(&service.test.url).await;
    let database = Database::open(proxy.url()).await.expect("a way through the proxy");
    let limits = WriterLimits { answer_timeout: Duration::from_secs(1), ..WriterLimits::default() };
    let writer = Writer::alone(Arc::new(Counters::default()), database, limits).0;
    let hanging = async {
        proxy.hang_at_commit();
        let [cut, next, last] = [(); 3].map(|()| SagaId::generate());
        assert_eq!(written(&writer, operation(&cut, Direction::Forward, What::Count)).await, "not known");
        while written(&writer, on("b", &next, Direction::Forward, What::Count)).await != "done" {}
        proxy.hang();
        while written(&writer, on("b", &last, Direction::Forward, What::Count)).await != "done" {}
        // What never reached the server was not done; it is when it comes again.
        while written(&writer, operation(&cut, Direction::Forward, What::Count)).await != "done" {}
    };
    tokio::time::timeout(Duration::from_secs(40), hanging).await.expect("it finds another way");
    assert_eq!((service.value("a").await, service.value("b").await), (1, 2));
}

/// The same in the middle of a read or of a transaction that nobody else bounds: it ends with an error that passes, and
/// the next takes another way.
#[tokio::test]
async fn an_answer_that_never_comes_is_given_up() {
    const SLOW: &str = "SELECT pg_sleep(600)";
    const RUNNING: &str = "SELECT pid FROM pg_stat_activity \
                           WHERE datname = current_database() AND state = 'active' AND query LIKE '%pg_sleep(600)%' \
                           AND pid <> pg_backend_pid()";
    let service = Service::new(Backend::Postgres).await;
    let proxy = testing::Proxy::before(&service.test.url).await;
    let database = Database::open(proxy.url()).await.expect("a way through the proxy");
    let in_transaction = async {
        let mut tx = database.write().await.expect("a connection");
        tx.execute(SLOW, Args::new()).await
    };
    let hang = async {
        while service.test.database.fetch(RUNNING, Args::new()).await.expect("read").len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        proxy.hang();
    };
    let hanging = async { tokio::join!(database.fetch(SLOW, Args::new()), in_transaction, hang) };
    let (read, written, ()) = tokio::time::timeout(Duration::from_secs(40), hanging).await.expect("it is given up");
    assert!(read.as_ref().is_err_and(DbError::is_passing), "{read:?}");
    assert!(written.as_ref().is_err_and(DbError::is_passing), "{written:?}");
    assert_eq!(database.fetch("SELECT 1 AS one", Args::new()).await.expect("another way").len(), 1);
}

/// SQLite rolls back by itself when the disk is full. It is said so, and the writer works on when there is space.
#[tokio::test]
async fn a_full_disk_is_told_and_left_behind() {
    let service = Service::new(Backend::Sqlite).await;
    let mut tx = service.test.database.begin().await.expect("begins");
    tx.fetch("PRAGMA max_page_count = 40", Args::new()).await.expect("a bound of the size");
    tx.commit().await.expect("committed");
    let full = service.writer.write(vec![operation(&SagaId::generate(), Direction::Forward, What::Fill)]).await;
    let full = full.expect_err("there is no space");
    assert!(matches!(&full, WriteError::NotCommitted(error) if matches!(**error, DbError::Full(_))), "{full:?}");
    let status = tonic::Status::from(full);
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    // What needs no more space is done, at once; and what did, when there is some.
    assert_eq!(written(&service.writer, operation(&SagaId::generate(), Direction::Forward, What::Count)).await, "done");
    let mut tx = service.test.database.begin().await.expect("begins");
    tx.fetch("PRAGMA max_page_count = 40000", Args::new()).await.expect("a bound of the size");
    tx.commit().await.expect("committed");
    assert_eq!(written(&service.writer, operation(&SagaId::generate(), Direction::Forward, What::Fill)).await, "done");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_stops_only_its_own_saga() {
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        let [bad, good] = [(); 2].map(|()| SagaId::generate());
        let mut tx = service.test.database.begin().await.expect("begins");
        let sql =
            "INSERT INTO barrier (saga_id, step, answer, undone, recorded_at) VALUES ($1, 'count', 'garbage', 0, 0)";
        tx.execute(sql, Args::new().id(bad.as_str())).await.expect("inserted");
        tx.commit().await.expect("committed");
        let sagas = [&bad, &good];
        let answers = sagas.map(|saga| written(&service.writer, operation(saga, Direction::Forward, What::Count)));
        assert_eq!(join_all(answers).await, ["not known", "done"]);
    }
}
