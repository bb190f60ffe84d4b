//! The verbs of `database`.

use clap::{Args, Subcommand};

use super::Role;

/// Verbs of `database`.
#[derive(Debug, Subcommand)]
pub enum Database {
    /// Store the ids of PostgreSQL databases in 16 bytes instead of 36 characters.
    Compact(Compact),
}

/// Arguments of `database compact`.
#[derive(Debug, Args)]
#[command(
    after_help = "For databases of releases that stored ids as text. A new database has compact ids from its first start, and SQLite \
    needs none.\n\n\
    Run it when every replica of every role is of this release: an earlier release can't work on a database with compact \
    ids, and does not start on one. Sessions that this release has not opened stop the command, which names them.\n\n\
    All tables with ids of a database are rewritten in one transaction. The role waits meanwhile and goes on after it: \
    allow ten seconds for a million rows, and choose a quiet hour. A table that another session reads for more than 3 s \
    stops the command. Then nothing of that database is changed, and the command can be run again.\n\n\
    Exit code 1: a database was not converted.\n\nExamples:\n  \
    matricula database compact\n  \
    matricula database compact seats fees --set seats.database_url=postgres://matricula@db/seats\n  \
    matricula database compact orchestrator --force --output json"
)]
pub struct Compact {
    /// Whose databases [default: all].
    pub roles: Vec<Role>,
    /// Convert although sessions are open that are not of this release: none of them is of an earlier one.
    #[arg(long)]
    pub force: bool,
}
