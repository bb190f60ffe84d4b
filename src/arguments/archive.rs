//! The verbs of `archive`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Verbs of `archive`.
#[derive(Debug, Subcommand)]
pub enum Archive {
    /// List the sagas of the archive, those that went there last first.
    #[command(
        after_help = "What can't be read is named by file and line, and spoils nothing else; the exit code is 1 then.\n\n\
        Examples:\n  \
        matricula archive list --student S000007\n  \
        matricula archive list --dir /mnt/one --dir /mnt/two --limit 1000000 --output json"
    )]
    List {
        /// Only those of this student.
        #[arg(long)]
        student: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Where it is.
        #[command(flatten)]
        place: Place,
    },
    /// Show a saga of the archive, as `saga show` did while it was in the database.
    #[command(after_help = "Examples:\n  \
        matricula archive show 01a20394-7ebb-7176-8acb-23285aac80e3\n  \
        matricula archive show 01a20394-7eb --dir /mnt/one")]
    Show {
        /// Its id, or the beginning of its id.
        #[arg(value_parser = super::id_or_prefix)]
        id: String,
        /// Where it is.
        #[command(flatten)]
        place: Place,
    },
}

/// Where an archive is.
#[derive(Debug, Args)]
pub struct Place {
    /// Folder of the archive [default: that of the configuration]; once for each, where replicas wrote to several.
    #[arg(long = "dir", value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
}
