//! The waiting line: its state, the sagas in it, and the door.
//!
//! Promises: the state is read before the sagas, so all sagas that were queued at that time are read. The tables of
//! tickets, turns and bounds only need their last rows; earlier ones are swept. All changes of the door are kept. The
//! first instance that reads a queued saga without a readable id takes it out of the line.

use std::sync::Arc;

use matricula_core::{Door, DoorState, LineState, QueuedSaga, Ticket};
use matricula_kit::database::{Args, DbError, Row, Rows};
use matricula_kit::telemetry::TraceContext;
use matricula_kit::time::UnixMs;
use serde::de::DeserializeOwned;

use super::peer::{CHANNEL, PeerMessage};
use super::{InstanceId, SagaStore, readable_id};
use crate::workflow::Carried;

/// The ticket of the first queued saga. The search begins after the last stored turn; otherwise the database would scan
/// the index entries of all earlier sagas.
macro_rules! first_queued {
    () => {
        "(SELECT q.ticket FROM sagas q WHERE q.queued = 1 AND q.ticket > \
         COALESCE((SELECT MAX(ticket) FROM line_turns), 0) ORDER BY q.ticket LIMIT 1)"
    };
}

/// The served ticket, up to which all sagas have had their turn: the one before the first queued saga, or the last one
/// if no saga is queued. It only grows, because new sagas get later tickets.
macro_rules! served {
    () => {
        concat!(
            "COALESCE(",
            $crate::store::line::first_queued!(),
            " - 1, (SELECT MAX(last_ticket) FROM line_tickets), 0)"
        )
    };
}

/// The state of the door.
macro_rules! door_state {
    () => {
        "COALESCE((SELECT d.state FROM door d ORDER BY d.number DESC LIMIT 1), 'open')"
    };
}

/// The least bound that living instances except `$1` have stored. A bound that is older than a second does not count,
/// because its instance has ended or is suspended. A bound of the future does not count either: the clock was set back.
macro_rules! others_claim_to {
    () => {
        "(SELECT MIN((SELECT CASE WHEN {now_ms} BETWEEN f.noted_at AND f.noted_at + 999 THEN f.claims_to END \
         FROM line_front f WHERE f.instance_id = i.instance_id ORDER BY f.number DESC LIMIT 1)) \
         FROM instances i WHERE i.dead = 0 AND i.instance_id <> $1)"
    };
}

pub(super) use {door_state, first_queued, others_claim_to, served};

/// The state of the line for the instance `$1`.
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
/// They leave the line without an owner, so that the line does not stop at their tickets. They have not begun and have
/// no event, so lists show them as unreadable.
const SET_ASIDE: &str = "UPDATE sagas SET queued = 0, phase = 'running', sequence = 1, needs_attention = 1, \
     updated_at = {now_ms} WHERE queued = 1 AND ticket IN (SELECT r.ticket FROM {rows})";
const SWEEP_TICKETS: &str = "DELETE FROM line_tickets WHERE last_ticket < (SELECT MAX(last_ticket) FROM line_tickets)";
const SWEEP_FRONT: &str = "DELETE FROM line_front WHERE number < (SELECT MAX(f.number) FROM line_front f \
     WHERE f.instance_id = line_front.instance_id) OR instance_id IN (SELECT instance_id FROM instances WHERE dead = 1)";
const SWEEP_TURNS: &str = "DELETE FROM line_turns WHERE ticket < (SELECT MAX(ticket) FROM line_turns)";

/// The number is a primary key, so the second of two concurrent changes fails.
const SET_DOOR: &str = "INSERT INTO door (number, changed_at, state, sentence, set_by, reason) \
     SELECT COALESCE((SELECT MAX(number) FROM door), 0) + 1, {now_ms}, $1, $2, $3, $4";
const DOOR_CHANGES: &str = "SELECT changed_at, state, sentence, set_by, reason FROM door ORDER BY number DESC LIMIT $1";

/// A saga that waits in line.
pub(crate) type Queued<R> = QueuedSaga<Arc<Carried<R>>>;

/// A change of the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorChange {
    /// The time of the change, by the database's clock.
    pub changed_at: UnixMs,
    /// The door after the change.
    pub door: Door,
    /// The registrar.
    pub set_by: String,
    /// The registrar's reason.
    pub reason: String,
}

impl SagaStore {
    /// The state of the line for an instance, and at most `limit` queued sagas after a ticket, in the order of their
    /// tickets.
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
            // Then the sagas are read again: fewer than the limit would mean that there are no more in line.
            self.set_aside(unreadable).await?;
        }
    }

    /// Takes the sagas with these tickets out of the line: their ids are not UUIDs, so no instance can drive them.
    async fn set_aside(&self, tickets: Vec<i64>) -> Result<(), DbError> {
        tracing::error!(?tickets, "sagas are taken out of the line: their ids are not UUIDs; they need attention");
        self.execute(SET_ASIDE, Args::from(Rows::new().int("ticket", tickets))).await.map(drop)
    }

    /// Changes the door for all instances.
    pub(crate) async fn set_door(&self, door: &Door, set_by: &str, reason: &str) -> Result<(), DbError> {
        let mut tx = self.database.write().await?;
        tx.send(SET_DOOR, Args::new().text(door_text(door.state)).text(&door.sentence).text(set_by).text(reason));
        tx.notify(CHANNEL, vec![PeerMessage::Queued.to_payload()]);
        tx.commit().await
    }

    /// The last changes of the door, the newest first. Without any change the door is open.
    pub async fn door_changes(&self, limit: i64) -> Result<Vec<DoorChange>, DbError> {
        let rows = self.database.fetch(DOOR_CHANGES, Args::new().int(limit)).await?;
        rows.iter().map(door_change).collect()
    }

    /// Deletes all stored tickets, turns and bounds except the last ones, and the bounds of dead instances.
    pub(crate) async fn sweep_line(&self) -> Result<(), DbError> {
        let mut tx = self.database.write().await?;
        tx.send(SWEEP_TICKETS, Args::new());
        tx.send(SWEEP_TURNS, Args::new());
        tx.send(SWEEP_FRONT, Args::new());
        tx.commit().await
    }
}

/// Reads the answer of [`LINE_STATE`].
pub(super) fn state(row: Option<&Row>) -> Result<LineState, DbError> {
    let row = row.ok_or_else(|| DbError::corrupt("the line has no state"))?;
    let ticket = |column| row.int(column).map(|number| Ticket(u64::try_from(number).unwrap_or_default()));
    let door = Door { state: state_of_door(&row.text("door")?)?, sentence: row.text("sentence")? };
    let claims_to_ms = row.opt_int("claims_to")?;
    Ok(LineState { served: ticket("served")?, last: ticket("last")?, door, claims_to_ms })
}

/// The tickets of the rows whose ids are not UUIDs.
fn unreadable(rows: &[Row]) -> Result<Vec<i64>, DbError> {
    let mut tickets = Vec::new();
    for row in rows {
        if readable_id(row)?.is_none() {
            tickets.push(row.int("ticket")?);
        }
    }
    Ok(tickets)
}

/// None for a row whose id is not a UUID.
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
