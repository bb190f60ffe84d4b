//! What is to be delivered: claimed by one replica at a time, and reported back.
//!
//! A claim is a moment in the future before which no other process takes the message, by the database's clock. A
//! process that dies loses its claims at that moment, and the next process delivers the messages. A new message is
//! claimed by the process that records it, with the same statement: that is what almost all are delivered by, and it
//! spares them a second write.

use std::collections::HashMap;

use matricula_kit::database::{Args, Database, DbError, Row, Rows};
use matricula_kit::id::SagaId;
use matricula_kit::named::NamedValue as _;

use super::imports::contact;
use super::message;
use crate::domain::retry::{Next, Undeliverable};
use crate::domain::{Contact, Message};

/// A message to be delivered.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// What to deliver.
    pub message: Message,
    /// Where to; `None` when the student has no contact.
    pub contact: Option<Contact>,
    /// Deliveries that failed so far.
    pub failures: i64,
}

/// What became of a claimed message.
#[derive(Debug)]
pub struct Report {
    /// Which one.
    pub registration: SagaId,
    /// Deliveries that failed so far, this one included.
    pub failures: i64,
    /// `None`: it was delivered.
    pub next: Option<Next>,
}

const DUE_IN: &str =
    "SELECT MIN(next_delivery_at) - {now_ms} AS due_in FROM messages WHERE next_delivery_at IS NOT NULL";
const WAITING: &str = "SELECT COUNT(*) AS waiting FROM messages WHERE next_delivery_at IS NOT NULL";
// The clock in a subselect is read once, so that the index serves the comparison.
const DUE: &str = "SELECT registration_id, student_id, outcome, subject, body, recorded_at, delivery_failures \
                   FROM messages WHERE next_delivery_at <= (SELECT {now_ms}) \
                   ORDER BY next_delivery_at, registration_id LIMIT $1 {for_update_skip_locked}";
const CLAIM: &str = "UPDATE messages SET next_delivery_at = {now_ms} + $1 FROM {rows} \
                     WHERE messages.registration_id = r.registration_id";
const CONTACTS: &str =
    "SELECT c.student_id, c.email, c.name FROM {rows} JOIN contacts c ON c.student_id = r.student_id";
const REPORT: &str = "UPDATE messages SET delivery_failures = r.failures, undeliverable = r.undeliverable, \
                      delivered_at = CASE WHEN r.delivered = 1 THEN {now_ms} END, \
                      next_delivery_at = CASE WHEN r.delay_ms IS NOT NULL THEN {now_ms} + r.delay_ms END \
                      FROM {rows} \
                      WHERE messages.registration_id = r.registration_id AND messages.next_delivery_at IS NOT NULL";

/// In how many milliseconds the next message is due; not positive when one is due now, `None` when none waits.
pub async fn due_in_ms(database: &Database) -> Result<Option<i64>, DbError> {
    let rows = database.fetch(DUE_IN, Args::new()).await?;
    Ok(rows.first().map(|row| row.opt_int("due_in")).transpose()?.flatten())
}

/// How many messages wait to be delivered.
pub async fn waiting(database: &Database) -> Result<i64, DbError> {
    let rows = database.fetch(WAITING, Args::new()).await?;
    rows.first().map_or(Ok(0), |row| row.int("waiting"))
}

/// Claims messages that are due, the longest due first.
pub async fn claim(database: &Database, count_max: i64, lease_ms: i64) -> Result<Vec<Claimed>, DbError> {
    let mut tx = database.write().await?;
    let mut claimed = Vec::new();
    for row in tx.fetch(DUE, Args::new().int(count_max)).await? {
        claimed.push(Claimed { message: message(&row)?, contact: None, failures: row.int("delivery_failures")? });
    }
    let rows = Rows::new().id("registration_id", claimed.iter().map(|c| c.message.registration.as_str()));
    tx.send(CLAIM, Args::new().int(lease_ms).rows(rows));
    let contacts = tx.fetch(CONTACTS, students(&claimed).into()).await?;
    tx.commit().await?;
    add_contacts(&mut claimed, &contacts)?;
    Ok(claimed)
}

/// Messages that this process has claimed when it recorded them.
pub async fn claimed_on_insert(database: &Database, messages: Vec<Message>) -> Result<Vec<Claimed>, DbError> {
    let claimed = messages.into_iter().map(|message| Claimed { message, contact: None, failures: 0 });
    let mut claimed: Vec<Claimed> = claimed.collect();
    let contacts = database.fetch(CONTACTS, students(&claimed).into()).await?;
    add_contacts(&mut claimed, &contacts)?;
    Ok(claimed)
}

fn students(claimed: &[Claimed]) -> Rows {
    let mut students: Vec<&str> = claimed.iter().map(|c| c.message.student.as_str()).collect();
    students.sort_unstable();
    students.dedup();
    Rows::new().text("student_id", students)
}

fn add_contacts(claimed: &mut [Claimed], contacts: &[Row]) -> Result<(), DbError> {
    let mut of = HashMap::with_capacity(contacts.len());
    for row in contacts {
        let contact = contact(row)?;
        of.insert(contact.student.clone(), contact);
    }
    for claimed in claimed {
        claimed.contact = of.get(&claimed.message.student).cloned();
    }
    Ok(())
}

/// Records what became of claimed messages. One that was reported by another in the meantime stays as that one left it.
pub async fn report(database: &Database, reports: &[Report]) -> Result<(), DbError> {
    let delay = |report: &Report| match report.next {
        Some(Next::RetryAfterMs(delay)) => Some(delay),
        _ => None,
    };
    let given_up = |report: &Report| match report.next {
        Some(Next::Undeliverable(reason)) => Some(Undeliverable::name(reason)),
        _ => None,
    };
    let rows = Rows::new()
        .id("registration_id", reports.iter().map(|report| report.registration.as_str()))
        .int("failures", reports.iter().map(|report| report.failures))
        .int("delivered", reports.iter().map(|report| i64::from(report.next.is_none())))
        .opt_text("undeliverable", reports.iter().map(given_up))
        .opt_int("delay_ms", reports.iter().map(delay));
    let mut tx = database.write().await?;
    tx.send(REPORT, rows.into());
    tx.commit().await
}
