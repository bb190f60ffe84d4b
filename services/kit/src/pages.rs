//! Tables that are read page by page, each page after the key of the last row before it: ledgers, snapshots, exports.
//!
//! Promises: an export is of one state of the database, and has no more than a page of it in memory.

use std::collections::VecDeque;

use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use tonic::Status;

use crate::database::{Args, DbError, Row, Tx};

/// Rows of a page: some hundred kilobytes. Large enough to be cheap, small enough for one message.
pub const PAGE_ROWS: usize = 1_000;

/// A column of the key by which a table is ordered.
#[derive(Debug, Clone, Copy)]
pub enum KeyColumn {
    /// A column that the schema names as an id.
    Id(&'static str),
    /// A column of texts.
    Text(&'static str),
}

/// A table with the query that reads a page of it.
pub struct PagedTable<T> {
    /// `SELECT ... WHERE (a, b) > ($1, $2) ORDER BY a, b LIMIT $3`. The first page follows empty texts, and no id is
    /// empty.
    pub sql: &'static str,
    /// The columns of the key, in order. The query selects them.
    pub key: &'static [KeyColumn],
    /// Reads a row.
    pub row: fn(&Row) -> Result<T, DbError>,
}

/// Where a page begins. The default is the beginning of the table.
#[derive(Debug, Clone, Default)]
pub struct Cursor(Vec<String>);

/// A page of a table.
pub struct Page<T> {
    /// Its rows.
    pub rows: Vec<T>,
    /// Where the next page begins; `None` after the last row.
    pub next: Option<Cursor>,
}

/// Reads a row as an entry of an export.
type ReadEntry<E> = Box<dyn Fn(&Row) -> Result<E, DbError> + Send + Sync>;

/// A table as a part of an export of entries `E`.
pub struct Part<E> {
    sql: &'static str,
    key: &'static [KeyColumn],
    entry: ReadEntry<E>,
}

impl<T: 'static> PagedTable<T> {
    /// Reads a page.
    pub async fn page(&self, tx: &mut Tx, after: &Cursor) -> Result<Page<T>, DbError> {
        page(tx, self.sql, self.key, after, self.row).await
    }

    /// Reads every row.
    pub async fn all(&self, tx: &mut Tx) -> Result<Vec<T>, DbError> {
        let mut page = self.page(tx, &Cursor::default()).await?;
        let mut rows = page.rows;
        while let Some(after) = page.next {
            page = self.page(tx, &after).await?;
            rows.append(&mut page.rows);
        }
        Ok(rows)
    }

    /// The table as a part of an export, with an entry for each row.
    pub fn part<E>(&self, entry: impl Fn(T) -> E + Send + Sync + 'static) -> Part<E> {
        let row = self.row;
        Part { sql: self.sql, key: self.key, entry: Box::new(move |stored| row(stored).map(&entry)) }
    }
}

/// Streams every entry of the parts, one part after the other, as `snapshot` sees them.
pub fn export<E: Send + 'static>(
    snapshot: Tx,
    parts: impl Into<VecDeque<Part<E>>>,
) -> BoxStream<'static, Result<E, Status>> {
    let begin = (snapshot, parts.into(), Cursor::default());
    let pages = stream::try_unfold(begin, |(mut snapshot, mut parts, after)| async move {
        let Some(Part { sql, key, entry }) = parts.front() else { return Ok(None) };
        let page = page(&mut snapshot, sql, key, &after, entry).await?;
        let after = page.next.unwrap_or_else(|| {
            parts.pop_front();
            Cursor::default()
        });
        Ok::<_, DbError>(Some((page.rows, (snapshot, parts, after))))
    });
    let entries = pages.map_ok(|entries| stream::iter(entries.into_iter().map(Ok::<_, DbError>))).try_flatten();
    entries.map_err(Status::from).boxed()
}

async fn page<T>(
    tx: &mut Tx,
    sql: &'static str,
    key: &[KeyColumn],
    after: &Cursor,
    read: impl Fn(&Row) -> Result<T, DbError>,
) -> Result<Page<T>, DbError> {
    let mut args = Args::new();
    for (place, column) in key.iter().enumerate() {
        let value = after.0.get(place).map_or("", String::as_str);
        args = match column {
            KeyColumn::Id(_) => args.id(value),
            KeyColumn::Text(_) => args.text(value),
        };
    }
    let rows = tx.fetch(sql, args.int(PAGE_ROWS as i64)).await?;
    let last = rows.last().filter(|_| rows.len() == PAGE_ROWS);
    let next = last.map(|row| key.iter().map(|column| column.value(row)).collect::<Result<_, _>>());
    Ok(Page { next: next.transpose()?.map(Cursor), rows: rows.iter().map(read).collect::<Result<_, _>>()? })
}

impl KeyColumn {
    fn value(self, row: &Row) -> Result<String, DbError> {
        match self {
            Self::Id(column) => row.id(column),
            Self::Text(column) => row.text(column),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{BACKENDS, empty_database};

    const NUMBERS: PagedTable<String> = PagedTable {
        sql: "SELECT name FROM numbers WHERE name > $1 ORDER BY name LIMIT $2",
        key: &[KeyColumn::Text("name")],
        row: |row| row.text("name"),
    };

    /// With no row, with a page that is exactly full, and with more.
    #[tokio::test]
    async fn every_row_comes_once_and_in_order() {
        for backend in BACKENDS {
            let test = empty_database(backend).await;
            let mut tx = test.database.begin().await.expect("it begins");
            tx.execute("CREATE TABLE numbers (name TEXT PRIMARY KEY)", Args::new()).await.expect("created");
            tx.commit().await.expect("committed");
            let mut expected: Vec<String> = Vec::new();
            for count in [0, PAGE_ROWS, 2 * PAGE_ROWS + 1] {
                let names: Vec<String> = (expected.len()..count).map(|number| format!("n{number:05}")).collect();
                let rows = crate::database::Rows::new().text("name", &names);
                let mut tx = test.database.begin().await.expect("it begins");
                tx.execute("INSERT INTO numbers SELECT name FROM {rows}", rows.into()).await.expect("inserted");
                tx.commit().await.expect("committed");
                expected.extend(names);
                let mut snapshot = test.database.snapshot().await.expect("a snapshot");
                assert_eq!(NUMBERS.all(&mut snapshot).await.expect("read"), expected, "{backend:?}");
                let parts = [NUMBERS.part(|name| ("a", name)), NUMBERS.part(|name| ("b", name))];
                let exported: Vec<_> = export(snapshot, parts).map(|entry| entry.expect("an entry")).collect().await;
                let twice = ["a", "b"].iter().flat_map(|part| expected.iter().map(|name| (*part, name.clone())));
                assert_eq!(exported, twice.collect::<Vec<_>>(), "{backend:?}");
            }
        }
    }
}
