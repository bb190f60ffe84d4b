//! The only SQL of notifications. This module is the write path; [`queue`] is what is to be delivered, [`read`] lists,
//! the ledger and contacts.

mod queue;
mod read;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use matricula_kit::answer::Answer;
use matricula_kit::database::{Args, DbError, Row, Rows, Tx};
use matricula_kit::id::{SagaId, StudentId};
use matricula_kit::participant::{Operation, Participant, Reading};
use matricula_kit::time::UnixMs;

use crate::domain::retry::Undeliverable;
use crate::domain::{self, Message, Outcome, RegistrationResult, World};
use crate::handover::{CLAIM_ON_INSERT_MS, Waker};

pub use queue::{Claimed, Report, claim, claimed_on_insert, due_in_ms, report, waiting};
pub use read::{ListKey, StoredMessage, contacts, import_contacts, ledger_page, list};

/// The service's part in the write path.
pub struct Notifications {
    waker: Waker,
    /// Since when the messages of the batch that is being written are claimed by this process, if they are. The claim runs
    /// from there, however long the commit takes.
    claimed_since: Mutex<Option<Instant>>,
}

const TOLD: &str = "SELECT m.registration_id FROM {rows} JOIN messages m ON m.registration_id = r.registration_id";
/// Claimed for so many milliseconds by this process, or, with none, to be claimed by any.
const RECORD: &str = "INSERT INTO messages (registration_id, student_id, outcome, subject, body, recorded_at, \
                      delivery_failures, next_delivery_at) \
                      SELECT registration_id, student_id, outcome, subject, body, recorded_at, 0, \
                      CASE WHEN $1 = 0 THEN 0 ELSE {now_ms} + $1 END FROM {rows}";
const RECORD_ONLY: &str = "INSERT INTO messages (registration_id, student_id, outcome, subject, body, recorded_at, \
                           delivery_failures, undeliverable) \
                           SELECT registration_id, student_id, outcome, subject, body, recorded_at, 0, $1 FROM {rows}";

impl Notifications {
    /// Hands what each commit has recorded to the dispatcher, as long as that has room for it.
    pub fn new(waker: Waker) -> Self {
        Self { waker, claimed_since: Mutex::new(None) }
    }

    fn claimed_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.claimed_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Participant for Notifications {
    type Command = RegistrationResult;
    type World = World;

    const NAME: &'static str = crate::NAME;

    async fn load(
        &self,
        tx: &mut Tx,
        operations: &[Operation<RegistrationResult>],
        reading: Reading,
    ) -> Result<World, DbError> {
        if reading == Reading::Undos {
            // The key of a message refuses a second one.
            return Ok(World::default());
        }
        let registrations = operations.iter().map(|operation| operation.command.registration.as_str());
        let rows = Rows::new().id("registration_id", registrations);
        let mut world = World::default();
        for row in tx.fetch(TOLD, rows.into()).await? {
            world.told.insert(SagaId::stored(row.id("registration_id")?));
        }
        Ok(world)
    }

    fn decide(&self, world: &mut World, operation: &Operation<RegistrationResult>, now: UnixMs) -> Answer {
        domain::decide(world, &operation.command, now)
    }

    fn write(&self, tx: &mut Tx, world: &World, _now: UnixMs) -> Result<(), DbError> {
        let messages = &world.messages;
        // Only this writer hands over, one batch after the other, so that room can't become less before the commit.
        let claimed_since = self.waker.has_room_for(messages.len()).then(Instant::now);
        *self.claimed_since() = claimed_since;
        let claim_ms = if claimed_since.is_some() { CLAIM_ON_INSERT_MS } else { 0 };
        tx.send(RECORD, Args::new().int(claim_ms).rows(rows(messages)));
        let not_wanted = Undeliverable::NotWanted.name();
        tx.send(RECORD_ONLY, Args::new().text(not_wanted).rows(rows(&world.only_recorded)));
        Ok(())
    }

    fn committed(&self, world: World, _now: UnixMs) {
        if world.messages.is_empty() {
            return;
        }
        if let Some(since) = self.claimed_since().take() {
            self.waker.hand_over(world.messages, since);
        }
        self.waker.wake();
    }
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
    let outcome = row.text("outcome")?;
    let outcome = Outcome::ALL.into_iter().find(|known| known.name() == outcome);
    Ok(Message {
        registration: SagaId::stored(row.id("registration_id")?),
        student: StudentId::stored(row.text("student_id")?),
        outcome: outcome.ok_or_else(|| DbError::corrupt("a message with an unknown outcome"))?,
        subject: row.text("subject")?,
        body: row.text("body")?,
        recorded_at: UnixMs(row.int("recorded_at")?),
    })
}
