//! A statement: its arguments, first scalars (`$1`, `$2`, ...), then the columns of `{rows}`; its text for the
//! database, with the marks replaced; and the rows of its answer.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{LazyLock, RwLock};

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Row as _, TypeInfo as _, ValueRef as _};

use super::error::DbError;
use super::ids::{self, IdForm};
use super::wire::WireRow;
use crate::named::NamedValue;

/// Most texts are ids: this many bytes are reserved for each.
const TEXT_USUAL: usize = 40;

/// The arguments of one statement.
#[derive(Debug, Clone, Default)]
pub struct Args {
    pub(super) scalars: Vec<Scalar>,
    pub(super) rows: Option<Rows>,
}

/// One value.
#[derive(Debug, Clone)]
pub(super) enum Scalar {
    Text(Option<String>),
    Id(Option<String>),
    Int(Option<i64>),
}

/// Rows for `{rows}`, column by column.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    pub(super) columns: Vec<(&'static str, Column)>,
}

/// The values of a column.
#[derive(Debug, Clone)]
pub(super) enum Column {
    Text(Texts),
    Id(Texts),
    Int(Vec<Option<i64>>),
}

/// Texts or NULLs in one allocation: a batch has thousands of them.
#[derive(Debug, Clone)]
pub(super) struct Texts {
    all: String,
    /// The end of each, and whether it is a text or NULL.
    ends: Vec<(usize, bool)>,
}

impl Texts {
    fn of<S: AsRef<str>>(values: impl IntoIterator<Item = Option<S>>) -> Self {
        let values = values.into_iter();
        let count = values.size_hint().0;
        let mut texts = Self { all: String::with_capacity(count * TEXT_USUAL), ends: Vec::with_capacity(count) };
        for value in values {
            texts.push(value.as_ref().map(AsRef::as_ref));
        }
        texts
    }

    fn push(&mut self, value: Option<&str>) {
        self.all.push_str(value.unwrap_or_default());
        self.ends.push((self.all.len(), value.is_some()));
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        let mut begins = 0;
        self.ends.iter().map(move |(ends, is_text)| {
            let text = &self.all[begins..*ends];
            begins = *ends;
            is_text.then_some(text)
        })
    }
}

impl Args {
    /// No arguments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a scalar text.
    pub fn text(mut self, value: impl Into<String>) -> Self {
        self.scalars.push(Scalar::Text(Some(value.into())));
        self
    }

    /// Adds a scalar text or NULL.
    pub fn opt_text(mut self, value: Option<String>) -> Self {
        self.scalars.push(Scalar::Text(value));
        self
    }

    /// Adds a scalar id: the value of a column that the role's `Schema` lists as an id.
    pub fn id(self, value: impl Into<String>) -> Self {
        self.opt_id(Some(value.into()))
    }

    /// Adds a scalar id or NULL.
    pub fn opt_id(mut self, value: Option<String>) -> Self {
        self.scalars.push(Scalar::Id(value));
        self
    }

    /// Adds a scalar integer.
    pub fn int(mut self, value: i64) -> Self {
        self.scalars.push(Scalar::Int(Some(value)));
        self
    }

    /// Sets the rows of `{rows}`. A statement with empty rows is not sent, because it would change nothing.
    pub fn rows(mut self, rows: Rows) -> Self {
        self.rows = Some(rows);
        self
    }

    pub(super) fn is_no_rows(&self) -> bool {
        self.rows.as_ref().is_some_and(|rows| rows.len() == 0)
    }
}

impl From<Rows> for Args {
    fn from(rows: Rows) -> Self {
        Self::new().rows(rows)
    }
}

impl Rows {
    /// No columns.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a column of texts; the statement refers to it by `name`.
    pub fn text<S: AsRef<str>>(self, name: &'static str, values: impl IntoIterator<Item = S>) -> Self {
        self.opt_text(name, values.into_iter().map(Some))
    }

    /// Adds a column of texts or NULLs.
    pub fn opt_text<S: AsRef<str>>(mut self, name: &'static str, values: impl IntoIterator<Item = Option<S>>) -> Self {
        self.columns.push((name, Column::Text(Texts::of(values))));
        self
    }

    /// Adds a column of ids.
    pub fn id<S: AsRef<str>>(self, name: &'static str, values: impl IntoIterator<Item = S>) -> Self {
        self.opt_id(name, values.into_iter().map(Some))
    }

    /// Adds a column of ids or NULLs.
    pub fn opt_id<S: AsRef<str>>(mut self, name: &'static str, values: impl IntoIterator<Item = Option<S>>) -> Self {
        self.columns.push((name, Column::Id(Texts::of(values))));
        self
    }

    /// Adds a column of integers.
    pub fn int(mut self, name: &'static str, values: impl IntoIterator<Item = i64>) -> Self {
        self.columns.push((name, Column::Int(values.into_iter().map(Some).collect())));
        self
    }

    /// Adds a column of integers or NULLs.
    pub fn opt_int(mut self, name: &'static str, values: impl IntoIterator<Item = Option<i64>>) -> Self {
        self.columns.push((name, Column::Int(values.into_iter().collect())));
        self
    }

    /// The number of rows.
    ///
    /// # Panics
    /// If the columns have different lengths: a fault of the caller that would misplace values.
    pub(super) fn len(&self) -> usize {
        let mut lengths = self.columns.iter().map(|(_, column)| match column {
            Column::Text(values) | Column::Id(values) => values.len(),
            Column::Int(values) => values.len(),
        });
        let length = lengths.next().unwrap_or(0);
        assert!(lengths.all(|other| other == length), "the columns of a statement differ in length");
        length
    }
}

/// A row of either database.
#[derive(Debug)]
pub struct Row(AnyRow);

/// A row of one of the drivers.
#[derive(Debug)]
enum AnyRow {
    Sqlite(sqlx::sqlite::SqliteRow),
    /// From a reading connection.
    Postgres(sqlx::postgres::PgRow),
    /// From a writing connection.
    Wire(WireRow),
}

impl From<sqlx::sqlite::SqliteRow> for Row {
    fn from(row: sqlx::sqlite::SqliteRow) -> Self {
        Self(AnyRow::Sqlite(row))
    }
}

impl From<sqlx::postgres::PgRow> for Row {
    fn from(row: sqlx::postgres::PgRow) -> Self {
        Self(AnyRow::Postgres(row))
    }
}

impl From<WireRow> for Row {
    fn from(row: WireRow) -> Self {
        Self(AnyRow::Wire(row))
    }
}

impl Row {
    /// A text.
    pub fn text(&self, column: &str) -> Result<String, DbError> {
        self.opt_text(column)?.ok_or_else(|| DbError::unexpected_null(column))
    }

    /// A text or NULL.
    pub fn opt_text(&self, column: &str) -> Result<Option<String>, DbError> {
        match &self.0 {
            AnyRow::Sqlite(row) => Ok(row.try_get(column)?),
            AnyRow::Postgres(row) => Ok(row.try_get(column)?),
            AnyRow::Wire(row) => row.opt_text(column),
        }
    }

    /// An id, in either stored form.
    pub fn id(&self, column: &str) -> Result<String, DbError> {
        self.opt_id(column)?.ok_or_else(|| DbError::unexpected_null(column))
    }

    /// An id or NULL.
    pub fn opt_id(&self, column: &str) -> Result<Option<String>, DbError> {
        match &self.0 {
            AnyRow::Sqlite(row) => Ok(row.try_get(column)?),
            AnyRow::Postgres(row) if row.try_get_raw(column)?.type_info().name() == "BYTEA" => {
                let bytes: Option<&[u8]> = row.try_get(column)?;
                let id = bytes.map(ids::decoded).transpose();
                id.map_err(|error| DbError::undecodable(column, error.into()))
            }
            AnyRow::Postgres(row) => Ok(row.try_get(column)?),
            AnyRow::Wire(row) => row.opt_id(column),
        }
    }

    /// A value of a fixed set, by its name.
    pub fn named<T: NamedValue>(&self, column: &str) -> Result<T, DbError> {
        self.opt_named(column)?.ok_or_else(|| DbError::unexpected_null(column))
    }

    /// A value of a fixed set or NULL.
    pub fn opt_named<T: NamedValue>(&self, column: &str) -> Result<Option<T>, DbError> {
        let known = |name: String| T::from_name(&name).ok_or_else(|| DbError::corrupt(format!("{column} is {name:?}")));
        self.opt_text(column)?.map(known).transpose()
    }

    /// An integer (BIGINT).
    pub fn int(&self, column: &str) -> Result<i64, DbError> {
        self.opt_int(column)?.ok_or_else(|| DbError::unexpected_null(column))
    }

    /// An integer (BIGINT) or NULL.
    pub fn opt_int(&self, column: &str) -> Result<Option<i64>, DbError> {
        match &self.0 {
            AnyRow::Sqlite(row) => Ok(row.try_get(column)?),
            AnyRow::Postgres(row) => Ok(row.try_get(column)?),
            AnyRow::Wire(row) => row.opt_int(column),
        }
    }
}

/// The SQL dialect of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Dialect {
    Sqlite,
    Postgres(IdForm),
}

/// A statement in the SQL of one database.
pub(super) struct Expanded {
    /// Unique in this process.
    pub(super) id: usize,
    /// The name of the prepared statement on PostgreSQL.
    pub(super) name: String,
    pub(super) text: String,
}

/// The marks, with what they mean on PostgreSQL and on SQLite.
const MARKS: [(&str, &str, &str); 4] = [
    ("{for_update}", "FOR UPDATE", ""),
    ("{for_share}", "FOR SHARE", ""),
    ("{for_update_skip_locked}", "FOR UPDATE SKIP LOCKED", ""),
    (
        "{now_ms}",
        "(extract(epoch FROM clock_timestamp()) * 1000)::bigint",
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
    ),
];

/// A statement as a query of the driver for PostgreSQL.
pub(super) fn postgres(sql: &'static str, args: Args, form: IdForm) -> Query<'static, sqlx::Postgres, PgArguments> {
    let mut query = sqlx::query(&*expanded(Dialect::Postgres(form), sql, &args, 0).text);
    let is_compact = form == IdForm::Compact;
    for scalar in args.scalars {
        query = match scalar {
            Scalar::Id(value) if is_compact => query.bind(value.as_deref().map(ids::encoded)),
            Scalar::Text(value) | Scalar::Id(value) => query.bind(value),
            Scalar::Int(value) => query.bind(value),
        };
    }
    for (_, column) in args.rows.into_iter().flat_map(|rows| rows.columns) {
        query = match column {
            Column::Id(values) if is_compact => {
                query.bind(values.iter().map(|value| value.map(ids::encoded)).collect::<Vec<Option<Vec<u8>>>>())
            }
            Column::Text(values) | Column::Id(values) => {
                query.bind(values.iter().map(|value| value.map(str::to_owned)).collect::<Vec<Option<String>>>())
            }
            Column::Int(values) => query.bind(values),
        };
    }
    query
}

/// A statement as a query of the driver for SQLite.
pub(super) fn sqlite(sql: &'static str, args: Args) -> Result<Query<'static, sqlx::Sqlite, SqliteArguments>, DbError> {
    bound_to_sqlite(sqlx::query(&*expanded(Dialect::Sqlite, sql, &args, 0).text), args)
}

/// Binds the arguments of a statement after those that are already bound.
pub(super) fn bound_to_sqlite(
    mut query: Query<'static, sqlx::Sqlite, SqliteArguments>,
    args: Args,
) -> Result<Query<'static, sqlx::Sqlite, SqliteArguments>, DbError> {
    for scalar in args.scalars {
        query = match scalar {
            Scalar::Text(value) | Scalar::Id(value) => query.bind(value),
            Scalar::Int(value) => query.bind(value),
        };
    }
    if let Some(rows) = args.rows {
        query = query.bind(json(&rows)?);
    }
    Ok(query)
}

/// By dialect, statement, and number of arguments before its own. The columns of `{rows}` are not part of the key: a
/// statement always has the same ones.
type ExpandedStatements = RwLock<HashMap<(Dialect, &'static str, usize), &'static Expanded>>;
static EXPANDED: LazyLock<ExpandedStatements> = LazyLock::new(Default::default);

/// Every statement that ran on SQLite so far, in SQLite's form: for tests that check their plans.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn run_on_sqlite() -> Vec<&'static str> {
    let known = EXPANDED.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    known.iter().filter(|((dialect, ..), _)| *dialect == Dialect::Sqlite).map(|(_, of)| &*of.text).collect()
}

/// The statement for this database, with its arguments numbered after `after` others. Each is expanded once and kept
/// for the life of the process: their number is bounded by the source code.
pub(super) fn expanded(dialect: Dialect, sql: &'static str, args: &Args, after: usize) -> &'static Expanded {
    let key = (dialect, sql, after);
    if let Some(known) = EXPANDED.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&key) {
        return known;
    }
    let first = args.scalars.len() + 1;
    let rows = args.rows.as_ref().map(|rows| rows_source(dialect, rows, first)).unwrap_or_default();
    let mut text = sql.replace("{rows}", &rows);
    for (mark, on_postgres, on_sqlite) in MARKS {
        text = text.replace(mark, if dialect == Dialect::Sqlite { on_sqlite } else { on_postgres });
    }
    if dialect == Dialect::Postgres(IdForm::Compact) {
        // The driver keeps prepared statements by their text, so the text must differ between the two forms of ids.
        text.push(' ');
    }
    let text = if after == 0 { text } else { renumbered(&text, after) };
    let mut known = EXPANDED.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    let id = known.len();
    known.entry(key).or_insert_with(|| Box::leak(Box::new(Expanded { id, name: format!("m{id}"), text })))
}

/// The same statement with `$1` as `$(after + 1)`, and so on.
fn renumbered(text: &str, after: usize) -> String {
    let mut parts = text.split('$');
    let mut renumbered = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        // Writing to a string does not fail.
        let _ = match part[..end].parse::<usize>() {
            Ok(number) => write!(renumbered, "${}{}", number + after, &part[end..]),
            // The path of a JSON value, not an argument.
            Err(_) => write!(renumbered, "${part}"),
        };
    }
    renumbered
}

fn rows_source(dialect: Dialect, rows: &Rows, first: usize) -> String {
    let mut source = String::new();
    let names = rows.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    // Writing to a string does not fail.
    match dialect {
        Dialect::Postgres(form) => {
            let arrays = rows.columns.iter().enumerate().map(|(index, (_, column))| match column {
                Column::Id(_) if form == IdForm::Compact => format!("${}::bytea[]", first + index),
                Column::Text(_) | Column::Id(_) => format!("${}::text[]", first + index),
                Column::Int(_) => format!("${}::bigint[]", first + index),
            });
            let _ = write!(source, "unnest({}) AS r({names})", arrays.collect::<Vec<_>>().join(", "));
        }
        Dialect::Sqlite => {
            let fields = rows.columns.iter().enumerate();
            let fields = fields.map(|(index, (name, _))| format!("json_extract(value, '$[{index}]') AS {name}"));
            let fields = fields.collect::<Vec<_>>().join(", ");
            // JSONB: SQLite need not convert a row to text again to extract each column.
            let _ = write!(source, "(SELECT {fields} FROM jsonb_each(${first})) AS r");
        }
    }
    source
}

/// The values of a column, for JSON.
enum Values<'a> {
    Text(Box<dyn Iterator<Item = Option<&'a str>> + 'a>),
    Int(std::slice::Iter<'a, Option<i64>>),
}

/// The rows as a JSON array of arrays.
fn json(rows: &Rows) -> Result<String, DbError> {
    let columns = rows.columns.iter().map(|(_, column)| match column {
        Column::Text(values) | Column::Id(values) => Values::Text(Box::new(values.iter())),
        Column::Int(values) => Values::Int(values.iter()),
    });
    let mut columns: Vec<Values> = columns.collect();
    let mut text = Vec::from(b"[");
    for row in 0..rows.len() {
        text.extend_from_slice(if row == 0 { b"[" } else { b",[" });
        for (index, column) in columns.iter_mut().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            match column {
                Values::Text(values) => serde_json::to_writer(&mut text, &values.next().flatten()),
                Values::Int(values) => serde_json::to_writer(&mut text, &values.next().copied().flatten()),
            }
            .map_err(DbError::encode)?;
        }
        text.push(b']');
    }
    text.push(b']');
    String::from_utf8(text).map_err(DbError::corrupt)
}

#[cfg(test)]
mod tests {
    use super::renumbered;

    #[test]
    fn arguments_come_after_those_of_others_and_paths_stay() {
        let text = "SELECT json_extract(value, '$[1]') FROM json_each($2) WHERE a = $1 AND b = $10";
        let expected = "SELECT json_extract(value, '$[1]') FROM json_each($5) WHERE a = $4 AND b = $13";
        assert_eq!(renumbered(text, 3), expected);
    }
}
