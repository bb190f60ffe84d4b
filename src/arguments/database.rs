//! The subcommands of `database`.

use clap::{Args, Subcommand};

use super::Role;

/// Subcommands of `database`.
#[derive(Debug, Subcommand)]
pub enum Database {
    /// Store the ids of PostgreSQL databases in 16 bytes instead of 36 characters.
    Compact(Compact),
}

/// Arguments of `database compact`.
#[derive(Debug, Args)]
#[command(
    after_help = "For databases of releases that stored ids as text. A new PostgreSQL database has compact ids from its first \
    start. SQLite databases are not converted.\n\n\
    Run it when every replica of every role runs this release: an earlier release can't use a database with compact \
    ids, and refuses to start on it. If a session was opened by something other than this release, the command stops and \
    lists the session.\n\n\
    All tables with ids in a database are rewritten in one transaction. The role is blocked meanwhile and continues \
    afterwards: allow ten seconds per million rows, and choose a quiet hour. If another session reads a table for more \
    than 3 s, the command stops. Then that database is unchanged, and you can run the command again.\n\n\
    Exit code 1: a database was not converted.\n\nExamples:\n  \
    matricula database compact\n  \
    matricula database compact seats fees --set seats.database_url=postgres://matricula@db/seats\n  \
    matricula database compact orchestrator --force --output json"
)]
pub struct Compact {
    /// Roles whose databases are converted [default: all].
    pub roles: Vec<Role>,
    /// Convert although sessions of other programs are open. Use it only if none of them runs an earlier release.
    #[arg(long)]
    pub force: bool,
}
