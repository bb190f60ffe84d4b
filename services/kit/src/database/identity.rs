//! The attributes of a database and its errors in traces.

use std::error::Error as _;

use sqlx::postgres::PgConnectOptions;

use super::{Database, DbError, login};

/// The attributes of a database in traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `postgresql` or `sqlite`.
    pub system: &'static str,
    /// The name of the database, or of SQLite's file.
    pub namespace: String,
    /// The server's address.
    pub address: Option<String>,
    /// The server's port.
    pub port: Option<u16>,
}

impl Database {
    pub(crate) fn identity(&self) -> Identity {
        match self {
            Self::Sqlite(sqlite) => {
                let options = sqlite.readers.connect_options();
                let file = options.get_filename().file_name().unwrap_or_default();
                let namespace = file.to_string_lossy().into_owned();
                Identity { system: "sqlite", namespace, address: None, port: None }
            }
            Self::Postgres(postgres) => {
                let options = postgres.readers.connect_options();
                // PostgreSQL's default: without a database in the URL, its name is the user's.
                let namespace = options.get_database().unwrap_or(options.get_username()).to_owned();
                let (address, port) = server(&options);
                Identity { system: "postgresql", namespace, address: Some(address), port }
            }
        }
    }
}

/// The server's host and port, or the path of its socket.
fn server(options: &PgConnectOptions) -> (String, Option<u16>) {
    match login::socket(options) {
        Some(path) => (path.to_string_lossy().into_owned(), None),
        None => (options.get_host().to_owned(), Some(options.get_port())),
    }
}

impl DbError {
    /// The code of the database's error: a SQLSTATE, or a result code of SQLite.
    pub(crate) fn code(&self) -> Option<String> {
        let error: &sqlx::Error = self.source()?.downcast_ref()?;
        Some(error.as_database_error()?.code()?.into_owned())
    }

    /// The class of the error, for errors without a code.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Conflict(_) => "conflict",
            Self::IdsConverted(_) => "ids_converted",
            Self::Unavailable(_) => "unavailable",
            Self::Full(_) => "full",
            Self::Refused(_) => "refused",
            Self::Corrupt(_) => "corrupt",
            Self::Setup(_) => "setup",
            Self::SnapshotExpired(_) => "snapshot_expired",
            Self::SchemaNewer { .. } | Self::SchemaOfAnother { .. } => "schema",
            Self::Migration(_) => "migration",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_server_is_its_host_or_its_socket() {
        let check = |url: &str, address: &str, port| {
            let options = url.parse::<PgConnectOptions>().expect("a URL");
            assert_eq!(server(&options), (address.to_owned(), port), "{url}");
        };
        check("postgres://me@db.example:5433/seats", "db.example", Some(5433));
        check("postgres://me@localhost:5433/seats?host=/run/pg", "/run/pg/.s.PGSQL.5433", None);
        check("postgres://me@%2Frun%2Fpg:5433/seats", "/run/pg/.s.PGSQL.5433", None);
    }
}
