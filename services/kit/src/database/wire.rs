//! A writing connection to PostgreSQL that sends a whole batch of statements in one message.
//!
//! ```text
//! batch:  [Parse Describe] Bind Execute   [Parse Describe] Bind Execute   ...   Sync
//! answer: [columns]        rows, count    [columns]        rows, count    ...   ready
//! ```
//!
//! A statement is parsed once per connection and kept by name. Its values are sent separately, in the binary format, so
//! that they are never parsed as SQL. Statements run one after the other. After an error the server skips everything
//! until the Sync, including a COMMIT.
//!
//! A batch is written while its answers are read: a server whose answers are not read stops reading. The connection has
//! no task of its own: only the caller of [`Wire::run`] sends and reads.

mod batch;
mod row;
mod server_error;
mod startup;
mod tls;

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, BytesMut};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::{poll_read_buf, poll_write_buf};

pub(super) use batch::Batch;
use batch::Part;
use row::Column;
pub(super) use row::WireRow;
use server_error::ServerError;

use super::DbError;
use super::ids::IdForm;

/// Size of a read: an answer of some hundred rows.
const READ_BYTES: usize = 16 * 1024;
/// Buffer size that a connection keeps between batches.
const BUFFER_KEPT_BYTES: usize = 64 * 1024;
/// SQLSTATEs of prepared statements that exist twice, no longer exist, or whose columns have changed.
const OUT_OF_STEP: [&str; 3] = ["42P05", "26000", "0A000"];
const ROLLBACK: &str = "ROLLBACK";

/// The transport of a connection: TCP or a local socket, with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

type Prepared = HashMap<usize, Arc<[Column]>>;

/// A connection. The server rolls back an open transaction when it is dropped.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    received: BytesMut,
    /// The message that is being sent.
    unsent: BytesMut,
    is_flushed: bool,
    /// Number of Syncs without an answer.
    unanswered: usize,
    /// The columns of each prepared statement.
    prepared: Prepared,
    /// Whether it may have prepared statements that are not recorded, because a batch was abandoned.
    pub(super) is_preparing: bool,
    /// The form of the ids when the session began.
    pub(super) form: IdForm,
}

/// The answer to a statement.
#[derive(Default)]
pub(super) struct Answered {
    pub(super) rows: Vec<WireRow>,
    pub(super) rows_changed: u64,
}

/// Why a batch failed.
pub(super) struct Failed {
    pub(super) error: sqlx::Error,
    /// Whether the server reported an error of a statement before the last: then the last had no effect.
    pub(super) is_before_last: bool,
    /// Whether the statement may have failed because the ids were converted.
    pub(super) is_outdated: bool,
}

impl Failed {
    /// Whether the prepared statements of the server differ from those recorded here.
    fn is_out_of_step(&self) -> bool {
        let code = self.error.as_database_error().and_then(|error| error.code());
        code.is_some_and(|code| OUT_OF_STEP.contains(&&*code))
    }
}

impl Drop for Wire {
    /// Sends a Terminate message if the connection is idle and it can be sent without waiting; otherwise the server
    /// logs a lost connection.
    fn drop(&mut self) {
        if self.unanswered == 0 && self.unsent.is_empty() {
            let (mut cx, mut bytes) = (Context::from_waker(Waker::noop()), BytesMut::new());
            frontend::terminate(&mut bytes);
            let stream = Pin::new(&mut self.stream);
            if let Poll::Ready(Ok(_)) = stream.poll_write(&mut cx, &bytes) {
                let _ = Pin::new(&mut self.stream).poll_shutdown(&mut cx);
            }
        }
    }
}

impl Wire {
    fn of(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            received: BytesMut::new(),
            unsent: BytesMut::new(),
            is_flushed: true,
            unanswered: 0,
            prepared: HashMap::new(),
            is_preparing: false,
            form: IdForm::Unknown,
        }
    }

    /// Sends a batch and reads its answers. `on_answer` gets each answer with its number in the batch. After an error
    /// the other answers are read too, so that the connection stays usable.
    pub(super) async fn run(&mut self, batch: Batch, mut on_answer: impl FnMut(usize, Answered)) -> Result<(), Failed> {
        let (begin, rest) = batch.split_long();
        if let Some(begin) = begin {
            let begun = self.exchange(begin, &mut on_answer).await;
            begun.map_err(|failed| Failed { is_before_last: true, ..failed })?;
        }
        self.exchange(rest, &mut on_answer).await
    }

    async fn exchange(&mut self, batch: Batch, on_answer: &mut impl FnMut(usize, Answered)) -> Result<(), Failed> {
        let Batch { bytes, parts, syncs, .. } = batch.ended();
        self.send(bytes, syncs);
        let was_preparing = self.is_preparing;
        let is_preparing = parts.iter().any(|part| part.is_new);
        self.is_preparing |= is_preparing;
        let mut answers = BatchAnswers::of(&parts, on_answer);
        while self.unanswered > 0 {
            match self.message().await {
                Ok(Message::ReadyForQuery(_)) => self.unanswered -= 1,
                // An answer of an abandoned batch.
                Ok(_) if self.unanswered > syncs => {}
                Ok(message) => answers.take(message, &mut self.prepared)?,
                // An error message before the end explains why the server closed the connection.
                Err(error) => {
                    return Err(answers.failed.unwrap_or_else(|| error.into()));
                }
            }
        }
        self.free_buffers();
        let Some(mut failed) = answers.failed else {
            self.is_preparing = was_preparing;
            return Ok(());
        };
        failed.is_outdated = self.form.is_outdated_by(&failed.error);
        // The server may have prepared statements that are not recorded here, or lost recorded ones, so the connection
        // is not used again. A new connection queries the form of the ids.
        self.is_preparing = was_preparing || is_preparing || failed.is_out_of_step() || failed.is_outdated;
        Err(failed)
    }

    /// Rolls back, after all earlier messages have been answered.
    pub(super) async fn rollback(&mut self) -> Result<(), DbError> {
        let mut batch = Batch::new();
        batch.push_once(ROLLBACK, 0)?;
        Ok(self.run(batch, |_, _| {}).await?)
    }

    /// Waits for any answer of the server.
    pub(super) async fn ping(&mut self) -> Result<(), DbError> {
        Ok(self.run(Batch::new(), |_, _| {}).await?)
    }

    /// Frees the memory of a large batch or row.
    fn free_buffers(&mut self) {
        for buffer in [&mut self.unsent, &mut self.received] {
            if buffer.is_empty() && buffer.capacity() > BUFFER_KEPT_BYTES {
                *buffer = BytesMut::new();
            }
        }
    }

    fn send(&mut self, bytes: BytesMut, syncs: usize) {
        if self.unsent.is_empty() {
            self.unsent = bytes;
        } else {
            self.unsent.extend_from_slice(&bytes);
        }
        self.is_flushed = false;
        self.unanswered += syncs;
    }

    /// The next answer of the server.
    async fn message(&mut self) -> io::Result<Message> {
        loop {
            match Message::parse(&mut self.received)? {
                Some(Message::NoticeResponse(_) | Message::NotificationResponse(_) | Message::ParameterStatus(_)) => {}
                Some(message) => return Ok(message),
                None => poll_fn(|cx| self.poll_exchange(cx)).await?,
            }
        }
    }

    /// Writes as much as the server accepts; ready when a message was read.
    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unsent.has_remaining() {
            match poll_write_buf(Pin::new(&mut self.stream), cx, &mut self.unsent) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if !self.is_flushed && !self.unsent.has_remaining() {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(flushed) => {
                    flushed?;
                    self.is_flushed = true;
                }
                Poll::Pending => {}
            }
        }
        self.received.reserve(READ_BYTES);
        match ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.received))? {
            0 => {
                let problem = "the server has closed the connection";
                Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem)))
            }
            _ => Poll::Ready(Ok(())),
        }
    }
}

/// The answers of one batch, in order.
struct BatchAnswers<'a, F> {
    parts: &'a [Part],
    /// The statement that is being answered.
    at: usize,
    columns: Option<Arc<[Column]>>,
    answered: Answered,
    failed: Option<Failed>,
    on_answer: F,
}

impl<'a, F: FnMut(usize, Answered)> BatchAnswers<'a, F> {
    fn of(parts: &'a [Part], on_answer: F) -> Self {
        Self { parts, at: 0, columns: None, answered: Answered::default(), failed: None, on_answer }
    }

    fn take(&mut self, message: Message, prepared: &mut Prepared) -> Result<(), Failed> {
        match message {
            // Later errors are consequences of the first.
            Message::ErrorResponse(_) if self.failed.is_some() => {}
            Message::ErrorResponse(body) => self.fail(ServerError::of(&body)?),
            // Only statements after a further Sync are answered then, and they have no effect.
            _ if self.failed.is_some() => {}
            Message::RowDescription(body) => self.describe(row::columns(&body)?, prepared)?,
            Message::NoData => self.describe(Vec::new(), prepared)?,
            Message::BindComplete => {
                let part = self.part()?;
                if let (false, Some(id)) = (part.is_new, part.id) {
                    self.columns = prepared.get(&id).cloned();
                }
            }
            Message::DataRow(body) => {
                let columns = self.columns.clone().ok_or_else(unexpected)?;
                self.answered.rows.push(WireRow::new(columns, &body));
            }
            Message::CommandComplete(body) => {
                let tag = body.tag()?;
                if tag == ROLLBACK && self.part()?.is_commit {
                    self.fail(ServerError::rolled_back());
                    self.failed.iter_mut().for_each(|failed| failed.is_before_last = true);
                    return Ok(());
                }
                self.answered.rows_changed = rows_changed(tag);
                self.end()?;
            }
            Message::EmptyQueryResponse => self.end()?,
            Message::ParseComplete | Message::ParameterDescription(_) => {}
            _ => return Err(unexpected()),
        }
        Ok(())
    }

    fn part(&self) -> Result<&'a Part, Failed> {
        self.parts.get(self.at).ok_or_else(unexpected)
    }

    fn describe(&mut self, columns: Vec<Column>, prepared: &mut Prepared) -> Result<(), Failed> {
        let columns: Arc<[Column]> = columns.into();
        if let Some(id) = self.part()?.id {
            prepared.insert(id, columns.clone());
        }
        self.columns = Some(columns);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failed> {
        let answered = std::mem::take(&mut self.answered);
        if let Some(number) = self.part()?.number {
            (self.on_answer)(number, answered);
        }
        self.at += 1;
        self.columns = None;
        Ok(())
    }

    fn fail(&mut self, error: ServerError) {
        let is_before_last = self.at + 1 < self.parts.len();
        self.failed = Some(Failed { error: error.into(), is_before_last, is_outdated: false });
    }
}

/// The number of written or read rows: the last word of `INSERT 0 5`, `UPDATE 3` or `SELECT 1`.
fn rows_changed(tag: &str) -> u64 {
    tag.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn unexpected() -> Failed {
    sqlx::Error::Protocol("the server's answer was not expected".to_owned()).into()
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self { error, is_before_last: false, is_outdated: false }
    }
}

impl From<Failed> for DbError {
    fn from(failed: Failed) -> Self {
        if failed.is_outdated { Self::IdsConverted(failed.error) } else { failed.error.into() }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        sqlx::Error::from(error).into()
    }
}

#[cfg(all(test, unix))]
mod tests;
