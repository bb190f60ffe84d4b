//! One run: start, load, break, heal, wait for facts, prove.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use matricula_harness::System;
use matricula_postgres::Backend;
use serde_json::Value;

use crate::live::Live;
use crate::load::{self, Rush, Size};
use crate::report::Report;
use crate::schedule::{Schedule, Tempo};
use crate::signs::{Counters, Findings};
use crate::stage::Stage;

/// Between two checks for due acts.
const TICK: Duration = Duration::from_millis(20);
/// Between two readings of the orchestrators' metrics.
const COUNT_EVERY: Duration = Duration::from_millis(500);
/// Clicks go on for this share of the run after the last fault, so that the healed system is under load, too.
const HEALED_SHARE: f64 = 0.05;
/// How long the healed system may take until every click has its outcome and every saga is finished. This is longer
/// than the pause between a saga's slow retries, and than the time for which a click is followed.
const HEALED_PATIENCE: Duration = Duration::from_secs(7 * 60);
/// Between two checks of a fact.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The specification of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The database under all processes.
    pub database: Backend,
    /// How long faults are injected.
    pub length: Duration,
    /// The source of all randomness.
    pub seed: u64,
    /// How fast faults follow each other.
    pub tempo: Tempo,
    /// Clicks a second.
    pub clicks_per_s: u32,
}

/// Runs it to its end. Violations are in the report.
///
/// # Errors
/// When the run itself fails: something does not start, or a file can't be written. The folder is kept then.
pub async fn run(plan: &Plan, live: &mut Live) -> anyhow::Result<Report> {
    live.now("starting");
    let begun = Instant::now();
    let mut stage = Stage::start(plan.database, &plan.tempo).await?;
    eprintln!("the folder of this run is {}", stage.system.folder().display());
    let length = plan.length.mul_f64(1.0 + HEALED_SHARE);
    let campus = load::prepare(&stage.system, Size { length, clicks_per_s: plan.clicks_per_s, seed: plan.seed })?;
    let mut rush = Rush::start(&stage.system, &campus, &stage.portals())?;

    let mut counters = Counters::default();
    let broken_for = inject(plan, &mut stage, &mut rush, &mut counters, live).await?;
    stage.heal().await?;
    let healed = Instant::now();
    let mut report = Report::new(plan, broken_for);
    follow_to_the_end(&mut stage, &mut rush, &mut counters, &mut report, live).await?;
    live.now("proving");
    prove(&stage.system, &mut report)?;
    report.healed_after_s = healed.elapsed().as_secs_f64();

    report.faults = stage.faults.clone();
    report.add_ended(&stage.ended);
    report.calls_failed = counters.calls_failed();
    report.add_findings(Findings::read(&stage.system.logs()).context("the logs")?);
    report.length_s = begun.elapsed().as_secs_f64();
    if report.holds() {
        stage.system.keep_folder(false);
    } else {
        report.folder = Some(stage.system.folder().to_owned());
    }
    Ok(report)
}

/// Injects faults until the time is over.
async fn inject(
    plan: &Plan,
    stage: &mut Stage,
    rush: &mut Rush,
    counters: &mut Counters,
    live: &mut Live,
) -> anyhow::Result<Duration> {
    let mut schedule = Schedule::new(plan.seed, stage.shape(), plan.tempo.clone());
    let begun = Instant::now();
    let (mut act_at, mut count_at) = (begun, begun + COUNT_EVERY);
    while begun.elapsed() < plan.length {
        let now = Instant::now();
        stage.tick(now);
        if act_at <= now {
            let (act, gap) = schedule.draw();
            stage.apply(act, now);
            act_at = now + gap;
        }
        if count_at <= now {
            counters.read(stage);
            count_at = now + COUNT_EVERY;
        }
        live.show(begun.elapsed(), plan.length, &stage.faults, &rush.said());
        anyhow::ensure!(rush.ended()?.is_none(), "rush ended too early: {}", rush.said());
        tokio::time::sleep(TICK).await;
    }
    Ok(begun.elapsed())
}

/// Waits until every click has ended and every saga is finished, and reports those that have not.
async fn follow_to_the_end(
    stage: &mut Stage,
    rush: &mut Rush,
    counters: &mut Counters,
    report: &mut Report,
    live: &mut Live,
) -> anyhow::Result<()> {
    let give_up_at = Instant::now() + HEALED_PATIENCE;
    let mut count_at = Instant::now();
    let status = loop {
        stage.tick(Instant::now());
        if let Some(status) = rush.ended()? {
            break Some(status);
        }
        if Instant::now() >= give_up_at {
            break None;
        }
        if count_at <= Instant::now() {
            counters.read(stage);
            count_at = Instant::now() + COUNT_EVERY;
        }
        live.now(&format!("healed; {}", rush.said()));
        tokio::time::sleep(TICK).await;
    };
    match status {
        None => report.problem(format!("clicks have no outcome long after the heal; rush says: {}", rush.said())),
        Some(status) => {
            let (figures, printed) = rush.report()?;
            report.add_rush(&figures);
            if !status.success() {
                report.problem(format!("rush ended with {status}:\n{printed}"));
            }
        }
    }
    live.now("waiting for the last sagas");
    loop {
        stage.tick(Instant::now());
        let unfinished = sagas(&stage.system, "--unfinished")?;
        if unfinished.is_empty() {
            return Ok(());
        }
        if Instant::now() >= give_up_at {
            report.problem(format!("sagas are not finished long after the heal, such as {}", unfinished.join(", ")));
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn prove(system: &System, report: &mut Report) -> anyhow::Result<()> {
    let stuck = sagas(system, "--needs-attention")?;
    if !stuck.is_empty() {
        report.problem(format!("sagas need attention after the heal, such as {}", stuck.join(", ")));
    }
    let output = system.run(&["audit", "--output", "json"]);
    let audit: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("the audit: {}", String::from_utf8_lossy(&output.stderr)))?;
    report.add_audit(&audit);
    Ok(())
}

/// The ids of some sagas that match.
fn sagas(system: &System, like: &str) -> anyhow::Result<Vec<String>> {
    let output = system.run(&["saga", "list", like, "--limit", "3", "--output", "json"]);
    let sagas: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("matricula saga list {like}: {}", String::from_utf8_lossy(&output.stderr)))?;
    // With `--needs-attention` the services that do not answer are a list of their own.
    let list = sagas.as_array().or_else(|| sagas["sagas"].as_array()).context("no list of sagas")?;
    let ids = list.iter().filter_map(|saga| saga["saga_id"].as_str());
    Ok(ids.map(str::to_owned).collect())
}
