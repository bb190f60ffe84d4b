//! Lists and the ledger.

use matricula_kit::database::{Args, Database, DbError, Row};
use matricula_kit::id::{SagaId, StudentId};
use matricula_kit::pages::{KeyColumn, PagedTable};
use matricula_kit::time::UnixMs;

use super::message;
use crate::domain::Message;
use crate::domain::retry::Undeliverable;

/// A message with what became of it.
#[derive(Debug)]
pub struct StoredMessage {
    /// The message.
    pub message: Message,
    /// When a sink took it.
    pub delivered_at: Option<UnixMs>,
    /// Deliveries that failed so far.
    pub failures: i64,
    /// Why it is not delivered; `None` while it is, or is to be.
    pub undeliverable: Option<Undeliverable>,
}

/// Where a page of a student's messages begins: after this one, going back in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListKey {
    /// When it was recorded.
    pub recorded_at: UnixMs,
    /// The registration of the message.
    pub registration: SagaId,
}

/// Every message, in the order of registrations.
pub const LEDGER: PagedTable<StoredMessage> = PagedTable {
    sql: "SELECT * FROM messages WHERE registration_id > $1 ORDER BY registration_id LIMIT $2",
    key: &[KeyColumn::Id("registration_id")],
    row: stored_message,
};

const LIST: &str = "SELECT * FROM messages WHERE student_id = $1 AND (recorded_at, registration_id) < ($2, $3) \
                    ORDER BY recorded_at DESC, registration_id DESC LIMIT $4";

/// Messages of a student after a key, or from the newest on, newest first, at most `count_max`.
pub async fn list(
    database: &Database,
    student: &StudentId,
    after: Option<ListKey>,
    count_max: i64,
) -> Result<Vec<StoredMessage>, DbError> {
    let (recorded_at, registration) =
        after.map_or((i64::MAX, String::new()), |after| (after.recorded_at.0, after.registration.into()));
    let args = Args::new().text(student.as_str()).int(recorded_at).id(registration).int(count_max);
    database.fetch(LIST, args).await?.iter().map(stored_message).collect()
}

fn stored_message(row: &Row) -> Result<StoredMessage, DbError> {
    Ok(StoredMessage {
        message: message(row)?,
        delivered_at: row.opt_int("delivered_at")?.map(UnixMs),
        failures: row.int("delivery_failures")?,
        undeliverable: row.opt_named("undeliverable")?,
    })
}
