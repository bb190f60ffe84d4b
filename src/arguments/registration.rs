//! The verbs of `registration`: what became of registrations, and whether registration is open.

use clap::{Args, Subcommand};

use super::Decision;

/// Verbs of `registration`.
#[derive(Debug, Subcommand)]
pub enum Registration {
    /// Show one registration.
    #[command(after_help = "Examples:\n  \
        matricula registration show 01a20394-7ebb-7176-8acb-23285aac80e3\n  \
        matricula registration show 01a20394-7eb")]
    Show {
        /// Its id, or the beginning of its id.
        #[arg(value_parser = super::id_or_prefix)]
        id: String,
    },
    /// List the registrations of a student, newest first.
    #[command(after_help = "Example:\n  \
        matricula registration list S000001 --limit 10")]
    List {
        /// The student.
        student: String,
        /// At most this many.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Open registration at all replicas: registrations are accepted and decided.
    #[command(after_help = "Example:\n  \
        matricula registration open --by ada --reason \"the dean has decided\"")]
    Open(DoorDecision),
    /// Pause registration at all replicas: registrations are accepted and wait in line, and no turn comes.
    #[command(after_help = "What has begun goes on. Rosters are taken over all the same.\n\nExample:\n  \
        matricula registration pause --sentence \"We are looking into fees; you keep your place.\" \
        --by ada --reason \"fees charge twice\"")]
    Pause(DoorDecision),
    /// Close registration at all replicas: nothing new is accepted, and students are told the sentence.
    #[command(after_help = "What was accepted is decided. Rosters are taken over all the same.\n\nExample:\n  \
        matricula registration close --sentence \"Registration opens again on Monday at 9.\" \
        --by ada --reason \"end of the first phase\"")]
    Close(DoorDecision),
    /// Show whether registration is open, and the latest changes with their authors and reasons.
    #[command(after_help = "Examples:\n  \
        matricula registration door\n  \
        matricula registration door --limit 100 --output json")]
    Door {
        /// Changes, at most.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i32).range(1..=1_000))]
        limit: i32,
    },
}

/// What is decided about the door.
#[derive(Debug, Args)]
pub struct DoorDecision {
    /// What students are told; needed to close.
    #[arg(long, value_name = "TEXT")]
    pub sentence: Option<String>,
    /// The person who decides, and the reason.
    #[command(flatten)]
    pub decision: Decision,
}
