//! Addresses as imports bring them.
//!
//! Promises: `read` leaves out students without an address; after an import of a new address, the service delivers the
//! student's old messages that it could not deliver before.

use async_trait::async_trait;
use matricula_kit::database::DbError;
use matricula_kit::id::StudentId;
use matricula_kit::imports::{ImportError, Imported, check_named_once, foreign_row};
use matricula_kit::rpc::{FieldError, required_id};
use matricula_proto::imports::v1::ImportRow;
use matricula_proto::imports::v1::import_row::Row;
use matricula_proto::notifications::v1 as proto;

use super::NotificationGrpc;
use crate::domain::Contact;
use crate::store;

#[cfg(test)]
mod tests;

/// Longest name of a student: as long as on the academic record.
const NAME_CHARS_MAX: usize = 500;

/// A student's address, as an import gives it.
enum Address {
    Of(Contact),
    None(StudentId),
}

#[async_trait]
impl Imported for NotificationGrpc {
    async fn read(&self) -> Result<(i64, Vec<ImportRow>), DbError> {
        let (version, contacts) = store::contacts(&self.database).await?;
        let rows = contacts.into_iter().map(|Contact { student, email, name }| {
            let contact = proto::Contact { student_id: student.into(), email, name };
            ImportRow { row: Some(Row::Contact(contact)) }
        });
        Ok((version, rows.collect()))
    }

    fn check(&self, row: &ImportRow) -> Result<(), FieldError> {
        address(row.clone()).map(drop)
    }

    async fn apply(&self, base_version: i64, rows: Vec<ImportRow>) -> Result<(), ImportError> {
        let (contacts, removed) = changes(rows)?;
        store::import_contacts(&self.database, base_version, contacts, removed).await?;
        self.waker.wake();
        Ok(())
    }
}

/// The contacts that are set, and the students who have none any more.
fn changes(rows: Vec<ImportRow>) -> Result<(Vec<Contact>, Vec<StudentId>), FieldError> {
    let (mut contacts, mut removed) = (Vec::new(), Vec::new());
    for row in rows {
        match address(row)? {
            Address::Of(contact) => contacts.push(contact),
            Address::None(student) => removed.push(student),
        }
    }
    check_named_once("contact.student_id", contacts.iter().map(|contact| &contact.student).chain(&removed))?;
    Ok((contacts, removed))
}

fn address(row: ImportRow) -> Result<Address, FieldError> {
    match row.row {
        Some(Row::Contact(row)) => contact(row).map_err(|problem| problem.within("contact")),
        _ => Err(foreign_row()),
    }
}

/// A name is kept with an address only: it is what a message is addressed with.
fn contact(wire: proto::Contact) -> Result<Address, FieldError> {
    let student = required_id("student_id", wire.student_id, StudentId::try_new)?;
    if wire.name.chars().count() > NAME_CHARS_MAX || wire.name.chars().any(char::is_control) {
        let problem = format!("must be at most {NAME_CHARS_MAX} characters without control characters");
        return Err(FieldError::new("name", problem));
    }
    if wire.email.is_empty() {
        return Ok(Address::None(student));
    }
    let address: Result<lettre::Address, _> = wire.email.parse();
    address.map_err(|problem| FieldError::new("email", problem.to_string()))?;
    Ok(Address::Of(Contact { student, email: wire.email, name: wire.name }))
}
