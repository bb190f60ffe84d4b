//! Notifications in the write path: what the store loads, the domain decides and the store writes, and what is handed
//! over to be delivered.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use matricula_kit::answer::Answer;
use matricula_kit::database::{DbError, Tx};
use matricula_kit::participant::{Operation, Participant, Reading};
use matricula_kit::time::UnixMs;

use crate::delivery::{CLAIM_ON_INSERT_MS, Waker};
use crate::domain::{self, RegistrationResult, World};
use crate::store;

#[cfg(test)]
mod tests;

/// The notification service as a participant.
pub struct Notifications {
    waker: Waker,
    /// Since when the messages of the batch that is being written are claimed by this process, if they are. The claim
    /// runs from there, however long the commit takes.
    claimed_since: Mutex<Option<Instant>>,
}

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
        match reading {
            // The key of a message refuses a second one.
            Reading::Undos => Ok(World::default()),
            Reading::All => store::load(tx, operations.iter().map(|operation| &operation.command)).await,
        }
    }

    fn decide(&self, world: &mut World, operation: &Operation<RegistrationResult>, now: UnixMs) -> Answer {
        domain::decide(world, &operation.command, now)
    }

    fn write(&self, tx: &mut Tx, world: &World, _: UnixMs) -> Result<(), DbError> {
        // Only this writer hands over, one batch after the other, so that room can't become less before the commit.
        let claimed_since = self.waker.has_room_for(world.messages.len()).then(Instant::now);
        *self.claimed_since() = claimed_since;
        store::write(tx, world, if claimed_since.is_some() { CLAIM_ON_INSERT_MS } else { 0 });
        Ok(())
    }

    fn committed(&self, world: World, _: UnixMs) {
        if world.messages.is_empty() {
            return;
        }
        if let Some(since) = self.claimed_since().take() {
            self.waker.hand_over(world.messages, since);
        }
        self.waker.wake();
    }
}
