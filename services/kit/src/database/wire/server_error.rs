//! An error of the server, in the same form as the driver's.

use std::borrow::Cow;
use std::{fmt, io};

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::ErrorResponseBody;
use sqlx::error::{DatabaseError, ErrorKind};

/// SQLSTATE of a statement in a failed transaction.
const IN_FAILED_TRANSACTION: &str = "25P02";

/// An error of the server.
#[derive(Debug)]
pub(super) struct ServerError {
    /// Its SQLSTATE.
    code: String,
    message: String,
    constraint: Option<String>,
    table: Option<String>,
    /// Its place in the sources of PostgreSQL.
    line: Option<String>,
}

impl ServerError {
    /// Parses an error message. <https://www.postgresql.org/docs/current/protocol-error-fields.html>
    pub(super) fn of(body: &ErrorResponseBody) -> io::Result<Self> {
        let mut error = Self { code: String::new(), message: String::new(), constraint: None, table: None, line: None };
        let mut fields = body.fields();
        while let Some(field) = fields.next()? {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => error.code = value,
                b'M' => error.message = value,
                b'n' => error.constraint = Some(value),
                b't' => error.table = Some(value),
                b'L' => error.line = Some(value),
                _ => {}
            }
        }
        Ok(error)
    }

    /// The error for a commit that the server answered with a rollback.
    pub(super) fn rolled_back() -> Self {
        let message = "a statement of the transaction had failed, so its commit rolled it back".to_owned();
        Self { code: IN_FAILED_TRANSACTION.to_owned(), message, constraint: None, table: None, line: None }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.line {
            Some(line) => write!(f, " at line {line}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ServerError {}

impl DatabaseError for ServerError {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.code))
    }

    fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
        self
    }

    fn constraint(&self) -> Option<&str> {
        self.constraint.as_deref()
    }

    fn table(&self) -> Option<&str> {
        self.table.as_deref()
    }

    fn kind(&self) -> ErrorKind {
        match &*self.code {
            "23505" => ErrorKind::UniqueViolation,
            "23503" => ErrorKind::ForeignKeyViolation,
            "23502" => ErrorKind::NotNullViolation,
            "23514" => ErrorKind::CheckViolation,
            "23P01" => ErrorKind::ExclusionViolation,
            _ => ErrorKind::Other,
        }
    }
}
