//! `matricula import`: a bundle, read and checked as a whole, goes to the services that own its parts.
//!
//! ```text
//! Bundle ─┬─ rates ──────> fees            in this order: what can still be refused comes first, and a section is on
//!         ├─ capacities ─> seats           offer (academics) only when its seats, fees and addresses are there; every
//!         ├─ addresses ──> notifications   call is idempotent, so that an import that was cut off is simply made again
//!         └─ catalogue, then students ──> academics
//! ```
//!
//! Reading holds a bundle to the bounds of the services: none of them refuses a part of what was read.

#[cfg(test)]
mod hostile;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use matricula_campus::{Bundle, BundleErrors};
use matricula_proto::academics::v1::academic_service_client::AcademicServiceClient;
use matricula_proto::academics::v1::{ImportCatalogRequest, ImportStudentsRequest};
use matricula_proto::fees::v1::fee_service_client::FeeServiceClient;
use matricula_proto::notifications::v1::ImportContactsRequest;
use matricula_proto::notifications::v1::notification_service_client::NotificationServiceClient;
use matricula_proto::seats::v1::ImportSectionsRequest;
use matricula_proto::seats::v1::seat_service_client::SeatServiceClient;
use serde_json::{Value, json};
use tonic::Status;

use crate::arguments::{Format, Import};
use crate::clients::{Services, explained, persistently};
use crate::config::Config;
use crate::output::{self, Progress, grouped, table};

/// Rows in a call: large enough that calls do not matter, small enough that a call takes well under a second.
const ROWS_PER_CALL: usize = 1_000;
/// Courses, and sections, in a call of the catalogue: the most that the service takes, because a prerequisite names
/// courses of the same call, and the parts of a course must agree.
const CATALOG_ROWS_PER_CALL: usize = 10_000;
/// Bytes in a call: half of what a service takes, however long the texts are.
const BYTES_PER_CALL: usize = 8 << 20;
/// How long a service that is restarting or busy is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Terms.
    pub terms: usize,
    /// Courses.
    pub courses: usize,
    /// Sections.
    pub sections: usize,
    /// Students.
    pub students: usize,
    /// Sections that were new to the seat service.
    pub sections_created: usize,
    /// Sections whose capacity was another one before.
    pub sections_changed: usize,
}

/// Reads, checks and imports a bundle.
pub async fn run(config: &Config, import: Import, format: Format) -> anyhow::Result<ExitCode> {
    let progress = Progress::on_terminal();
    progress.now("reading");
    let dir = import.dir.clone();
    let bundle: Result<Bundle, BundleErrors> =
        tokio::task::spawn_blocking(move || matricula_campus::read(&dir)).await?;
    let bundle = match bundle {
        Ok(bundle) => bundle,
        Err(problems) => {
            drop(progress);
            eprintln!("{problems}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let services = Services::connect(&config.orchestrator).await?;
    let summary = import_bundle(&bundle, &services, &progress).await?;
    drop(progress);
    match format {
        Format::Table => output::print(shown(&summary)),
        Format::Json => output::json(&to_json(&summary))?,
    }
    if !bundle.registrations.is_empty() {
        let (clicks, dir) = (grouped(bundle.registrations.len() as u64), import.dir.display());
        eprintln!("The bundle has a morning of {clicks} clicks: play it with `matricula rush {dir} --speed 60x`");
    }
    Ok(ExitCode::SUCCESS)
}

/// Sends a bundle to the services that own its parts. When it fails half-way, importing the same again completes it.
pub async fn import_bundle(bundle: &Bundle, services: &Services, progress: &Progress) -> anyhow::Result<Summary> {
    progress.expect(2 * bundle.sections.len() + bundle.courses.len() + 2 * bundle.students.len());
    let mut summary = Summary {
        terms: bundle.terms.len(),
        courses: bundle.courses.len(),
        sections: bundle.sections.len(),
        students: bundle.students.len(),
        ..Summary::default()
    };
    progress.now("fees");
    import_rates(bundle, services).await.context("the fee service")?;
    progress.now("seats");
    import_capacities(bundle, services, progress, &mut summary).await.context("the seat service")?;
    progress.now("addresses");
    import_contacts(bundle, services, progress).await.context("the notification service")?;
    progress.now("catalogue");
    import_catalog(bundle, services, progress).await.context("the academic service")?;
    progress.now("students");
    import_students(bundle, services, progress).await.context("the academic service")?;
    Ok(summary)
}

async fn import_capacities(
    bundle: &Bundle,
    services: &Services,
    progress: &Progress,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    let seats = SeatServiceClient::new(services.seats.clone());
    for sections in bundle.sections.chunks(ROWS_PER_CALL) {
        let request = ImportSectionsRequest { sections: sections.iter().map(wire::capacity).collect() };
        let answer = send(async || seats.clone().import_sections(request.clone()).await).await?.into_inner();
        summary.sections_created += usize::try_from(answer.created).unwrap_or_default();
        summary.sections_changed += usize::try_from(answer.changed).unwrap_or_default();
        progress.advance(sections.len());
    }
    Ok(())
}

async fn import_rates(bundle: &Bundle, services: &Services) -> anyhow::Result<()> {
    let fees = FeeServiceClient::new(services.fees.clone());
    for request in wire::rates(bundle, ROWS_PER_CALL) {
        send(async || fees.clone().import_rates(request.clone()).await).await?;
    }
    Ok(())
}

async fn import_contacts(bundle: &Bundle, services: &Services, progress: &Progress) -> anyhow::Result<()> {
    let notifications = NotificationServiceClient::new(services.notifications.clone());
    for students in bundle.students.chunks(ROWS_PER_CALL) {
        let contacts: Vec<_> = students.iter().filter_map(wire::contact).collect();
        if !contacts.is_empty() {
            let request = ImportContactsRequest { contacts };
            send(async || notifications.clone().import_contacts(request.clone()).await).await?;
        }
        progress.advance(students.len());
    }
    Ok(())
}

async fn import_catalog(bundle: &Bundle, services: &Services, progress: &Progress) -> anyhow::Result<()> {
    let academics = AcademicServiceClient::new(services.academics.clone());
    let import = async |request: ImportCatalogRequest| {
        send(async || academics.clone().import_catalog(request.clone()).await).await
    };
    let terms = bundle.terms.iter().map(wire::term).collect();
    import(ImportCatalogRequest { terms, ..ImportCatalogRequest::default() }).await?;

    let calls = calls(bundle.courses.iter().map(wire::course), CATALOG_ROWS_PER_CALL);
    if calls.len() > 1 {
        // A prerequisite may name a course of a later call, so first every course is made known without any.
        for courses in &calls {
            let courses = courses.iter().cloned().map(wire::without_requisites).collect();
            import(ImportCatalogRequest { courses, ..ImportCatalogRequest::default() }).await?;
        }
    }
    for courses in calls {
        let count = courses.len();
        import(ImportCatalogRequest { courses, ..ImportCatalogRequest::default() }).await?;
        progress.advance(count);
    }
    for sections in self::calls(bundle.sections.iter().map(wire::section), CATALOG_ROWS_PER_CALL) {
        let count = sections.len();
        import(ImportCatalogRequest { sections, ..ImportCatalogRequest::default() }).await?;
        progress.advance(count);
    }
    Ok(())
}

async fn import_students(bundle: &Bundle, services: &Services, progress: &Progress) -> anyhow::Result<()> {
    let academics = AcademicServiceClient::new(services.academics.clone());
    for students in calls(bundle.students.iter().map(wire::student), ROWS_PER_CALL) {
        let count = students.len();
        let request = ImportStudentsRequest { students };
        send(async || academics.clone().import_students(request.clone()).await).await?;
        progress.advance(count);
    }
    Ok(())
}

/// Rows in as many calls as they need.
fn calls<T: prost::Message>(rows: impl Iterator<Item = T>, rows_max: usize) -> Vec<Vec<T>> {
    let mut calls: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for row in rows {
        let length = row.encoded_len();
        match calls.last_mut().filter(|call| call.len() < rows_max && bytes + length <= BYTES_PER_CALL) {
            Some(call) => {
                call.push(row);
                bytes += length;
            }
            None => {
                calls.push(vec![row]);
                bytes = length;
            }
        }
    }
    calls
}

async fn send<T>(call: impl AsyncFnMut() -> Result<T, Status>) -> anyhow::Result<T> {
    persistently(PATIENCE, |_| (), call).await.map_err(|status| {
        explained(&status).context("nothing more was imported; mend what it says, and import the same again")
    })
}

fn to_json(summary: &Summary) -> Value {
    json!({
        "terms": summary.terms,
        "courses": summary.courses,
        "sections": summary.sections,
        "sections_created": summary.sections_created,
        "sections_changed": summary.sections_changed,
        "students": summary.students,
    })
}

fn shown(summary: &Summary) -> String {
    let mut table = table(["imported", "count"]);
    for (what, count) in [
        ("terms", summary.terms),
        ("courses", summary.courses),
        ("sections", summary.sections),
        ("  new to the seat service", summary.sections_created),
        ("  with another capacity than before", summary.sections_changed),
        ("students", summary.students),
    ] {
        table.add_row([what.to_owned(), grouped(count as u64)]);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_fit_calls() {
        let row = |bytes: usize| "x".repeat(bytes);
        let sizes = |rows: Vec<String>, max| calls(rows.into_iter(), max).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(Vec::new(), 2), [0; 0]);
        assert_eq!(sizes(vec![row(1); 5], 2), [2, 2, 1]);
        assert_eq!(sizes(vec![row(3 << 20); 5], 1_000), [2, 2, 1]);
    }

    #[test]
    fn what_was_imported_is_shown() {
        let summary = Summary {
            terms: 1,
            courses: 80,
            sections: 200,
            students: 12_000,
            sections_created: 200,
            ..Summary::default()
        };
        insta::assert_snapshot!(shown(&summary), @"
         imported                              count
        ──────────────────────────────────────────────
         terms                                 1
         courses                               80
         sections                              200
           new to the seat service             200
           with another capacity than before   0
         students                              12,000
        ");
    }
}
