//! A transaction, and the few messages that it takes.
//!
//! What is asked is collected, and sent when somebody wants the first of its rows; what is posted waits for the next such
//! message, or for the commit. So a batch that reads five tables and writes three is two messages and two answers, and
//! between them no process waits for the other.

use sqlx::AssertSqlSafe;
use tokio::time::timeout;

use super::ANSWER_MAX;
use super::args::Args;
use super::error::{CommitError, DbError};
use super::row::Row;
use super::script::{self, Answer, Ending, Statement};
use super::snapshot::Snapshot;
use super::statement;
use super::writers::Lent;

/// A transaction. Dropped without [`Tx::commit`], it is rolled back. PostgreSQL has 15 s to answer each message: who waits for
/// longer waits for a way that is gone, and would wait until the system gives it up.
pub struct Tx {
    way: Way,
    /// Not sent yet.
    unsent: Vec<Statement>,
    /// By number of the statement; those that are sent have one, until it is taken.
    answers: Vec<Option<Answer>>,
}

pub(super) enum Way {
    Sqlite(Lent<sqlx::Sqlite>),
    Postgres(Lent<sqlx::Postgres>),
    SqliteSnapshot(Snapshot<sqlx::Sqlite>),
    PostgresSnapshot(Snapshot<sqlx::Postgres>),
}

/// A statement whose rows are to be had from the transaction that was asked.
#[must_use = "a statement that nobody needs an answer of is posted"]
pub struct Asked(usize);

impl Tx {
    pub(super) fn new(way: Way) -> Self {
        Self { way, unsent: Vec::new(), answers: Vec::new() }
    }

    /// Asks for rows. Statements take effect in the order in which they are asked and posted, each on what the ones before
    /// it have done and others have committed until then.
    pub fn ask(&mut self, sql: &'static str, args: Args) -> Asked {
        let number = self.answers.len();
        if args.is_no_rows() {
            self.answers.push(Some(Answer::default()));
        } else {
            self.answers.push(None);
            self.unsent.push(Statement { sql, args, number });
        }
        Asked(number)
    }

    /// The rows of what was asked.
    pub async fn rows(&mut self, asked: Asked) -> Result<Vec<Row>, DbError> {
        Ok(self.answer(asked).await?.rows)
    }

    /// Has a statement run whose answer nobody needs: with the next that is sent, or with the commit, which fails if it
    /// fails.
    pub fn post(&mut self, sql: &'static str, args: Args) {
        let Asked(_) = self.ask(sql, args);
    }

    /// Runs a statement and returns how many rows it changed.
    pub async fn execute(&mut self, sql: &'static str, args: Args) -> Result<u64, DbError> {
        let asked = self.ask(sql, args);
        Ok(self.answer(asked).await?.rows_changed)
    }

    /// Runs a statement and returns its rows.
    pub async fn fetch(&mut self, sql: &'static str, args: Args) -> Result<Vec<Row>, DbError> {
        let asked = self.ask(sql, args);
        self.rows(asked).await
    }

    /// Sends what is not sent yet, and commits. After an error it is not known whether the transaction took effect.
    pub async fn commit(self) -> Result<(), DbError> {
        Ok(self.conclude().await?)
    }

    /// The same, for who must know whether a transaction that failed may have taken effect.
    pub async fn conclude(mut self) -> Result<(), CommitError> {
        self.send(Ending::Commit).await?;
        match self.way {
            // It was sent with the statements.
            Way::Sqlite(_) | Way::Postgres(_) => Ok(()),
            Way::SqliteSnapshot(snapshot) => snapshot.end().await.map_err(CommitError::InDoubt),
            Way::PostgresSnapshot(snapshot) => snapshot.end().await.map_err(CommitError::InDoubt),
        }
    }

    /// Begins now, instead of with the first that is sent.
    pub(super) async fn begin(&mut self) -> Result<(), DbError> {
        Ok(self.send(Ending::Open).await?)
    }

    async fn answer(&mut self, asked: Asked) -> Result<Answer, DbError> {
        if self.answers[asked.0].is_none() {
            self.send(Ending::Open).await?;
        }
        // It is taken once: who was asked is gone with it.
        Ok(self.answers[asked.0].take().unwrap_or_default())
    }

    async fn send(&mut self, ending: Ending) -> Result<(), CommitError> {
        let statements = std::mem::take(&mut self.unsent);
        match &mut self.way {
            Way::Sqlite(lent) => script::on_sqlite(lent, statements, ending, &mut self.answers).await,
            Way::Postgres(lent) => {
                let answered = script::on_postgres(lent, statements, ending, &mut self.answers);
                timeout(ANSWER_MAX, answered).await.unwrap_or_else(|_| {
                    let error = DbError::no_answer_within(ANSWER_MAX);
                    Err(match ending {
                        Ending::Open => CommitError::NotDone(error),
                        Ending::Commit => CommitError::InDoubt(error),
                    })
                })
            }
            Way::SqliteSnapshot(snapshot) => {
                for Statement { sql, args, number } in statements {
                    let query = statement::sqlite(sql, args).map_err(CommitError::NotDone)?;
                    let rows = snapshot.run(|connection| Box::pin(query.fetch_all(connection))).await;
                    let rows = rows.map_err(CommitError::NotDone)?.into_iter();
                    self.answers[number] = Some(Answer::of_rows(rows.map(Row::Sqlite)));
                }
                Ok(())
            }
            Way::PostgresSnapshot(snapshot) => {
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

    /// Changes a table. What was asked and posted before is sent first.
    pub(super) async fn alter(&mut self, sql: String) -> Result<(), DbError> {
        self.send(Ending::Open).await?;
        if let Way::Postgres(lent) = &mut self.way {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *lent.link().connection).await?;
        }
        Ok(())
    }

    /// Whether other processes may share the database.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.way, Way::Postgres(_) | Way::PostgresSnapshot(_))
    }
}
