//! `matricula archive`: finished sagas whose log has left the database, read from files alone.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use matricula_kit::id::SagaId;
use matricula_registration::{StoredRegistration, saga};
use matricula_runtime::archive::{Archive, Found, Problem};
use serde_json::Value;

use crate::arguments::{self, Format, Place};
use crate::commands::saga as shown;
use crate::config::Config;
use crate::output;

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
    let definition = saga::definition()?;
    let (mut sagas, mut damaged, mut has_more) = (Vec::new(), 0, false);
    for read in archive {
        match read {
            Ok(Found { saga, .. }) if student.is_some_and(|student| student != saga.subject) => {}
            Ok(_) if sagas.len() == limit => {
                has_more = true;
                break;
            }
            Ok(Found { saga, .. }) => {
                let stored = StoredRegistration::read(&definition, saga);
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

fn show(archive: Archive, id: String, format: Format) -> anyhow::Result<ExitCode> {
    let id = SagaId::try_new(id).context("the id")?;
    let definition = saga::definition()?;
    let files = archive.files();
    for read in archive.only(&id) {
        match read {
            // Its id can be named in another one: as the registration that it drops sections of.
            Ok(Found { saga, .. }) if saga.id != id => {}
            Ok(Found { saga, file }) => {
                let saga = matricula_ops::shown(&definition, &StoredRegistration::read(&definition, saga));
                eprintln!("in {}", file.display());
                shown::print(&saga, format)?;
                return Ok(ExitCode::SUCCESS);
            }
            Err(problem) => tell(&problem),
        }
    }
    anyhow::bail!("none of the {files} files of the archive has the saga {id}")
}

fn tell(problem: &Problem) {
    eprintln!("{problem}");
}
