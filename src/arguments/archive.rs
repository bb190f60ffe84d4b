//! The subcommands of `archive`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Subcommands of `archive`.
#[derive(Debug, Subcommand)]
pub enum Archive {
    /// List archived sagas, the latest archived first.
    #[command(
        after_help = "An unreadable entry is reported by file and line. The other entries are still listed, and the exit code is 1.\n\n\
        Examples:\n  \
        matricula archive list --student S000007\n  \
        matricula archive list --dir /mnt/one --dir /mnt/two --limit 1000000 --output json"
    )]
    List {
        /// Only sagas of this student.
        #[arg(long)]
        student: Option<String>,
        /// Maximum number of sagas.
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// The folders to read.
        #[command(flatten)]
        folders: ArchiveFolders,
    },
    /// Show an archived saga, as `saga show` did while it was in the database.
    #[command(after_help = "Examples:\n  \
        matricula archive show 01a20394-7ebb-7176-8acb-23285aac80e3\n  \
        matricula archive show 01a20394-7eb --dir /mnt/one")]
    Show {
        /// The saga's id, or a prefix of it.
        #[arg(value_parser = super::id_or_prefix)]
        id: String,
        /// The folders to read.
        #[command(flatten)]
        folders: ArchiveFolders,
    },
}

/// The folders of an archive.
#[derive(Debug, Args)]
pub struct ArchiveFolders {
    /// Folder of the archive [default: the configured one]; repeat it if replicas wrote to several folders.
    #[arg(long = "dir", value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
}
