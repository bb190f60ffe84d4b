//! `matricula up`: all roles in one process. The orchestrator reaches the services through gRPC in memory; every role
//! listens on its own port, too, so that the commands work as they do against separate processes.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use matricula_kit::serve::{self, Serving};
use matricula_kit::telemetry;
use matricula_proto::academics::v1 as academics;
use matricula_registration::Channels;

use crate::arguments::{Role, Up};
use crate::clients::Services;
use crate::commands::import;
use crate::config::Config;
use crate::output::Progress;
use crate::roles::stop::Stop;
use crate::roles::{announce, flush, start};

/// What the orchestrator calls, in the order in which it is started.
const SERVICES: [Role; 5] = [Role::Seats, Role::Enrollments, Role::Academics, Role::Fees, Role::Notifications];

/// Share of the grace period in which the orchestrator ends; the rest is for the services.
const ORCHESTRATOR_SHARE: f64 = 0.5;

/// Serves everything until it is told to stop.
pub async fn up(config: Config, arguments: Up) -> anyhow::Result<ExitCode> {
    let telemetry = telemetry::init("up", &config.telemetry)?;
    serve::install_metrics();
    let stop = Stop::listen_and_end_within(config.shutdown_grace());
    // The services end after the orchestrator, so that it never calls into nothing, and by the same deadline.
    let services_end = stop.shutdown().later();
    let limits = config.limits.in_process(1 + SERVICES.len());
    let mut services = Vec::new();
    for role in SERVICES {
        let service = start::service(&config, role, false, limits, services_end.clone()).await?;
        stop.fail_with(&service);
        services.push(service);
    }
    let [seats, enrollments, academics, fees, notifications] = &services[..] else {
        unreachable!("five services were started")
    };
    let channels = Channels {
        seats: seats.in_memory.clone(),
        enrollments: enrollments.in_memory.clone(),
        academics: academics.in_memory.clone(),
        fees: fees.in_memory.clone(),
        notifications: notifications.in_memory.clone(),
    };
    let campus = campus_if_empty(&config, &channels, &arguments).await?;
    let shutdown = stop.shutdown().within(ORCHESTRATOR_SHARE);
    let orchestrator = start::orchestrator(&config, channels, limits, &services, shutdown).await?;
    stop.fail_with(&orchestrator);
    for service in &services {
        announce(service);
    }
    announce(&orchestrator);
    hint(&orchestrator, campus);

    stop.asked().await;
    orchestrator.ended().await;
    services_end.begin();
    for service in services {
        service.ended().await;
    }
    flush(telemetry, &stop).await;
    Ok(stop.exit_code())
}

/// Makes up a campus when there is none, and leaves its files beside the data so that `rush` can play its morning.
async fn campus_if_empty(config: &Config, channels: &Channels, arguments: &Up) -> anyhow::Result<Option<PathBuf>> {
    let mut client = academics::academic_service_client::AcademicServiceClient::new(channels.academics.clone());
    let request = academics::ListSectionsRequest { page_size: 1, ..Default::default() };
    let known = client.list_sections(request).await.context("academics: the catalogue can't be read")?.into_inner();
    let folder = config.data_dir.join("campus");
    if !known.sections.is_empty() || arguments.students == 0 {
        return Ok(folder.is_dir().then_some(folder));
    }
    eprintln!(
        "the data is empty: making up a campus of {} students and {} sections (seed {})",
        arguments.students, arguments.sections, arguments.seed
    );
    let spec = matricula_campus::Spec::try_new(arguments.students, arguments.sections, arguments.seed)?;
    let path = folder.clone();
    let bundle = tokio::task::spawn_blocking(move || {
        let bundle = matricula_campus::generate(spec);
        matricula_campus::write(&bundle, &path).map(|()| bundle)
    })
    .await??;
    let services = Services {
        seats: channels.seats.clone(),
        fees: channels.fees.clone(),
        notifications: channels.notifications.clone(),
        academics: channels.academics.clone(),
    };
    import::import_bundle(&bundle, &services, &Progress::hidden()).await?;
    Ok(Some(folder))
}

fn hint(orchestrator: &Serving, campus: Option<PathBuf>) {
    let address = orchestrator.grpc;
    eprintln!();
    eprintln!("ready: portals and operators call {address} (gRPC, gRPC-Web, reflection)");
    eprintln!();
    // As it was called, so that the lines can be copied.
    let matricula = std::env::args().next().unwrap_or_else(|| "matricula".to_owned());
    eprintln!("try, in another terminal:");
    eprintln!("  {matricula} sections show");
    eprintln!("  {matricula} register STUDENT --add SECTION");
    if let Some(campus) = campus {
        eprintln!("  {matricula} rush {} --speed 60x", campus.display());
    }
    eprintln!("  {matricula} audit");
}
