//! The only SQL of the bench: one table of sections and one of holds, with the statements of each design.
//!
//! The schema does not enforce `taken <= capacity`: such a check would hide the errors of a design.

pub mod batch;

use matricula_kit::id::SectionId;
use serde::Serialize;
use sqlx::{PgPool, Postgres, Transaction};

use crate::designs::SeatRequest;

const CREATE: &str = "\
    CREATE TABLE sections (section_id TEXT NOT NULL PRIMARY KEY, capacity BIGINT NOT NULL, taken BIGINT NOT NULL, \
    version BIGINT NOT NULL, fence BIGINT NOT NULL); \
    CREATE TABLE holds (registration_id TEXT NOT NULL, section_id TEXT NOT NULL, student_id TEXT NOT NULL, \
    PRIMARY KEY (registration_id, section_id))";
const DROP: &str = "DROP TABLE IF EXISTS sections, holds";
const INSERT_SECTIONS: &str = "INSERT INTO sections (section_id, capacity, taken, version, fence) \
    SELECT section_id, $2, 0, 1, 0 FROM unnest($1::text[]) AS r(section_id)";
const READ: &str = "SELECT capacity, taken, version, fence FROM sections WHERE section_id = $1";
const LOCK: &str = "SELECT capacity, taken, version, fence FROM sections WHERE section_id = $1 FOR UPDATE";
const INSERT_HOLD: &str = "INSERT INTO holds (registration_id, section_id, student_id) VALUES ($1, $2, $3)";
const TAKE: &str = "UPDATE sections SET taken = taken + 1, version = version + 1 WHERE section_id = $1";
const TAKE_OF_VERSION: &str =
    "UPDATE sections SET taken = taken + 1, version = version + 1 WHERE section_id = $1 AND version = $2";
const TAKE_WITH_FENCE: &str = "UPDATE sections SET taken = taken + 1, version = version + 1, fence = $2 \
    WHERE section_id = $1 AND fence < $2";
const TAKE_WITH_FENCE_READ: &str = "UPDATE sections SET taken = taken + 1, version = version + 1, fence = $2 \
    WHERE section_id = $1 AND fence < $2 AND fence = $3";
const TAKE_IN_ONE_STATEMENT: &str = "WITH seat AS (UPDATE sections SET taken = taken + 1, version = version + 1 \
    WHERE section_id = $1 AND taken < capacity RETURNING section_id) \
    INSERT INTO holds (registration_id, section_id, student_id) SELECT $2, section_id, $3 FROM seat";
const TALLY: &str = "SELECT s.capacity, s.taken, count(h.section_id) FROM sections s \
    LEFT JOIN holds h ON h.section_id = s.section_id GROUP BY s.section_id, s.capacity, s.taken";
const BACKEND_PID: &str = "SELECT pg_backend_pid()";
const SETTINGS: &str =
    "SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit')";
const CHECKPOINT: &str = "CHECKPOINT";

/// A section as it was read.
#[derive(Debug, Clone, Copy)]
pub struct Seats {
    capacity: i64,
    taken: i64,
    /// Grows by one with every write.
    pub version: i64,
    /// The fencing token of the last write that had one; 0 before.
    fence: i64,
}

/// A section in a batch.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Seats that may be taken.
    pub capacity: i64,
    /// Seats that are taken.
    pub taken: i64,
}

/// The guard against a write of an owner whose lock has lapsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// Nothing.
    Nothing,
    /// The row has seen no newer token.
    Token,
    /// The row has seen no newer token, and is unchanged since the read: another owner may have written since then.
    TokenAndState,
}

/// The totals of the tables at the end, over all sections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows in holds.
    pub holds: u64,
    /// Holds beyond the capacity of their section.
    pub oversold: u64,
    /// Sections with more holds than seats.
    pub sections_oversold: u64,
    /// Sections whose count is not the number of their holds.
    pub sections_miscounted: u64,
}

/// Properties of a server, as it reports them.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// Its version.
    pub version: String,
    /// Whether a commit is on the disk.
    pub fsync: String,
    /// Whether a commit waits for that.
    pub synchronous_commit: String,
}

impl Seats {
    /// Whether one more seat may be granted.
    pub fn is_free(&self) -> bool {
        self.taken < self.capacity
    }
}

type Tx = Transaction<'static, Postgres>;
type Done<T> = Result<T, sqlx::Error>;

/// Makes the tables anew, with these sections.
pub async fn create(pool: &PgPool, sections: &[SectionId], capacity: i32) -> Done<()> {
    sqlx::raw_sql(DROP).execute(pool).await?;
    sqlx::raw_sql(CREATE).execute(pool).await?;
    let ids: Vec<&str> = sections.iter().map(SectionId::as_str).collect();
    sqlx::query(INSERT_SECTIONS).bind(ids).bind(i64::from(capacity)).execute(pool).await?;
    Ok(())
}

/// Reads a section as committed.
pub async fn read(pool: &PgPool, section: &SectionId) -> Done<Seats> {
    Ok(seats(sqlx::query_as(READ).bind(section.as_str()).fetch_one(pool).await?))
}

/// Reads a section and locks it until the transaction ends.
pub async fn lock(tx: &mut Tx, section: &SectionId) -> Done<Seats> {
    Ok(seats(sqlx::query_as(LOCK).bind(section.as_str()).fetch_one(&mut **tx).await?))
}

fn seats((capacity, taken, version, fence): (i64, i64, i64, i64)) -> Seats {
    Seats { capacity, taken, version, fence }
}

/// Writes a hold.
pub async fn insert_hold(tx: &mut Tx, request: &SeatRequest) -> Done<()> {
    let query = sqlx::query(INSERT_HOLD).bind(request.registration.as_str()).bind(request.section.as_str());
    query.bind(request.student.as_str()).execute(&mut **tx).await?;
    Ok(())
}

/// Counts a seat as taken.
pub async fn take(tx: &mut Tx, section: &SectionId) -> Done<()> {
    sqlx::query(TAKE).bind(section.as_str()).execute(&mut **tx).await?;
    Ok(())
}

/// Counts a seat as taken if the section still has this version; returns whether it had.
pub async fn take_of_version(tx: &mut Tx, section: &SectionId, version: i64) -> Done<bool> {
    let query = sqlx::query(TAKE_OF_VERSION).bind(section.as_str()).bind(version);
    Ok(query.execute(&mut **tx).await?.rows_affected() == 1)
}

/// Writes a hold and its count in a transaction of its own, as the owner of a lock that may have lapsed. Returns
/// whether the guard has allowed it.
pub async fn take_under_lock(
    pool: &PgPool,
    request: &SeatRequest,
    guard: Guard,
    read: &Seats,
    fence: i64,
) -> Done<bool> {
    let mut tx = pool.begin().await?;
    insert_hold(&mut tx, request).await?;
    let section = request.section.as_str();
    let query = match guard {
        Guard::Nothing => sqlx::query(TAKE).bind(section),
        Guard::Token => sqlx::query(TAKE_WITH_FENCE).bind(section).bind(fence),
        Guard::TokenAndState => sqlx::query(TAKE_WITH_FENCE_READ).bind(section).bind(fence).bind(read.fence),
    };
    let taken = query.execute(&mut *tx).await?.rows_affected() == 1;
    if taken {
        tx.commit().await?
    } else {
        tx.rollback().await?
    }
    Ok(taken)
}

/// Writes a hold and its count in one statement, if a seat is free; returns whether one was.
pub async fn take_in_one_statement(pool: &PgPool, request: &SeatRequest) -> Done<bool> {
    let query = sqlx::query(TAKE_IN_ONE_STATEMENT).bind(request.section.as_str()).bind(request.registration.as_str());
    Ok(query.bind(request.student.as_str()).execute(pool).await?.rows_affected() == 1)
}

/// Counts the sold seats. It also reads the tables of the seat service, in which no hold was released either.
pub async fn tally(pool: &PgPool) -> Done<Tally> {
    let rows: Vec<(i64, i64, i64)> = sqlx::query_as(TALLY).fetch_all(pool).await?;
    let mut tally = Tally::default();
    for (capacity, taken, holds) in rows {
        let beyond = (holds - capacity).max(0).unsigned_abs();
        tally.holds += holds.unsigned_abs();
        tally.oversold += beyond;
        tally.sections_oversold += u64::from(beyond > 0);
        tally.sections_miscounted += u64::from(taken != holds);
    }
    Ok(tally)
}

/// The process that serves this connection.
pub async fn backend_pid(pool: &PgPool) -> Done<i32> {
    sqlx::query_scalar(BACKEND_PID).fetch_one(pool).await
}

/// The properties that the server reports.
pub async fn settings(pool: &PgPool) -> Done<Settings> {
    let (version, fsync, synchronous_commit) = sqlx::query_as(SETTINGS).fetch_one(pool).await?;
    Ok(Settings { version, fsync, synchronous_commit })
}

/// Makes the server write down the changes of earlier cells, so that no later cell pays for them.
pub async fn checkpoint(pool: &PgPool) -> Done<()> {
    sqlx::query(CHECKPOINT).execute(pool).await?;
    Ok(())
}
