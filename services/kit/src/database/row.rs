//! One row of an answer.

use sqlx::Row as _;

use super::error::DbError;

/// A row, whichever database it came from.
#[derive(Debug)]
pub enum Row {
    /// From SQLite.
    Sqlite(sqlx::sqlite::SqliteRow),
    /// From PostgreSQL.
    Postgres(sqlx::postgres::PgRow),
}

macro_rules! getter {
    ($(#[$doc:meta])* $name:ident, $type:ty) => {
        $(#[$doc])*
        pub fn $name(&self, column: &str) -> Result<$type, DbError> {
            Ok(match self {
                Row::Sqlite(row) => row.try_get(column)?,
                Row::Postgres(row) => row.try_get(column)?,
            })
        }
    };
}

impl Row {
    getter!(
        /// A text.
        text, String
    );
    getter!(
        /// A text or NULL.
        opt_text, Option<String>
    );
    getter!(
        /// An integer (BIGINT).
        int, i64
    );
    getter!(
        /// An integer (BIGINT) or NULL.
        opt_int, Option<i64>
    );
}
