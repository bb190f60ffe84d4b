//! A transaction that needs few messages.
//!
//! A query is queued, and sent when the caller needs its rows. A statement whose answer is not needed waits for the
//! next message, or for the commit. So a batch that reads five tables and writes three takes two messages and two
//! answers.
//!
//! On PostgreSQL a message refers to each statement by its name on the connection, and contains its values (`wire`). On
//! SQLite the driver prepares the combined text of several statements, and binds their arguments. Each statement sees
//! what was committed before it began, as if it had been sent alone.

use futures::TryStreamExt as _;
use futures::future::BoxFuture;
use sqlx::{AssertSqlSafe, Either, Executor as _, SqlitePool};
use tokio::time::timeout;

use super::ANSWER_MAX;
use super::error::{CommitError, DbError};
use super::login::Login;
use super::pool::{PooledConnection, State};
use super::snapshot::{PostgresSnapshot, Snapshot};
use super::statement::{self, Args, Dialect, Row};
use super::wire::{Answered, Batch, Wire};

/// A transaction. It is rolled back when it is dropped without [`Tx::commit`]. PostgreSQL must answer each message
/// within 15 s; otherwise the connection counts as lost.
pub struct Tx {
    backend: Backend,
    /// The statements that are not sent yet.
    unsent: Vec<Statement>,
    /// The answers, by number of the statement; an answer is removed when it is read.
    answers: Vec<Option<Answer>>,
}

pub(super) enum Backend {
    Sqlite(PooledConnection<SqlitePool>),
    Postgres(PooledConnection<Login>),
    SqliteSnapshot(Snapshot<sqlx::Sqlite>),
    PostgresSnapshot(PostgresSnapshot),
}

/// A queued query, whose rows can be read from its transaction.
#[must_use = "use `send` for a statement whose answer is not needed"]
pub struct PendingQuery(usize);

/// The answers of a committed transaction.
pub struct Answers(Vec<Option<Answer>>);

impl Answers {
    /// The rows of a query.
    pub fn rows(&mut self, pending: PendingQuery) -> Vec<Row> {
        // Each answer is read once, because this consumes the query.
        self.0[pending.0].take().unwrap_or_default().rows
    }
}

impl Tx {
    pub(super) fn new(backend: Backend) -> Self {
        Self { backend, unsent: Vec::new(), answers: Vec::new() }
    }

    /// Queues a query. Statements run in the order in which they are queued and sent. Each sees the effects of those
    /// before it, and everything that was committed before it ran.
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
    pub fn rows(&mut self, pending: PendingQuery) -> BoxFuture<'_, Result<Vec<Row>, DbError>> {
        Box::pin(async move { Ok(self.answer(pending).await?.rows) })
    }

    /// Queues a statement whose answer is not needed. It runs with the next message or with the commit, which fails if
    /// the statement fails.
    pub fn send(&mut self, sql: &'static str, args: Args) {
        let PendingQuery(_) = self.queue(sql, args);
    }

    /// Runs a statement and returns how many rows it changed.
    pub fn execute(&mut self, sql: &'static str, args: Args) -> BoxFuture<'_, Result<u64, DbError>> {
        Box::pin(async move {
            let pending = self.queue(sql, args);
            Ok(self.answer(pending).await?.rows_changed)
        })
    }

    /// Runs a statement and returns its rows.
    pub fn fetch(&mut self, sql: &'static str, args: Args) -> BoxFuture<'_, Result<Vec<Row>, DbError>> {
        Box::pin(async move {
            let pending = self.queue(sql, args);
            self.rows(pending).await
        })
    }

    /// Sends the queued statements and commits. After an error it is unknown whether the transaction took effect.
    pub fn commit(self) -> BoxFuture<'static, Result<(), DbError>> {
        Box::pin(async move { Ok(self.commit_checked().await?) })
    }

    /// Like [`Self::commit`]; the error says whether a failed transaction may have taken effect.
    pub fn commit_checked(self) -> BoxFuture<'static, Result<(), CommitError>> {
        Box::pin(async move { self.commit_answered().await.map(drop) })
    }

    /// Sends the queued statements and the commit in one message, and returns the answers. Such a transaction holds its
    /// locks only while the server runs it, even if this process is suspended meanwhile.
    pub fn commit_answered(mut self) -> BoxFuture<'static, Result<Answers, CommitError>> {
        Box::pin(async move {
            self.flush(Ending::Commit).await?;
            match self.backend {
                // It was sent with the statements.
                Backend::Sqlite(_) | Backend::Postgres(_) => {}
                Backend::SqliteSnapshot(snapshot) => snapshot.end().await.map_err(CommitError::InDoubt)?,
                Backend::PostgresSnapshot(PostgresSnapshot { snapshot, .. }) => {
                    snapshot.end().await.map_err(CommitError::InDoubt)?;
                }
            }
            Ok(Answers(self.answers))
        })
    }

    /// Begins now, instead of with the first message.
    pub(super) async fn begin(&mut self) -> Result<(), DbError> {
        Ok(self.flush(Ending::Open).await?)
    }

    async fn answer(&mut self, pending: PendingQuery) -> Result<Answer, DbError> {
        if self.answers[pending.0].is_none() {
            self.flush(Ending::Open).await?;
        }
        // Each answer is read once, because this consumes the query.
        Ok(self.answers[pending.0].take().unwrap_or_default())
    }

    async fn flush(&mut self, ending: Ending) -> Result<(), CommitError> {
        let statements = std::mem::take(&mut self.unsent);
        match &mut self.backend {
            Backend::Sqlite(pooled) => on_sqlite(pooled, statements, ending, &mut self.answers).await,
            Backend::Postgres(pooled) => {
                let answered = on_postgres(pooled, statements, ending, &mut self.answers);
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
                    self.answers[number] = Some(Answer::of_rows(rows));
                }
                Ok(())
            }
            Backend::PostgresSnapshot(snapshot) => {
                for Statement { sql, args, number } in statements {
                    let rows = snapshot.fetch(sql, args).await.map_err(CommitError::NotDone)?;
                    self.answers[number] = Some(Answer::of_rows(rows.into_iter()));
                }
                Ok(())
            }
        }
    }

    /// Changes a table. Queued statements are sent first.
    pub(super) async fn alter(&mut self, sql: String) -> Result<(), DbError> {
        self.flush(Ending::Open).await?;
        if let Backend::Postgres(pooled) = &mut self.backend {
            let mut batch = Batch::new();
            batch.push_once(&sql, 0)?;
            pooled.connection().run(batch, |_, _| {}).await?;
        }
        Ok(())
    }

    /// Whether other processes may share the database.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.backend, Backend::Postgres(_) | Backend::PostgresSnapshot(_))
    }
}

/// A statement to send.
struct Statement {
    sql: &'static str,
    args: Args,
    /// The number of its answer.
    number: usize,
}

/// The answer to a statement.
#[derive(Default)]
struct Answer {
    rows: Vec<Row>,
    rows_changed: u64,
}

/// What follows the statements in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// More statements of the transaction follow later.
    Open,
    /// The commit.
    Commit,
}

impl Answer {
    fn of_rows(rows: impl Iterator<Item = impl Into<Row>>) -> Self {
        Self { rows: rows.map(Into::into).collect(), rows_changed: 0 }
    }
}

/// The parts of a combined text in order, each with the number of its answer, if it is needed.
#[derive(Default)]
struct Parts {
    of: Vec<Option<usize>>,
    ended: usize,
    rows: Vec<Row>,
}

impl Parts {
    /// Assigns an answer of the database to its statement.
    fn take(&mut self, rows_changed: u64, answers: &mut [Option<Answer>]) {
        let rows = std::mem::take(&mut self.rows);
        if let Some(Some(number)) = self.of.get(self.ended) {
            answers[*number] = Some(Answer { rows, rows_changed });
        }
        self.ended += 1;
    }

    /// Whether the error occurred before the last part.
    fn failed_before_last(&self) -> bool {
        self.ended + 1 < self.of.len()
    }
}

/// The effect of an error on the transaction. If the database reports an error of a statement before the commit, the
/// commit was not run. After any other error the result is unknown.
fn failed(error: sqlx::Error, parts: &Parts, ending: Ending) -> CommitError {
    let is_of_statement = matches!(error, sqlx::Error::Database(_)) && parts.failed_before_last();
    match ending {
        Ending::Commit if !is_of_statement => CommitError::InDoubt(error.into()),
        Ending::Commit | Ending::Open => CommitError::NotDone(error.into()),
    }
}

async fn on_sqlite(
    pooled: &mut PooledConnection<SqlitePool>,
    statements: Vec<Statement>,
    ending: Ending,
    answers: &mut [Option<Answer>],
) -> Result<(), CommitError> {
    let (mut text, mut parts, mut arguments) = (String::new(), Parts::default(), Vec::new());
    let begins = pooled.state == State::Ready;
    if begins {
        text.push_str("BEGIN IMMEDIATE;");
        parts.of.push(None);
    }
    let mut bound = 0;
    for Statement { sql, args, number } in statements {
        text.push_str(&statement::expanded(Dialect::Sqlite, sql, &args, bound).text);
        text.push(';');
        parts.of.push(Some(number));
        bound += args.scalars.len() + usize::from(args.rows.is_some());
        arguments.push(args);
    }
    if ending == Ending::Commit {
        text.push_str("COMMIT");
        parts.of.push(None);
    }
    if parts.of.is_empty() {
        return Ok(());
    }
    let mut query = sqlx::query(AssertSqlSafe(text));
    for args in arguments {
        query = statement::bound_to_sqlite(query, args).map_err(CommitError::NotDone)?;
    }
    pooled.state = State::Unknown;
    let mut stream = pooled.connection().0.fetch_many(query);
    loop {
        match stream.try_next().await {
            Ok(Some(Either::Right(row))) => parts.rows.push(row.into()),
            Ok(Some(Either::Left(done))) => parts.take(done.rows_affected(), answers),
            Ok(None) => break,
            Err(error) => {
                drop(stream);
                // The transaction did not begin, so there is nothing to roll back.
                if begins && parts.ended == 0 {
                    pooled.state = State::Ready;
                }
                return Err(failed(error, &parts, ending));
            }
        }
    }
    drop(stream);
    pooled.state = after(ending);
    Ok(())
}

async fn on_postgres(
    pooled: &mut PooledConnection<Login>,
    statements: Vec<Statement>,
    ending: Ending,
    answers: &mut [Option<Answer>],
) -> Result<(), CommitError> {
    let begins = pooled.state == State::Ready;
    let wire = pooled.connection();
    let batch = batch(wire, begins, &statements, ending).map_err(CommitError::NotDone)?;
    if batch.is_empty() {
        return Ok(());
    }
    pooled.state = State::Unknown;
    let on_answer = |number: usize, Answered { rows, rows_changed }| {
        answers[number] = Some(Answer { rows_changed, ..Answer::of_rows(rows.into_iter()) });
    };
    match pooled.connection().run(batch, on_answer).await {
        Ok(()) => {
            pooled.state = after(ending);
            Ok(())
        }
        Err(failed) => {
            if failed.is_outdated {
                // Idle connections have the old form of the ids too.
                pooled.pool.close_idle();
            }
            Err(match ending {
                Ending::Commit if !failed.is_before_last => CommitError::InDoubt(failed.into()),
                Ending::Commit | Ending::Open => CommitError::NotDone(failed.into()),
            })
        }
    }
}

fn batch(wire: &Wire, begins: bool, statements: &[Statement], ending: Ending) -> Result<Batch, DbError> {
    let mut batch = Batch::new();
    if begins {
        batch.begin(wire)?;
    }
    for Statement { sql, args, number } in statements {
        batch.push(wire, sql, args, Some(*number))?;
    }
    if ending == Ending::Commit {
        batch.commit(wire)?;
    }
    Ok(batch)
}

fn after(ending: Ending) -> State {
    match ending {
        Ending::Open => State::Open,
        Ending::Commit => State::Ready,
    }
}

#[cfg(test)]
mod tests;
