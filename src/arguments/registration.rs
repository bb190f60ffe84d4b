//! The subcommands of `registration`: show registrations; open, pause and close registration.

use clap::{Args, Subcommand};

use super::Decision;

/// Subcommands of `registration`.
#[derive(Debug, Subcommand)]
pub enum Registration {
    /// Show one registration.
    #[command(after_help = "Examples:\n  \
        matricula registration show 01a20394-7ebb-7176-8acb-23285aac80e3\n  \
        matricula registration show 01a20394-7eb")]
    Show {
        /// The registration's id, or a prefix of it.
        #[arg(value_parser = super::id_or_prefix)]
        id: String,
    },
    /// List the registrations of a student, newest first.
    #[command(after_help = "Example:\n  \
        matricula registration list S000001 --limit 10")]
    List {
        /// The student.
        student: String,
        /// Maximum number of registrations.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Open registration at all replicas: registrations are accepted and processed.
    #[command(after_help = "Example:\n  \
        matricula registration open --by ada --reason \"the dean has decided\"")]
    Open(DoorDecision),
    /// Pause registration at all replicas: registrations are accepted, but wait in line.
    #[command(
        after_help = "Registrations that have started continue. Imports of rosters continue too.\n\nExample:\n  \
        matricula registration pause --sentence \"We are looking into fees; you keep your place.\" \
        --by ada --reason \"fees charge twice\""
    )]
    Pause(DoorDecision),
    /// Close registration at all replicas: new registrations are rejected, and students see the sentence.
    #[command(
        after_help = "Registrations that were accepted are still processed. Imports of rosters continue too.\n\nExample:\n  \
        matricula registration close --sentence \"Registration opens again on Monday at 9.\" \
        --by ada --reason \"end of the first phase\""
    )]
    Close(DoorDecision),
    /// Show whether registration is open, and the latest changes with their authors and reasons.
    #[command(after_help = "Examples:\n  \
        matricula registration door\n  \
        matricula registration door --limit 100 --output json")]
    Door {
        /// Maximum number of changes.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i32).range(1..=1_000))]
        limit: i32,
    },
}

/// A decision about the door.
#[derive(Debug, Args)]
pub struct DoorDecision {
    /// The sentence that students see; required by `close`.
    #[arg(long, value_name = "TEXT")]
    pub sentence: Option<String>,
    /// The author and the reason of the decision.
    #[command(flatten)]
    pub decision: Decision,
}
