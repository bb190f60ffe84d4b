//! Logins and batches on a separate server, compared with the driver for the same URL.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use matricula_postgres::{Cluster, find_binaries};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use super::*;
use crate::database::login::Login;
use crate::database::session;
use crate::database::statement::{Args, Rows};
use crate::testing::{Backend, empty_database};

/// The login rules; the first matching line applies.
const LOGINS: &str = "local all all trust\n\
                      hostssl all certified 127.0.0.1/32 cert\n\
                      hostssl all scram 127.0.0.1/32 scram-sha-256\n\
                      host all md5 127.0.0.1/32 md5\n\
                      host all plain 127.0.0.1/32 password\n\
                      hostnossl all open 127.0.0.1/32 trust\n";
const USERS: &str = "SET password_encryption = 'scram-sha-256';\
                     CREATE ROLE scram LOGIN PASSWORD 'a/b@% ñ'; CREATE ROLE certified LOGIN; CREATE ROLE open LOGIN;\
                     CREATE ROLE plain LOGIN PASSWORD 'plain';\
                     SET password_encryption = 'md5'; CREATE ROLE md5 LOGIN PASSWORD 'md5'";

/// The kind of every key.
const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1";

/// A server with TLS, and the certificates of its users.
struct Secured {
    cluster: Cluster,
    folder: tempfile::TempDir,
}

impl Secured {
    async fn start(binaries: &Path) -> Self {
        let cluster = Cluster::start(binaries).expect("it starts");
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("names"), "subjectAltName = DNS:localhost").expect("a file");
        let secured = Self { cluster, folder };
        let options: PgConnectOptions = format!("{}/postgres", secured.cluster.socket_url()).parse().expect("a URL");
        let mut connection = options.connect().await.expect("the server answers");
        let data: String = sqlx::raw_sql("SELECT current_setting('data_directory') AS it")
            .fetch_one(&mut connection)
            .await
            .expect("a row")
            .get("it");
        let data = PathBuf::from(data);
        secured.certify(&data);
        std::fs::write(data.join("pg_hba.conf"), LOGINS).expect("logins");
        sqlx::raw_sql(AssertSqlSafe(USERS)).execute(&mut connection).await.expect("users");
        connection.close().await.expect("closed");
        for (name, file) in [("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key"), ("ssl_ca_file", "ca.pem")]
        {
            secured.cluster.set(name, file).expect("a setting");
        }
        secured.cluster.set("ssl", "on").expect("a setting");
        secured.cluster.restart(matricula_postgres::Mode::Fast).expect("it starts again");
        secured
    }

    /// Writes certificates of one authority for the server and a user, and a certificate of another authority.
    fn certify(&self, data: &Path) {
        for name in ["ca", "other"] {
            self.openssl(&format!(
                "req -x509 -nodes {KEY} -subj /CN={name} -days 30 -keyout {name}.key -out {name}.pem"
            ));
        }
        for (name, user) in [("server", "server"), ("client", "certified")] {
            self.openssl(&format!("req -new -nodes {KEY} -subj /CN={user} -keyout {name}.key -out {name}.csr"));
            let signed = format!("x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30");
            self.openssl(&format!("{signed} -extfile names -out {name}.pem"));
        }
        let owner = data.metadata().expect("a folder");
        for name in ["server.key", "server.pem", "ca.pem"] {
            let copy = data.join(name);
            std::fs::copy(self.path(name), &copy).expect("a copy");
            std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o600)).expect("its owner's alone");
            chown(&copy, Some(owner.uid()), Some(owner.gid())).expect("the server's");
        }
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        let output = command.args(arguments.split(' ')).current_dir(self.folder.path()).output().expect("openssl runs");
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Logs in with the driver and with our connection: both must have the expected result.
    async fn check(&self, login: &str, host: &str, parameters: &str, may: bool) {
        let port = self.cluster.url().rsplit(':').next().expect("a port").to_owned();
        let folder = self.folder.path().display().to_string();
        let parameters = parameters.replace("{}", &folder);
        let url = format!("postgres://{login}@{host}:{port}/postgres?{parameters}");
        let options: PgConnectOptions = url.parse().expect("a URL");
        let driver = options.connect().await.map(drop);
        let wire = Wire::connect(&Login::of(options)).await.map(drop);
        assert_eq!((wire.is_ok(), driver.is_ok()), (may, may), "{url}: {wire:?} {driver:?}");
        if let (Err(wire), Err(driver)) = (wire, driver) {
            let kind = |error| crate::database::DbError::from(error).kind();
            assert_eq!(kind(wire), kind(driver), "{url}");
        }
    }
}

#[tokio::test]
async fn urls_mean_what_they_mean_to_the_driver() {
    let (Some(binaries), Ok(_)) = (find_binaries(), Command::new("openssl").arg("version").output()) else {
        eprintln!("skipped: no PostgreSQL server binaries are here, or no openssl");
        return;
    };
    let server = Secured::start(&binaries).await;
    let scram = "scram:a%2Fb%40%25%20%C3%B1";
    let cases = [
        // TLS or not.
        (scram, "localhost", "sslmode=disable", false),
        (scram, "localhost", "sslmode=allow", false),
        (scram, "localhost", "sslmode=prefer", true),
        (scram, "localhost", "sslmode=require", true),
        (scram, "127.0.0.1", "", true),
        ("open", "127.0.0.1", "sslmode=disable", true),
        ("open", "127.0.0.1", "sslmode=allow", true),
        ("open", "127.0.0.1", "sslmode=require", false),
        // The server's certificate.
        (scram, "localhost", "sslmode=verify-ca", false),
        (scram, "localhost", "sslmode=verify-ca&sslrootcert={}/ca.pem", true),
        (scram, "127.0.0.1", "sslmode=verify-ca&sslrootcert={}/ca.pem", true),
        (scram, "localhost", "sslmode=verify-ca&sslrootcert={}/other.pem", false),
        (scram, "localhost", "sslmode=verify-ca&sslrootcert={}/missing.pem", false),
        (scram, "localhost", "sslmode=verify-full&sslrootcert={}/ca.pem", true),
        (scram, "127.0.0.1", "sslmode=verify-full&sslrootcert={}/ca.pem", false),
        (scram, "localhost", "sslmode=verify-full&sslrootcert={}/other.pem", false),
        // Authentication methods.
        ("scram:wrong", "localhost", "sslmode=require", false),
        ("scram", "localhost", "sslmode=require", false),
        ("md5:md5", "127.0.0.1", "sslmode=disable", true),
        ("md5:wrong", "127.0.0.1", "", false),
        ("plain:plain", "127.0.0.1", "sslmode=disable", true),
        ("plain:wrong", "127.0.0.1", "", false),
        ("nobody", "127.0.0.1", "", false),
        ("certified", "localhost", "sslmode=require", false),
        ("certified", "localhost", "sslmode=require&sslcert={}/client.pem&sslkey={}/client.key", true),
        ("certified", "localhost", "sslmode=require&sslcert={}/client.pem", false),
        ("md5:md5", "127.0.0.1", "dbname=nothing", false),
        // A local socket has no TLS.
        ("open", "localhost", "sslmode=require&host={}", false),
    ];
    for (login, host, parameters, may) in cases {
        server.check(login, host, parameters, may).await;
    }
    let socket = format!("{}/postgres?options=-c%20geqo%3Doff&application_name=it", server.cluster.socket_url());
    let mut wire = Wire::connect(&Login::of(socket.parse().expect("a URL"))).await.expect("the socket");
    let mut batch = Batch::new();
    let sql = "SELECT current_setting('geqo') || current_setting('application_name') AS it";
    batch.push(&wire, sql, &Args::new(), Some(0)).expect("a statement");
    let mut received = Vec::new();
    assert!(wire.run(batch, |_, answered| received.extend(answered.rows)).await.is_ok());
    assert_eq!(received[0].opt_text("it").expect("a text").as_deref(), Some("offit"));
}

async fn connected() -> (crate::testing::TestDatabase, Wire) {
    let test = empty_database(Backend::Postgres).await;
    let wire = Wire::connect(&Login::of(test.url.parse().expect("a URL"))).await.expect("the server answers");
    (test, wire)
}

const NUMBERS: &str = "SELECT r.n FROM {rows} ORDER BY r.n";
const SLOW: &str = "SELECT r.n FROM {rows}, pg_sleep(0.1) ORDER BY r.n";
const FAILS: &str = "SELECT r.n / 0 AS n FROM {rows}";

fn numbers(count: i64) -> Args {
    Rows::new().int("n", 0..count).text("text", (0..count).map(|_| "x".repeat(100))).into()
}

/// Runs a batch of three statements; returns the number of rows of each answer, and whether it failed before the last.
async fn three(wire: &mut Wire, second: &'static str, count: i64) -> (Vec<(usize, usize)>, Option<bool>) {
    let mut batch = Batch::new();
    batch.begin(wire).expect("begins");
    for (number, sql) in [NUMBERS, second, NUMBERS].into_iter().enumerate() {
        batch.push(wire, sql, &numbers(count), Some(number)).expect("a statement");
    }
    batch.commit(wire).expect("commits");
    let mut received = Vec::new();
    let ran = wire.run(batch, |number, answered| received.push((number, answered.rows.len()))).await;
    (received, ran.err().map(|failed| failed.is_before_last))
}

/// The server ends a larger batch of a suspended client, because it waits after a Sync.
#[tokio::test]
async fn a_batch_has_one_sync_up_to_the_size_that_is_sent_as_a_whole() {
    let (_test, wire) = connected().await;
    for (count, syncs) in [(10, 1), (5_000, 4)] {
        let mut batch = Batch::new();
        batch.begin(&wire).expect("begins");
        // A transaction that has only begun holds no locks: the first statement needs no Sync before it.
        for _ in 0..3 {
            batch.push(&wire, NUMBERS, &numbers(count), None).expect("a statement");
        }
        batch.commit(&wire).expect("commits");
        assert_eq!(batch.ended().syncs, syncs, "{count}");
    }
}

/// Batches in one piece, and batches with a Sync before each statement.
#[tokio::test]
async fn an_error_in_the_middle_skips_the_rest_and_the_connection_stays_usable() {
    let (_test, mut wire) = connected().await;
    // With no rows, no statement fails: all are prepared.
    assert_eq!(three(&mut wire, FAILS, 0).await.1, None);
    for count in [10, 5_000] {
        let size = usize::try_from(count).expect("a number");
        for _ in 0..2 {
            let (received, failed) = three(&mut wire, FAILS, count).await;
            assert_eq!((received, failed), (vec![(0, size)], Some(true)));
            assert!(!wire.is_preparing, "all of it was answered");
            wire.rollback().await.expect("it is undone");
            let (received, failed) = three(&mut wire, NUMBERS, count).await;
            assert_eq!((received, failed), (vec![(0, size), (1, size), (2, size)], None));
        }
    }
}

/// The server may have kept a statement whose answer was lost: the next use of its name would fail.
#[tokio::test]
async fn a_connection_whose_first_batch_fails_is_not_used_again() {
    for count in [10, 5_000] {
        let (test, mut wire) = connected().await;
        assert_eq!(three(&mut wire, FAILS, count).await.1, Some(true));
        assert!(wire.is_preparing, "{count}");

        for _ in 0..3 {
            let mut tx = test.database.write().await.expect("a transaction");
            tx.send(FAILS, numbers(count));
            tx.send(NUMBERS, numbers(count));
            assert!(tx.commit().await.is_err(), "{count}");
            let mut tx = test.database.write().await.expect("a transaction");
            let answer = tx.queue(NUMBERS, numbers(3));
            assert_eq!(tx.commit_answered().await.expect("committed").rows(answer).len(), 3, "{count}");
        }
    }
}

/// With several Syncs, the statements after a failed begin would be committed one by one.
#[tokio::test]
async fn the_begin_of_a_long_batch_is_answered_first() {
    let (_test, wire) = connected().await;
    for (count, is_long) in [(10, false), (5_000, true)] {
        let mut batch = Batch::new();
        batch.begin(&wire).expect("begins");
        for _ in 0..3 {
            batch.push(&wire, NUMBERS, &numbers(count), None).expect("a statement");
        }
        batch.commit(&wire).expect("commits");
        let (begin, rest) = batch.split_long();
        assert_eq!(begin.map(|begin| (begin.parts.len(), begin.ended().syncs)), is_long.then_some((1, 1)));
        assert_eq!(rest.parts.len(), if is_long { 4 } else { 5 });
    }
}

#[tokio::test]
async fn a_setting_that_is_not_in_force_is_found() {
    let (_test, mut wire) = connected().await;
    session::begin_writer(&mut wire, session::OF_WRITERS).await.expect("all are in force");
    // The server would show it as 64MB.
    let error = session::begin_writer(&mut wire, &[("work_mem", "65536kB")]).await.expect_err("it has another value");
    assert!(error.to_string().contains("work_mem"), "{error}");
}

/// If one side did not read while it writes, both sides would wait for ever.
#[tokio::test]
async fn a_batch_and_its_answers_may_be_larger_than_all_buffers() {
    let (_test, mut wire) = connected().await;
    let running = three(&mut wire, NUMBERS, 200_000);
    let (received, failed) =
        tokio::time::timeout(std::time::Duration::from_secs(60), running).await.expect("no deadlock");
    assert_eq!((received, failed), (vec![(0, 200_000), (1, 200_000), (2, 200_000)], None));
}

#[tokio::test]
async fn a_batch_that_is_given_up_is_answered_before_the_next() {
    let (_test, mut wire) = connected().await;
    three(&mut wire, SLOW, 10).await;
    for count in [10, 5_000] {
        let given_up = tokio::time::timeout(std::time::Duration::ZERO, three(&mut wire, SLOW, count)).await;
        assert!(given_up.is_err());
        assert!(!wire.is_preparing, "all was prepared before");
        let mut batch = Batch::new();
        batch.push(&wire, NUMBERS, &numbers(3), Some(7)).expect("a statement");
        let mut received = Vec::new();
        assert!(wire.run(batch, |number, answered| received.push((number, answered.rows.len()))).await.is_ok());
        assert_eq!(received, [(7, 3)]);
    }
}

#[tokio::test]
async fn a_commit_that_rolls_back_is_an_error() {
    let (_test, mut wire) = connected().await;
    let mut batch = Batch::new();
    batch.begin(&wire).expect("begins");
    batch.push(&wire, FAILS, &numbers(1), None).expect("a statement");
    assert!(wire.run(batch, |_, _| {}).await.is_err());
    let mut batch = Batch::new();
    batch.commit(&wire).expect("commits");
    let failed = wire.run(batch, |_, _| {}).await.expect_err("nothing was committed");
    assert!(failed.is_before_last);
    let code = failed.error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned());
    assert_eq!(code.as_deref(), Some("25P02"));
    wire.ping().await.expect("it is there");
}
