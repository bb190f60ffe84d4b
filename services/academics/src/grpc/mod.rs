//! `AcademicService` on the wire: bounds are checked, values converted, errors become a status. No rules.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use matricula_kit::answer::Reason;
use matricula_kit::id::{CourseId, OverrideId, SagaId, SectionId, StudentId};
use matricula_kit::participant::{Leg, Operation, Writer};
use matricula_kit::rpc::{self, FieldError, distinct_ids, page_size, required_id};
use matricula_kit::source::Source;
use matricula_kit::time;
use matricula_proto::academics::v1 as wire;
use matricula_proto::academics::v1::academic_service_server::AcademicService;
use matricula_proto::common::v1 as common;
use tonic::{Request, Response, Status};

use crate::domain::catalog::Section;
use crate::domain::context::ChangeSet;
use crate::domain::decide::{Action, Command};
use crate::domain::student::Override;
use crate::store::{Academics, StaffError};

mod import;
mod imported;
mod reply;
#[cfg(test)]
mod tests;

/// Most sections of a change set; the contract's bound for a registration.
const SECTIONS_MAX: usize = 20;
/// Most sections that a list can be restricted to.
const SECTION_IDS_MAX: usize = 1_000;

/// The service.
pub struct AcademicGrpc {
    academics: Arc<Academics>,
    writer: Writer<Academics>,
}

impl AcademicGrpc {
    /// Serves reads from the store, and sends what registrations change through its writer.
    pub fn new(academics: Arc<Academics>, writer: Writer<Academics>) -> Self {
        Self { academics, writer }
    }

    async fn write(&self, operations: Vec<Operation<Command>>) -> Result<Vec<common::OperationResult>, Status> {
        Ok(rpc::results(self.writer.write(operations).await?))
    }
}

#[tonic::async_trait]
impl AcademicService for AcademicGrpc {
    type ExportLedgerStream = BoxStream<'static, Result<wire::ExportLedgerResponse, Status>>;

    async fn check_eligibility(
        &self,
        request: Request<wire::CheckEligibilityRequest>,
    ) -> Result<Response<wire::CheckEligibilityResponse>, Status> {
        let request = request.into_inner();
        let as_of = time::now();
        let student = required_id("student_id", request.student_id, StudentId::try_new)?;
        let change = change_set(request.adds, request.drops, as_of)?;
        let reasons = self.academics.advise(&student, &change).await?;
        let reasons = reasons.into_iter().map(Into::into).collect();
        Ok(Response::new(wire::CheckEligibilityResponse { reasons, as_of: Some(as_of.to_wire()) }))
    }

    async fn reserve_courses(
        &self,
        request: Request<wire::ReserveCoursesRequest>,
    ) -> Result<Response<wire::ReserveCoursesResponse>, Status> {
        let operations = rpc::operations(request.into_inner().operations, reserve)?;
        Ok(Response::new(wire::ReserveCoursesResponse { results: self.write(operations).await? }))
    }

    async fn remove_courses(
        &self,
        request: Request<wire::RemoveCoursesRequest>,
    ) -> Result<Response<wire::RemoveCoursesResponse>, Status> {
        let operations = rpc::operations(request.into_inner().operations, |operation| {
            command(operation.operation, operation.student_id, Leg::Undo, Action::Remove)
        })?;
        Ok(Response::new(wire::RemoveCoursesResponse { results: self.write(operations).await? }))
    }

    async fn settle_courses(
        &self,
        request: Request<wire::SettleCoursesRequest>,
    ) -> Result<Response<wire::SettleCoursesResponse>, Status> {
        let operations = rpc::operations(request.into_inner().operations, |operation| {
            command(operation.operation, operation.student_id, Leg::Action, Action::Settle)
        })?;
        Ok(Response::new(wire::SettleCoursesResponse { results: self.write(operations).await? }))
    }

    async fn get_academic_record(
        &self,
        request: Request<wire::GetAcademicRecordRequest>,
    ) -> Result<Response<wire::GetAcademicRecordResponse>, Status> {
        let student = required_id("student_id", request.into_inner().student_id, StudentId::try_new)?;
        let record = self.academics.record(&student).await?;
        let record = record.ok_or_else(|| matricula_kit::status::not_found("student", student.as_str()))?;
        Ok(Response::new(reply::academic_record(record)))
    }

    async fn set_hold(
        &self,
        request: Request<wire::SetHoldRequest>,
    ) -> Result<Response<wire::SetHoldResponse>, Status> {
        let request = request.into_inner();
        let student = required_id("student_id", request.student_id, StudentId::try_new)?;
        let hold = request.hold.ok_or_else(|| FieldError::new("hold", "is required"))?;
        let by = import::optional_text("changed_by", request.changed_by)?;
        let justification = import::optional_text("justification", request.justification)?;
        let hold_id = hold.hold_id.clone();
        if request.lifted {
            let id = import::hold_id(hold.hold_id).map_err(|problem| problem.within("hold"))?;
            self.academics.lift_hold(&student, &id).await?;
        } else {
            let hold = import::hold(hold, Source::Staff).map_err(|problem| problem.within("hold"))?;
            self.academics.set_hold(&student, &hold).await?;
        }
        let (student, lifted) = (student.as_str(), request.lifted);
        tracing::info!(student, hold = hold_id, lifted, by, justification, "staff changed a hold");
        Ok(Response::new(wire::SetHoldResponse {}))
    }

    async fn grant_override(
        &self,
        request: Request<wire::GrantOverrideRequest>,
    ) -> Result<Response<wire::GrantOverrideResponse>, Status> {
        let granted = granted(request.into_inner())?;
        self.academics.grant(&granted).await?;
        Ok(Response::new(wire::GrantOverrideResponse { r#override: Some(reply::granted(granted)) }))
    }

    async fn list_sections(
        &self,
        request: Request<wire::ListSectionsRequest>,
    ) -> Result<Response<wire::ListSectionsResponse>, Status> {
        let filter = SectionFilter::try_new(request.into_inner())?;
        let catalog = self.academics.catalog().await?;
        let sections: Vec<&Section> = match &filter.only {
            Some(only) => only.iter().filter_map(|id| catalog.section(id)).filter(|it| filter.has(it)).collect(),
            None => {
                let from_here = catalog.sections_after(filter.after.as_ref()).filter(|it| filter.has(it));
                from_here.take(filter.page_size + 1).collect()
            }
        };
        let page = &sections[..sections.len().min(filter.page_size)];
        let last = page.last().filter(|_| sections.len() > page.len());
        Ok(Response::new(wire::ListSectionsResponse {
            next_page_token: last.map(|section| section.id.to_string()).unwrap_or_default(),
            sections: page.iter().map(|section| reply::section(section)).collect(),
        }))
    }

    async fn export_ledger(
        &self,
        _request: Request<wire::ExportLedgerRequest>,
    ) -> Result<Response<Self::ExportLedgerStream>, Status> {
        let ledger = self.academics.ledger().await?;
        let pages = stream::try_unfold(ledger, |mut ledger| async move {
            let page = ledger.next_page().await.map_err(Status::from)?;
            Ok::<_, Status>(page.map(|page| (page, ledger)))
        });
        let entries = pages.map_ok(|page| stream::iter(page).map(|entry| Ok(reply::ledger_entry(entry))));
        Ok(Response::new(entries.try_flatten().boxed()))
    }
}

/// What a list of sections is restricted to.
struct SectionFilter {
    page_size: usize,
    after: Option<SectionId>,
    only: Option<BTreeSet<SectionId>>,
    course: Option<CourseId>,
}

impl SectionFilter {
    fn try_new(request: wire::ListSectionsRequest) -> Result<Self, FieldError> {
        let optional = |text: String| (!text.is_empty()).then_some(text);
        let after = optional(request.page_token).map(|text| required_id("page_token", text, SectionId::try_new));
        let course = optional(request.course_id).map(|text| required_id("course_id", text, CourseId::try_new));
        let only = distinct_ids("section_ids", request.section_ids, SECTION_IDS_MAX, SectionId::try_new)?;
        // 1,000 at most.
        let page_size = page_size(request.page_size)? as usize;
        let only = (!only.is_empty()).then(|| only.into_iter().collect());
        Ok(Self { page_size, after: after.transpose()?, only, course: course.transpose()? })
    }

    fn has(&self, section: &Section) -> bool {
        self.after.as_ref().is_none_or(|after| section.id > *after)
            && self.course.as_ref().is_none_or(|course| section.course.id == *course)
    }
}

impl From<StaffError> for Status {
    fn from(problem: StaffError) -> Self {
        match problem {
            StaffError::NotFound { what, id } => matricula_kit::status::not_found(what, &id),
            StaffError::Database(database) => database.into(),
        }
    }
}

fn reserve(operation: wire::ReserveCoursesOperation) -> Result<Operation<Command>, FieldError> {
    let submitted_at = import::moment("submitted_at", operation.submitted_at)?;
    let submitted_at = submitted_at.ok_or_else(|| FieldError::new("submitted_at", "is required"))?;
    let change = change_set(operation.adds, operation.drops, submitted_at)?;
    let action = if operation.of_roster { Action::TakeOver(change) } else { Action::Reserve(change) };
    command(operation.operation, operation.student_id, Leg::Action, action)
}

fn command(
    operation: Option<common::Operation>,
    student: String,
    leg: Leg,
    action: Action,
) -> Result<Operation<Command>, FieldError> {
    let student = required_id("student_id", student, StudentId::try_new)?;
    // The saga's id is checked by `saga_operation`; the registration goes by the same one.
    let registration = operation.as_ref().map(|operation| operation.saga_id.clone()).unwrap_or_default();
    let command = Command { registration: SagaId::stored(registration), student, action };
    rpc::saga_operation(operation, leg, command)
}

fn change_set(adds: Vec<String>, drops: Vec<String>, submitted_at: time::UnixMs) -> Result<ChangeSet, FieldError> {
    let adds = distinct_ids("adds", adds, SECTIONS_MAX, SectionId::try_new)?;
    let drops = distinct_ids("drops", drops, SECTIONS_MAX, SectionId::try_new)?;
    if adds.len() + drops.len() > SECTIONS_MAX {
        let problem = format!("at most {SECTIONS_MAX} with the adds, got {}", adds.len() + drops.len());
        return Err(FieldError::new("drops", problem));
    }
    if let Some(index) = drops.iter().position(|section| adds.contains(section)) {
        return Err(FieldError::new(format!("drops[{index}]"), format!("{} is added, too", drops[index])));
    }
    Ok(ChangeSet { adds, drops, submitted_at })
}

fn granted(request: wire::GrantOverrideRequest) -> Result<Override, FieldError> {
    let reason = Reason::from_wire(request.reason)
        .ok_or_else(|| FieldError::new("reason", format!("unknown reason {}", request.reason)))?;
    if !reason.overridable() {
        return Err(FieldError::new("reason", format!("{} can't be overridden", reason.name())));
    }
    let section = match request.section_id {
        id if id.is_empty() => None,
        id => Some(required_id("section_id", id, SectionId::try_new)?),
    };
    Ok(Override {
        id: OverrideId::generate(),
        student: required_id("student_id", request.student_id, StudentId::try_new)?,
        section,
        reason,
        granted_by: import::required_text("granted_by", request.granted_by)?,
        justification: import::required_text("justification", request.justification)?,
        granted_at: time::now(),
        valid_until: import::moment("valid_until", request.valid_until)?,
        source: Source::Staff,
    })
}
