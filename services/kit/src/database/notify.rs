//! Word of commits between the processes that share a database: PostgreSQL's `NOTIFY`, which reaches every listener in
//! the order of commits, and nobody when the transaction is rolled back. A SQLite file has one process, which needs none.
//!
//! Who only listens never learns that the way to the server is gone: nothing is what it expects. So a connection on which
//! nothing comes is asked whether it is there, and its answer says that all that was committed before has been heard.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::timeout;

use super::{Args, Database, DbError, PING, Rows, Tx};

const NOTIFY: &str = "SELECT pg_notify($1, payload) FROM {rows}";
/// How long nothing comes before the server is asked.
const SILENCE: Duration = Duration::from_millis(250);
/// How long it may take to answer before its connection counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(3);

/// What a process hears of a channel.
pub struct Notifications {
    listener: PgListener,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A payload.
    Payload(String),
    /// Nothing for a quarter of a second, and every payload of what was committed until then has been heard.
    Silence,
}

impl Database {
    /// Begins to listen to a channel, or `None` where no other process can write. It has a connection of its own until it is
    /// dropped.
    pub async fn listen(&self, channel: &'static str) -> Result<Option<Notifications>, DbError> {
        let Self::Postgres(postgres) = self else { return Ok(None) };
        // Not one of the readers: a connection that hangs comes back only when the system gives it up, a quarter of an hour later.
        let patience = postgres.readers.options().get_acquire_timeout();
        let own =
            PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None).acquire_timeout(patience);
        let own = own.connect_lazy_with((*postgres.readers.connect_options()).clone());
        let mut listener = PgListener::connect_with(&own).await?;
        listener.eager_reconnect(false);
        listener.listen(channel).await?;
        Ok(Some(Notifications { listener }))
    }
}

impl Notifications {
    /// Waits for the next payload, or for the certainty that there was none. `None`, or an error, means that payloads may have
    /// been missed: listen again, and read the state anew.
    pub async fn next(&mut self) -> Result<Option<Heard>, DbError> {
        let heard = match timeout(SILENCE, self.listener.try_recv()).await {
            Ok(heard) => heard?,
            Err(_silent) => {
                let answered = timeout(LOST_AFTER, sqlx::raw_sql(PING).execute(&mut self.listener)).await;
                answered.map_err(|_| DbError::no_answer_within(LOST_AFTER))??;
                // What came before the answer is heard before it.
                let Some(before) = self.listener.next_buffered() else { return Ok(Some(Heard::Silence)) };
                Some(before)
            }
        };
        Ok(heard.map(|notification| Heard::Payload(notification.payload().to_owned())))
    }
}

impl Tx {
    /// Tells every listener of a channel, when and if this transaction commits; nothing where nobody else can listen.
    /// PostgreSQL refuses payloads of 8,000 bytes and more.
    pub fn notify(&mut self, channel: &'static str, payloads: Vec<String>) {
        if self.is_shared() {
            self.post(NOTIFY, Args::new().text(channel).rows(Rows::new().text("payload", payloads)));
        }
    }
}
