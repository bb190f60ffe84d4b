//! Word of commits between the processes that share a database: PostgreSQL's `NOTIFY`, which reaches every listener in
//! the order of commits, and nobody when the transaction is rolled back. A SQLite file has one process, which needs none.

use sqlx::postgres::PgListener;

use super::{Args, Database, DbError, Rows, Tx};

const NOTIFY: &str = "SELECT pg_notify($1, payload) FROM {rows}";

/// What a process hears of a channel.
pub struct Notifications {
    listener: PgListener,
}

impl Database {
    /// Begins to listen to a channel, or `None` where no other process can write. It keeps one reading connection
    /// until it is dropped.
    pub async fn listen(&self, channel: &'static str) -> Result<Option<Notifications>, DbError> {
        let Self::Postgres(postgres) = self else { return Ok(None) };
        let mut listener = PgListener::connect_with(&postgres.readers).await?;
        listener.eager_reconnect(false);
        listener.listen(channel).await?;
        Ok(Some(Notifications { listener }))
    }
}

impl Notifications {
    /// Waits for the next payload. `None`, or an error, means that payloads may have been missed: listen again, and
    /// read the state anew.
    pub async fn next(&mut self) -> Result<Option<String>, DbError> {
        Ok(self.listener.try_recv().await?.map(|notification| notification.payload().to_owned()))
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
