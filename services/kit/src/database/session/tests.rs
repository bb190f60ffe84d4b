//! Sessions on databases with their own defaults, and behind a real PgBouncer.

use std::path::PathBuf;

use matricula_postgres::{POSTGRES_URL, PgBouncer};

use super::*;
use crate::database::{Args, Database, Received, Rows};
use crate::testing::create_postgres;

/// Texts that change if literals have escapes, or if a NULL is a text.
const TEXTS: [&str; 7] = [r"a\b", r"\", r"\'; DROP TABLE x; --", "'", r#"""#, "NULL", "ñ–𝄞"];

/// The value of a setting in a session.
const SETTING: &str = "SELECT current_setting($1) AS value";

/// Runs statements on a database, outside of our connections.
async fn run(url: &str, statements: &str) {
    let options: PgConnectOptions = url.parse().expect("a URL");
    let mut connection = options.connect().await.expect("the server answers");
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await.expect("they run");
    connection.close().await.expect("it is closed");
}

/// Writes texts, and reads them back with both kinds of connections.
async fn texts_are_kept(database: &Database) {
    let mut tx = database.begin().await.expect("a transaction");
    tx.execute("CREATE TABLE IF NOT EXISTS texts (id BIGINT NOT NULL, value TEXT)", Args::new())
        .await
        .expect("created");
    tx.execute("DELETE FROM texts", Args::new()).await.expect("emptied");
    let rows = Rows::new().int("id", 0..=TEXTS.len() as i64);
    let rows = rows.opt_text("value", TEXTS.into_iter().map(Some).chain([None]));
    tx.execute("INSERT INTO texts (id, value) SELECT r.id, r.value FROM {rows}", rows.into()).await.expect("written");
    tx.commit().await.expect("committed");
    let expected: Vec<Option<String>> = TEXTS.into_iter().map(|text| Some(text.to_owned())).chain([None]).collect();
    let all = "SELECT value FROM texts ORDER BY id";
    let written = database.begin().await.expect("a transaction").fetch(all, Args::new()).await.expect("rows");
    let read = database.fetch(all, Args::new()).await.expect("rows");
    for rows in [written, read] {
        let values: Vec<Option<String>> = rows.iter().map(|row| row.opt_text("value").expect("a text")).collect();
        assert_eq!(values, expected);
    }
    for text in TEXTS {
        let mut tx = database.begin().await.expect("a transaction");
        let rows = tx.fetch("SELECT id FROM texts WHERE value = $1", Args::new().text(text)).await.expect("rows");
        assert_eq!(rows.len(), 1, "{text}");
    }
}

#[tokio::test]
async fn defaults_of_a_database_change_nothing() {
    let url = create_postgres().await;
    let name = url.rsplit('/').next().expect("a database").to_owned();
    let defaults = [
        ("standard_conforming_strings", "off"),
        ("array_nulls", "off"),
        ("default_transaction_isolation", "serializable"),
        ("exit_on_error", "on"),
        ("statement_timeout", "10s"),
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("synchronous_commit", "off"),
        ("client_encoding", "LATIN1"),
        ("transform_null_equals", "on"),
        ("bytea_output", "escape"),
        ("DateStyle", "German"),
        ("extra_float_digits", "-15"),
    ];
    let statements = defaults.map(|(setting, value)| format!("ALTER DATABASE {name} SET {setting} = '{value}';"));
    run(&url, &statements.concat()).await;

    let database = Database::open(&url).await.expect("it opens");
    texts_are_kept(&database).await;
    let seen = async |setting: &'static str| {
        let args = || Args::new().text(setting);
        let mut writer = database.begin().await.expect("a transaction");
        let written = writer.fetch(SETTING, args()).await.expect("a row")[0].text("value").expect("a text");
        let read = database.fetch(SETTING, args()).await.expect("a row")[0].text("value").expect("a text");
        (written, read)
    };
    for (setting, value) in ALWAYS.iter().filter(|(setting, _)| defaults.iter().any(|(known, _)| known == setting)) {
        assert_eq!(seen(setting).await, ((*value).to_owned(), (*value).to_owned()), "{setting}");
    }
    assert_eq!(seen("synchronous_commit").await, ("on".to_owned(), "on".to_owned()));
    assert_eq!(seen("idle_in_transaction_session_timeout").await, ("4s".to_owned(), "0".to_owned()));
    // The operator's choice stays: only `off` loses acknowledged commits.
    run(&url, &format!("ALTER DATABASE {name} SET synchronous_commit = local")).await;
    let other = Database::open(&url).await.expect("it opens");
    let rows = other.fetch(SETTING, Args::new().text("synchronous_commit")).await.expect("a row");
    assert_eq!(rows[0].text("value").expect("a text"), "local");
}

#[tokio::test]
async fn an_encoding_other_than_utf8_is_rejected_with_the_reason() {
    let server = std::env::var(POSTGRES_URL).expect("the tests run beside a server: `cargo xtask test`");
    let server = server.trim_end_matches('/');
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let name = format!("test_{}", uuid::Uuid::now_v7().simple());
        let create =
            format!("CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
        run(&format!("{server}/postgres"), &create).await;
        let Err(error) = Database::open(&format!("{server}/{name}")).await else { panic!("{encoding} is refused") };
        assert!(error.is_permanent(), "it is not waited for");
        let error = error.to_string();
        assert!(error.contains(&format!("the encoding {encoding},")) && error.contains("ENCODING 'UTF8'"), "{error}");
    }
}

/// The program, or a message that the test is skipped.
fn pgbouncer() -> Option<PathBuf> {
    let found = PgBouncer::find();
    if found.is_none() {
        eprintln!("skipped: PgBouncer is not here; `cargo xtask test` installs it");
    }
    found
}

/// A new database behind a pooler.
async fn pooled(program: &std::path::Path, settings: &[&str]) -> (PgBouncer, String) {
    let url = create_postgres().await;
    let (server, name) = url.rsplit_once('/').expect("a server and a database");
    let pooler = PgBouncer::start(program, server, settings).expect("it starts");
    let url = format!("{}/{name}", pooler.url());
    (pooler, url)
}

#[tokio::test]
async fn session_pooling_works() {
    let Some(program) = pgbouncer() else { return };
    // The second pool mode leaves prepared statements and settings of a client to the next one.
    let kinds: [&[&str]; 3] = [
        &["pool_mode = session"],
        &["pool_mode = session", "server_reset_query ="],
        &["pool_mode = session", "server_round_robin = 1", "server_reset_query_always = 1"],
    ];
    for settings in kinds {
        let (_pooler, url) = pooled(&program, settings).await;
        for _ in 0..3 {
            let database = Database::open(&url).await.expect("it opens");
            texts_are_kept(&database).await;
            let mut notifications = database.listen("test").await.expect("it listens").expect("others may write");
            let mut tx = database.write().await.expect("a transaction");
            tx.notify("test", vec!["hello".to_owned()]);
            tx.commit().await.expect("committed");
            while notifications.receive().await.expect("it is there").expect("it is there")
                != Received::Payload("hello".to_owned())
            {}
            database.close().await;
        }
    }
}

#[tokio::test]
async fn pooling_without_sessions_is_rejected_with_the_reason() {
    let Some(program) = pgbouncer() else { return };
    let kinds: [&[&str]; 5] = [
        &["pool_mode = transaction"],
        &["pool_mode = statement"],
        &["pool_mode = transaction", "default_pool_size = 1"],
        &["pool_mode = transaction", "server_round_robin = 1", "min_pool_size = 5"],
        &["pool_mode = transaction", "ignore_startup_parameters = extra_float_digits,options"],
    ];
    for settings in kinds {
        let (_pooler, url) = pooled(&program, settings).await;
        let Err(error) = Database::open(&url).await else { panic!("{settings:?}: it is refused") };
        assert!(error.is_permanent(), "{settings:?}: it is not waited for");
        assert!(error.to_string().contains("use session pooling"), "{settings:?}: {error}");
        let Err(error) = Database::replica(&url).await else { panic!("{settings:?}: it is refused") };
        assert!(error.to_string().contains("use session pooling"), "{settings:?}: {error}");
    }
}

#[tokio::test]
async fn connections_with_their_own_sessions_are_accepted() {
    let url = create_postgres().await;
    let options: PgConnectOptions = url.parse().expect("a URL");
    let mut one = options.connect().await.expect("the server answers");
    let mut other = options.connect().await.expect("the server answers");
    assert!(has_sessions(&mut one, &mut other).await.expect("it answers"));
    // An unavailable replica is no reason to fail.
    assert!(Database::replica("postgres://127.0.0.1:1/x").await.is_ok());
}
