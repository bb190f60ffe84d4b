//! `matricula audit`: reads the ledger of every service and checks the invariants.
//!
//! The order of reading makes the check exact while registrations are in progress: first the registrations, then the
//! services' ledgers, then the registrations again.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use matricula_audit::{Ledgers, Report};
use matricula_proto::academics::v1::academic_service_client::AcademicServiceClient;
use matricula_proto::enrollments::v1::enrollment_service_client::EnrollmentServiceClient;
use matricula_proto::fees::v1::fee_service_client::FeeServiceClient;
use matricula_proto::notifications::v1::notification_service_client::NotificationServiceClient;
use matricula_proto::ops::v1::saga_service_client::SagaServiceClient;
use matricula_proto::seats::v1::seat_service_client::SeatServiceClient;
use matricula_proto::{academics, enrollments, fees, notifications, ops, seats};
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use crate::arguments::Format;
use crate::clients::{connect, read_whole};
use crate::config::Config;
use crate::output::{self, Progress, grouped};

/// How long to wait for a service that is restarting or busy; its ledger is then read again from the beginning.
const RETRY_FOR: Duration = Duration::from_secs(60);

/// Checks the invariants of a running system.
pub async fn run(config: &Config, format: Format) -> anyhow::Result<ExitCode> {
    let progress = Progress::on_terminal();
    let (report, ()) = check(config, &progress, |_| ()).await?;
    drop(progress);
    output::show(format, || shown(&report), || to_json(&report))?;
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads all ledgers, checks every invariant over them, and derives another result from them.
pub async fn check<T: Send + 'static>(
    config: &Config,
    progress: &Progress,
    also: impl FnOnce(&Ledgers) -> T + Send + 'static,
) -> anyhow::Result<(Report, T)> {
    let urls = &config.orchestrator;
    let orchestrator = connect(&config.client.orchestrator_url).await?;
    let (seats, enrollments) = (connect(&urls.seats_url).await?, connect(&urls.enrollments_url).await?);
    let (academics, fees) = (connect(&urls.academics_url).await?, connect(&urls.fees_url).await?);
    let notifications = connect(&urls.notifications_url).await?;

    progress.now("registrations");
    let registrations_before = registrations(&orchestrator, progress).await?;
    let mut ledgers = Ledgers { registrations_before, ..Ledgers::default() };
    progress.now("ledgers of the services");
    let (seats, enrollments, academics, fees, notifications) = tokio::try_join!(
        ledger("seats", progress, async || {
            SeatServiceClient::new(seats.clone()).export_ledger(seats::v1::ExportLedgerRequest {}).await
        }),
        ledger("enrollments", progress, async || {
            let request = enrollments::v1::ExportLedgerRequest {};
            EnrollmentServiceClient::new(enrollments.clone()).export_ledger(request).await
        }),
        ledger("academics", progress, async || {
            AcademicServiceClient::new(academics.clone()).export_ledger(academics::v1::ExportLedgerRequest {}).await
        }),
        ledger("fees", progress, async || {
            FeeServiceClient::new(fees.clone()).export_ledger(fees::v1::ExportLedgerRequest {}).await
        }),
        ledger("notifications", progress, async || {
            let request = notifications::v1::ExportLedgerRequest {};
            NotificationServiceClient::new(notifications.clone()).export_ledger(request).await
        }),
    )?;
    progress.now("registrations, second time");
    ledgers.registrations_after = registrations(&orchestrator, progress).await?;
    progress.now("checking the invariants");
    // Hashing a million holds takes a second, so it must not block a thread of the async runtime.
    let proof = tokio::task::spawn_blocking(move || {
        seats.into_iter().for_each(|entry| ledgers.add_seats(entry));
        enrollments.into_iter().for_each(|entry| ledgers.add_enrollments(entry));
        academics.into_iter().for_each(|entry| ledgers.add_academics(entry));
        fees.into_iter().for_each(|entry| ledgers.add_fees(entry));
        notifications.into_iter().for_each(|entry| ledgers.add_notifications(entry));
        (matricula_audit::audit(&ledgers), also(&ledgers))
    });
    Ok(proof.await?)
}

async fn registrations(
    orchestrator: &Channel,
    progress: &Progress,
) -> anyhow::Result<Vec<ops::v1::ExportLedgerResponse>> {
    ledger("orchestrator", progress, async || {
        SagaServiceClient::new(orchestrator.clone()).export_ledger(ops::v1::ExportLedgerRequest {}).await
    })
    .await
}

/// A complete ledger. It is read again from the beginning when its stream breaks, because the check needs all entries.
async fn ledger<T>(
    service: &str,
    progress: &Progress,
    open: impl AsyncFnMut() -> Result<Response<Streaming<T>>, Status>,
) -> anyhow::Result<Vec<T>> {
    let add = |entries: &mut Vec<T>, entry| {
        entries.push(entry);
        progress.advance(1);
    };
    read_whole(RETRY_FOR, open, add).await.with_context(|| format!("the ledger of {service} can't be read"))
}

/// The verdicts for people.
pub fn shown(report: &Report) -> String {
    let rows = report.invariants.iter().map(|verdict| {
        [
            verdict.number.to_string(),
            verdict.title.to_owned(),
            grouped(verdict.checked),
            grouped(verdict.violations_count),
            if verdict.holds() { "holds" } else { "BROKEN" }.to_owned(),
        ]
    });
    let mut text = output::table(["", "invariant", "facts checked", "violations", "verdict"], rows, &[]);
    text.push('\n');
    for verdict in report.invariants.iter().filter(|verdict| !verdict.holds()) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "\n{}. {}: {} violations", verdict.number, verdict.title, verdict.violations_count);
        for violation in &verdict.violations {
            let _ = writeln!(text, "   {violation}");
        }
        let hidden = verdict.violations_count.saturating_sub(verdict.violations.len() as u64);
        if hidden > 0 {
            let _ = writeln!(text, "   and {} more", grouped(hidden));
        }
    }
    if report.needing_attention > 0 {
        let (count, verb) = match report.needing_attention {
            1 => ("1 registration".to_owned(), "needs"),
            count => (format!("{} registrations", grouped(count)), "need"),
        };
        let _ = writeln!(text, "\n{count} {verb} attention: `matricula saga list --needs-attention` lists them.");
    }
    let manual = &report.manual;
    if manual.count > 0 {
        let _ = write!(
            text,
            "\nManual decisions: operators skipped, resolved or abandoned steps of {} registrations. Their effects in the\n\
             services are not checked above. `matricula saga show ID` shows each decision with its author and reason:\n   {}\n",
            grouped(manual.count),
            manual.registration_ids.join("\n   "),
        );
        let hidden = manual.count.saturating_sub(manual.registration_ids.len() as u64);
        if hidden > 0 {
            let _ = writeln!(text, "   and {} more", grouped(hidden));
        }
    }
    text.push_str(if report.holds() { "\nEvery invariant holds.\n" } else { "\nNOT every invariant holds.\n" });
    text
}

/// The verdicts for programs.
pub fn to_json(report: &Report) -> Value {
    let invariants = report.invariants.iter().map(|verdict| {
        json!({
            "number": verdict.number,
            "title": verdict.title,
            "holds": verdict.holds(),
            "checked": verdict.checked,
            "violations_count": verdict.violations_count,
            "violations": verdict.violations,
        })
    });
    json!({
        "holds": report.holds(),
        "needing_attention": report.needing_attention,
        "invariants": invariants.collect::<Vec<_>>(),
        "decided_by_hand": { "count": report.manual.count, "registration_ids": report.manual.registration_ids },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use matricula_audit::{ManualDecisions, Verdict};

    #[test]
    fn a_broken_invariant_stands_out() {
        let holding = matricula_audit::audit(&Ledgers::default());
        assert_eq!(holding.invariants.len(), 8);
        let broken = Verdict {
            number: 3,
            title: "All or nothing",
            checked: 1_234_567,
            violations: vec!["registration r-1: C001-L1 is enrolled, C001-B1 is not".to_owned()],
            violations_count: 21,
        };
        let manual = ManualDecisions { registration_ids: vec!["r-2".to_owned(), "r-3".to_owned()], count: 3 };
        let report = Report { invariants: vec![holding.invariants[0].clone(), broken], needing_attention: 2, manual };
        insta::assert_snapshot!(shown(&report), @"
             invariant               facts checked   violations   verdict
        ──────────────────────────────────────────────────────────────────
         1   no seat without right   0               0            holds
         3   All or nothing          1,234,567       21           BROKEN

        3. All or nothing: 21 violations
           registration r-1: C001-L1 is enrolled, C001-B1 is not
           and 20 more

        2 registrations need attention: `matricula saga list --needs-attention` lists them.

        Manual decisions: operators skipped, resolved or abandoned steps of 3 registrations. Their effects in the
        services are not checked above. `matricula saga show ID` shows each decision with its author and reason:
           r-2
           r-3
           and 1 more

        NOT every invariant holds.
        ");
    }
}
