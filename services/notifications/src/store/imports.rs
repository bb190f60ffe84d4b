//! Contacts, which imports read and replace.

use matricula_kit::database::{Args, Database, DbError, Row, Rows};
use matricula_kit::id::StudentId;
use matricula_kit::imports::{self, ImportError};

use crate::domain::Contact;

const SET_CONTACTS: &str = "INSERT INTO contacts (student_id, email, name) \
                            SELECT student_id, email, name FROM {rows} WHERE true \
                            ON CONFLICT (student_id) DO UPDATE SET email = excluded.email, name = excluded.name";
const REMOVE_CONTACTS: &str = "DELETE FROM contacts WHERE student_id IN (SELECT r.student_id FROM {rows})";
const ALL_CONTACTS: &str = "SELECT student_id, email, name FROM contacts ORDER BY student_id";
const DELIVER_AGAIN: &str = "UPDATE messages SET undeliverable = NULL, next_delivery_at = 0 FROM {rows} \
                             WHERE messages.student_id = r.student_id AND messages.undeliverable IN ('NO_CONTACT', 'REJECTED')";

/// Every contact, and the version of imports that they have.
pub async fn contacts(database: &Database) -> Result<(i64, Vec<Contact>), DbError> {
    let mut tx = database.snapshot().await?;
    let version = imports::version(&mut tx).await?;
    let rows = tx.fetch(ALL_CONTACTS, Args::new()).await?;
    Ok((version, rows.iter().map(contact).collect::<Result<_, _>>()?))
}

/// Sets contacts, and removes those of students who have no address any more: all or none. The dispatcher
/// delivers now what it could not deliver before to the students of the new contacts.
pub async fn import_contacts(
    database: &Database,
    base_version: i64,
    mut contacts: Vec<Contact>,
    removed: Vec<StudentId>,
) -> Result<(), ImportError> {
    // The rows are locked in one order.
    contacts.sort_by(|a, b| a.student.cmp(&b.student));
    let students = || contacts.iter().map(|contact| contact.student.as_str());
    let rows = Rows::new()
        .text("student_id", students())
        .text("email", contacts.iter().map(|contact| contact.email.as_str()))
        .text("name", contacts.iter().map(|contact| contact.name.as_str()));
    let mut tx = imports::begin(database, base_version).await?;
    tx.send(SET_CONTACTS, rows.into());
    tx.send(REMOVE_CONTACTS, Rows::new().text("student_id", removed.iter().map(StudentId::as_str)).into());
    tx.send(DELIVER_AGAIN, Rows::new().text("student_id", students()).into());
    Ok(tx.commit().await?)
}

/// The contact of a row.
pub(super) fn contact(row: &Row) -> Result<Contact, DbError> {
    Ok(Contact {
        student: StudentId::stored(row.text("student_id")?),
        email: row.text("email")?,
        name: row.text("name")?,
    })
}
