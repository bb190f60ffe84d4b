//! Accounts and the ledger, each read from one state of the database.

use matricula_kit::database::{Args, Database, DbError, Tx};
use matricula_kit::id::StudentId;

use super::posting;
use super::rates::stored_currency;
use crate::domain::Posting;
use crate::domain::price::Currency;

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

/// The stored balance of one account.
#[derive(Debug)]
pub struct Balance {
    /// Whose.
    pub student: StudentId,
    /// How much.
    pub minor_units: i64,
}

/// Where a page of postings begins: after this registration, section and kind.
#[derive(Debug, Clone, Default)]
pub struct PostingKey(String, String, String);

/// Rows of the ledger that are read at once.
pub const LEDGER_PAGE: i64 = 1_000;

const BALANCE: &str = "SELECT balance FROM accounts WHERE student_id = $1";
const POSTINGS_OF_STUDENT: &str = "SELECT * FROM postings WHERE student_id = $1 \
                                   ORDER BY posted_at DESC, registration_id DESC, section_id, kind DESC";
const POSTINGS_PAGE: &str = "SELECT * FROM postings WHERE (registration_id, section_id, kind) > ($1, $2, $3) \
                             ORDER BY registration_id, section_id, kind LIMIT $4";
const BALANCES_PAGE: &str =
    "SELECT student_id, balance FROM accounts WHERE student_id > $1 ORDER BY student_id LIMIT $2";

impl PostingKey {
    /// The key after which the next page begins.
    pub fn of(posting: &Posting) -> Self {
        Self(
            posting.registration.as_str().to_owned(),
            posting.section.as_str().to_owned(),
            posting.kind.name().to_owned(),
        )
    }
}

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

/// The next postings of the ledger, in the order of their keys.
pub async fn postings_page(tx: &mut Tx, after: PostingKey) -> Result<Vec<Posting>, DbError> {
    let PostingKey(registration, section, kind) = after;
    let args = Args::new().id(registration).text(section).text(kind).int(LEDGER_PAGE);
    tx.fetch(POSTINGS_PAGE, args).await?.iter().map(posting).collect()
}

/// The next balances, in the order of students.
pub async fn balances_page(tx: &mut Tx, after: &str) -> Result<Vec<Balance>, DbError> {
    let rows = tx.fetch(BALANCES_PAGE, Args::new().text(after).int(LEDGER_PAGE)).await?;
    rows.iter()
        .map(|row| {
            Ok(Balance { student: StudentId::stored(row.text("student_id")?), minor_units: row.int("balance")? })
        })
        .collect()
}
