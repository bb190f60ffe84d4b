//! Fees in the write path: what the store loads, the domain decides and the store writes.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use matricula_kit::answer::Answer;
use matricula_kit::database::{DbError, Tx};
use matricula_kit::participant::{Operation, Participant, Reading};
use matricula_kit::time::UnixMs;

use crate::domain::{self, Command, World};
use crate::store;

#[cfg(test)]
mod tests;

/// The fee service as a participant.
#[derive(Debug, Default)]
pub struct Fees {
    /// Whether this process has posted something: then the currency never changes again.
    has_posted: AtomicBool,
}

#[async_trait]
impl Participant for Fees {
    type Command = Command;
    type World = World;

    const NAME: &'static str = crate::NAME;

    async fn load(&self, tx: &mut Tx, operations: &[Operation<Command>], reading: Reading) -> Result<World, DbError> {
        let commands: Vec<&Command> = operations.iter().map(|operation| &operation.command).collect();
        store::load(tx, &commands, reading, !self.has_posted.load(Ordering::Relaxed)).await
    }

    fn decide(&self, world: &mut World, operation: &Operation<Command>, now: UnixMs) -> Answer {
        domain::decide(world, &operation.command, now)
    }

    fn write(&self, tx: &mut Tx, world: &World, _: UnixMs) -> Result<(), DbError> {
        store::write(tx, world);
        Ok(())
    }

    fn committed(&self, world: World, _: UnixMs) {
        if !world.postings.is_empty() {
            self.has_posted.store(true, Ordering::Relaxed);
        }
    }
}
