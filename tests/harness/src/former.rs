//! Databases as an earlier build has left them: its migrations, and the rows that it wrote.

use matricula_kit::database::Migrator;
use matricula_kit::time;
use matricula_postgres::Backend;

use crate::create_postgres;

use crate::{ROLES, Sql, System};

static KIT: Migrator = sqlx::migrate!("../../services/kit/migrations");
static SEATS: Migrator = sqlx::migrate!("../../services/seats/migrations");
static ENROLLMENTS: Migrator = sqlx::migrate!("../../services/enrollments/migrations");
static ACADEMICS: Migrator = sqlx::migrate!("../../services/academics/migrations");
static FEES: Migrator = sqlx::migrate!("../../services/fees/migrations");
static NOTIFICATIONS: Migrator = sqlx::migrate!("../../services/notifications/migrations");
static ORCHESTRATOR: Migrator = sqlx::migrate!("../../orchestrator/runtime/migrations");

/// The migrations and rows of one role of an earlier build.
pub struct Former {
    /// The last of its migrations that are the role's own.
    pub last_migration: i64,
    /// Statements that insert its rows. `{ms:-5}` stands for the time 5 ms ago.
    pub rows: &'static str,
}

/// The last of the kit's migrations in that build.
const KIT_LAST: i64 = 2;

impl System {
    /// Six processes on the databases of an earlier build, in the order of [`ROLES`].
    pub async fn separate_on_former(backend: Backend, former: &[Former; 6]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let now_ms = time::now().0;
        let mut urls = Vec::new();
        for (role, former) in ROLES.iter().zip(former) {
            let url = match backend {
                Backend::Postgres => create_postgres().await,
                Backend::Sqlite => format!("sqlite:{}/{role}.db", folder.path().display()),
            };
            let create = if backend == Backend::Sqlite { "?mode=rwc" } else { "" };
            let mut database = Sql::open(&format!("{url}{create}")).await;
            database.migrate(&migrations(role, former.last_migration)).await;
            database.run(&at(former.rows, now_ms)).await;
            urls.push(url);
        }
        let urls = urls.try_into().expect("one for each role");
        Self::on_databases_in(folder, urls, &[])
    }
}

fn migrations(role: &str, last: i64) -> Migrator {
    let (kit, own): (&[_], _) = match role {
        "seats" => (&KIT.migrations, &SEATS),
        "enrollments" => (&KIT.migrations, &ENROLLMENTS),
        "academics" => (&KIT.migrations, &ACADEMICS),
        "fees" => (&KIT.migrations, &FEES),
        "notifications" => (&KIT.migrations, &NOTIFICATIONS),
        _ => (&[], &ORCHESTRATOR),
    };
    let kit = kit.iter().filter(|migration| migration.version <= KIT_LAST);
    let own = own.iter().filter(|migration| migration.version <= last);
    Migrator::with_migrations(kit.chain(own).cloned().collect())
}

/// The rows with real times in place of the placeholders.
fn at(rows: &str, now_ms: i64) -> String {
    let mut parts = rows.split("{ms:");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (offset, rest) = part.split_once('}').expect("it is closed");
        let offset: i64 = offset.parse().expect("a number");
        text.push_str(&(now_ms + offset).to_string());
        text.push_str(rest);
    }
    text
}
