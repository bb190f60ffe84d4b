//! `CatalogService`: the sections of the campus, and their free seats.

mod watch;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use matricula_kit::id::{CourseId, SectionId, check_imported_id};
use matricula_kit::rpc::{FieldError, page_size, required_id};
use matricula_kit::status;
use matricula_proto::academics::v1 as academics;
use matricula_proto::academics::v1::academic_service_client::AcademicServiceClient;
use matricula_proto::catalog::v1 as wire;
use matricula_proto::catalog::v1::catalog_service_server::CatalogService;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use self::watch::Watch;
use crate::availability::AvailabilityCache;

/// Sections that one request may name.
const SECTIONS_MAX: usize = 1_000;
/// Longest page token: it is the id of a section.
const TOKEN_BYTES_MAX: usize = matricula_kit::id::IMPORTED_ID_BYTES_MAX;
/// How long the academic service may take for a page of the catalogue.
const CATALOG_TIMEOUT: Duration = Duration::from_secs(5);
/// When to come back after a service that is needed was away.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(1);

pub(crate) struct CatalogGrpc {
    cache: Arc<AvailabilityCache>,
    academics: Channel,
    shutdown: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

impl CatalogGrpc {
    pub(crate) fn new(cache: Arc<AvailabilityCache>, academics: Channel, shutdown: CancellationToken) -> Self {
        Self { cache, academics, shutdown }
    }
}

#[tonic::async_trait]
impl CatalogService for CatalogGrpc {
    type WatchAvailabilityStream = BoxStream<'static, Result<wire::WatchAvailabilityResponse, Status>>;

    async fn list_sections(&self, request: Request<wire::ListSectionsRequest>) -> Answer<wire::ListSectionsResponse> {
        let request = page_request(request.into_inner())?;
        let mut client = AcademicServiceClient::new(self.academics.clone());
        let page = match tokio::time::timeout(CATALOG_TIMEOUT, client.list_sections(request)).await {
            Ok(Ok(page)) => page.into_inner(),
            // Only the academic service can check the token.
            Ok(Err(status)) if status.code() == Code::InvalidArgument => return Err(status),
            Ok(Err(status)) => return Err(catalog_unavailable(status.message())),
            Err(_) => return Err(catalog_unavailable("no answer in time")),
        };
        let ids = page.sections.iter().filter_map(|entry| Some(entry.section.as_ref()?.section_id.clone()));
        let (found, _, freshness) = self.cache.get(ids.collect());
        let mut seats: HashMap<String, wire::Availability> =
            found.into_iter().map(|seats| (seats.section_id.clone(), seats)).collect();
        let sections = page.sections.into_iter().filter_map(|entry| section(entry, &mut seats)).collect();
        Ok(Response::new(wire::ListSectionsResponse {
            sections,
            next_page_token: page.next_page_token,
            freshness: Some(freshness.to_wire()),
        }))
    }

    async fn get_availability(
        &self,
        request: Request<wire::GetAvailabilityRequest>,
    ) -> Answer<wire::GetAvailabilityResponse> {
        let ids = request.into_inner().section_ids;
        if ids.is_empty() {
            return Err(FieldError::new("section_ids", "name at least one section").into());
        }
        check_section_ids(&ids)?;
        let (sections, unknown_section_ids, freshness) = self.cache.get(ids);
        if freshness.as_of.is_none() {
            let message = "the seats are not known yet: the feed of the seat service has not begun";
            return Err(status::retry(Code::Unavailable, "AVAILABILITY_NOT_READY", message, RETRY_UNAVAILABLE));
        }
        let freshness = Some(freshness.to_wire());
        Ok(Response::new(wire::GetAvailabilityResponse { sections, unknown_section_ids, freshness }))
    }

    async fn watch_availability(
        &self,
        request: Request<wire::WatchAvailabilityRequest>,
    ) -> Answer<Self::WatchAvailabilityStream> {
        let ids = request.into_inner().section_ids;
        check_section_ids(&ids)?;
        let distinct: HashSet<String> = ids.into_iter().collect();
        let of = (!distinct.is_empty()).then(|| distinct.into_iter().map(SectionId::stored).collect());
        let watch = Watch::new(self.cache.clone(), of, self.shutdown.clone());
        let responses = stream::try_unfold(watch, |mut watch| async move {
            let response = watch.next().await?;
            Ok(Some((response, watch)))
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

/// The request for the academic service, within the bounds of this service.
fn page_request(request: wire::ListSectionsRequest) -> Result<academics::ListSectionsRequest, FieldError> {
    let wire::ListSectionsRequest { page_size: size, page_token, section_ids, course_id } = request;
    page_size(size)?;
    if page_token.len() > TOKEN_BYTES_MAX {
        let problem = format!("must be a token of an earlier answer, got {} bytes", page_token.len());
        return Err(FieldError::new("page_token", problem));
    }
    check_section_ids(&section_ids)?;
    if !course_id.is_empty() {
        required_id("course_id", course_id.clone(), CourseId::try_new)?;
    }
    Ok(academics::ListSectionsRequest { page_size: size, page_token, section_ids, course_id })
}

fn check_section_ids(ids: &[String]) -> Result<(), FieldError> {
    if ids.len() > SECTIONS_MAX {
        return Err(FieldError::new("section_ids", format!("at most {SECTIONS_MAX}, got {}", ids.len())));
    }
    for (index, id) in ids.iter().enumerate() {
        check_imported_id(id)
            .map_err(|problem| FieldError::new(format!("section_ids[{index}]"), problem.to_string()))?;
    }
    Ok(())
}

fn section(entry: academics::CatalogSection, seats: &mut HashMap<String, wire::Availability>) -> Option<wire::Section> {
    let section = entry.section?;
    let course = entry.course.unwrap_or_default();
    Some(wire::Section {
        availability: seats.remove(&section.section_id),
        section_id: section.section_id,
        course_id: section.course_id,
        course_code: course.code,
        course_title: course.title,
        title: section.title,
        credits_hundredths: course.credits_hundredths,
        component: section.component,
        meetings: section.meetings,
        cancelled: section.cancelled,
    })
}

fn catalog_unavailable(cause: &str) -> Status {
    tracing::warn!(cause, "the academic service could not list sections");
    let message = "the catalogue is not available at present; try again in a second";
    status::retry(Code::Unavailable, "CATALOG_UNAVAILABLE", message, RETRY_UNAVAILABLE)
}

#[cfg(test)]
mod tests;
