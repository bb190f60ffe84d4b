//! Databases that are not as a role expects: behind a connection pooler, or with the tables of another role.

use matricula_harness::campus::bundle;
use matricula_harness::{ROLES, System, submission, submit};
use matricula_kit::testing::{BACKENDS, create_postgres};
use matricula_postgres::{POSTGRES_URL, PgBouncer};
use matricula_proto::registration::v1::Outcome;

#[tokio::test]
async fn the_whole_system_works_behind_a_pooler_of_sessions() {
    let Some(program) = PgBouncer::find() else {
        eprintln!("skipped: PgBouncer is not here; `cargo xtask test` installs it");
        return;
    };
    let server = std::env::var(POSTGRES_URL).expect("the tests run beside a server: `cargo xtask test`");
    let pooler = PgBouncer::start(&program, server.trim_end_matches('/'), &["pool_mode = session"]);
    let pooler = pooler.expect("it starts");
    let mut urls = Vec::new();
    for _ in ROLES {
        let url = create_postgres().await;
        urls.push(format!("{}/{}", pooler.url(), url.rsplit('/').next().expect("a database")));
    }
    let mut system = System::on_databases(urls.try_into().expect("one for each role"), &[]);
    // A replica: it follows the first one's changes by LISTEN.
    system.add_orchestrator("other");
    system.import(&bundle(&[("A", 1, ""), ("B", 5, "")], 3));
    let (portal, other) = (system.channel("orchestrator").await, system.channel("other").await);
    let enrolled = submit(&portal, submission("S1", "k1", &["A", "B"], &[])).await;
    assert_eq!(enrolled.outcome(), Outcome::Enrolled, "{enrolled:?}");
    let full = submit(&other, submission("S2", "k1", &["A", "B"], &[])).await;
    assert_eq!(full.outcome(), Outcome::Refused, "{full:?}");
    let enrolled = submit(&other, submission("S2", "k2", &["B"], &[])).await;
    assert_eq!(enrolled.outcome(), Outcome::Enrolled, "{enrolled:?}");
    system.audit();
}

#[tokio::test]
async fn a_database_of_another_role_is_refused() {
    for backend in BACKENDS {
        let mut system = System::separate(backend, &[]).await;
        let seats = system.database_url("seats");
        for role in ["fees", "orchestrator"] {
            system.kill(role);
            system.set_own(role, &format!("{role}.database_url"), &seats);
            // In the configuration of this process they are two databases.
            system.set_own(role, "seats.database_url", "sqlite:other.db");
        }
        system.kill("seats");
        for role in ["fees", "orchestrator"] {
            system.relaunch(role);
            assert_eq!(system.ended(role), Some(1), "{role} is not started again and again");
            let log = system.log(role).join("\n");
            assert!(log.contains("belongs to another role") && log.contains("holds"), "{log}");
            assert!(log.contains("give each role a database of its own"), "{log}");
            assert!(log.contains(&format!("error: {role}: ")), "it names the role: {log}");
        }
    }
}
