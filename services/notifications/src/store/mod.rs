//! The only SQL of notifications. This module is the write path. [`queue`] has what is to be delivered, [`read`] lists
//! and the ledger, and [`imports`] contacts.

mod imports;
mod queue;
mod read;

use matricula_kit::database::{Args, DbError, Row, Rows, Tx};
use matricula_kit::id::{SagaId, StudentId};
use matricula_kit::named::NamedValue as _;
use matricula_kit::time::UnixMs;

use crate::domain::retry::Undeliverable;
use crate::domain::{Message, RegistrationResult, World};

pub use imports::{contacts, import_contacts};
pub use queue::{Claimed, Report, claim, claimed_on_insert, due_in_ms, report, waiting};
pub use read::{LEDGER, ListKey, StoredMessage, list};

const RECORDED: &str = "SELECT m.registration_id FROM {rows} JOIN messages m ON m.registration_id = r.registration_id";
/// Claimed for so many milliseconds by this process, or, with none, to be claimed by any.
const RECORD: &str = "INSERT INTO messages (registration_id, student_id, outcome, subject, body, recorded_at, \
                      delivery_failures, next_delivery_at) \
                      SELECT registration_id, student_id, outcome, subject, body, recorded_at, 0, \
                      CASE WHEN $1 = 0 THEN 0 ELSE {now_ms} + $1 END FROM {rows}";
const RECORD_ONLY: &str = "INSERT INTO messages (registration_id, student_id, outcome, subject, body, recorded_at, \
                           delivery_failures, undeliverable) \
                           SELECT registration_id, student_id, outcome, subject, body, recorded_at, 0, $1 FROM {rows}";

/// Loads which of the commands' registrations have their message.
pub async fn load(tx: &mut Tx, commands: impl Iterator<Item = &RegistrationResult>) -> Result<World, DbError> {
    let rows = Rows::new().id("registration_id", commands.map(|command| command.registration.as_str()));
    let mut world = World::default();
    for row in tx.fetch(RECORDED, rows.into()).await? {
        world.recorded.insert(SagaId::stored(row.id("registration_id")?));
    }
    Ok(world)
}

/// Sends the new messages. This process claims those to deliver for `claim_ms`; with 0, any process may.
pub fn write(tx: &mut Tx, world: &World, claim_ms: i64) {
    tx.send(RECORD, Args::new().int(claim_ms).rows(rows(&world.messages)));
    let not_wanted = Undeliverable::NotWanted.name();
    tx.send(RECORD_ONLY, Args::new().text(not_wanted).rows(rows(&world.only_recorded)));
}

fn rows(messages: &[Message]) -> Rows {
    Rows::new()
        .id("registration_id", messages.iter().map(|message| message.registration.as_str()))
        .text("student_id", messages.iter().map(|message| message.student.as_str()))
        .text("outcome", messages.iter().map(|message| message.outcome.name()))
        .text("subject", messages.iter().map(|message| message.subject.as_str()))
        .text("body", messages.iter().map(|message| message.body.as_str()))
        .int("recorded_at", messages.iter().map(|message| message.recorded_at.0))
}

fn message(row: &Row) -> Result<Message, DbError> {
    Ok(Message {
        registration: SagaId::stored(row.id("registration_id")?),
        student: StudentId::stored(row.text("student_id")?),
        outcome: row.named("outcome")?,
        subject: row.text("subject")?,
        body: row.text("body")?,
        recorded_at: UnixMs(row.int("recorded_at")?),
    })
}
