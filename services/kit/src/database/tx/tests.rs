//! Statements in one message are answered separately and in order, and take effect together or not at all.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::database::{Args, CommitError, Database, Rows};
use crate::testing::{BACKENDS, Backend, Proxy, TestDatabase, empty_database};

const TABLE: &str = "CREATE TABLE things (name TEXT NOT NULL PRIMARY KEY, value TEXT, number BIGINT)";
const INSERT: &str = "INSERT INTO things (name, value, number) SELECT name, value, number + $1 FROM {rows}";
const ALL: &str = "SELECT name, value, number FROM things ORDER BY name";
const OF: &str = "SELECT t.value, $1 AS told FROM {rows} JOIN things t ON t.name = r.name";
const RENAME: &str = "UPDATE things SET value = $2 WHERE name = $1";
const REPLACE: &str = "UPDATE things SET value = r.value FROM {rows} WHERE things.name = r.name";
const WRONG: &str = "INSERT INTO things (name) VALUES (NULL)";

/// Texts with special characters of SQL, arrays, JSON or C strings.
const HOSTILE: [&str; 16] = [
    "",
    "'",
    "''",
    "\"",
    "\\",
    "\\'",
    "{}",
    "{NULL}",
    "NULL",
    ",",
    "a\nb\tc\r",
    "$1",
    "'); DROP TABLE things; --",
    "\\x00",
    "E'\\''",
    "\u{1F469}\u{200D}\u{1F393}",
];

async fn things(backend: Backend) -> TestDatabase {
    let test = empty_database(backend).await;
    let mut tx = test.database.begin().await.expect("begins");
    tx.execute(TABLE, Args::new()).await.expect("a table");
    tx.commit().await.expect("committed");
    test
}

fn rows(things: &[(String, Option<String>, Option<i64>)]) -> Rows {
    Rows::new()
        .text("name", things.iter().map(|(name, ..)| name.as_str()))
        .opt_text("value", things.iter().map(|(_, value, _)| value.clone()))
        .opt_int("number", things.iter().map(|(.., number)| *number))
}

async fn names(database: &Database) -> Vec<String> {
    let rows = database.fetch(ALL, Args::new()).await.expect("rows");
    rows.iter().map(|row| row.text("name").expect("a name")).collect()
}

#[tokio::test]
async fn every_text_and_number_is_read_back_unchanged() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    for backend in BACKENDS {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let test = things(backend).await;
        let mut text = || -> String {
            let parts = random.random_range(0..4);
            (0..parts).map(|_| HOSTILE[random.random_range(0..HOSTILE.len())]).collect()
        };
        let mut written: Vec<(String, Option<String>, Option<i64>)> = (0..300)
            .map(|index| (format!("{index:04}{}", text()), Some(text()), Some(i64::from(index) * i64::from(i32::MIN))))
            .collect();
        written.push(("9998".to_owned(), None, None));
        written.extend(
            HOSTILE.iter().enumerate().map(|(index, it)| (format!("95{index:02}"), Some((*it).to_owned()), Some(0))),
        );
        written.sort();

        let mut tx = test.database.write().await.expect("a transaction");
        tx.send(INSERT, Args::new().int(-1).rows(rows(&written)));
        let stored = tx.fetch(ALL, Args::new()).await.expect("rows");
        assert_eq!(stored.len(), written.len(), "{backend:?}");
        for (row, (name, value, number)) in stored.iter().zip(&written) {
            assert_eq!(row.text("name").expect("a name"), *name, "{backend:?}");
            assert_eq!(row.opt_text("value").expect("a value"), *value, "{backend:?}");
            assert_eq!(row.opt_int("number").expect("a number"), number.map(|number| number - 1), "{backend:?}");
        }
        for it in HOSTILE {
            tx.send(RENAME, Args::new().text("9998").text(it));
            let pending = tx.queue(OF, Args::new().text(it).rows(Rows::new().text("name", ["9998"])));
            let row = tx.rows(pending).await.expect("rows").pop().expect("one");
            assert_eq!([row.text("value").expect("it"), row.text("told").expect("it")], [it, it], "{backend:?}");
        }
        tx.commit().await.expect("committed");
        assert_eq!(names(&test.database).await.len(), written.len(), "{backend:?}");
    }
}

#[tokio::test]
async fn each_query_gets_its_own_rows_among_other_statements() {
    for backend in BACKENDS {
        let test = things(backend).await;
        let one = |name: &str| Args::new().int(0).rows(rows(&[(name.to_owned(), Some(name.to_uppercase()), None)]));
        let of = |name: &str| Args::new().text("told").rows(Rows::new().text("name", [name]));
        // Twice, so that everything is prepared the second time.
        for (a, b) in [("a", "b"), ("c", "d")] {
            let mut tx = test.database.write().await.expect("a transaction");
            let before = tx.queue(OF, of(a));
            tx.send(INSERT, one(a));
            let nothing = tx.queue(OF, Args::new().text("none").rows(Rows::new().text("name", Vec::<String>::new())));
            let after = tx.queue(OF, of(a));
            tx.send(INSERT, one(b));
            let other = tx.queue(OF, of(b));
            let values = |rows: Vec<crate::database::Row>| -> Vec<String> {
                rows.iter().map(|row| row.text("value").expect("a value")).collect()
            };
            assert_eq!(values(tx.rows(other).await.expect("rows")), [b.to_uppercase()], "{backend:?}");
            assert_eq!(values(tx.rows(before).await.expect("rows")), Vec::<String>::new(), "{backend:?}");
            assert_eq!(values(tx.rows(nothing).await.expect("rows")), Vec::<String>::new(), "{backend:?}");
            assert_eq!(values(tx.rows(after).await.expect("rows")), [a.to_uppercase()], "{backend:?}");
            assert_eq!(tx.execute(RENAME, Args::new().text(b).text("new")).await.expect("changes"), 1, "{backend:?}");
            tx.commit().await.expect("committed");
        }
        assert_eq!(names(&test.database).await, ["a", "b", "c", "d"], "{backend:?}");
    }
}

#[tokio::test]
async fn statements_sent_with_the_commit_are_answered() {
    for backend in BACKENDS {
        let test = things(backend).await;
        for name in ["a", "b"] {
            let mut tx = test.database.write().await.expect("a transaction");
            let args = || Args::new().text("told").rows(Rows::new().text("name", [name]));
            let before = tx.queue(OF, args());
            tx.send(INSERT, Args::new().int(0).rows(rows(&[(name.to_owned(), Some(name.to_uppercase()), None)])));
            let after = tx.queue(OF, args());
            let nothing = tx.queue(OF, Args::new().text("told").rows(Rows::new().text("name", Vec::<String>::new())));
            let mut answers = tx.commit_answered().await.expect("committed");
            assert!(answers.rows(before).is_empty() && answers.rows(nothing).is_empty(), "{backend:?}");
            let row = answers.rows(after).pop().expect("one");
            assert_eq!(row.text("value").expect("a value"), name.to_uppercase(), "{backend:?}");
        }
        assert_eq!(names(&test.database).await, ["a", "b"], "{backend:?}");
    }
}

#[tokio::test]
async fn a_failed_statement_rolls_back_and_the_error_excludes_an_effect() {
    for backend in BACKENDS {
        let test = things(backend).await;
        for _ in 0..3 {
            let mut tx = test.database.write().await.expect("a transaction");
            tx.send(INSERT, Args::new().int(0).rows(rows(&[("a".to_owned(), None, None)])));
            tx.send(WRONG, Args::new());
            let failed = tx.commit_checked().await.expect_err("a null that is none");
            assert!(matches!(failed, CommitError::NotDone(_)), "{backend:?}: {failed:?}");

            let mut tx = test.database.write().await.expect("a transaction");
            tx.send(INSERT, Args::new().int(0).rows(rows(&[("a".to_owned(), None, None)])));
            tx.fetch(WRONG, Args::new()).await.expect_err("a null that is none");
        }
        assert!(names(&test.database).await.is_empty(), "{backend:?}");
        let mut tx = test.database.write().await.expect("the connection is of use");
        tx.send(INSERT, Args::new().int(0).rows(rows(&[("a".to_owned(), None, None)])));
        tx.commit().await.expect("committed");
        assert_eq!(names(&test.database).await, ["a"], "{backend:?}");
    }
}

#[tokio::test]
async fn a_dropped_transaction_is_rolled_back_before_the_connection_is_reused() {
    for backend in BACKENDS {
        let test = things(backend).await;
        for round in 0..20 {
            let mut tx = test.database.write().await.expect("a transaction");
            let name = format!("{round}");
            tx.send(INSERT, Args::new().int(0).rows(rows(&[(name, None, None)])));
            if round % 2 == 0 {
                tx.fetch(ALL, Args::new()).await.expect("rows");
            } else {
                // The transaction is dropped while the message is in flight.
                let _ = tokio::time::timeout(std::time::Duration::ZERO, tx.fetch(ALL, Args::new())).await;
            }
            drop(tx);
        }
        let mut tx = test.database.write().await.expect("a transaction");
        assert!(tx.fetch(ALL, Args::new()).await.expect("rows").is_empty(), "{backend:?}");
    }
}

/// A connection that ends before the server gets the commit, and one that ends before its answer.
#[tokio::test]
async fn a_commit_with_a_lost_answer_is_in_doubt_and_the_next_uses_another_connection() {
    let test = things(Backend::Postgres).await;
    let proxy = Proxy::before(&test.url).await;
    let database = Database::open(proxy.url()).await.expect("a way through the proxy");
    // Its statements are prepared with the commit, and before it.
    for name in ["a", "b"] {
        let mut tx = database.write().await.expect("a transaction");
        tx.send(INSERT, Args::new().int(0).rows(rows(&[(name.to_owned(), None, None)])));
        proxy.lose_answers_of_commits(1);
        let lost = tx.commit_checked().await.expect_err("its answer is lost");
        assert!(matches!(&lost, CommitError::InDoubt(error) if error.is_passing()), "{lost:?}");
        let mut tx = database.write().await.expect("a transaction");
        tx.send(RENAME, Args::new().text(name).text("again"));
        tx.commit().await.expect("on another connection");
    }
    assert_eq!(names(&test.database).await, ["a", "b"], "what was in doubt took effect");

    let mut tx = database.begin().await.expect("begins");
    tx.execute(RENAME, Args::new().text("a").text("never")).await.expect("changes");
    let other = test.database.write().await.expect("a transaction");
    end_all_but(other).await;
    let ended = tx.fetch(ALL, Args::new()).await.expect_err("the server has ended it");
    assert!(ended.is_passing(), "{ended:?}");
    drop(tx);
    let rows = test.database.fetch(ALL, Args::new()).await.expect("rows");
    assert!(rows.iter().all(|row| row.text("value").expect("a text") == "again"));
}

/// Ends every other connection to the database.
async fn end_all_but(mut tx: crate::database::Tx) {
    const END: &str = "SELECT pg_terminate_backend(pid)::text AS ended FROM pg_stat_activity \
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert!(!tx.fetch(END, Args::new()).await.expect("rows").is_empty());
    tx.commit().await.expect("committed");
}

#[tokio::test]
async fn a_text_that_postgres_cannot_store_is_rejected_and_the_message_stays_valid() {
    let test = things(Backend::Postgres).await;
    let mut tx = test.database.write().await.expect("a transaction");
    tx.send(INSERT, Args::new().int(0).rows(rows(&[("a\0b".to_owned(), None, None)])));
    let failed = tx.commit_checked().await.expect_err("a zero byte");
    assert!(matches!(&failed, CommitError::NotDone(error) if error.is_permanent()), "{failed:?}");
    assert!(names(&test.database).await.is_empty());
}

/// SQLite's rollback data for this statement is 12 MiB.
#[tokio::test]
async fn a_statement_may_change_thousands_of_pages() {
    const THINGS: usize = 3_000;
    for backend in BACKENDS {
        let test = things(backend).await;
        let all = |value: &str| {
            let thing = |number: usize| (format!("thing {number}"), Some(value.repeat(4_000)), None);
            rows(&(0..THINGS).map(thing).collect::<Vec<_>>())
        };
        let mut tx = test.database.begin().await.expect("begins");
        tx.execute(INSERT, Args::new().int(0).rows(all("a"))).await.expect("rows");
        tx.commit().await.expect("committed");
        let mut tx = test.database.begin().await.expect("begins");
        let changed = tx.execute(REPLACE, all("b").into()).await.expect("rows are changed");
        assert_eq!(changed, THINGS as u64, "{backend:?}");
        tx.commit().await.expect("committed");
    }
}
