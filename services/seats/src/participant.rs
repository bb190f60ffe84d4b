//! Seats in the write path: what the store loads, the domain decides and the store writes, and what the feed
//! publishes of it.

use std::sync::Arc;

use async_trait::async_trait;
use matricula_kit::answer::Answer;
use matricula_kit::database::{Database, DbError, Tx};
use matricula_kit::participant::{Operation, Participant, Reading};
use matricula_kit::time::{TimeZone, UnixMs};

use crate::domain::{Command, World};
use crate::feed::{self, Feed};
use crate::store;

#[cfg(test)]
mod tests;

/// The seat service as a participant.
pub struct Seats {
    feed: Arc<Feed>,
    /// Whether other processes write to the same database. Then every process receives the changes from the database,
    /// its own too, so that all receive them in the order of commits.
    shared: bool,
    /// The time zone of the moments in answers.
    zone: TimeZone,
}

impl Seats {
    /// Publishes what it commits to the database to the feed.
    pub fn new(feed: Arc<Feed>, database: &Database, zone: TimeZone) -> Self {
        Self { feed, shared: database.is_shared(), zone }
    }
}

#[async_trait]
impl Participant for Seats {
    type Command = Command;
    type World = World;

    const NAME: &'static str = crate::NAME;

    async fn load(&self, tx: &mut Tx, operations: &[Operation<Command>], reading: Reading) -> Result<World, DbError> {
        let commands = operations.iter().map(|operation| &operation.command);
        store::load(tx, commands, reading, self.zone.clone()).await
    }

    fn decide(&self, world: &mut World, operation: &Operation<Command>, now: UnixMs) -> Answer {
        world.decide(&operation.command, now)
    }

    fn write(&self, tx: &mut Tx, world: &World, _: UnixMs) -> Result<(), DbError> {
        store::write(tx, world);
        if self.shared {
            feed::announce(tx, world)?;
        } else {
            self.feed.committing();
        }
        Ok(())
    }

    fn committed(&self, world: World, _: UnixMs) {
        if !self.shared {
            self.feed.publish(world.sections.into_written().collect());
        }
    }

    fn not_committed(&self) {
        if !self.shared {
            self.feed.not_committed();
        }
    }

    /// What may have been committed would be missing in the feed: it ends, and watchers begin anew when it is decided.
    fn in_doubt(&self) {
        if !self.shared {
            self.feed.close();
        }
    }

    fn settled(&self) {
        if !self.shared {
            self.feed.open();
        }
    }
}
