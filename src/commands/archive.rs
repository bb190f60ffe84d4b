//! `matricula archive`: finished sagas whose log has left the database, read from files alone.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use matricula_kit::id::check_id;
use matricula_registration::{StoredRegistration, saga};
use matricula_runtime::SagaId;
use matricula_runtime::archive::{Archive, Found, Problem};
use serde_json::Value;

use crate::arguments::{self, Format, Place};
use crate::commands::saga as shown;
use crate::config::Config;
use crate::output;

/// Ids that an ambiguous beginning of an id is answered with.
const CANDIDATES_MAX: usize = 5;

/// Runs a verb of `archive`.
pub fn run(config: &Config, command: arguments::Archive, format: Format) -> anyhow::Result<ExitCode> {
    match command {
        arguments::Archive::List { student, limit, place } => {
            list(open(config, place)?, student.as_deref(), limit as usize, format)
        }
        arguments::Archive::Show { id, place } => show(open(config, place)?, id, format),
    }
}

fn open(config: &Config, place: Place) -> anyhow::Result<Archive> {
    let dirs: Vec<PathBuf> = if place.dirs.is_empty() { vec![config.archive_dir()] } else { place.dirs };
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
                tell(&problem);
                damaged += 1;
            }
        }
    }
    match format {
        Format::Table => output::print(shown::sagas_shown(&sagas)),
        Format::Json => output::json(&Value::Array(sagas.iter().map(shown::summary_to_json).collect()))?,
    }
    if has_more {
        eprintln!("There are more; raise --limit.");
    }
    Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows the one saga whose id begins so. A whole id is found in the newest file that has it; for a beginning, all files are
/// read.
fn show(archive: Archive, typed: String, format: Format) -> anyhow::Result<ExitCode> {
    let typed = matricula_ops::beginning(&typed);
    check_id(&typed).context("the id")?;
    let whole = typed.parse::<SagaId>().ok();
    let files = archive.files();
    let archive = match whole {
        Some(id) => archive.only(id),
        None => archive.only_beginning_with(&typed),
    };
    // Of the others only the ids are kept: many may begin so.
    let (mut found, mut candidates): (Option<Found>, BTreeSet<SagaId>) = (None, BTreeSet::new());
    for read in archive {
        match read {
            // An id can be named in another saga: as the registration that it drops sections of.
            Ok(read) if !read.saga.id.to_string().starts_with(&typed) => {}
            // A file is read after those that are newer, and the newest has the last word.
            Ok(read) => {
                candidates.insert(read.saga.id);
                found.get_or_insert(read);
            }
            Err(problem) => tell(&problem),
        }
        if whole.is_some() && found.is_some() {
            break;
        }
    }
    if candidates.len() > 1 {
        let shown: Vec<String> = candidates.iter().take(CANDIDATES_MAX).map(SagaId::to_string).collect();
        let (count, shown) = (candidates.len(), shown.join(", "));
        anyhow::bail!("{count} sagas of the archive have an id that begins with {typed}: {shown}");
    }
    let Some(Found { saga, file }) = found else {
        anyhow::bail!("none of the {files} files of the archive has the saga {typed}");
    };
    let definitions = saga::definitions()?;
    let saga = matricula_ops::shown(&definitions, &StoredRegistration::read(&definitions, saga));
    eprintln!("in {}", file.display());
    shown::print(&saga, format)?;
    Ok(ExitCode::SUCCESS)
}

fn tell(problem: &Problem) {
    eprintln!("{problem}");
}
