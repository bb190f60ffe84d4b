//! `matricula import`: changes the data of the services to match a bundle.
//!
//! ```text
//! bundle --read, checked as a whole--> Bundle --+
//!                                               +--> Desired --compare--> Plan --> shown, --dry-run ends here
//! services --ReadImported--> State -------------+                          |
//!                                                       stage and apply: fees, seats, addresses, academics; then
//!                                                       rosters
//! ```
//!
//! Rule: for each file in the bundle, the bundle is the truth about what the file covers, field by field. An absent
//! file or column changes nothing. Every call is idempotent, so an interrupted import can simply be repeated.
//!
//! Reading checks a bundle against the limits of the services, so that no service rejects a part of it later.

mod apply;
mod desired;
#[cfg(test)]
mod hostile;
mod plan;
mod roster;
mod rows;
mod show;
mod state;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use matricula_campus::{Bundle, BundleErrors};
use matricula_kit::connect::lazily;
use matricula_kit::time;
use serde_json::json;
use tonic::transport::Channel;

use crate::arguments::{Format, Import};
use crate::clients::{Services, connect};
use crate::config::Config;
use crate::output::{self, Progress, grouped};
use desired::Overlay;
use plan::Plan;
use roster::RosterPlan;
use state::State;

/// Reads, checks and imports a bundle.
pub async fn run(config: &Config, import: Import, format: Format) -> anyhow::Result<ExitCode> {
    let progress = Progress::on_terminal();
    progress.now("reading the bundle");
    let path = import.bundle.clone();
    let bundle: Result<Bundle, BundleErrors> =
        tokio::task::spawn_blocking(move || matricula_campus::read(&path)).await?;
    let bundle = match bundle {
        Ok(bundle) => bundle,
        Err(problems) => {
            drop(progress);
            eprintln!("{problems}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let (zone, services) = (config.zone()?, Services::connect(&config.orchestrator).await?);
    progress.now("reading the services");
    let plan = plan_of(&bundle, &services, &zone).await?;
    let rosters = match &bundle.rosters {
        Some(rows) => {
            let enrollments = connect(&config.orchestrator.enrollments_url).await?;
            let ledger = roster::read(&services.academics, &enrollments, rows).await?;
            Some(RosterPlan::new(&bundle, rows, &ledger, today(&zone)?))
        }
        None => None,
    };
    drop(progress);
    let alarms: Vec<_> = plan.alarms().into_iter().chain(rosters.as_ref().and_then(RosterPlan::alarm)).collect();
    let is_stopped = !import.dry_run && !import.yes && !alarms.is_empty();
    let is_applied = !import.dry_run && !is_stopped;
    if !bundle.notes.is_empty() {
        eprintln!("{}", show::notes(&bundle.notes));
    }
    if format == Format::Table {
        output::print(show::shown(&plan));
        rosters.iter().for_each(|rosters| output::print(rosters.shown()));
    }
    let rosters_done =
        if is_applied { apply_all(config, &import, &plan, rosters.as_ref(), &services).await? } else { None };
    let taken_over = rosters_done.as_ref().and_then(|done| done.as_ref().ok());
    if format == Format::Json {
        let mut document = document(&bundle, &plan, is_applied);
        document["rosters"] = json!({
            "plan": rosters.as_ref().map(RosterPlan::to_json),
            "outcome": taken_over.map(roster::Outcome::to_json),
        });
        output::json(&document)?;
    } else if let Some(taken_over) = taken_over {
        output::print(taken_over.shown());
    }
    if is_stopped {
        eprintln!("{}", show::stopped(&alarms));
        return Ok(ExitCode::FAILURE);
    }
    if let Some(Err(why)) = rosters_done {
        let rest = if plan.is_empty() { "nothing else was to be imported" } else { "everything else was imported" };
        eprintln!("error: {why}; {rest}");
        return Ok(ExitCode::FAILURE);
    }
    let is_empty = plan.is_empty() && rosters.as_ref().is_none_or(RosterPlan::is_empty);
    eprintln!("{}", ending(is_empty, import.dry_run));
    if is_applied && !bundle.registrations.is_empty() {
        let (clicks, bundle) = (grouped(bundle.registrations.len() as u64), import.bundle.display());
        eprintln!(
            "The bundle contains a registration morning of {clicks} clicks: replay it with `matricula rush {bundle} --speed 60x`"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Carries the plans out. Returns the outcome of the rosters, or why they can't be taken over now; `None` if there are
/// no rosters to take over.
async fn apply_all(
    config: &Config,
    import: &Import,
    plan: &Plan,
    rosters: Option<&RosterPlan>,
    services: &Services,
) -> anyhow::Result<Option<Result<roster::Outcome, String>>> {
    apply::apply(plan, services, &Progress::on_terminal()).await?;
    let Some(rosters) = rosters.filter(|rosters| !rosters.is_empty()) else { return Ok(None) };
    let orchestrator = lazily(config.client.orchestrator_urls().next().unwrap_or_default())?;
    if let Some(why) = roster::pause_problem(&orchestrator).await? {
        return Ok(Some(Err(why)));
    }
    Ok(Some(Ok(take_over(&orchestrator, rosters, import.charge).await?)))
}

/// Carries a plan of rosters out. If registration was paused meanwhile, the error says so.
async fn take_over(orchestrator: &Channel, rosters: &RosterPlan, charge: bool) -> anyhow::Result<roster::Outcome> {
    match roster::apply(orchestrator, rosters, charge, &Progress::on_terminal()).await {
        Ok(outcome) => Ok(outcome),
        Err(error) => match roster::pause_problem(orchestrator).await {
            Ok(Some(why)) => Err(error.context(why)),
            Ok(None) | Err(_) => Err(error),
        },
    }
}

/// Imports a bundle without a confirmation.
pub async fn import_bundle(bundle: &Bundle, services: &Services, zone: &TimeZone) -> anyhow::Result<()> {
    let plan = plan_of(bundle, services, zone).await?;
    apply::apply(&plan, services, &Progress::hidden()).await
}

/// What an import of the bundle would change.
async fn plan_of(bundle: &Bundle, services: &Services, zone: &TimeZone) -> anyhow::Result<Plan> {
    let state = State::read(services).await?;
    let overlay = Overlay { bundle, state: &state, zone };
    Ok(Plan::new(&state, overlay.desired()))
}

/// The current date on the campus.
fn today(zone: &TimeZone) -> anyhow::Result<Date> {
    Ok(jiff::Timestamp::from_millisecond(time::now().0)?.to_zoned(zone.clone()).date())
}

fn ending(is_empty: bool, is_dry_run: bool) -> &'static str {
    match (is_empty, is_dry_run) {
        (true, _) => "The services match the bundle: there is nothing to import.",
        (false, true) => "This is the plan; nothing was imported.",
        (false, false) => "Imported.",
    }
}

fn document(bundle: &Bundle, plan: &Plan, is_applied: bool) -> serde_json::Value {
    json!({
        "terms": bundle.terms.len(),
        "courses": bundle.courses.len(),
        "sections": bundle.sections.len(),
        "sections_created": plan.capacities.added.len(),
        "sections_changed": plan.capacities.changed.len(),
        "students": bundle.students.len(),
        "plan": show::to_json(plan),
        "notes": bundle.notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "applied": is_applied,
    })
}
