//! `matricula database`: converts the configured databases while the roles use them.

use std::process::ExitCode;

use anyhow::Context as _;
use matricula_kit::database::{CompactError, CompactStep, Compacted, Database, DatabaseUrl, Schema};
use serde_json::json;

use crate::arguments::{self, Compact, Format, Role};
use crate::config::{Config, ROLES};
use crate::output;

/// Runs a subcommand of `database`.
pub async fn run(config: &Config, command: arguments::Database, format: Format) -> anyhow::Result<ExitCode> {
    match command {
        arguments::Database::Compact(compact) => compact_all(config, compact, format).await,
    }
}

/// The result for a role's database.
struct Outcome {
    role: Role,
    ids: &'static str,
    problem: Option<String>,
}

async fn compact_all(config: &Config, compact: Compact, format: Format) -> anyhow::Result<ExitCode> {
    let is_selected = |role: &Role| compact.roles.is_empty() || compact.roles.contains(role);
    let mut outcomes = Vec::new();
    for role in ROLES.into_iter().filter(is_selected) {
        outcomes.push(match compact_one(config, role, compact.force).await {
            Ok(ids) => Outcome { role, ids, problem: None },
            Err(error) => {
                let problem = format!("{error:#}");
                eprintln!("{}: {problem}", role.name());
                Outcome { role, ids: "not converted", problem: Some(problem) }
            }
        });
    }
    let table = || {
        let rows = outcomes.iter().map(|outcome| [outcome.role.name(), outcome.ids].map(str::to_owned));
        output::table(["role", "ids"], rows, &[])
    };
    let shown = |of: &Outcome| json!({ "role": of.role.name(), "ids": of.ids, "problem": of.problem });
    output::show(format, table, || outcomes.iter().map(shown).collect())?;
    let is_done = outcomes.iter().all(|outcome| outcome.problem.is_none());
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn compact_one(config: &Config, role: Role, force: bool) -> anyhow::Result<&'static str> {
    let url = config.database_url(role);
    // A SQLite file is locked by the process that uses it.
    if let Ok(DatabaseUrl::Sqlite { .. }) = DatabaseUrl::parse(&url) {
        return Ok("text: SQLite needs no compact ids");
    }
    let database = Database::open(&url).await.context("the database can't be opened")?;
    let compacted = database.compact(schema(role), force, |step| print_step(role, &step)).await;
    database.close().await;
    match compacted {
        Ok(Compacted::Now) => Ok("compact now"),
        Ok(Compacted::Before) => Ok("compact already"),
        Ok(Compacted::NotNeeded) => Ok("none"),
        Err(CompactError::OtherSessions(others)) => {
            let shown = others.iter().map(|other| {
                let program = if other.program.is_empty() { "a program without a name" } else { &other.program };
                format!("process {} ({program}, from {})", other.pid, other.address)
            });
            anyhow::bail!(
                "sessions of other programs or releases are open: {}; end those of an earlier release, or use --force if \
                 none is of an earlier release",
                shown.collect::<Vec<_>>().join(", ")
            )
        }
        Err(error) => Err(error.into()),
    }
}

fn print_step(role: Role, step: &CompactStep) {
    let role = role.name();
    match step {
        CompactStep::Begins { tables } => {
            let tables: Vec<String> =
                tables.iter().map(|(table, rows)| format!("{table} (about {rows} rows)")).collect();
            eprintln!("{role}: converting {}", tables.join(", "));
        }
        CompactStep::Converted { table, rows, took } => {
            eprintln!("{role}: {table}: {rows} rows in {:.1} s", took.as_secs_f64());
        }
    }
}

fn schema(role: Role) -> &'static Schema<'static> {
    match role {
        Role::Seats => &matricula_seats::SCHEMA,
        Role::Enrollments => &matricula_enrollments::SCHEMA,
        Role::Academics => &matricula_academics::SCHEMA,
        Role::Fees => &matricula_fees::SCHEMA,
        Role::Notifications => &matricula_notifications::SCHEMA,
        Role::Orchestrator => &matricula_runtime::SCHEMA,
    }
}
