//! Group commit: admissions, a claim and appends of many sagas in one transaction, fenced by the instance's lease.
//!
//! All statements and the COMMIT go to the database in one message. So an instance that is suspended during a commit
//! holds no lock.
//!
//! | statements | for |
//! |---|---|
//! | fence, with the lock of the tickets for admissions | every commit |
//! | `ADMIT` with the last ticket | admissions |
//! | lock of the turns, `CLAIM` | a claim |
//! | `ADVANCE` | appends |
//! | `LOG` | events that do not belong into the rows of their sagas |
//! | `PASS_TURNS` | a claim |
//! | `NOTE_FRONT` | the bound on claims of other instances, in every commit of the log while there is a line |
//! | `LINE_STATE` | admissions, a claim |
//!
//! A statement changes nothing if the instance has been marked dead, and skips rows that an earlier try of the same
//! commit has written. It checks this first, because `ON CONFLICT` costs PostgreSQL something for each row. Tickets are
//! given under a lock that is held until the commit, so their order is the order of the commits.
//!
//! On PostgreSQL one statement can change two tables: `ADMIT_SHARED` also gives the tickets, and `ADVANCE_SHARED` also
//! writes to `saga_events`. There, a further statement costs about as much as ten rows.

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

/// The instance is not marked dead. This stays true until the commit, because the fence has locked the row or has
/// waited for the mark.
macro_rules! alive {
    () => {
        "EXISTS (SELECT 1 FROM instances WHERE instance_id = $1 AND dead = 0)"
    };
}

/// On PostgreSQL: the fence, and the lock of the tickets. The following statements see all earlier tickets.
const FENCE_AND_LOCK_TICKETS: &str = "SELECT i.instance_id FROM instances i CROSS JOIN line_locks l \
     WHERE i.instance_id = $1 AND i.dead = 0 AND l.name = 'tickets' FOR SHARE OF i FOR UPDATE OF l";
const LOCK_TURNS: &str = "SELECT name FROM line_locks WHERE name = 'turns' {for_update}";

/// The row has a new key, which neither a saga nor a receipt has. These are subqueries, because with joins PostgreSQL
/// would scan all receipts for a large batch.
macro_rules! is_new {
    () => {
        "(SELECT s.saga_id FROM sagas s WHERE s.subject = r.subject AND s.idempotency_key = r.idempotency_key) IS NULL \
         AND (SELECT a.saga_id FROM receipts a WHERE a.subject = r.subject AND a.idempotency_key = r.idempotency_key) IS NULL"
    };
}

/// The number of a subject's sagas without an outcome.
macro_rules! open_of {
    ($row:literal) => {
        concat!("(SELECT COUNT(o.ticket) FROM sagas o WHERE o.subject = ", $row, ".subject AND o.outcome = 'pending')")
    };
}

/// Accepts the rows of `n` within the quota of their subjects: `n.open` sagas of the subject have no outcome, and the
/// row is the subject's `n.nth` in this commit.
///
/// A saga begins if a slot is reserved for it, no saga is queued, and the door is open. Otherwise it is queued. Neither
/// door nor quota apply to submissions of staff. Rejected rows leave tickets without a saga, which the turns skip.
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

/// On PostgreSQL: also stores the last ticket that was given.
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

/// New rows that all have different subjects, so each is the first of its subject. Materialized, because otherwise
/// PostgreSQL would count the open sagas twice: to filter the rows and to join them.
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

/// New rows that may share subjects. The open sagas are counted once for each subject.
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
/// The subquery reads each saga by its primary key, whatever the statistics of the database are.
const GIVE_TICKETS: &str = concat!(
    "INSERT INTO line_tickets (last_ticket) SELECT t.last_ticket FROM \
     (SELECT MAX((SELECT s.ticket FROM sagas s WHERE s.saga_id = r.saga_id)) AS last_ticket FROM {rows}) t \
     WHERE t.last_ticket > COALESCE((SELECT MAX(last_ticket) FROM line_tickets), 0) AND ",
    alive!()
);
/// The sagas of keys that were not accepted now. `has_begun`: an earlier try of this commit by the instance `$1` has
/// begun the saga, with version `$2` and at the time of acceptance. This is false for a saga that waited in line, was
/// claimed by another instance and then adopted.
const EXISTING: &str = "SELECT s.saga_id, s.subject, s.idempotency_key, s.fingerprint, s.ticket, \
     CASE WHEN s.owner = $1 AND s.sequence = 1 AND s.version = $2 AND s.updated_at = s.created_at \
     THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END AS has_begun FROM {rows} \
     JOIN sagas s ON s.subject = r.subject AND s.idempotency_key = r.idempotency_key UNION ALL \
     SELECT a.saga_id, a.subject, a.idempotency_key, a.fingerprint, CAST(0 AS BIGINT), CAST(0 AS BIGINT) FROM {rows} \
     JOIN receipts a ON a.subject = r.subject AND a.idempotency_key = r.idempotency_key";

/// The sagas begin with the definition of the instance that claims them. The bound of other instances is checked again
/// here, under the lock of all claims: they may have claimed since this instance read the line, and a saga that can't
/// be claimed keeps the served ticket from showing that. `$5` is the latest acceptance of the claim. All of the claim
/// is within the bound, or nothing of it is claimed: after a clock was set back, a later ticket has an earlier time.
/// `queued + 0` makes the database find the sagas by their ids and not by the index of the line, which it takes for
/// empty if the line was empty when the statistics were made.
const CLAIM: &str = concat!(
    "UPDATE sagas SET owner = $1, queued = 0, phase = 'running', sequence = 1, updated_at = r.at, definition = $3, \
     version = $4, log = r.entry FROM {rows} \
     WHERE sagas.saga_id = r.saga_id AND sagas.queued + 0 = 1 AND (r.is_out_of_order = 1 OR ($2 = ",
    line::served!(),
    " AND ",
    line::door_state!(),
    " <> 'paused' AND $5 <= COALESCE(",
    line::others_claim_to!(),
    ", $5))) AND ",
    alive!(),
    " RETURNING sagas.saga_id"
);
/// Stores the served ticket, at which the next search for the first queued saga begins.
const PASS_TURNS: &str = concat!(
    "INSERT INTO line_turns (ticket) SELECT t.ticket FROM (SELECT ",
    line::served!(),
    " AS ticket) t WHERE t.ticket > COALESCE((SELECT MAX(ticket) FROM line_turns), 0) AND ",
    alive!()
);

/// Appends to sagas. If an earlier try of the same commit has done so, the sequence differs and nothing changes.
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
/// On PostgreSQL: also writes to `saga_events` the entries that do not belong into the rows of their sagas.
const ADVANCE_SHARED: &str = concat!(
    "WITH advanced AS (",
    advance!(),
    ", r.sequence, r.at, r.event), logged AS (INSERT INTO saga_events (saga_id, sequence, at, event) \
     SELECT saga_id, sequence, at, event FROM advanced WHERE event <> '') SELECT saga_id FROM advanced"
);

/// Writes events of sagas that this commit or an earlier try of it has advanced: the saga has the sequence of the last
/// event, and the instance owns it. An earlier try has ended, because the statements before have waited for it.
const LOG: &str = concat!(
    "INSERT INTO saga_events (saga_id, sequence, at, event) SELECT r.saga_id, r.sequence, r.at, r.event FROM {rows} \
     WHERE (SELECT s.owner FROM sagas s WHERE s.saga_id = r.saga_id AND s.sequence = r.reached) = $1 \
     AND (SELECT e.saga_id FROM saga_events e WHERE e.saga_id = r.saga_id AND e.sequence = r.sequence) IS NULL AND ",
    alive!()
);
/// Stores the bound on the claims of other instances. If the commit has a claim, `$4` is one of its sagas, otherwise it
/// is empty: a claim that failed has no saga at work, and stores no bound.
const NOTE_FRONT: &str = concat!(
    "INSERT INTO line_front (instance_id, number, claims_to, noted_at) SELECT $1, $2, $3, {now_ms} WHERE ",
    alive!(),
    " AND ($4 = '' OR (SELECT s.owner FROM sagas s WHERE s.saga_id = $4) = $1) \
     AND NOT EXISTS (SELECT 1 FROM line_front f WHERE f.instance_id = $1 AND f.number = $2)"
);
/// The sagas that an earlier try of this claim has claimed: with the version `$2` and at the time of the claim. A saga
/// that another instance has claimed, and this one has adopted since, began at another time.
const CLAIMED_BEFORE: &str = "SELECT r.saga_id FROM {rows} WHERE (SELECT s.owner FROM sagas s \
     WHERE s.saga_id = r.saga_id AND s.sequence = 1 AND s.version = $2 AND s.updated_at = r.at) = $1";
/// The sagas that an earlier try of this commit has advanced.
const APPENDED_BEFORE: &str = "SELECT r.saga_id FROM {rows} \
     WHERE (SELECT s.owner FROM sagas s WHERE s.saga_id = r.saga_id AND s.sequence = r.reached) = $1";

/// The context of a commit: the instance that writes, and its bounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteAs<'a> {
    pub instance: &'a InstanceId,
    /// Name and version of the definition that its sagas begin with.
    pub definition: (&'a str, u32),
    /// Sagas without an outcome that one subject may have.
    pub subject_open_max: usize,
}

/// The outcomes of a commit, in the order of its rows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub admissions: Vec<AdmissionOutcome>,
    pub claimed: Vec<bool>,
    pub appends: Vec<AppendOutcome>,
    /// The state of the line after a commit with admissions or a claim.
    pub line: Option<LineState>,
}

impl SagaStore {
    /// Writes a commit. After an error the commit may or may not have taken effect. A repeated call gives the right
    /// answer in both cases.
    pub(crate) async fn write<R>(
        &self,
        as_of: WriteAs<'_>,
        commit: &Commit<Arc<Carried<R>>>,
    ) -> Result<Written, StoreError> {
        let instance = as_of.instance.as_str();
        let Commit { number, admissions, claim, appends, others_claim_to_ms } = commit;
        // A repeat of a key within the commit gets the saga of the first submission.
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
        // On SQLite there are no other instances.
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

    /// Which sagas of a claim this commit, or an earlier try of it, has claimed.
    async fn claimed(&self, as_of: WriteAs<'_>, turns: &[Turn], returned: &[Row]) -> Result<Vec<bool>, DbError> {
        let args = Args::new().id(as_of.instance.as_str()).int(i64::from(as_of.definition.1));
        let numbers = turns.iter().map(|turn| (turn.saga, turn.first.at_ms)).collect();
        self.are_written(returned, numbers, CLAIMED_BEFORE, args, "at").await
    }

    /// Which appends this commit, or an earlier try of it, has written.
    async fn appended(&self, instance: &str, appends: &[Append], returned: &[Row]) -> Result<Vec<bool>, DbError> {
        let numbers = appends.iter().map(|append| (append.saga, last(append))).collect();
        self.are_written(returned, numbers, APPENDED_BEFORE, Args::new().id(instance), "reached").await
    }

    /// For each saga, whether it is among the returned rows. The other ones are looked up by the statement `before`,
    /// which gets their numbers in `column`: it finds those that an earlier try has written.
    async fn are_written(
        &self,
        returned: &[Row],
        sagas: Vec<(SagaId, i64)>,
        before: &'static str,
        args: Args,
        column: &'static str,
    ) -> Result<Vec<bool>, DbError> {
        let mut written = returned.iter().map(saga_id).collect::<Result<HashSet<_>, _>>()?;
        let others: Vec<_> = sagas.iter().filter(|(saga, _)| !written.contains(saga)).collect();
        if !others.is_empty() {
            let rows = Rows::new()
                .id("saga_id", others.iter().map(|(saga, _)| saga.to_string()))
                .int(column, others.iter().map(|(_, number)| *number));
            for row in self.database.fetch(before, args.rows(rows)).await? {
                written.insert(saga_id(&row)?);
            }
        }
        Ok(sagas.iter().map(|(saga, _)| written.contains(saga)).collect())
    }

    /// The outcome of each admission. Admissions that were not inserted are looked up by their keys.
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
                // An earlier try of this commit took effect, although it reported an error.
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

/// The forms of statements and of rows that a database takes.
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
    let in_order = turns.iter().filter(|turn| !turn.is_out_of_order);
    let latest_ms = in_order.map(|turn| turn.accepted_at_ms).max().unwrap_or_default();
    let args = Args::new().id(as_of.instance.as_str()).int(after.0 as i64).text(name).int(version).int(latest_ms);
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
