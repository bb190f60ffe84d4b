//! Academics in the write path: what the store loads, the domain decides and the store writes.

use std::sync::Arc;

use async_trait::async_trait;
use matricula_kit::answer::Answer;
use matricula_kit::database::{DbError, Tx};
use matricula_kit::participant::{Operation, Participant, Reading};
use matricula_kit::time::UnixMs;

use crate::domain::decide::{Command, World};
use crate::store::{self, AcademicStore};

#[cfg(test)]
mod tests;

/// The academic service as a participant.
pub struct Academics {
    /// Loads what it writes.
    pub store: Arc<AcademicStore>,
}

#[async_trait]
impl Participant for Academics {
    type Command = Command;
    type World = World;

    const NAME: &'static str = crate::NAME;

    async fn load(&self, tx: &mut Tx, operations: &[Operation<Command>], _: Reading) -> Result<World, DbError> {
        let commands: Vec<&Command> = operations.iter().map(|operation| &operation.command).collect();
        self.store.load(tx, &commands).await
    }

    fn decide(&self, world: &mut World, operation: &Operation<Command>, now: UnixMs) -> Answer {
        world.decide(&operation.command, now)
    }

    fn write(&self, tx: &mut Tx, world: &World, now: UnixMs) -> Result<(), DbError> {
        store::write(tx, world, now);
        Ok(())
    }
}
