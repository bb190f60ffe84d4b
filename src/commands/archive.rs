//! `matricula archive`: finished sagas that were moved out of the database, read from their files alone.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use matricula_kit::id::check_id;
use matricula_registration::{StoredRegistration, saga};
use matricula_runtime::SagaId;
use matricula_runtime::archive::{Archive, Found};

use crate::arguments::{self, ArchiveFolders, Format};
use crate::commands::saga as shown;
use crate::config::Config;
use crate::output;

/// Maximum number of ids in the answer to an ambiguous prefix.
const CANDIDATES_MAX: usize = 5;

/// Runs a subcommand of `archive`.
pub fn run(config: &Config, command: arguments::Archive, format: Format) -> anyhow::Result<ExitCode> {
    match command {
        arguments::Archive::List { student, limit, folders } => {
            list(open(config, folders)?, student.as_deref(), limit as usize, format)
        }
        arguments::Archive::Show { id, folders } => show(open(config, folders)?, id, format),
    }
}

fn open(config: &Config, folders: ArchiveFolders) -> anyhow::Result<Archive> {
    let dirs: Vec<PathBuf> = if folders.dirs.is_empty() { vec![config.archive_dir()] } else { folders.dirs };
    Archive::open(&dirs).map_err(|problem| anyhow::anyhow!("{problem}")).context("the archive can't be opened")
}

fn list(archive: Archive, student: Option<&str>, limit: usize, format: Format) -> anyhow::Result<ExitCode> {
    let definitions = saga::definitions()?;
    let (mut sagas, mut damaged, mut has_more) = (Vec::new(), 0, false);
    for read in archive {
        match read {
            Ok(Found { saga, .. }) if student.is_some_and(|student| student != saga.subject) => {}
            Ok(_) if sagas.len() == limit => {
                has_more = true;
                break;
            }
            Ok(Found { saga, .. }) => {
                let stored = StoredRegistration::read(&definitions, saga);
                sagas.push(matricula_ops::summary(&stored));
            }
            Err(problem) => {
                eprintln!("{problem}");
                damaged += 1;
            }
        }
    }
    output::show(format, || shown::sagas_shown(&sagas), || sagas.iter().map(shown::summary_to_json).collect())?;
    if has_more {
        eprintln!("More sagas follow; raise --limit to see them.");
    }
    Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows the saga whose id begins with `typed`. For a whole id, reading ends at the newest file that contains it; for a
/// prefix, all files are read.
fn show(archive: Archive, typed: String, format: Format) -> anyhow::Result<ExitCode> {
    let typed = matricula_ops::beginning(&typed);
    check_id(&typed).context("the id")?;
    let whole = typed.parse::<SagaId>().ok();
    let files = archive.files();
    let archive = match whole {
        Some(id) => archive.only(id),
        None => archive.only_beginning_with(&typed),
    };
    // Only the ids of further matches are kept: a prefix may match many sagas.
    let (mut found, mut candidates): (Option<Found>, BTreeSet<SagaId>) = (None, BTreeSet::new());
    for read in archive {
        match read {
            // The index also finds sagas that mention the id, such as the registration whose sections this one drops.
            Ok(read) if !read.saga.id.to_string().starts_with(&typed) => {}
            // Files are read from the newest to the oldest, and the newest version of a saga counts.
            Ok(read) => {
                candidates.insert(read.saga.id);
                found.get_or_insert(read);
            }
            Err(problem) => eprintln!("{problem}"),
        }
        if whole.is_some() && found.is_some() {
            break;
        }
    }
    if candidates.len() > 1 {
        let shown: Vec<String> = candidates.iter().take(CANDIDATES_MAX).map(SagaId::to_string).collect();
        let (count, shown) = (candidates.len(), shown.join(", "));
        anyhow::bail!(
            "{count} sagas in the archive have an id that begins with {typed}: {shown}; enter more characters of the id"
        );
    }
    let Some(Found { saga, file }) = found else {
        anyhow::bail!("saga {typed} is in none of the {files} files of the archive");
    };
    let definitions = saga::definitions()?;
    let saga = matricula_ops::shown(&definitions, &StoredRegistration::read(&definitions, saga));
    eprintln!("in {}", file.display());
    shown::print(&saga, format)?;
    Ok(ExitCode::SUCCESS)
}
