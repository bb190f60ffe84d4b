//! A batch of statements, encoded as one message.

use std::error::Error;

use bytes::{BufMut as _, BytesMut};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend::{self, BindError};
use postgres_protocol::types::{ArrayDimension, array_to_sql};

use super::Wire;
use crate::database::DbError;
use crate::database::ids::{self, IdForm};
use crate::database::statement::{self, Args, Column, Dialect, Scalar};

/// The operating system accepts a message of this size as a whole: a suspended process has sent all of it or nothing. A
/// longer message has a Sync before each statement, because the server ends an idle transaction after 4 s only if it
/// has answered a Sync.
const WHOLE_BYTES: usize = 64 * 1024;
/// Enough for the values of most batches.
const USUAL_BYTES: usize = 8 * 1024;
const BEGIN: &str = "BEGIN";
const COMMIT: &str = "COMMIT";
/// The binary format, for values and answers.
const BINARY: [i16; 1] = [1];

/// The types of values, by their OIDs, which are the same in every PostgreSQL.
const TEXT: u32 = 25;
const BYTEA: u32 = 17;
const BIGINT: u32 = 20;
const TEXT_ARRAY: u32 = 1009;
const BYTEA_ARRAY: u32 = 1001;
const BIGINT_ARRAY: u32 = 1016;

type Encoded = Result<IsNull, Box<dyn Error + Send + Sync>>;

/// Statements that are sent together.
pub(in crate::database) struct Batch {
    pub(super) bytes: BytesMut,
    pub(super) parts: Vec<Part>,
    pub(super) syncs: usize,
    /// Length of the begin of a transaction, if the batch has it.
    begin_bytes: usize,
}

/// One statement of a batch.
pub(super) struct Part {
    /// Its number, if the statement is kept.
    pub(super) id: Option<usize>,
    /// Whether the batch contains its text, and the answer its columns.
    pub(super) is_new: bool,
    pub(super) is_commit: bool,
    /// The number of its answer, if it is needed.
    pub(super) number: Option<usize>,
}

/// One argument.
enum Value<'a> {
    Scalar(&'a Scalar),
    Column(&'a Column),
}

impl Value<'_> {
    /// The type, when ids have this form.
    fn kind(&self, form: IdForm) -> u32 {
        match self {
            Self::Scalar(Scalar::Id(_)) if form == IdForm::Compact => BYTEA,
            Self::Scalar(Scalar::Text(_) | Scalar::Id(_)) => TEXT,
            Self::Scalar(Scalar::Int(_)) => BIGINT,
            Self::Column(Column::Id(_)) if form == IdForm::Compact => BYTEA_ARRAY,
            Self::Column(Column::Text(_) | Column::Id(_)) => TEXT_ARRAY,
            Self::Column(Column::Int(_)) => BIGINT_ARRAY,
        }
    }

    fn encode(self, form: IdForm, bytes: &mut BytesMut) -> Encoded {
        match self {
            Self::Scalar(Scalar::Id(value)) if form == IdForm::Compact => id(value.as_deref(), bytes),
            Self::Scalar(Scalar::Text(value) | Scalar::Id(value)) => text(value.as_deref(), bytes),
            Self::Scalar(Scalar::Int(value)) => Ok(int(*value, bytes)),
            Self::Column(Column::Id(values)) if form == IdForm::Compact => {
                array(values.len(), BYTEA, values.iter(), id, bytes)
            }
            Self::Column(Column::Text(values) | Column::Id(values)) => {
                array(values.len(), TEXT, values.iter(), text, bytes)
            }
            Self::Column(Column::Int(values)) => {
                array(values.len(), BIGINT, values, |value, bytes| Ok(int(*value, bytes)), bytes)
            }
        }
    }
}

/// An array of so many values of a type.
fn array<T>(
    length: usize,
    kind: u32,
    values: impl IntoIterator<Item = T>,
    encode: impl FnMut(T, &mut BytesMut) -> Encoded,
    bytes: &mut BytesMut,
) -> Encoded {
    let dimension = ArrayDimension { len: length.try_into()?, lower_bound: 1 };
    array_to_sql([dimension], kind, values, encode, bytes)?;
    Ok(IsNull::No)
}

fn text(value: Option<&str>, bytes: &mut BytesMut) -> Encoded {
    let Some(value) = value else { return Ok(IsNull::Yes) };
    if value.as_bytes().contains(&0) {
        return Err("a text can't have a zero byte".into());
    }
    bytes.extend_from_slice(value.as_bytes());
    Ok(IsNull::No)
}

fn id(value: Option<&str>, bytes: &mut BytesMut) -> Encoded {
    let Some(value) = value else { return Ok(IsNull::Yes) };
    if value.as_bytes().contains(&0) {
        return Err("an id can't have a zero byte".into());
    }
    match ids::uuid(value) {
        Some(uuid) => bytes.extend_from_slice(&uuid),
        None => bytes.extend_from_slice(&ids::encoded(value)),
    }
    Ok(IsNull::No)
}

fn int(value: Option<i64>, bytes: &mut BytesMut) -> IsNull {
    let Some(value) = value else { return IsNull::Yes };
    bytes.put_i64(value);
    IsNull::No
}

impl Batch {
    /// An empty batch.
    pub(in crate::database) fn new() -> Self {
        Self { bytes: BytesMut::with_capacity(USUAL_BYTES), parts: Vec::new(), syncs: 0, begin_bytes: 0 }
    }

    pub(in crate::database) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Adds the begin of a transaction.
    pub(in crate::database) fn begin(&mut self, wire: &Wire) -> Result<(), DbError> {
        self.push(wire, BEGIN, &Args::new(), None)?;
        self.begin_bytes = self.bytes.len();
        Ok(())
    }

    /// Adds the commit.
    pub(in crate::database) fn commit(&mut self, wire: &Wire) -> Result<(), DbError> {
        self.push(wire, COMMIT, &Args::new(), None)
    }

    /// Adds a statement with the number of its answer. It is prepared on the connection if necessary.
    pub(in crate::database) fn push(
        &mut self,
        wire: &Wire,
        sql: &'static str,
        args: &Args,
        number: Option<usize>,
    ) -> Result<(), DbError> {
        let form = wire.form;
        let expanded = statement::expanded(Dialect::Postgres(form), sql, args, 0);
        if !is_kept(&expanded.text) {
            return self.add(Kept { id: None, name: "", text: Some(&expanded.text) }, (args, form), number);
        }
        let is_known = wire.prepared.contains_key(&expanded.id)
            || self.parts.iter().any(|part| part.id == Some(expanded.id) && part.is_new);
        // A COMMIT has this name, so that tests can find it in the message.
        let name = if sql == COMMIT { sql } else { &expanded.name };
        let text = (!is_known).then_some(&*expanded.text);
        self.add(Kept { id: Some(expanded.id), name, text }, (args, form), number)
    }

    /// Adds a statement without arguments that is not kept, with the number of its answer.
    pub(in crate::database) fn push_once(&mut self, text: &str, number: usize) -> Result<(), DbError> {
        self.add(Kept { id: None, name: "", text: Some(text) }, (&Args::new(), IdForm::Unknown), Some(number))
    }

    fn add(&mut self, kept: Kept, (args, form): (&Args, IdForm), number: Option<usize>) -> Result<(), DbError> {
        let begins_at = self.bytes.len();
        let values = || {
            let columns = args.rows.iter().flat_map(|rows| &rows.columns);
            args.scalars.iter().map(Value::Scalar).chain(columns.map(|(_, column)| Value::Column(column)))
        };
        if let Some(text) = kept.text {
            frontend::parse(kept.name, text, values().map(|value| value.kind(form)), &mut self.bytes)
                .map_err(too_large)?;
            frontend::describe(b'S', kept.name, &mut self.bytes).map_err(too_large)?;
        }
        frontend::bind(
            "",
            kept.name,
            BINARY,
            values(),
            |value, bytes| value.encode(form, bytes),
            BINARY,
            &mut self.bytes,
        )
        .map_err(|error| match error {
            BindError::Conversion(error) => DbError::unsendable(error),
            BindError::Serialization(error) => too_large(error),
        })?;
        frontend::execute("", 0, &mut self.bytes).map_err(too_large)?;
        // A transaction that has only begun holds no lock.
        if self.bytes.len() > WHOLE_BYTES && self.parts.len() > 1 {
            let statement = self.bytes.split_off(begins_at);
            self.sync();
            self.bytes.extend_from_slice(&statement);
        }
        let is_commit = kept.name == COMMIT;
        self.parts.push(Part { id: kept.id, is_new: kept.text.is_some(), is_commit, number });
        Ok(())
    }

    fn sync(&mut self) {
        frontend::sync(&mut self.bytes);
        self.syncs += 1;
    }

    /// Splits the begin of the transaction from a batch with several Syncs. If the begin failed in the same message,
    /// the first Sync would end the error, and each following statement would be its own transaction.
    pub(super) fn split_long(mut self) -> (Option<Self>, Self) {
        if self.syncs == 0 || self.begin_bytes == 0 {
            return (None, self);
        }
        let (bytes, parts) = (self.bytes.split_off(self.begin_bytes), self.parts.split_off(1));
        let rest = Self { bytes, parts, syncs: self.syncs, begin_bytes: 0 };
        (Some(Self { syncs: 0, ..self }), rest)
    }

    /// The whole message.
    pub(super) fn ended(mut self) -> Self {
        self.sync();
        self
    }
}

/// A statement by its name, with its text if the connection does not have it.
struct Kept<'a> {
    id: Option<usize>,
    name: &'a str,
    text: Option<&'a str>,
}

/// PostgreSQL keeps statements that read and write rows, and those that begin and end transactions, for the life of a
/// connection. Statements that change tables or sessions are sent once.
fn is_kept(sql: &str) -> bool {
    ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH", BEGIN, COMMIT].iter().any(|word| sql.starts_with(word))
}

fn too_large(error: std::io::Error) -> DbError {
    DbError::unsendable(error.into())
}
