//! The only SQL of fees. This module is the write path. [`rates`] reads prices, [`imports`] changes them, and [`read`]
//! has accounts and the ledger.
//!
//! Charges are not locked: one that two replicas give back at once meets a unique index, and the second batch is run
//! again with what the first one wrote. Balances are changed by what was posted, in order of students, so that batches
//! of two replicas wait for one another and never in a circle. Only where a balance limit must hold, all accounts that
//! the batch may change are locked before it is decided, in the same order.

mod imports;
mod rates;
mod read;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use matricula_kit::database::{DbError, PendingQuery, Row, Rows, Tx};
use matricula_kit::id::{SagaId, SectionId, StudentId, TermId};
use matricula_kit::named::NamedValue as _;
use matricula_kit::participant::Reading;
use matricula_kit::time::UnixMs;

use crate::domain::price::Charge;
use crate::domain::rates::Prices;
use crate::domain::{Charged, Charges, Command, Posting, World};

pub use imports::{import, rate_table};
pub use read::{BALANCES, POSTINGS, account, currency};

// What was given back is looked up for each charge: as a join, all that was ever given back would be read.
const CHARGES: &str = "SELECT c.registration_id, c.section_id, c.student_id, c.term_id, c.minor_units, \
                       (SELECT b.kind FROM postings b WHERE b.registration_id = c.registration_id \
                       AND b.section_id = c.section_id AND b.kind <> 'CHARGE') AS back FROM {rows} \
                       JOIN postings c ON c.registration_id = r.registration_id AND c.kind = 'CHARGE'";
const POST: &str = "INSERT INTO postings (registration_id, section_id, kind, student_id, term_id, minor_units, \
                    caused_by_registration_id, posted_at) \
                    SELECT registration_id, section_id, kind, student_id, term_id, minor_units, \
                    caused_by_registration_id, posted_at FROM {rows}";
// The change of nothing makes the missing accounts and locks all of them, in one order with every other change.
const LOCK_BALANCES: &str = "INSERT INTO accounts (student_id, balance) SELECT student_id, 0 FROM {rows} \
                             WHERE true ON CONFLICT (student_id) DO UPDATE \
                             SET balance = accounts.balance RETURNING student_id, balance";
const CHANGE_BALANCES: &str = "INSERT INTO accounts (student_id, balance) SELECT student_id, change FROM {rows} \
                               WHERE true ON CONFLICT (student_id) DO UPDATE \
                               SET balance = accounts.balance + excluded.balance";

/// Loads what the commands need. `may_change_currency` says whether an import may still change it.
pub async fn load(
    tx: &mut Tx,
    commands: &[&Command],
    reading: Reading,
    may_change_currency: bool,
) -> Result<World, DbError> {
    let charges = queue_charges(tx, commands, reading);
    let (mut courses, mut terms) = (BTreeSet::new(), BTreeSet::new());
    for command in commands {
        if let Command::Assess { adds, .. } = command {
            courses.extend(adds.iter().map(|add| &add.course));
            terms.extend(adds.iter().map(|add| &add.term));
        }
    }
    let prices = rates::queue(tx, &terms, &courses, may_change_currency);
    let charges = charges_of(tx.rows(charges).await?)?;
    let mut prices = prices.read(tx).await?;
    // What is given back goes by the refund ladder of its own term.
    let charged = charges.values().flat_map(BTreeMap::values).map(|charged| &charged.term);
    let missing = charged.filter(|term| prices.ladder(term).is_none()).collect();
    rates::add_terms(tx, &mut prices, &missing).await?;
    let balances = lock_balances(tx, commands, &prices, &charges).await?;
    Ok(World { prices, charges, balances, postings: Vec::new() })
}

/// Sends the new postings, and what they change of balances.
pub fn write(tx: &mut Tx, world: &World) {
    let postings = &world.postings;
    let rows = Rows::new()
        .id("registration_id", postings.iter().map(|posting| posting.registration.as_str()))
        .text("section_id", postings.iter().map(|posting| posting.section.as_str()))
        .text("kind", postings.iter().map(|posting| posting.kind.name()))
        .text("student_id", postings.iter().map(|posting| posting.student.as_str()))
        .text("term_id", postings.iter().map(|posting| posting.term.as_str()))
        .int("minor_units", postings.iter().map(|posting| posting.minor_units))
        .id("caused_by_registration_id", postings.iter().map(|posting| posting.caused_by.as_str()))
        .int("posted_at", postings.iter().map(|posting| posting.posted_at.0));
    tx.send(POST, rows.into());

    let mut changes: BTreeMap<&StudentId, i64> = BTreeMap::new();
    for posting in postings {
        *changes.entry(&posting.student).or_default() += posting.minor_units;
    }
    let rows = Rows::new()
        .text("student_id", changes.keys().map(|student| student.as_str()))
        .int("change", changes.values().copied());
    tx.send(CHANGE_BALANCES, rows.into());
}

/// The balances of all students whom the commands may post to; none when no balance limit concerns them.
async fn lock_balances(
    tx: &mut Tx,
    commands: &[&Command],
    prices: &Prices,
    charges: &Charges,
) -> Result<HashMap<StudentId, i64>, DbError> {
    let assessed = || {
        commands.iter().filter_map(|command| match command {
            Command::Assess { student, adds, .. } => Some((student, adds)),
            Command::Void { .. } | Command::Refund { .. } => None,
        })
    };
    if !assessed().any(|(_, adds)| prices.balance_limit(adds).is_some()) {
        return Ok(HashMap::new());
    }
    let charged = charges.values().flat_map(BTreeMap::values).map(|charged| &charged.student);
    let students: BTreeSet<&StudentId> = assessed().map(|(student, _)| student).chain(charged).collect();
    let rows = Rows::new().text("student_id", students.iter().map(|student| student.as_str()));
    let rows = tx.fetch(LOCK_BALANCES, rows.into()).await?;
    rows.iter().map(|row| Ok((StudentId::stored(row.text("student_id")?), row.int("balance")?))).collect()
}

/// Queries what every registration was charged that the commands name. A registration that is assessed for the first
/// time was charged nothing: the key of a posting refuses it otherwise.
fn queue_charges(tx: &mut Tx, commands: &[&Command], reading: Reading) -> PendingQuery {
    let mut registrations: BTreeSet<&SagaId> = BTreeSet::new();
    for command in commands {
        match command {
            Command::Assess { .. } if reading == Reading::Undos => {}
            Command::Assess { registration, .. } | Command::Void { registration } => {
                registrations.insert(registration);
            }
            Command::Refund { drops, .. } => registrations.extend(drops.iter().map(|drop| &drop.registration)),
        }
    }
    tx.queue(CHARGES, Rows::new().id("registration_id", registrations.into_iter().map(SagaId::as_str)).into())
}

fn charges_of(rows: Vec<Row>) -> Result<Charges, DbError> {
    let mut charges = Charges::new();
    for row in rows {
        let charged = Charged {
            student: StudentId::stored(row.text("student_id")?),
            term: TermId::stored(row.text("term_id")?),
            amount: Charge::stored(row.int("minor_units")?).map_err(DbError::corrupt)?,
            given_back: row.opt_text("back")?.is_some(),
        };
        let registration = SagaId::stored(row.id("registration_id")?);
        charges.entry(registration).or_default().insert(SectionId::stored(row.text("section_id")?), charged);
    }
    Ok(charges)
}

fn posting(row: &Row) -> Result<Posting, DbError> {
    Ok(Posting {
        student: StudentId::stored(row.text("student_id")?),
        registration: SagaId::stored(row.id("registration_id")?),
        section: SectionId::stored(row.text("section_id")?),
        kind: row.named("kind")?,
        term: TermId::stored(row.text("term_id")?),
        minor_units: row.int("minor_units")?,
        caused_by: SagaId::stored(row.id("caused_by_registration_id")?),
        posted_at: UnixMs(row.int("posted_at")?),
    })
}
