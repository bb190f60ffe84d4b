//! Enrollments in the write path: what the store loads, the domain decides and the store writes.

use async_trait::async_trait;
use matricula_kit::answer::Answer;
use matricula_kit::database::{DbError, Tx};
use matricula_kit::participant::{Operation, Participant, Reading};
use matricula_kit::time::UnixMs;

use crate::domain::{Command, World};
use crate::store;

#[cfg(test)]
mod tests;

/// The enrollment service as a participant.
pub struct Enrollments;

#[async_trait]
impl Participant for Enrollments {
    type Command = Command;
    type World = World;

    const NAME: &'static str = crate::NAME;

    async fn load(&self, tx: &mut Tx, operations: &[Operation<Command>], _: Reading) -> Result<World, DbError> {
        store::load(tx, operations.iter().map(|operation| &operation.command)).await
    }

    fn decide(&self, world: &mut World, operation: &Operation<Command>, now: UnixMs) -> Answer {
        world.decide(&operation.command, now)
    }

    fn write(&self, tx: &mut Tx, world: &World, _: UnixMs) -> Result<(), DbError> {
        store::write(tx, world);
        Ok(())
    }
}
