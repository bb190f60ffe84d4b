//! A row of an answer, decoded in place.

use std::sync::Arc;

use bytes::Bytes;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::{DataRowBody, RowDescriptionBody};

use crate::database::{DbError, ids};

/// The types that are read: `bigint`; `bytea` for ids; `text`, `varchar`, `char(n)`, `name` and literals.
const BIGINT: u32 = 20;
const BYTEA: u32 = 17;
const TEXTS: [u32; 5] = [25, 1043, 1042, 19, 705];
const IDS: [u32; 6] = [BYTEA, 25, 1043, 1042, 19, 705];

/// A column of an answer.
#[derive(Debug)]
pub(super) struct Column {
    name: Box<str>,
    kind: u32,
}

/// A row, in the binary format.
#[derive(Debug)]
pub(in crate::database) struct WireRow {
    columns: Arc<[Column]>,
    /// For each column its length (-1 for NULL) and its bytes.
    values: Bytes,
}

/// The columns of an answer.
pub(super) fn columns(body: &RowDescriptionBody) -> std::io::Result<Vec<Column>> {
    body.fields().map(|field| Ok(Column { name: field.name().into(), kind: field.type_oid() })).collect()
}

impl WireRow {
    pub(super) fn new(columns: Arc<[Column]>, body: &DataRowBody) -> Self {
        Self { columns, values: body.buffer_bytes().clone() }
    }

    /// A text or NULL.
    pub(in crate::database) fn opt_text(&self, name: &str) -> Result<Option<String>, DbError> {
        let Some(value) = self.value(name, &TEXTS)?.1 else { return Ok(None) };
        let text = std::str::from_utf8(value).map_err(|error| DbError::undecodable(name, error.into()))?;
        Ok(Some(text.to_owned()))
    }

    /// An id or NULL, in either form.
    pub(in crate::database) fn opt_id(&self, name: &str) -> Result<Option<String>, DbError> {
        match self.value(name, &IDS)? {
            (_, None) => Ok(None),
            (BYTEA, Some(value)) => {
                ids::decoded(value).map(Some).map_err(|error| DbError::undecodable(name, error.into()))
            }
            _ => self.opt_text(name),
        }
    }

    /// An integer or NULL.
    pub(in crate::database) fn opt_int(&self, name: &str) -> Result<Option<i64>, DbError> {
        let Some(value) = self.value(name, &[BIGINT])?.1 else { return Ok(None) };
        let bytes = value
            .try_into()
            .map_err(|error: std::array::TryFromSliceError| DbError::undecodable(name, error.into()))?;
        Ok(Some(i64::from_be_bytes(bytes)))
    }

    /// The type and the value of a column, which must have one of these types.
    fn value(&self, name: &str, kinds: &[u32]) -> Result<(u32, Option<&[u8]>), DbError> {
        let position = self.columns.iter().position(|column| *column.name == *name);
        let position = position.ok_or_else(|| sqlx::Error::ColumnNotFound(name.to_owned()))?;
        let kind = self.columns[position].kind;
        if !kinds.contains(&kind) {
            return Err(DbError::undecodable(
                name,
                format!("the column has PostgreSQL's type {kind}, which can't be read as the requested type").into(),
            ));
        }
        let mut rest = &self.values[..];
        for _ in 0..position {
            (_, rest) = first(rest).ok_or_else(|| cut_off(name))?;
        }
        first(rest).map(|(value, _)| (kind, value)).ok_or_else(|| cut_off(name))
    }
}

/// The first value, and the remaining bytes.
fn first(values: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, rest) = values.split_first_chunk()?;
    match usize::try_from(i32::from_be_bytes(*length)) {
        Ok(length) => rest.split_at_checked(length).map(|(value, rest)| (Some(value), rest)),
        Err(_) => Some((None, rest)),
    }
}

fn cut_off(name: &str) -> DbError {
    DbError::undecodable(name, "the row ends before this column".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &'static [u8]) -> WireRow {
        let column = |(name, kind): (&str, u32)| Column { name: name.into(), kind };
        let columns = [("name", 25), ("none", 25), ("number", 20), ("other", 23)].map(column);
        WireRow { columns: columns.into(), values: Bytes::from_static(values) }
    }

    #[test]
    fn values_are_found_by_name_and_have_their_type() {
        let row = row(b"\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xfe\0\0\0\x04\0\0\0\x01");
        assert_eq!(row.opt_text("name").expect("a text"), Some("ab".to_owned()));
        assert_eq!(row.opt_text("none").expect("NULL"), None);
        assert_eq!(row.opt_int("number").expect("a number"), Some(-2));
        for error in ["name", "other", "nowhere"].map(|column| row.opt_int(column)) {
            assert!(matches!(error, Err(DbError::Corrupt(_))), "{error:?}");
        }
        assert!(row.opt_text("number").is_err());
    }

    #[test]
    fn a_row_that_ends_early_is_refused() {
        for values in [&b""[..], b"\0\0\0", b"\0\0\0\x05ab", b"\0\0\0\x02ab"] {
            assert!(row(values).opt_text("none").is_err(), "{values:?}");
        }
    }
}
