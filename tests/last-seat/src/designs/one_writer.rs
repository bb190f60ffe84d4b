//! One writer a batch: the kit's writer with the tables of the other designs. Waiting requests are decided one after
//! the other in memory and committed at once; the row is locked once a batch.
//!
//! It has no barrier and no feed, because the other designs have none either. The seat service has both.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use matricula_kit::answer::{Answer, Reason, Refusal};
use matricula_kit::database::{Database, DbError, Tx};
use matricula_kit::id::SectionId;
use matricula_kit::participant::{Operation, Participant, Reading, Writer, WriterLimits};
use matricula_kit::time::UnixMs;

use super::{Decided, Decision, Design, SeatRequest};
use crate::store::{Section, batch};

/// The handle of the one writer.
pub struct OneWriter {
    writer: Writer<Sections>,
    database: Database,
}

/// The smallest possible participant.
struct Sections;

/// The sections that a batch has locked, and the seats that it grants.
struct World {
    sections: BTreeMap<SectionId, Section>,
    granted: Vec<SeatRequest>,
}

impl OneWriter {
    /// Starts it with existing tables.
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        let database = Database::open(url).await?;
        // The task ends with the last handle.
        let (writer, running) = Writer::new(Arc::new(Sections), database.clone(), WriterLimits::default());
        tokio::spawn(running);
        Ok(Self { writer, database })
    }
}

#[async_trait]
impl Design for OneWriter {
    async fn request(&self, request: &SeatRequest) -> anyhow::Result<Decided> {
        let answers = self.writer.write(vec![Operation::staff(request.clone())]).await?;
        decision(answers.into_iter().next().context("no answer")?)
    }

    async fn close(&self) {
        self.database.close().await;
    }
}

fn decision(answer: Answer) -> anyhow::Result<Decided> {
    let decision = match answer {
        Answer::Done(_) => Decision::Granted,
        Answer::Refused(_) => Decision::Refused,
        Answer::NotYet(why) => anyhow::bail!("not decided: {}", why.message),
    };
    Ok(Decided { decision, retries: 0 })
}

#[async_trait]
impl Participant for Sections {
    type Command = SeatRequest;
    type World = World;

    const NAME: &'static str = "last_seat";

    async fn load(&self, tx: &mut Tx, operations: &[Operation<SeatRequest>], _: Reading) -> Result<World, DbError> {
        let sections = batch::lock(tx, operations.iter().map(|operation| &operation.command.section)).await?;
        Ok(World { sections, granted: Vec::new() })
    }

    fn decide(&self, world: &mut World, operation: &Operation<SeatRequest>, _: UnixMs) -> Answer {
        let request = &operation.command;
        match world.sections.get_mut(&request.section) {
            Some(section) if section.taken < section.capacity => {
                section.taken += 1;
                world.granted.push(request.clone());
                Answer::done()
            }
            _ => Answer::Refused(vec![Refusal::section(Reason::ClosedSection, &request.section, "It is full.", "")]),
        }
    }

    fn write(&self, tx: &mut Tx, world: &World, _: UnixMs) -> Result<(), DbError> {
        if !world.granted.is_empty() {
            batch::insert_holds(tx, &world.granted);
            batch::update(tx, &world.sections);
        }
        Ok(())
    }
}
