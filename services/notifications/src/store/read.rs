//! Lists, the ledger and contacts.

use matricula_kit::database::{Args, Database, DbError, Row, Rows, Tx};
use matricula_kit::id::{SagaId, StudentId};
use matricula_kit::imports::{self, ImportError};
use matricula_kit::time::UnixMs;

use super::message;
use crate::domain::retry::Undeliverable;
use crate::domain::{Contact, Message};

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
    /// The registration that it tells of.
    pub registration: Option<SagaId>,
}

/// Rows of the ledger that are read at once.
const LEDGER_PAGE: i64 = 1_000;

const LIST: &str = "SELECT * FROM messages WHERE student_id = $1 AND (recorded_at, registration_id) < ($2, $3) \
                    ORDER BY recorded_at DESC, registration_id DESC LIMIT $4";
const LEDGER: &str = "SELECT * FROM messages WHERE registration_id > $1 ORDER BY registration_id LIMIT $2";
const SET_CONTACTS: &str = "INSERT INTO contacts (student_id, email, name) \
                            SELECT student_id, email, name FROM {rows} WHERE true \
                            ON CONFLICT (student_id) DO UPDATE SET email = excluded.email, name = excluded.name";
const REMOVE_CONTACTS: &str = "DELETE FROM contacts WHERE student_id IN (SELECT r.student_id FROM {rows})";
const ALL_CONTACTS: &str = "SELECT student_id, email, name FROM contacts ORDER BY student_id";
const DELIVER_AGAIN: &str = "UPDATE messages SET undeliverable = NULL, next_delivery_at = 0 FROM {rows} \
                             WHERE messages.student_id = r.student_id AND messages.undeliverable IN ('NO_CONTACT', 'REJECTED')";

impl ListKey {
    /// Before the newest.
    pub fn newest() -> Self {
        Self { recorded_at: UnixMs(i64::MAX), registration: None }
    }
}

/// Messages of a student after a key, newest first, at most `count_max`.
pub async fn list(
    database: &Database,
    student: &StudentId,
    after: ListKey,
    count_max: i64,
) -> Result<Vec<StoredMessage>, DbError> {
    let registration = after.registration.map(String::from).unwrap_or_default();
    let args = Args::new().text(student.as_str()).int(after.recorded_at.0).id(registration).int(count_max);
    database.fetch(LIST, args).await?.iter().map(stored_message).collect()
}

/// The next messages of the ledger, in the order of registrations.
pub async fn ledger_page(tx: &mut Tx, after: &str) -> Result<Vec<StoredMessage>, DbError> {
    tx.fetch(LEDGER, Args::new().id(after).int(LEDGER_PAGE)).await?.iter().map(stored_message).collect()
}

/// Every contact, and the version of imports that they have.
pub async fn contacts(database: &Database) -> Result<(i64, Vec<Contact>), DbError> {
    let mut tx = database.snapshot().await?;
    let version = imports::version(&mut tx).await?;
    let rows = tx.fetch(ALL_CONTACTS, Args::new()).await?;
    Ok((version, rows.iter().map(contact).collect::<Result<_, _>>()?))
}

/// Sets contacts, and removes those of students who have no address any more: all or none. The dispatcher
/// delivers now what it could not deliver before to the students of the new contacts.
pub async fn import_contacts(
    database: &Database,
    base_version: i64,
    mut contacts: Vec<Contact>,
    removed: Vec<StudentId>,
) -> Result<(), ImportError> {
    // The rows are locked in one order.
    contacts.sort_by(|a, b| a.student.cmp(&b.student));
    let students = || contacts.iter().map(|contact| contact.student.as_str());
    let rows = Rows::new()
        .text("student_id", students())
        .text("email", contacts.iter().map(|contact| contact.email.as_str()))
        .text("name", contacts.iter().map(|contact| contact.name.as_str()));
    let mut tx = imports::begin(database, base_version).await?;
    tx.send(SET_CONTACTS, rows.into());
    tx.send(REMOVE_CONTACTS, Rows::new().text("student_id", removed.iter().map(StudentId::as_str)).into());
    tx.send(DELIVER_AGAIN, Rows::new().text("student_id", students()).into());
    Ok(tx.commit().await?)
}

/// The contact of a row.
pub(super) fn contact(row: &Row) -> Result<Contact, DbError> {
    Ok(Contact {
        student: StudentId::stored(row.text("student_id")?),
        email: row.text("email")?,
        name: row.text("name")?,
    })
}

fn stored_message(row: &Row) -> Result<StoredMessage, DbError> {
    let undeliverable = row.opt_text("undeliverable")?.map(|name| {
        let unknown = || DbError::corrupt(format!("a message that is not delivered because of {name}"));
        Undeliverable::from_name(&name).ok_or_else(unknown)
    });
    Ok(StoredMessage {
        message: message(row)?,
        delivered_at: row.opt_int("delivered_at")?.map(UnixMs),
        failures: row.int("delivery_failures")?,
        undeliverable: undeliverable.transpose()?,
    })
}
