//! Group commit: admissions, a claim and appends of many sagas in one transaction, fenced by the instance's lease.
//!
//! It goes to the database in one message, together with its COMMIT: an instance that is stopped in the middle of it
//! holds no lock.
//!
//! | statements | of |
//! |---|---|
//! | fence, with the lock of the tickets for admissions | every commit |
//! | `ADMIT` with the last ticket | admissions |
//! | lock of the turns, `CLAIM` | a claim |
//! | `ADVANCE` | appends |
//! | `LOG` | events that do not belong into the rows of their sagas |
//! | the turns that are over | a claim |
//! | how far other instances may claim | every commit of the log while there is a line |
//! | the state of the line | admissions, a claim |
//!
//! Each statement changes nothing when the instance has been marked dead, and nothing that an earlier try of the same
//! commit has changed: it looks first, because PostgreSQL pays for each row that `ON CONFLICT` watches. Tickets are given
//! behind one lock that is held to the commit: their order is that of commits.
//!
//! PostgreSQL changes two tables by one statement: `ADMIT_SHARED` gives the tickets, too, and `ADVANCE_SHARED` writes to
//! `saga_events`. A statement more costs PostgreSQL about as much as ten rows.

use std::collections::{HashMap, HashSet};
use std::slice;
use std::sync::Arc;

use matricula_core::{
    AdmissionOutcome, Append, AppendOutcome, Claim, Commit, Door, DoorState, LineState, SagaId, Ticket, Turn,
};
use matricula_engine::Recorded;
use matricula_kit::database::{Args, DbError, PendingQuery, Row, Rows, Tx};

use super::entry::{entry_in_row, entry_text, is_in_row};
use super::line::{self, LINE_STATE};
use super::{FENCE, InstanceId, NewSaga, SagaStore, StoreError, saga_id};
use crate::workflow::Carried;

/// An instance is not marked dead: the fence has a lock on its row, or has waited for the mark.
macro_rules! alive {
    () => {
        "EXISTS (SELECT 1 FROM instances WHERE instance_id = $1 AND dead = 0)"
    };
}

/// On PostgreSQL: the fence, and the lock behind which tickets are given. What follows sees all tickets that were given
/// before it.
const FENCE_AND_LOCK_TICKETS: &str = "SELECT i.instance_id FROM instances i CROSS JOIN line_locks l \
     WHERE i.instance_id = $1 AND i.dead = 0 AND l.name = 'tickets' FOR SHARE OF i FOR UPDATE OF l";
const LOCK_TURNS: &str = "SELECT name FROM line_locks WHERE name = 'turns' {for_update}";

/// What has a new key. A key of the archive is taken, too. Subqueries and not joins: PostgreSQL would go through all
/// receipts for a large batch.
macro_rules! is_new {
    () => {
        "(SELECT s.saga_id FROM sagas s WHERE s.subject = r.subject AND s.idempotency_key = r.idempotency_key) IS NULL \
         AND (SELECT a.saga_id FROM receipts a WHERE a.subject = r.subject AND a.idempotency_key = r.idempotency_key) IS NULL"
    };
}

/// How many sagas of a subject have no outcome.
macro_rules! open_of {
    ($row:literal) => {
        concat!("(SELECT COUNT(o.ticket) FROM sagas o WHERE o.subject = ", $row, ".subject AND o.outcome = 'pending')")
    };
}

/// Accepts the rows of `n` within the quota of their subjects: `n.open` sagas of the subject have no outcome, and this is
/// the `n.nth` new one of it.
///
/// A saga begins when its instance keeps a slot for it, none is queued, and the door lets it through; all others are
/// queued. What staff submit passes the door and the quota. A ticket that is given to no saga is passed over with the
/// turns.
macro_rules! admit {
    ($insert:literal, $new:expr, $then:expr) => {
        concat!(
            "WITH l AS MATERIALIZED (SELECT COALESCE((SELECT MAX(last_ticket) FROM line_tickets), 0) AS last, ",
            line::first_queued!(),
            " AS first_queued, ",
            line::door_state!(),
            " AS door, {now_ms} AS now_ms), n AS ",
            $new,
            " ",
            $insert,
            " INTO sagas (saga_id, definition, version, subject, idempotency_key, fingerprint, request, \
             traceparent, tracestate, created_at, ticket, queued, owner, sequence, phase, outcome, needs_attention, \
             finished, updated_at, log) SELECT a.saga_id, $2, $3, a.subject, a.idempotency_key, a.fingerprint, \
             a.request, a.traceparent, a.tracestate, a.now_ms, a.ticket, 1 - a.is_begun, \
             CASE WHEN a.is_begun = 1 THEN $1 ELSE '' END, a.is_begun, \
             CASE WHEN a.is_begun = 1 THEN 'running' ELSE 'queued' END, 'pending', 0, 0, a.now_ms, \
             CASE WHEN a.is_begun = 1 THEN a.entry ELSE '' END \
             FROM (SELECT n.*, l.now_ms, l.last + n.number AS ticket, CASE WHEN n.begins = 1 AND l.first_queued IS NULL \
             AND (n.is_by_staff = 1 OR l.door = 'open') THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END AS is_begun \
             FROM n CROSS JOIN l WHERE n.is_by_staff = 1 OR (l.door <> 'closed' AND n.open + n.nth <= $4)) a WHERE ",
            alive!(),
            " RETURNING saga_id, ticket, queued",
            $then
        )
    };
}

/// On PostgreSQL, with the last ticket that it gives.
macro_rules! admit_shared {
    ($new:expr) => {
        admit!(
            ", admitted AS (INSERT",
            $new,
            "), given AS (INSERT INTO line_tickets (last_ticket) SELECT MAX(ticket) FROM admitted HAVING COUNT(*) > 0) \
             SELECT saga_id, ticket, queued FROM admitted"
        )
    };
}

/// Of rows with a subject each: nothing is to be counted among them. Materialized, because PostgreSQL would count the
/// open sagas once to leave rows out and once to join them.
macro_rules! one_each {
    () => {
        concat!(
            "MATERIALIZED (SELECT r.*, CAST(1 AS BIGINT) AS nth, ",
            open_of!("r"),
            " AS open FROM {rows} WHERE ",
            is_new!(),
            ")"
        )
    };
}

/// Of rows that may share subjects; those without an outcome are counted once for each.
macro_rules! several_each {
    () => {
        concat!(
            "(SELECT k.*, MAX(k.counted) OVER (PARTITION BY k.subject) AS open FROM (SELECT m.*, \
             CASE WHEN m.nth = 1 THEN ",
            open_of!("m"),
            " ELSE 0 END AS counted FROM (SELECT r.*, row_number() OVER (PARTITION BY r.subject ORDER BY r.number) AS nth \
             FROM {rows} WHERE ",
            is_new!(),
            ") m) k)"
        )
    };
}

const ADMIT_ONE_EACH: &str = admit!("INSERT", one_each!(), "");
const ADMIT: &str = admit!("INSERT", several_each!(), "");
const ADMIT_ONE_EACH_SHARED: &str = admit_shared!(one_each!());
const ADMIT_SHARED: &str = admit_shared!(several_each!());
/// Each by its primary key, whatever the database thinks of how many there are.
const GIVE_TICKETS: &str = concat!(
    "INSERT INTO line_tickets (last_ticket) SELECT t.last_ticket FROM \
     (SELECT MAX((SELECT s.ticket FROM sagas s WHERE s.saga_id = r.saga_id)) AS last_ticket FROM {rows}) t \
     WHERE t.last_ticket > COALESCE((SELECT MAX(last_ticket) FROM line_tickets), 0) AND ",
    alive!()
);
/// What the keys belong to that were not accepted now, and whether each has begun as the instance `$1` begins sagas: with
/// version `$2`, when it was accepted. One that waited, was claimed by another instance and was adopted has not.
const EXISTING: &str = "SELECT s.saga_id, s.subject, s.idempotency_key, s.fingerprint, s.ticket, \
     CASE WHEN s.owner = $1 AND s.sequence = 1 AND s.version = $2 AND s.updated_at = s.created_at \
     THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END AS has_begun FROM {rows} \
     JOIN sagas s ON s.subject = r.subject AND s.idempotency_key = r.idempotency_key UNION ALL \
     SELECT a.saga_id, a.subject, a.idempotency_key, a.fingerprint, CAST(0 AS BIGINT), CAST(0 AS BIGINT) FROM {rows} \
     JOIN receipts a ON a.subject = r.subject AND a.idempotency_key = r.idempotency_key";

/// It begins by the definition of its instance. What other instances have at work is looked at here again, behind the lock
/// of all claims: they may have claimed since this one has read the line, and a saga that can't be claimed keeps the served
/// ticket from saying so. `queued + 0`: the sagas are found by their ids, and not by going through
/// the line, which the database takes for empty when it was empty last night.
const CLAIM: &str = concat!(
    "UPDATE sagas SET owner = $1, queued = 0, phase = 'running', sequence = 1, updated_at = r.at, definition = $3, \
     version = $4, log = r.entry FROM {rows} \
     WHERE sagas.saga_id = r.saga_id AND sagas.queued + 0 = 1 AND (r.is_out_of_order = 1 OR ($2 = ",
    line::served!(),
    " AND ",
    line::door_state!(),
    " <> 'paused' AND sagas.created_at <= COALESCE(",
    line::others_claim_to!(),
    ", sagas.created_at))) AND ",
    alive!(),
    " RETURNING sagas.saga_id"
);
/// The next look for the first that is queued begins behind these turns.
const PASS_TURNS: &str = concat!(
    "INSERT INTO line_turns (ticket) SELECT t.ticket FROM (SELECT ",
    line::served!(),
    " AS ticket) t WHERE t.ticket > COALESCE((SELECT MAX(ticket) FROM line_turns), 0) AND ",
    alive!()
);

/// An earlier try of the same commit has moved the saga on, and then this changes nothing.
macro_rules! advance {
    () => {
        concat!(
            "UPDATE sagas SET sequence = r.reached, phase = r.phase, outcome = r.outcome, \
             needs_attention = r.needs_attention, finished = r.finished, updated_at = r.updated_at, \
             log = sagas.log || r.entry FROM {rows} \
             WHERE sagas.saga_id = r.saga_id AND sagas.sequence = r.sequence - 1 AND sagas.owner = $1 AND ",
            alive!(),
            " RETURNING sagas.saga_id"
        )
    };
}

const ADVANCE: &str = advance!();
/// On PostgreSQL, with rows of `saga_events` for entries that do not belong into the rows of their sagas.
const ADVANCE_SHARED: &str = concat!(
    "WITH advanced AS (",
    advance!(),
    ", r.sequence, r.at, r.event), logged AS (INSERT INTO saga_events (saga_id, sequence, at, event) \
     SELECT saga_id, sequence, at, event FROM advanced WHERE event <> '') SELECT saga_id FROM advanced"
);

/// Of sagas that this commit, or an earlier try of it, has brought to the sequence of their last event: only the owner
/// does that. What an earlier try has written is seen, because the statements before have waited for its end.
const LOG: &str = concat!(
    "INSERT INTO saga_events (saga_id, sequence, at, event) SELECT r.saga_id, r.sequence, r.at, r.event FROM {rows} \
     WHERE (SELECT s.owner FROM sagas s WHERE s.saga_id = r.saga_id AND s.sequence = r.reached) = $1 \
     AND (SELECT e.saga_id FROM saga_events e WHERE e.saga_id = r.saga_id AND e.sequence = r.sequence) IS NULL AND ",
    alive!()
);
/// How far other instances may claim. A claim that has missed has nothing at work: `$4` is one of its sagas, or empty.
const NOTE_FRONT: &str = concat!(
    "INSERT INTO line_front (instance_id, number, claims_to, noted_at) SELECT $1, $2, $3, {now_ms} WHERE ",
    alive!(),
    " AND ($4 = '' OR (SELECT s.owner FROM sagas s WHERE s.saga_id = $4) = $1) \
     AND NOT EXISTS (SELECT 1 FROM line_front f WHERE f.instance_id = $1 AND f.number = $2)"
);
/// What an earlier try has claimed: with the version `$2` and the time of this claim. What another instance had claimed,
/// and this one has adopted since, began otherwise.
const CLAIMED_BEFORE: &str = "SELECT r.saga_id FROM {rows} WHERE (SELECT s.owner FROM sagas s \
     WHERE s.saga_id = r.saga_id AND s.sequence = 1 AND s.version = $2 AND s.updated_at = r.at) = $1";
/// What an earlier try has appended.
const APPENDED_BEFORE: &str = "SELECT r.saga_id FROM {rows} \
     WHERE (SELECT s.owner FROM sagas s WHERE s.saga_id = r.saga_id AND s.sequence = r.reached) = $1";

/// How a commit is written: by whom, and within which bounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteAs<'a> {
    pub instance: &'a InstanceId,
    /// Name and version of the definition that its sagas begin with.
    pub definition: (&'a str, u32),
    /// Sagas without an outcome that one subject may have.
    pub subject_open_max: usize,
}

/// What came of a commit, in the order of its rows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub admissions: Vec<AdmissionOutcome>,
    pub claimed: Vec<bool>,
    pub appends: Vec<AppendOutcome>,
    /// The line as it is then, of a commit with admissions or a claim.
    pub line: Option<LineState>,
}

impl SagaStore {
    /// Writes a commit. After an error it is not known whether it took effect: the same call again is answered rightly
    /// either way.
    pub(crate) async fn write<R>(
        &self,
        as_of: WriteAs<'_>,
        commit: &Commit<Arc<Carried<R>>>,
    ) -> Result<Written, StoreError> {
        let instance = as_of.instance.as_str();
        let Commit { number, admissions, claim, appends, others_claim_to_ms } = commit;
        // A repeat of a key within the commit is answered by what became of the first.
        let firsts = firsts(admissions);
        let turns = claim.as_ref().map_or(&[][..], |claim| claim.turns.as_slice());
        let form = Form { is_shared: self.database.is_shared(), is_compact: self.is_compact() };
        let mut tx = self.database.write().await?;
        let fences = if form.is_shared && !firsts.is_empty() { FENCE_AND_LOCK_TICKETS } else { FENCE };
        let fence = tx.queue(fences, Args::new().id(instance));
        let inserted = queue_admissions(&mut tx, as_of, &firsts, form)?;
        let claimed = queue_claim(&mut tx, as_of, claim.as_ref(), form)?;
        let advanced = queue_appends(&mut tx, instance, appends, form)?;
        if !form.is_compact {
            let begun = firsts.iter().filter_map(|(_, saga)| Some((saga.id, slice::from_ref(saga.first.as_ref()?))));
            let claimed = turns.iter().map(|turn| (turn.saga, slice::from_ref(&turn.first)));
            queue_log(&mut tx, instance, begun.chain(claimed), form)?;
        }
        // Without other instances nobody would read it.
        if let Some(claims_to) = others_claim_to_ms.filter(|_| self.database.is_shared()) {
            let claimed = turns.iter().find(|turn| !turn.is_out_of_order).map(|turn| turn.saga.to_string());
            let args = Args::new().id(instance).int(number.number as i64).int(claims_to);
            tx.send(NOTE_FRONT, args.id(claimed.unwrap_or_default()));
        }
        let line = (!admissions.is_empty() || claim.is_some()).then(|| {
            if claim.is_some() {
                tx.send(PASS_TURNS, Args::new().id(instance));
            }
            tx.queue(LINE_STATE, Args::new().id(instance))
        });

        let mut answers = tx.commit_answered().await.map_err(DbError::from)?;
        if answers.rows(fence).is_empty() {
            return Err(StoreError::Fenced);
        }
        let line = line.map(|line| line::state(answers.rows(line).first())).transpose()?;
        let claimed = claimed.map(|claimed| answers.rows(claimed)).unwrap_or_default();
        let claimed = self.claimed(as_of, turns, &claimed).await?;
        let appended = self.appended(instance, appends, &answers.rows(advanced)).await?;
        let inserted = inserted.map(|inserted| answers.rows(inserted)).unwrap_or_default();
        let door = line.as_ref().map(|line| line.door.clone()).unwrap_or_default();
        let admissions = self.admitted(as_of, admissions, &inserted, &door).await?;
        let outcome = |stands: &bool| if *stands { AppendOutcome::Appended } else { AppendOutcome::Conflict };
        Ok(Written { admissions, claimed, appends: appended.iter().map(outcome).collect(), line })
    }

    /// Which turns have come: by this commit, or by an earlier try of it.
    async fn claimed(&self, as_of: WriteAs<'_>, turns: &[Turn], returned: &[Row]) -> Result<Vec<bool>, DbError> {
        let mut claimed = returned.iter().map(saga_id).collect::<Result<HashSet<_>, _>>()?;
        let others: Vec<&Turn> = turns.iter().filter(|turn| !claimed.contains(&turn.saga)).collect();
        if !others.is_empty() {
            let rows = Rows::new()
                .id("saga_id", others.iter().map(|turn| turn.saga.to_string()))
                .int("at", others.iter().map(|turn| turn.first.at_ms));
            let args = Args::new().id(as_of.instance.as_str()).int(i64::from(as_of.definition.1));
            for row in self.database.fetch(CLAIMED_BEFORE, args.rows(rows)).await? {
                claimed.insert(saga_id(&row)?);
            }
        }
        Ok(turns.iter().map(|turn| claimed.contains(&turn.saga)).collect())
    }

    /// Which appends stand: by this commit, or by an earlier try of it.
    async fn appended(&self, instance: &str, appends: &[Append], returned: &[Row]) -> Result<Vec<bool>, DbError> {
        let mut appended = returned.iter().map(saga_id).collect::<Result<HashSet<_>, _>>()?;
        let others: Vec<&Append> = appends.iter().filter(|append| !appended.contains(&append.saga)).collect();
        if !others.is_empty() {
            let rows = Rows::new()
                .id("saga_id", others.iter().map(|append| append.saga.to_string()))
                .int("reached", others.iter().map(|append| last(append)));
            for row in self.database.fetch(APPENDED_BEFORE, Args::new().id(instance).rows(rows)).await? {
                appended.insert(saga_id(&row)?);
            }
        }
        Ok(appends.iter().map(|append| appended.contains(&append.saga)).collect())
    }

    /// How each admission has ended. Those that were not inserted are looked for by their keys.
    async fn admitted<R>(
        &self,
        as_of: WriteAs<'_>,
        sagas: &[NewSaga<R>],
        inserted: &[Row],
        door: &Door,
    ) -> Result<Vec<AdmissionOutcome>, DbError> {
        let mut begun = HashMap::with_capacity(inserted.len());
        for row in inserted {
            begun.insert(saga_id(row)?, (ticket(row)?, row.int("queued")? == 0));
        }
        let others: Vec<&NewSaga<R>> = sagas.iter().filter(|saga| !begun.contains_key(&saga.id)).collect();
        let mut existing = HashMap::new();
        if !others.is_empty() {
            let rows = Rows::new()
                .text("subject", others.iter().map(|saga| &saga.subject))
                .text("idempotency_key", others.iter().map(|saga| &saga.key));
            let args = Args::new().id(as_of.instance.as_str()).int(i64::from(as_of.definition.1)).rows(rows);
            for row in self.database.fetch(EXISTING, args).await? {
                let has_begun = row.int("has_begun")? == 1;
                let found = (saga_id(&row)?, row.text("fingerprint")?, ticket(&row)?, has_begun);
                existing.insert((row.text("subject")?, row.text("idempotency_key")?), found);
            }
        }
        let accepted = |ticket, begins| {
            if begins { AdmissionOutcome::Begun { ticket } } else { AdmissionOutcome::Queued { ticket } }
        };
        let outcome = |saga: &NewSaga<R>| {
            if let Some((ticket, begins)) = begun.get(&saga.id) {
                return accepted(*ticket, *begins);
            }
            match existing.get(&(saga.subject.clone(), saga.key.clone())) {
                // An earlier try of this very commit took effect though it reported an error.
                Some((id, _, ticket, has_begun)) if *id == saga.id => accepted(*ticket, *has_begun),
                Some((id, fingerprint, ..)) => {
                    AdmissionOutcome::Existing { id: *id, same_request: *fingerprint == saga.fingerprint }
                }
                None if door.state == DoorState::Closed => AdmissionOutcome::Closed { sentence: door.sentence.clone() },
                None => AdmissionOutcome::OverQuota,
            }
        };
        Ok(sagas.iter().map(outcome).collect())
    }
}

/// The first admission of each key, with its number in the order of arrival.
fn firsts<R>(sagas: &[NewSaga<R>]) -> Vec<(i64, &NewSaga<R>)> {
    let mut keys = HashSet::with_capacity(sagas.len());
    (1..).zip(sagas.iter().filter(|saga| keys.insert((&saga.subject, &saga.key)))).collect()
}

/// Which forms of statements and of rows a database takes.
#[derive(Debug, Clone, Copy)]
struct Form {
    is_shared: bool,
    is_compact: bool,
}

fn queue_admissions<R>(
    tx: &mut Tx,
    as_of: WriteAs<'_>,
    sagas: &[(i64, &NewSaga<R>)],
    form: Form,
) -> Result<Option<PendingQuery>, DbError> {
    if sagas.is_empty() {
        return Ok(None);
    }
    let of = || sagas.iter().map(|(_, saga)| *saga);
    let entries = of().map(|saga| first_entry(saga.id, saga.first.as_ref(), form));
    let rows = Rows::new()
        .id("saga_id", of().map(|saga| saga.id.to_string()))
        .text("subject", of().map(|saga| &saga.subject))
        .text("idempotency_key", of().map(|saga| &saga.key))
        .text("fingerprint", of().map(|saga| &saga.fingerprint))
        .text("request", of().map(|saga| saga.request.unstored()))
        .text("traceparent", of().map(|saga| &saga.request.submitted.traceparent))
        .text("tracestate", of().map(|saga| &saga.request.submitted.tracestate))
        .text("entry", entries.collect::<Result<Vec<_>, _>>()?)
        .int("number", sagas.iter().map(|(number, _)| *number))
        .int("begins", of().map(|saga| i64::from(saga.first.is_some())))
        .int("is_by_staff", of().map(|saga| i64::from(saga.is_by_staff)));
    let instance = as_of.instance.as_str();
    let (name, version) = (as_of.definition.0, i64::from(as_of.definition.1));
    let args = Args::new().id(instance).text(name).int(version).int(as_of.subject_open_max as i64);
    let has_one_each = of().map(|saga| &saga.subject).collect::<HashSet<_>>().len() == sagas.len();
    let admit = match (form.is_shared, has_one_each) {
        (true, true) => ADMIT_ONE_EACH_SHARED,
        (true, false) => ADMIT_SHARED,
        (false, true) => ADMIT_ONE_EACH,
        (false, false) => ADMIT,
    };
    let inserted = tx.queue(admit, args.rows(rows));
    if !form.is_shared {
        let ids = Rows::new().id("saga_id", of().map(|saga| saga.id.to_string()));
        tx.send(GIVE_TICKETS, Args::new().id(instance).rows(ids));
    }
    Ok(Some(inserted))
}

/// The entry in the row of a saga that begins.
fn first_entry(saga: SagaId, first: Option<&Recorded>, form: Form) -> Result<String, DbError> {
    match first {
        Some(first) if form.is_compact => entry_in_row(saga, slice::from_ref(first)),
        _ => Ok(String::new()),
    }
}

fn queue_claim(
    tx: &mut Tx,
    as_of: WriteAs<'_>,
    claim: Option<&Claim>,
    form: Form,
) -> Result<Option<PendingQuery>, DbError> {
    let Some(Claim { after, turns }) = claim else { return Ok(None) };
    let entries = turns.iter().map(|turn| first_entry(turn.saga, Some(&turn.first), form));
    let rows = Rows::new()
        .id("saga_id", turns.iter().map(|turn| turn.saga.to_string()))
        .int("is_out_of_order", turns.iter().map(|turn| i64::from(turn.is_out_of_order)))
        .int("at", turns.iter().map(|turn| turn.first.at_ms))
        .text("entry", entries.collect::<Result<Vec<_>, _>>()?);
    tx.send(LOCK_TURNS, Args::new());
    let (name, version) = (as_of.definition.0, i64::from(as_of.definition.1));
    let args = Args::new().id(as_of.instance.as_str()).int(after.0 as i64).text(name).int(version);
    Ok(Some(tx.queue(CLAIM, args.rows(rows))))
}

/// Queues the appends. The query returns the sagas that were appended to.
fn queue_appends(tx: &mut Tx, instance: &str, appends: &[Append], form: Form) -> Result<PendingQuery, DbError> {
    let (mut in_row, mut later) = (Vec::with_capacity(appends.len()), Vec::new());
    for append in appends {
        let is_in_row = form.is_compact && is_in_row(&append.events);
        in_row.push(if is_in_row { entry_in_row(append.saga, &append.events)? } else { String::new() });
        later.push((append.saga, if is_in_row { &[][..] } else { append.events.as_slice() }));
    }
    let rows = Rows::new()
        .id("saga_id", appends.iter().map(|append| append.saga.to_string()))
        .int("sequence", appends.iter().map(first))
        .int("reached", appends.iter().map(last))
        .text("phase", appends.iter().map(|append| append.summary.phase))
        .text("outcome", appends.iter().map(|append| append.summary.outcome))
        .int("needs_attention", appends.iter().map(|append| i64::from(append.summary.needs_attention)))
        .int("finished", appends.iter().map(|append| i64::from(append.summary.finished)))
        .int("updated_at", appends.iter().map(|append| append.events.last().map_or(0, |event| event.at_ms)))
        .text("entry", in_row);
    let args = Args::new().id(instance);
    let has_later = later.iter().any(|(_, events)| !events.is_empty());
    if form.is_shared && has_later {
        let texts = later.iter().map(|(saga, events)| match events {
            [] => Ok(String::new()),
            events => entry_text(*saga, events, form.is_compact),
        });
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        let times = appends.iter().map(|append| append.events.first().map_or(0, |event| event.at_ms));
        return Ok(tx.queue(ADVANCE_SHARED, args.rows(rows.int("at", times).text("event", texts))));
    }
    let advanced = tx.queue(ADVANCE, args.rows(rows));
    queue_log(tx, instance, later.into_iter(), form)?;
    Ok(advanced)
}

/// Queues events as rows of `saga_events`.
fn queue_log<'a>(
    tx: &mut Tx,
    instance: &str,
    entries: impl Iterator<Item = (SagaId, &'a [Recorded])>,
    form: Form,
) -> Result<(), DbError> {
    let (mut sagas, mut sequences, mut reached) = (Vec::new(), Vec::new(), Vec::new());
    let (mut times, mut texts) = (Vec::new(), Vec::new());
    for (saga, events) in entries {
        let [first, ..] = events else { continue };
        sagas.push(saga.to_string());
        sequences.push(first.sequence as i64);
        reached.push(first.sequence as i64 + events.len() as i64 - 1);
        times.push(first.at_ms);
        texts.push(entry_text(saga, events, form.is_compact)?);
    }
    let rows = Rows::new()
        .id("saga_id", sagas)
        .int("sequence", sequences)
        .int("reached", reached)
        .int("at", times)
        .text("event", texts);
    tx.send(LOG, Args::new().id(instance).rows(rows));
    Ok(())
}

fn ticket(row: &Row) -> Result<Ticket, DbError> {
    Ok(Ticket(u64::try_from(row.int("ticket")?).unwrap_or_default()))
}

fn first(append: &Append) -> i64 {
    append.events.first().map_or(0, |event| event.sequence as i64)
}

fn last(append: &Append) -> i64 {
    append.events.last().map_or(0, |event| event.sequence as i64)
}
