//! The waiting line: its state, the sagas in it, and the door.
//!
//! Promises: the state is read before the sagas, so that all that were queued by then are among them. Of the tables that
//! only grow, all rows but the last are swept; every change of the door stays. A row that no instance can drive is taken
//! out of the line by the first that reads it.

use std::sync::Arc;

use matricula_core::{Door, DoorState, LineState, QueuedSaga, Ticket};
use matricula_kit::database::{Args, DbError, Row, Rows};
use matricula_kit::telemetry::TraceContext;
use matricula_kit::time::UnixMs;
use serde::de::DeserializeOwned;

use super::peer::{CHANNEL, PeerMessage};
use super::{InstanceId, SagaStore, readable_id};
use crate::workflow::Carried;

/// The ticket of the first that is queued. It is behind that of the last claim: the database would else go through all
/// that were queued before.
macro_rules! first_queued {
    () => {
        "(SELECT q.ticket FROM sagas q WHERE q.queued = 1 AND q.ticket > \
         COALESCE((SELECT MAX(ticket) FROM line_turns), 0) ORDER BY q.ticket LIMIT 1)"
    };
}

/// The ticket up to which all have had their turn: all before the first that is queued; when none is queued, all. It
/// only grows, because new ones are queued behind all that have a ticket.
macro_rules! served {
    () => {
        concat!(
            "COALESCE(",
            $crate::store::line::first_queued!(),
            " - 1, (SELECT MAX(last_ticket) FROM line_tickets), 0)"
        )
    };
}

/// What the door lets through.
macro_rules! door_state {
    () => {
        "COALESCE((SELECT d.state FROM door d ORDER BY d.number DESC LIMIT 1), 'open')"
    };
}

/// The least bound that other instances than `$1` have noted. A bound that was not noted anew for a second is none: its
/// instance has ended or was stopped, and others do not wait for it. One of the future is none either: the clock was set
/// back.
macro_rules! others_claim_to {
    () => {
        "(SELECT MIN((SELECT CASE WHEN {now_ms} BETWEEN f.noted_at AND f.noted_at + 999 THEN f.claims_to END \
         FROM line_front f WHERE f.instance_id = i.instance_id ORDER BY f.number DESC LIMIT 1)) \
         FROM instances i WHERE i.dead = 0 AND i.instance_id <> $1)"
    };
}

pub(super) use {door_state, first_queued, others_claim_to, served};

/// As the instance `$1` has to know it.
pub(super) const LINE_STATE: &str = concat!(
    "SELECT ",
    served!(),
    " AS served, COALESCE((SELECT MAX(last_ticket) FROM line_tickets), 0) AS last, ",
    door_state!(),
    " AS door, COALESCE((SELECT d.sentence FROM door d ORDER BY d.number DESC LIMIT 1), '') AS sentence, ",
    others_claim_to!(),
    " AS claims_to"
);
const QUEUED: &str = "SELECT s.saga_id, s.ticket, s.created_at, s.request, s.traceparent, s.tracestate FROM sagas s \
     WHERE s.queued = 1 AND s.ticket > $1 ORDER BY s.ticket LIMIT $2";
/// They leave the line without an owner, so that the line does not stand at their tickets. As they were not begun, they have
/// no event, and lists show them as unreadable.
const SET_ASIDE: &str = "UPDATE sagas SET queued = 0, phase = 'running', sequence = 1, needs_attention = 1, \
     updated_at = {now_ms} WHERE queued = 1 AND ticket IN (SELECT r.ticket FROM {rows})";
const SWEEP_TICKETS: &str = "DELETE FROM line_tickets WHERE last_ticket < (SELECT MAX(last_ticket) FROM line_tickets)";
const SWEEP_FRONT: &str = "DELETE FROM line_front WHERE number < (SELECT MAX(f.number) FROM line_front f \
     WHERE f.instance_id = line_front.instance_id) OR instance_id IN (SELECT instance_id FROM instances WHERE dead = 1)";
const SWEEP_TURNS: &str = "DELETE FROM line_turns WHERE ticket < (SELECT MAX(ticket) FROM line_turns)";

/// The number is a primary key: of two changes at once, the second one fails.
const SET_DOOR: &str = "INSERT INTO door (number, changed_at, state, sentence, set_by, reason) \
     SELECT COALESCE((SELECT MAX(number) FROM door), 0) + 1, {now_ms}, $1, $2, $3, $4";
const DOOR_CHANGES: &str = "SELECT changed_at, state, sentence, set_by, reason FROM door ORDER BY number DESC LIMIT $1";

/// A saga that waits in line.
pub(crate) type Queued<R> = QueuedSaga<Arc<Carried<R>>>;

/// A change of the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorChange {
    /// When, by the database's clock.
    pub changed_at: UnixMs,
    /// The door from then on.
    pub door: Door,
    /// The registrar.
    pub set_by: String,
    /// Why, in their words.
    pub reason: String,
}

impl SagaStore {
    /// The state of the line for an instance, and at most `limit` sagas behind a ticket, in the order of their tickets.
    pub(crate) async fn read_line<R: DeserializeOwned>(
        &self,
        instance: &InstanceId,
        after: Ticket,
        limit: usize,
    ) -> Result<(LineState, Vec<Queued<R>>), DbError> {
        let state = state(self.database.fetch(LINE_STATE, Args::new().id(instance.as_str())).await?.first())?;
        if limit == 0 {
            return Ok((state, Vec::new()));
        }
        loop {
            let args = Args::new().int(i64::try_from(after.0).unwrap_or(i64::MAX)).int(limit as i64);
            let rows = self.database.fetch(QUEUED, args).await?;
            let unreadable = unreadable(&rows)?;
            if unreadable.is_empty() {
                let queued = rows.iter().filter_map(|row| queued(row).transpose());
                return Ok((state, queued.collect::<Result<_, _>>()?));
            }
            // Then they are read again: fewer sagas than the limit mean that no more are in line.
            self.set_aside(unreadable).await?;
        }
    }

    /// Takes the sagas with these tickets out of the line: their ids are no UUIDs, so no instance can drive them.
    async fn set_aside(&self, tickets: Vec<i64>) -> Result<(), DbError> {
        tracing::error!(?tickets, "sagas are taken out of the line: their ids are no UUIDs; they need attention");
        self.execute(SET_ASIDE, Args::from(Rows::new().int("ticket", tickets))).await.map(drop)
    }

    /// Changes the door for all instances.
    pub(crate) async fn set_door(&self, door: &Door, set_by: &str, reason: &str) -> Result<(), DbError> {
        let mut tx = self.database.write().await?;
        tx.send(SET_DOOR, Args::new().text(door_text(door.state)).text(&door.sentence).text(set_by).text(reason));
        tx.notify(CHANNEL, vec![PeerMessage::Queued.to_payload()]);
        tx.commit().await
    }

    /// The last changes of the door, the newest first. Without any it is open.
    pub async fn door_changes(&self, limit: i64) -> Result<Vec<DoorChange>, DbError> {
        let rows = self.database.fetch(DOOR_CHANGES, Args::new().int(limit)).await?;
        rows.iter().map(door_change).collect()
    }

    /// Takes away what is known of tickets and turns before the last, and the bounds of instances that have ended.
    pub(crate) async fn sweep_line(&self) -> Result<(), DbError> {
        let mut tx = self.database.write().await?;
        tx.send(SWEEP_TICKETS, Args::new());
        tx.send(SWEEP_TURNS, Args::new());
        tx.send(SWEEP_FRONT, Args::new());
        tx.commit().await
    }
}

/// The answer of [`LINE_STATE`].
pub(super) fn state(row: Option<&Row>) -> Result<LineState, DbError> {
    let row = row.ok_or_else(|| DbError::corrupt("the line has no state"))?;
    let ticket = |column| row.int(column).map(|number| Ticket(u64::try_from(number).unwrap_or_default()));
    let door = Door { state: state_of_door(&row.text("door")?)?, sentence: row.text("sentence")? };
    let claims_to_ms = row.opt_int("claims_to")?;
    Ok(LineState { served: ticket("served")?, last: ticket("last")?, door, claims_to_ms })
}

/// The tickets of the rows whose ids are no UUIDs.
fn unreadable(rows: &[Row]) -> Result<Vec<i64>, DbError> {
    let mut tickets = Vec::new();
    for row in rows {
        if readable_id(row)?.is_none() {
            tickets.push(row.int("ticket")?);
        }
    }
    Ok(tickets)
}

/// None for a row whose id is no UUID.
fn queued<R: DeserializeOwned>(row: &Row) -> Result<Option<Queued<R>>, DbError> {
    let Some(id) = readable_id(row)? else { return Ok(None) };
    let ticket = Ticket(u64::try_from(row.int("ticket")?).unwrap_or_default());
    let trace = TraceContext { traceparent: row.text("traceparent")?, tracestate: row.text("tracestate")? };
    let (accepted_at_ms, request) = (row.int("created_at")?, Carried::stored(&row.text("request")?, trace));
    Ok(Some(QueuedSaga { id, ticket, accepted_at_ms, request }))
}

fn door_change(row: &Row) -> Result<DoorChange, DbError> {
    Ok(DoorChange {
        changed_at: UnixMs(row.int("changed_at")?),
        door: Door { state: state_of_door(&row.text("state")?)?, sentence: row.text("sentence")? },
        set_by: row.text("set_by")?,
        reason: row.text("reason")?,
    })
}

fn door_text(state: DoorState) -> &'static str {
    match state {
        DoorState::Open => "open",
        DoorState::Paused => "paused",
        DoorState::Closed => "closed",
    }
}

fn state_of_door(text: &str) -> Result<DoorState, DbError> {
    match text {
        "open" => Ok(DoorState::Open),
        "paused" => Ok(DoorState::Paused),
        "closed" => Ok(DoorState::Closed),
        _ => Err(DbError::corrupt(format!("the door is {text:?}"))),
    }
}
