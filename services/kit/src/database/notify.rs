//! Notifications of commits between the processes that share a database: PostgreSQL's `NOTIFY`. It reaches every
//! listener in the order of commits, and no listener if the transaction is rolled back. A SQLite file has only one
//! process, so it needs none.
//!
//! A connection that only listens can detect neither a dead server nor the delay of notifications. So the server is
//! queried every [`QUERY_INTERVAL`]. Its answer proves that all notifications of earlier commits were received.

use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::postgres::PgListener;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Args, Database, DbError, PING, Rows, Tx, connect, session};
use crate::time::{self, UnixMs};

const NOTIFY: &str = "SELECT pg_notify($1, payload) FROM {rows}";
/// The interval of queries, even if notifications arrive.
const QUERY_INTERVAL: Duration = Duration::from_millis(250);
/// How long an answer may take before the connection counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(3);

/// The notifications of a channel.
pub struct Notifications {
    listener: PgListener,
    /// When the next query is due.
    query_at: Instant,
    /// When the last answered query was sent, until that is reported.
    answered: Option<UnixMs>,
}

/// A received event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A payload.
    Payload(String),
    /// All payloads of commits before this moment, by the clock of this machine, were received.
    Complete(UnixMs),
}

impl Database {
    /// Listens to a channel; `None` if no other process can write. It has its own connection until it is dropped.
    pub fn listen(&self, channel: &'static str) -> BoxFuture<'_, Result<Option<Notifications>, DbError>> {
        Box::pin(async move {
            let Self::Postgres(postgres) = self else { return Ok(None) };
            // It uses no connection of the readers' pool: a hanging connection returns only when the operating system
            // detects it, after a quarter of an hour.
            let own = connect::pool(1, session::OF_READERS).max_lifetime(None).idle_timeout(None);
            let own = own.connect_lazy_with((*postgres.readers.connect_options()).clone());
            let mut listener = PgListener::connect_with(&own).await?;
            listener.eager_reconnect(false);
            listener.listen(channel).await?;
            Ok(Some(Notifications { listener, query_at: Instant::now() + QUERY_INTERVAL, answered: None }))
        })
    }
}

impl Notifications {
    /// Waits for the next payload, or the confirmation that all payloads up to a moment were received. After `None` or
    /// an error, payloads may have been missed: listen again, and read the state again.
    pub fn receive(&mut self) -> BoxFuture<'_, Result<Option<Received>, DbError>> {
        Box::pin(async move {
            loop {
                if let Some(moment) = self.answered {
                    // Payloads that came before the answer are returned first.
                    if let Some(before) = self.listener.next_buffered() {
                        return Ok(Some(Received::Payload(before.payload().to_owned())));
                    }
                    self.answered = None;
                    return Ok(Some(Received::Complete(moment)));
                }
                // Continuous payloads must not delay the query.
                if Instant::now() < self.query_at
                    && let Ok(received) = timeout_at(self.query_at, self.listener.try_recv()).await
                {
                    return Ok(received?.map(|notification| Received::Payload(notification.payload().to_owned())));
                }
                let queried_at = time::now();
                let answered = timeout(LOST_AFTER, sqlx::raw_sql(PING).execute(&mut self.listener)).await;
                answered.map_err(|_| DbError::no_answer_within(LOST_AFTER))??;
                (self.answered, self.query_at) = (Some(queried_at), Instant::now() + QUERY_INTERVAL);
            }
        })
    }
}

impl Tx {
    /// Notifies all listeners of a channel if this transaction commits; has no effect if no other process can listen.
    /// PostgreSQL rejects payloads of 8,000 bytes and more.
    pub fn notify(&mut self, channel: &'static str, payloads: Vec<String>) {
        if self.is_shared() {
            self.send(NOTIFY, Args::new().text(channel).rows(Rows::new().text("payload", payloads)));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{self, Backend};

    use super::*;

    /// The reported moment is that of the query, and continuous payloads do not delay the query.
    #[tokio::test]
    async fn the_server_is_queried_even_if_payloads_never_pause() {
        let test = testing::empty_database(Backend::Postgres).await;
        let mut notifications = test.database.listen("matricula_test").await.expect("it listens").expect("PostgreSQL");
        let database = test.database.clone();
        let notifying = tokio::spawn(async move {
            loop {
                let mut tx = database.write().await.expect("a transaction");
                tx.notify("matricula_test", vec!["a payload".to_owned()]);
                tx.commit().await.expect("committed");
            }
        });
        let receiving = async {
            let (mut payloads, mut moments) = (0, Vec::new());
            while moments.len() < 4 {
                match notifications.receive().await.expect("no error").expect("no end") {
                    Received::Payload(_) => payloads += 1,
                    Received::Complete(moment) => {
                        assert!(moment <= time::now() && moments.last().is_none_or(|before| *before < moment));
                        moments.push(moment);
                    }
                }
            }
            assert!(payloads > 0, "payloads are received too");
        };
        tokio::time::timeout(Duration::from_secs(30), receiving).await.expect("the server is queried");
        notifying.abort();
    }
}
