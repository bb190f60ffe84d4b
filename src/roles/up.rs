//! `matricula up`: all roles in one process. The orchestrator calls the services through gRPC in memory. Every role
//! also listens on its own port, so that the commands work as with separate processes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use matricula_kit::serve::{self, Serving};
use matricula_kit::shutdown::Shutdown;
use matricula_kit::telemetry;
use matricula_proto::academics::v1 as academics;
use matricula_registration::Channels;
use tonic::transport::Channel;

use crate::arguments::{Role, Up};
use crate::clients::Services;
use crate::commands::import;
use crate::config::{Config, SERVICES, url_setting};
use crate::roles::stop::Stop;
use crate::roles::{METRICS, announce, flush, hints, start};

/// Clicks of the morning that are searched for a proposal.
const CLICKS_LOOKED_AT_MAX: usize = 200;

/// Share of the grace period in which the orchestrator ends; the rest is for the services.
const ORCHESTRATOR_SHARE: f64 = 0.5;

/// Serves all roles until the process is to end.
pub async fn up(config: Config, arguments: Up) -> anyhow::Result<ExitCode> {
    let telemetry = telemetry::init("up", &config.telemetry, &matricula_portal::BEGINS_TRACES)?;
    serve::install_metrics(&METRICS);
    let stop = Stop::listen_and_end_within(config.shutdown_grace());
    // The services end after the orchestrator, because it calls them, and by the same deadline.
    let services_end = stop.shutdown().later();
    let mut services = Vec::new();
    let orchestrator = started(&config, &arguments, &stop, &services_end, &mut services).await?;
    stop.requested().await;
    // The probes are those of the whole process, so they are answered until the services have ended too.
    let probes = match orchestrator {
        Some(orchestrator) => orchestrator.ended_before_probes().await,
        None => None,
    };
    services_end.begin();
    for service in services {
        service.ended().await;
    }
    if let Some(probes) = probes {
        probes.end(services_end.begun().await).await;
    }
    flush(telemetry, &stop).await;
    Ok(stop.exit_code())
}

/// Starts all roles and prints where they are; none if the process is to end before. `services` has the services
/// that have been started until then.
async fn started(
    config: &Config,
    arguments: &Up,
    stop: &Stop,
    services_end: &Shutdown,
    services: &mut Vec<Serving>,
) -> anyhow::Result<Option<Serving>> {
    let stopping = stop.token();
    let limits = config.limits.in_process(1 + SERVICES.len());
    for role in SERVICES {
        let service = start::service(config, role, false, limits, &stopping, services_end.clone()).await?;
        let Some(service) = service else { return Ok(None) };
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
        urls: HashMap::new(),
    };
    if stopping.is_cancelled() {
        return Ok(None);
    }
    let campus = campus_if_empty(config, &channels, arguments).await?;
    let academics = channels.academics.clone();
    let shutdown = stop.shutdown().within(ORCHESTRATOR_SHARE);
    let orchestrator = start::orchestrator(config, channels, limits, services, shutdown).await?;
    let Some(orchestrator) = orchestrator else { return Ok(None) };
    stop.fail_with(&orchestrator);
    services.iter().for_each(announce);
    announce(&orchestrator);
    let proposed = match &campus {
        Some(campus) => proposed(campus, academics).await,
        None => None,
    };
    let hints = hints::lines(&places(services, &orchestrator), campus.as_deref(), proposed);
    eprintln!();
    eprintln!("ready: portals and operators call {} (gRPC, gRPC-Web, reflection)", orchestrator.grpc);
    eprintln!();
    eprintln!("try, in another terminal:\n  {}", hints.join("\n  "));
    Ok(Some(orchestrator))
}

/// Generates a campus if there is none. Its files stay beside the data, so that `rush` can play its morning.
async fn campus_if_empty(config: &Config, channels: &Channels, arguments: &Up) -> anyhow::Result<Option<PathBuf>> {
    let mut client = academics::academic_service_client::AcademicServiceClient::new(channels.academics.clone());
    let request = academics::ListSectionsRequest { page_size: 1, ..Default::default() };
    let known = client.list_sections(request).await.context("academics: the catalogue can't be read")?.into_inner();
    let folder = config.data_dir.join("campus");
    if !known.sections.is_empty() || arguments.students == 0 {
        return Ok(folder.is_dir().then_some(folder));
    }
    eprintln!(
        "the data is empty: generating a campus of {} students and {} sections (seed {})",
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
    import::import_bundle(&bundle, &services, &config.zone()?).await?;
    Ok(Some(folder))
}

/// A registration of the campus's morning that the rules allow now, so that what is proposed is enrolled when it is
/// tried.
async fn proposed(folder: &Path, academics: Channel) -> Option<hints::Proposed> {
    let folder = folder.to_owned();
    let clicks = tokio::task::spawn_blocking(move || {
        let clicks = matricula_campus::registrations(&folder).ok()?;
        let clicks = clicks.take(CLICKS_LOOKED_AT_MAX).map_while(Result::ok);
        Some(clicks.filter(|click| click.drops.is_empty()).collect::<Vec<_>>())
    });
    let mut client = academics::academic_service_client::AcademicServiceClient::new(academics);
    for click in clicks.await.ok().flatten()? {
        let student = click.student_id.into_string();
        let sections: Vec<String> = click.adds.into_iter().map(|section| section.into_string()).collect();
        let request = academics::CheckEligibilityRequest {
            student_id: student.clone(),
            adds: sections.clone(),
            ..academics::CheckEligibilityRequest::default()
        };
        let advice = client.check_eligibility(request).await.ok()?.into_inner();
        if advice.reasons.is_empty() {
            return Some(hints::Proposed { student, sections });
        }
    }
    None
}

/// The URL of each role, by the setting from which a command reads it.
fn places(services: &[Serving], orchestrator: &Serving) -> hints::RoleUrls {
    let of_services = SERVICES.into_iter().zip(services);
    let of_services = of_services.map(|(role, serving)| (url_setting(role), hints::url(serving.grpc)));
    of_services.chain([(url_setting(Role::Orchestrator), hints::url(orchestrator.grpc))]).collect()
}
