//! Word of commits between the processes that share a database: PostgreSQL's `NOTIFY`, which reaches every listener in
//! the order of commits, and nobody when the transaction is rolled back. A SQLite file has one process, which needs
//! none.
//!
//! A connection that only listens cannot detect that the server is gone, or how much of what was committed is still on
//! its way. So the server is asked every [`ASK_EVERY`], and its answer proves that all that was committed before the
//! question has been heard.

use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Args, Database, DbError, PING, Rows, Tx, session};
use crate::time::{self, UnixMs};

const NOTIFY: &str = "SELECT pg_notify($1, payload) FROM {rows}";
/// How often the server is asked, however much is heard.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// How long it may take to answer before its connection counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(3);

/// What a process hears of a channel.
pub struct Notifications {
    listener: PgListener,
    /// When the server is asked next.
    ask_at: Instant,
    /// When the last question that was answered was sent, until that is reported.
    answered: Option<UnixMs>,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A payload.
    Payload(String),
    /// Every payload of what was committed before this moment, by the clock of this machine, has been heard.
    Complete(UnixMs),
}

impl Database {
    /// Begins to listen to a channel, or `None` where no other process can write. It has a connection of its own until
    /// it is dropped.
    pub fn listen(&self, channel: &'static str) -> BoxFuture<'_, Result<Option<Notifications>, DbError>> {
        Box::pin(async move {
            let Self::Postgres(postgres) = self else { return Ok(None) };
            // Not one of the readers: a connection that hangs comes back only when the system gives it up, a quarter of an
            // hour later.
            let patience = postgres.readers.options().get_acquire_timeout();
            let own =
                PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None).acquire_timeout(patience);
            let own = own.after_connect(|connection, _| Box::pin(session::begin(connection, session::OF_READERS)));
            let own = own.connect_lazy_with((*postgres.readers.connect_options()).clone());
            let mut listener = PgListener::connect_with(&own).await?;
            listener.eager_reconnect(false);
            listener.listen(channel).await?;
            Ok(Some(Notifications { listener, ask_at: Instant::now() + ASK_EVERY, answered: None }))
        })
    }
}

impl Notifications {
    /// Waits for the next payload, or for the certainty that all of a moment have been heard. `None`, or an error,
    /// means that payloads may have been missed: listen again, and read the state anew.
    pub fn next(&mut self) -> BoxFuture<'_, Result<Option<Heard>, DbError>> {
        Box::pin(async move {
            loop {
                if let Some(moment) = self.answered {
                    // What came before the answer is heard before it.
                    if let Some(before) = self.listener.next_buffered() {
                        return Ok(Some(Heard::Payload(before.payload().to_owned())));
                    }
                    self.answered = None;
                    return Ok(Some(Heard::Complete(moment)));
                }
                // Payloads that come without a pause must not put the question off.
                if Instant::now() < self.ask_at
                    && let Ok(heard) = timeout_at(self.ask_at, self.listener.try_recv()).await
                {
                    return Ok(heard?.map(|notification| Heard::Payload(notification.payload().to_owned())));
                }
                let asked_at = time::now();
                let answered = timeout(LOST_AFTER, sqlx::raw_sql(PING).execute(&mut self.listener)).await;
                answered.map_err(|_| DbError::no_answer_within(LOST_AFTER))??;
                (self.answered, self.ask_at) = (Some(asked_at), Instant::now() + ASK_EVERY);
            }
        })
    }
}

impl Tx {
    /// Tells every listener of a channel, when and if this transaction commits; nothing where nobody else can listen.
    /// PostgreSQL refuses payloads of 8,000 bytes and more.
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

    /// The moment is that of the question, and payloads that come without a pause do not put the question off.
    #[tokio::test]
    async fn the_server_is_asked_though_payloads_never_pause() {
        let test = testing::empty_database(Backend::Postgres).await;
        let mut notifications = test.database.listen("matricula_test").await.expect("it listens").expect("PostgreSQL");
        let database = test.database.clone();
        let telling = tokio::spawn(async move {
            loop {
                let mut tx = database.write().await.expect("a transaction");
                tx.notify("matricula_test", vec!["told".to_owned()]);
                tx.commit().await.expect("committed");
            }
        });
        let hearing = async {
            let (mut payloads, mut moments) = (0, Vec::new());
            while moments.len() < 4 {
                match notifications.next().await.expect("no error").expect("no end") {
                    Heard::Payload(_) => payloads += 1,
                    Heard::Complete(moment) => {
                        assert!(moment <= time::now() && moments.last().is_none_or(|before| *before < moment));
                        moments.push(moment);
                    }
                }
            }
            assert!(payloads > 0, "payloads are heard too");
        };
        tokio::time::timeout(Duration::from_secs(30), hearing).await.expect("the server is asked");
        telling.abort();
    }
}
