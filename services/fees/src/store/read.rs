//! Accounts and the ledger, each read from one state of the database.

use matricula_kit::database::{Args, Database, DbError, Tx};
use matricula_kit::id::StudentId;
use matricula_kit::money::Currency;
use matricula_kit::pages::{KeyColumn, PagedTable};

use super::posting;
use super::rates::stored_currency;
use crate::domain::Posting;

/// A student's account.
#[derive(Debug)]
pub struct Account {
    /// The installation's currency.
    pub currency: Currency,
    /// The stored balance.
    pub balance: i64,
    /// Newest first.
    pub postings: Vec<Posting>,
}

/// Every posting, in the order of registrations.
pub const POSTINGS: PagedTable<Posting> = PagedTable {
    sql: "SELECT * FROM postings WHERE (registration_id, section_id, kind) > ($1, $2, $3) \
          ORDER BY registration_id, section_id, kind LIMIT $4",
    key: &[KeyColumn::Id("registration_id"), KeyColumn::Text("section_id"), KeyColumn::Text("kind")],
    row: posting,
};
/// Every stored balance with its student, in the order of students.
pub const BALANCES: PagedTable<(StudentId, i64)> = PagedTable {
    sql: "SELECT student_id, balance FROM accounts WHERE student_id > $1 ORDER BY student_id LIMIT $2",
    key: &[KeyColumn::Text("student_id")],
    row: |row| Ok((StudentId::stored(row.text("student_id")?), row.int("balance")?)),
};

const BALANCE: &str = "SELECT balance FROM accounts WHERE student_id = $1";
const POSTINGS_OF_STUDENT: &str = "SELECT * FROM postings WHERE student_id = $1 \
                                   ORDER BY posted_at DESC, registration_id DESC, section_id, kind DESC";

/// The account of a student; empty when nothing was ever posted.
pub async fn account(database: &Database, student: &StudentId) -> Result<Account, DbError> {
    let mut tx = database.snapshot().await?;
    let rows = tx.fetch(BALANCE, Args::new().text(student.as_str())).await?;
    let balance = rows.first().map(|row| row.int("balance")).transpose()?.unwrap_or_default();
    let rows = tx.fetch(POSTINGS_OF_STUDENT, Args::new().text(student.as_str())).await?;
    let postings = rows.iter().map(posting).collect::<Result<_, _>>()?;
    Ok(Account { currency: currency(&mut tx).await?, balance, postings })
}

/// The installation's currency, or the default one before there are rates.
pub async fn currency(tx: &mut Tx) -> Result<Currency, DbError> {
    Ok(stored_currency(tx).await?.unwrap_or_default())
}
