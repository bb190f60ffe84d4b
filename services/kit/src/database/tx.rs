//! A transaction, and the few messages that it takes.
//!
//! A query is queued, and goes out when its caller wants the first of its rows. A statement without an answer waits for
//! the next such message, or for the commit. So a batch that reads five tables and writes three is two messages and two
//! answers, and between them no process waits for the other.

use sqlx::AssertSqlSafe;
use tokio::time::timeout;

use super::ANSWER_MAX;
use super::args::Args;
use super::error::{CommitError, DbError};
use super::pool::PooledConnection;
use super::row::Row;
use super::script::{self, Answer, Ending, Statement};
use super::snapshot::Snapshot;
use super::statement;

/// A transaction. Dropped without [`Tx::commit`], it is rolled back. PostgreSQL has 15 s to answer each message: a
/// process that waits for longer waits on a connection that is gone, until the system gives it up.
pub struct Tx {
    backend: Backend,
    /// Not sent yet.
    unsent: Vec<Statement>,
    /// By number of the statement; those that are sent have one, until it is taken.
    answers: Vec<Option<Answer>>,
}

pub(super) enum Backend {
    Sqlite(PooledConnection<sqlx::Sqlite>),
    Postgres(PooledConnection<sqlx::Postgres>),
    SqliteSnapshot(Snapshot<sqlx::Sqlite>),
    PostgresSnapshot(Snapshot<sqlx::Postgres>),
}

/// A query of a transaction whose rows can be read from that transaction.
#[must_use = "a statement whose answer is not needed is given to `send`"]
pub struct PendingQuery(usize);

/// The answers of a transaction that was committed.
pub struct Answers(Vec<Option<Answer>>);

impl Answers {
    /// The rows of a query.
    pub fn rows(&mut self, pending: PendingQuery) -> Vec<Row> {
        // It is taken once: the query is consumed with it.
        self.0[pending.0].take().unwrap_or_default().rows
    }
}

impl Tx {
    pub(super) fn new(backend: Backend) -> Self {
        Self { backend, unsent: Vec::new(), answers: Vec::new() }
    }

    /// Queues a query. Statements take effect in the order in which they are queued and sent, each on what the ones
    /// before it have done and other transactions have committed until then.
    pub fn queue(&mut self, sql: &'static str, args: Args) -> PendingQuery {
        let number = self.answers.len();
        if args.is_no_rows() {
            self.answers.push(Some(Answer::default()));
        } else {
            self.answers.push(None);
            self.unsent.push(Statement { sql, args, number });
        }
        PendingQuery(number)
    }

    /// The rows of a query.
    pub async fn rows(&mut self, pending: PendingQuery) -> Result<Vec<Row>, DbError> {
        Ok(self.answer(pending).await?.rows)
    }

    /// Sends a statement whose answer is not needed: in the next message, or with the commit, which fails if it fails.
    pub fn send(&mut self, sql: &'static str, args: Args) {
        let PendingQuery(_) = self.queue(sql, args);
    }

    /// Runs a statement and returns how many rows it changed.
    pub async fn execute(&mut self, sql: &'static str, args: Args) -> Result<u64, DbError> {
        let pending = self.queue(sql, args);
        Ok(self.answer(pending).await?.rows_changed)
    }

    /// Runs a statement and returns its rows.
    pub async fn fetch(&mut self, sql: &'static str, args: Args) -> Result<Vec<Row>, DbError> {
        let pending = self.queue(sql, args);
        self.rows(pending).await
    }

    /// Sends what is not sent yet, and commits. After an error it is not known whether the transaction took effect.
    pub async fn commit(self) -> Result<(), DbError> {
        Ok(self.commit_checked().await?)
    }

    /// The same; the error says whether a transaction that failed may have taken effect.
    pub async fn commit_checked(self) -> Result<(), CommitError> {
        self.commit_answered().await.map(drop)
    }

    /// Sends what is queued and the commit in one message, and returns the answers. A transaction that is sent as a
    /// whole holds its locks for no longer than the server needs for it: a client that is stopped in the middle of it
    /// holds none.
    pub async fn commit_answered(mut self) -> Result<Answers, CommitError> {
        self.flush(Ending::Commit).await?;
        match self.backend {
            // It was sent with the statements.
            Backend::Sqlite(_) | Backend::Postgres(_) => {}
            Backend::SqliteSnapshot(snapshot) => snapshot.end().await.map_err(CommitError::InDoubt)?,
            Backend::PostgresSnapshot(snapshot) => snapshot.end().await.map_err(CommitError::InDoubt)?,
        }
        Ok(Answers(self.answers))
    }

    /// Begins now, instead of with the first that is sent.
    pub(super) async fn begin(&mut self) -> Result<(), DbError> {
        Ok(self.flush(Ending::Open).await?)
    }

    async fn answer(&mut self, pending: PendingQuery) -> Result<Answer, DbError> {
        if self.answers[pending.0].is_none() {
            self.flush(Ending::Open).await?;
        }
        // It is taken once: the query is consumed with it.
        Ok(self.answers[pending.0].take().unwrap_or_default())
    }

    async fn flush(&mut self, ending: Ending) -> Result<(), CommitError> {
        let statements = std::mem::take(&mut self.unsent);
        match &mut self.backend {
            Backend::Sqlite(pooled) => script::on_sqlite(pooled, statements, ending, &mut self.answers).await,
            Backend::Postgres(pooled) => {
                let answered = script::on_postgres(pooled, statements, ending, &mut self.answers);
                timeout(ANSWER_MAX, answered).await.unwrap_or_else(|_| {
                    let error = DbError::no_answer_within(ANSWER_MAX);
                    Err(match ending {
                        Ending::Open => CommitError::NotDone(error),
                        Ending::Commit => CommitError::InDoubt(error),
                    })
                })
            }
            Backend::SqliteSnapshot(snapshot) => {
                for Statement { sql, args, number } in statements {
                    let query = statement::sqlite(sql, args).map_err(CommitError::NotDone)?;
                    let rows = snapshot.run(|connection| Box::pin(query.fetch_all(connection))).await;
                    let rows = rows.map_err(CommitError::NotDone)?.into_iter();
                    self.answers[number] = Some(Answer::of_rows(rows.map(Row::Sqlite)));
                }
                Ok(())
            }
            Backend::PostgresSnapshot(snapshot) => {
                for Statement { sql, args, number } in statements {
                    let query = statement::postgres(sql, args);
                    let rows = snapshot.run(|connection| Box::pin(query.fetch_all(connection))).await;
                    let rows = rows.map_err(CommitError::NotDone)?.into_iter();
                    self.answers[number] = Some(Answer::of_rows(rows.map(Row::Postgres)));
                }
                Ok(())
            }
        }
    }

    /// Changes a table. What was queued and sent before goes out first.
    pub(super) async fn alter(&mut self, sql: String) -> Result<(), DbError> {
        self.flush(Ending::Open).await?;
        if let Backend::Postgres(pooled) = &mut self.backend {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *pooled.connection().inner).await?;
        }
        Ok(())
    }

    /// Whether other processes may share the database.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.backend, Backend::Postgres(_) | Backend::PostgresSnapshot(_))
    }
}
