//! Sessions on PostgreSQL: the settings that must be in force, and the requirements on the server.
//!
//! A database, a user or a pooler can have its own defaults. Settings that change the meaning of a statement, or end it
//! early, are set when a connection is opened; a connection without them is not used. This costs one message per
//! connection.
//!
//! Some settings are deliberately not set: `default_transaction_read_only`, by which operators stop writers;
//! `search_path`, by which they choose the schema; formats of dates and bytes, because only texts and integers are read
//! and written; `synchronous_commit`, unless it is `off`, because its other values choose the required state of a
//! standby.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};
use tokio::time::timeout;

use super::DbError;
use super::ids::{self, IdForm};
use super::wire::{Answered, Batch, Wire, WireRow};

/// Settings on every connection.
///
/// First the settings that determine the meaning of a statement. Then timeouts: this program sets its own, because a
/// commit that the server aborts has an unknown result. Then settings of the planner: all statements look up rows by
/// key, some hundred in a batch, or scan a table in the order of its key. Random reads cost nothing, because the pages
/// of a registration morning are in memory. So the planner must choose the index even for an empty table; the plan is
/// kept while the table fills within minutes. JIT would cost more than the statements. ADR 0024 has the measurements.
const ALWAYS: [(&str, &str); 11] = [
    // With `off`, a backslash in a literal would begin an escape.
    ("standard_conforming_strings", "on"),
    ("client_encoding", "UTF8"),
    // Each statement sees everything that was committed before it began.
    ("default_transaction_isolation", "read committed"),
    // A conflict must be an error, not the end of the connection.
    ("exit_on_error", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("transaction_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("random_page_cost", "0"),
    ("jit", "off"),
    ("transform_null_equals", "off"),
];
/// Settings of reading connections: their statements are few, so each is planned when it runs.
pub(super) const OF_READERS: &[(&str, &str)] =
    &[("plan_cache_mode", "force_custom_plan"), ("idle_in_transaction_session_timeout", "0")];
/// Settings of writing connections. Their plans are kept, because planning a statement for each batch takes longer than
/// running it.
///
/// A process that is suspended in a transaction keeps its locks, and others would wait until it is resumed. No writer
/// is idle between two statements for as long as this timeout, and a lease expires later.
pub(super) const OF_WRITERS: &[(&str, &str)] =
    &[("plan_cache_mode", "force_generic_plan"), ("idle_in_transaction_session_timeout", "4s")];
/// How often each of two connections is queried for its server process.
const POOLING_ROUNDS: usize = 3;
const PID: &str = "SELECT pg_backend_pid()::text AS pid";
const ENCODING: &str = "SELECT current_setting('server_encoding') AS encoding";
const DURABLE: &str =
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// The server runs the statements of a batch as they arrive. When the network fails in the middle of a batch, these
/// settings make the server detect it after half a minute and roll back. They have no effect over a local socket.
pub(super) const KEEP_ALIVE: &str = "SELECT set_config('tcp_keepalives_idle', '10', false), \
     set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '4', false)";

/// An advisory lock that every session holds. By it a conversion of ids detects the sessions that support both forms.
pub(super) const SUPPORTS_BOTH_FORMS: (i32, i32) = (1_296_127_049, 1);

/// Sets the required settings on a new connection of the driver, and checks them.
pub(super) async fn begin(connection: &mut PgConnection, own: &[(&str, &str)]) -> Result<(), sqlx::Error> {
    // The text is made of constants.
    let rows = sqlx::raw_sql(AssertSqlSafe(statements(own).join(";"))).fetch_all(connection).await?;
    judged(rows.iter().find_map(|row| row.try_get("refused").ok()))
}

/// Does the same on a writing connection.
pub(super) async fn begin_writer(wire: &mut Wire, own: &[(&str, &str)]) -> Result<(), DbError> {
    let mut batch = Batch::new();
    for (number, statement) in statements(own).iter().map(String::as_str).chain([KEEP_ALIVE, ids::FORM]).enumerate() {
        batch.push_once(statement, number)?;
    }
    let (mut refused, mut form) = (None, None);
    let named = |rows: &[WireRow], name: &str| rows.iter().find_map(|row| row.opt_text(name).ok().flatten());
    let on_answer = |_, answered: Answered| {
        refused = refused.take().or_else(|| named(&answered.rows, "refused"));
        form = form.take().or_else(|| named(&answered.rows, "ids"));
    };
    wire.run(batch, on_answer).await?;
    wire.form = IdForm::answered(form.as_deref());
    Ok(judged(refused)?)
}

/// Queries the form of the ids on a connection of the driver.
pub(super) async fn id_form(connection: &mut PgConnection) -> Result<IdForm, sqlx::Error> {
    let row = sqlx::raw_sql(ids::FORM).fetch_optional(connection).await?;
    let form: Option<String> = row.map(|row| row.try_get("ids")).transpose()?;
    Ok(IdForm::answered(form.as_deref()))
}

fn judged(refused: Option<String>) -> Result<(), sqlx::Error> {
    match refused {
        Some(name) => Err(sqlx::Error::Configuration(
            format!("PostgreSQL does not accept the required value of the setting {name}").into(),
        )),
        None => Ok(()),
    }
}

fn statements(own: &[(&str, &str)]) -> [String; 5] {
    let (values, (class, object)) = (values(own), SUPPORTS_BOTH_FORMS);
    [
        // A pooler may have left another client's prepared statements with the names that are used here.
        "DEALLOCATE ALL".to_owned(),
        // A setting that this version of the server does not have is skipped.
        format!("SELECT set_config(name, value, false) FROM {values} WHERE current_setting(name, true) IS NOT NULL"),
        DURABLE.to_owned(),
        format!("SELECT name AS refused FROM {values} WHERE current_setting(name, true) <> value"),
        format!("SELECT pg_advisory_lock_shared({class}, {object})"),
    ]
}

fn values(own: &[(&str, &str)]) -> String {
    let rows: Vec<String> = ALWAYS.iter().chain(own).map(|(name, value)| format!("('{name}', '{value}')")).collect();
    format!("(VALUES {}) AS wanted (name, value)", rows.join(", "))
}

/// Opens a connection to get the reason why connections can't be used: the pool would only report a timeout.
pub(super) async fn probe(options: &PgConnectOptions, own: &[(&str, &str)], patience: Duration) -> Result<(), DbError> {
    timeout(patience, probed(options, own)).await.map_err(|_| DbError::no_answer_within(patience))?
}

async fn probed(options: &PgConnectOptions, own: &[(&str, &str)]) -> Result<(), DbError> {
    let mut connection = options.connect().await?;
    let encoding: String = sqlx::raw_sql(ENCODING).fetch_one(&mut connection).await?.try_get("encoding")?;
    if encoding != "UTF8" {
        return Err(DbError::Setup(format!(
            "the database has the encoding {encoding}, which can't store every name: \
             create it with ENCODING 'UTF8' TEMPLATE template0"
        )));
    }
    let mut other = options.connect().await?;
    let has_sessions = has_sessions(&mut connection, &mut other).await?;
    if !has_sessions {
        return Err(DbError::Setup(
            "a connection pooler changes the session with every transaction or statement, but prepared statements, \
             settings and LISTEN need a permanent session: use session pooling (in PgBouncer: pool_mode = session), or \
             connect to the server directly"
                .to_owned(),
        ));
    }
    begin(&mut connection, own).await?;
    other.close().await?;
    Ok(connection.close().await?)
}

/// Whether each connection has its own server process. With transaction pooling, two connections get the same process,
/// or one connection gets several.
async fn has_sessions(one: &mut PgConnection, other: &mut PgConnection) -> Result<bool, DbError> {
    let (mut pids_of_one, mut pids_of_other) = (Vec::new(), Vec::new());
    for _ in 0..POOLING_ROUNDS {
        pids_of_one.push(pid(one).await?);
        pids_of_other.push(pid(other).await?);
    }
    let is_one = |pids: &[String]| pids.iter().all(|pid| *pid == pids[0]);
    Ok(is_one(&pids_of_one) && is_one(&pids_of_other) && pids_of_one[0] != pids_of_other[0])
}

async fn pid(connection: &mut PgConnection) -> Result<String, DbError> {
    Ok(sqlx::raw_sql(PID).fetch_one(connection).await?.try_get("pid")?)
}

#[cfg(test)]
mod tests;
