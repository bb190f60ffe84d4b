//! Sessions on PostgreSQL: what must be in force on each, and what a server must offer.
//!
//! A database, a user or a pooler can have defaults of its own. Those that would change what a statement means, or end
//! it halfway, are set when a connection is made; a connection whose settings are not in force is not used. This costs
//! one message a connection.
//!
//! Not set, on purpose: `default_transaction_read_only`, by which operators keep writers out; `search_path`, by which
//! they choose the schema; formats of dates and bytes, because only texts and integers are read and written;
//! `synchronous_commit`, unless it is `off`: the other values choose how far a standby must have come.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};
use tokio::time::timeout;

use super::DbError;
use super::ids::{self, IdForm};
use super::wire::{Answered, Batch, Wire, WireRow};

/// Settings that are in force on every connection.
///
/// First those that say what a statement means. Then bounds of time, which belong to this program: a commit that is
/// ended by the server halfway is in doubt. Then how statements are planned: all of them look up rows by key, some
/// hundred a batch, or go through a table in the order of its key. Pages out of order cost nothing, because those of a
/// registration morning are in memory. So a look-up by index is chosen for an empty table already, and the plan is kept
/// when the table fills in minutes. Compiling plans would cost more than running them. ADR 0024 has what each is worth.
const ALWAYS: [(&str, &str); 11] = [
    // With `off`, a backslash in a literal of a statement would begin an escape.
    ("standard_conforming_strings", "on"),
    ("client_encoding", "UTF8"),
    // Each statement sees what was committed before it began.
    ("default_transaction_isolation", "read committed"),
    // A conflict is an answer, not the end of the connection.
    ("exit_on_error", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("transaction_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("random_page_cost", "0"),
    ("jit", "off"),
    ("transform_null_equals", "off"),
];
/// Settings of the connections that read: their statements are few, so each is planned when it is run.
pub(super) const OF_READERS: &[(&str, &str)] =
    &[("plan_cache_mode", "force_custom_plan"), ("idle_in_transaction_session_timeout", "0")];
/// Settings of the connections that write: their plans are kept, because planning a statement for each batch takes
/// longer than running it.
///
/// A process that was stopped in the middle of a transaction keeps its locks: what waits for them would wait until it
/// is continued. No writer is idle between two statements for as long as that timeout, and a lease lapses later.
pub(super) const OF_WRITERS: &[(&str, &str)] =
    &[("plan_cache_mode", "force_generic_plan"), ("idle_in_transaction_session_timeout", "4s")];
/// How often each of two connections is asked for the process of the server that is behind it.
const POOLING_ROUNDS: usize = 3;
const PID: &str = "SELECT pg_backend_pid()::text AS pid";
const ENCODING: &str = "SELECT current_setting('server_encoding') AS encoding";
const DURABLE: &str =
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// The server runs the statements of a batch as they arrive: when the network is lost in the middle of one, it looks
/// after half a minute whether its client is still there, and ends what is open. Over a socket of the machine these have
/// no effect.
const KEEP_ALIVE: &str = "SELECT set_config('tcp_keepalives_idle', '10', false), \
     set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '4', false)";

/// What every session holds while it lasts: a conversion of ids sees by it which sessions know both forms.
pub(super) const KNOWS_BOTH_FORMS: (i32, i32) = (1_296_127_049, 1);

/// Sets what must be in force on a new connection of the driver, and checks that it is.
pub(super) async fn begin(connection: &mut PgConnection, own: &[(&str, &str)]) -> Result<(), sqlx::Error> {
    // The text is made of constants.
    let rows = sqlx::raw_sql(AssertSqlSafe(statements(own).join(";"))).fetch_all(connection).await?;
    judged(rows.iter().find_map(|row| row.try_get("refused").ok()))
}

/// The same on a connection that writes.
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

/// Asks on a connection of the driver's how the database has its ids.
pub(super) async fn id_form(connection: &mut PgConnection) -> Result<IdForm, sqlx::Error> {
    let row = sqlx::raw_sql(ids::FORM).fetch_optional(connection).await?;
    let form: Option<String> = row.map(|row| row.try_get("ids")).transpose()?;
    Ok(IdForm::answered(form.as_deref()))
}

fn judged(refused: Option<String>) -> Result<(), sqlx::Error> {
    match refused {
        Some(name) => Err(sqlx::Error::Configuration(format!("PostgreSQL does not take our value of {name}").into())),
        None => Ok(()),
    }
}

fn statements(own: &[(&str, &str)]) -> [String; 5] {
    let (values, (class, object)) = (values(own), KNOWS_BOTH_FORMS);
    [
        // A pooler may have left prepared statements of another client, with the names that are used here.
        "DEALLOCATE ALL".to_owned(),
        // A setting that this version of the server does not have is left out.
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

/// Connects for a moment, for the reason why no connection can be used: the pool would only say that its time is up.
pub(super) async fn probe(options: &PgConnectOptions, own: &[(&str, &str)], patience: Duration) -> Result<(), DbError> {
    timeout(patience, probed(options, own)).await.map_err(|_| DbError::no_answer_within(patience))?
}

async fn probed(options: &PgConnectOptions, own: &[(&str, &str)]) -> Result<(), DbError> {
    let mut connection = options.connect().await?;
    let encoding: String = sqlx::raw_sql(ENCODING).fetch_one(&mut connection).await?.try_get("encoding")?;
    if encoding != "UTF8" {
        return Err(DbError::Setup(format!(
            "the database has the encoding {encoding}, in which not every name can be stored: \
             create it with ENCODING 'UTF8' TEMPLATE template0"
        )));
    }
    let mut other = options.connect().await?;
    let has_sessions = has_sessions(&mut connection, &mut other).await?;
    if !has_sessions {
        return Err(DbError::Setup(
            "a connection pooler is in between that gives every transaction or statement another session; prepared \
             statements, settings and LISTEN need a session of their own: use session pooling (in PgBouncer: \
             pool_mode = session), or connect to the server itself"
                .to_owned(),
        ));
    }
    begin(&mut connection, own).await?;
    other.close().await?;
    Ok(connection.close().await?)
}

/// Whether each connection has a process of the server to itself for as long as it lasts. A pooler that lends processes
/// for a transaction gives two connections the same one, or one connection several.
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
