//! `AcademicService` on the wire: bounds are checked, values converted, errors become a status. No rules.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::BoxStream;
use matricula_kit::answer::Reason;
use matricula_kit::id::{CourseId, OverrideId, SectionId, StudentId};
use matricula_kit::pages;
use matricula_kit::participant::{Direction, Operation, Writer};
use matricula_kit::rpc::{self, FieldError};
use matricula_kit::source::Source;
use matricula_kit::time;
use matricula_proto::academics::v1 as wire;
use matricula_proto::academics::v1::academic_service_server::AcademicService;
use matricula_proto::common::v1 as common;
use tonic::{Request, Response, Status};
use wire::export_ledger_response::Entry;

use crate::domain::catalog::Section;
use crate::domain::context::ChangeSet;
use crate::domain::decide::{Action, Command};
use crate::domain::student::Override;
use crate::participant::Academics;
use crate::store::{self, AcademicStore, StaffError};

mod imports;
mod reply;
mod request;
#[cfg(test)]
mod tests;

/// Most sections of a change set; the contract's bound for a registration.
const SECTIONS_MAX: usize = 20;
/// Most sections that a list can be restricted to.
const SECTION_IDS_MAX: usize = 1_000;

/// The service.
pub struct AcademicGrpc {
    /// Reads and changes of staff are from here.
    pub store: Arc<AcademicStore>,
    /// What registrations change goes through it.
    pub writer: Writer<Academics>,
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
        let student = rpc::required_id("student_id", request.student_id, StudentId::try_new)?;
        let change = change_set(request.adds, request.drops, as_of)?;
        let reasons = self.store.advise(&student, &change).await?;
        let reasons = reasons.into_iter().map(Into::into).collect();
        Ok(Response::new(wire::CheckEligibilityResponse { reasons, as_of: Some(as_of.to_wire()) }))
    }

    async fn reserve_courses(
        &self,
        request: Request<wire::ReserveCoursesRequest>,
    ) -> Result<Response<wire::ReserveCoursesResponse>, Status> {
        let results = rpc::write(&self.writer, request.into_inner().operations, reserve).await?;
        Ok(Response::new(wire::ReserveCoursesResponse { results }))
    }

    async fn remove_courses(
        &self,
        request: Request<wire::RemoveCoursesRequest>,
    ) -> Result<Response<wire::RemoveCoursesResponse>, Status> {
        let results = rpc::write(&self.writer, request.into_inner().operations, remove).await?;
        Ok(Response::new(wire::RemoveCoursesResponse { results }))
    }

    async fn settle_courses(
        &self,
        request: Request<wire::SettleCoursesRequest>,
    ) -> Result<Response<wire::SettleCoursesResponse>, Status> {
        let results = rpc::write(&self.writer, request.into_inner().operations, settle).await?;
        Ok(Response::new(wire::SettleCoursesResponse { results }))
    }

    async fn get_academic_record(
        &self,
        request: Request<wire::GetAcademicRecordRequest>,
    ) -> Result<Response<wire::GetAcademicRecordResponse>, Status> {
        let student = rpc::required_id("student_id", request.into_inner().student_id, StudentId::try_new)?;
        let record = self.store.record(&student).await?;
        let record = record.ok_or_else(|| matricula_kit::status::not_found("student", student.as_str()))?;
        Ok(Response::new(reply::academic_record(record)))
    }

    async fn set_hold(
        &self,
        request: Request<wire::SetHoldRequest>,
    ) -> Result<Response<wire::SetHoldResponse>, Status> {
        let request = request.into_inner();
        let student = rpc::required_id("student_id", request.student_id, StudentId::try_new)?;
        let hold = request.hold.ok_or_else(|| FieldError::new("hold", "is required"))?;
        let by = request::optional_text("changed_by", request.changed_by)?;
        let justification = request::optional_text("justification", request.justification)?;
        let hold_id = hold.hold_id.clone();
        if request.lifted {
            let id = request::hold_id(hold.hold_id).map_err(|problem| problem.within("hold"))?;
            self.store.lift_hold(&student, &id).await?;
        } else {
            let hold = request::hold(hold, Source::Staff).map_err(|problem| problem.within("hold"))?;
            self.store.set_hold(&student, &hold).await?;
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
        self.store.grant(&granted).await?;
        Ok(Response::new(wire::GrantOverrideResponse { r#override: Some(reply::granted(granted)) }))
    }

    async fn list_sections(
        &self,
        request: Request<wire::ListSectionsRequest>,
    ) -> Result<Response<wire::ListSectionsResponse>, Status> {
        let filter = SectionFilter::try_new(request.into_inner())?;
        let catalog = self.store.catalog().await?;
        let sections: Vec<&Section> = match &filter.only {
            Some(only) => only.iter().filter_map(|id| catalog.section(id)).filter(|it| filter.has(it)).collect(),
            None => {
                let from_here = catalog.sections_after(filter.after.as_ref()).filter(|it| filter.has(it));
                // 1,000 at most.
                from_here.take(filter.page_size as usize + 1).collect()
            }
        };
        let token = |last: &&Section| rpc::page_token(&[&last.id]);
        let (page, next_page_token) = rpc::page(sections, filter.page_size, token);
        let sections = page.into_iter().map(reply::section).collect();
        Ok(Response::new(wire::ListSectionsResponse { sections, next_page_token }))
    }

    async fn export_ledger(
        &self,
        _request: Request<wire::ExportLedgerRequest>,
    ) -> Result<Response<Self::ExportLedgerStream>, Status> {
        let snapshot = self.store.database.snapshot().await?;
        let entry = |entry| wire::ExportLedgerResponse { entry: Some(entry) };
        let courses = store::COURSES.part(move |course| entry(Entry::Course(reply::recorded_course(course))));
        let overrides = store::OVERRIDES.part(move |it| entry(Entry::Override(reply::granted(it))));
        Ok(Response::new(pages::export(snapshot, [courses, overrides])))
    }
}

/// What a list of sections is restricted to.
struct SectionFilter {
    page_size: i64,
    after: Option<SectionId>,
    only: Option<BTreeSet<SectionId>>,
    course: Option<CourseId>,
}

impl SectionFilter {
    fn try_new(request: wire::ListSectionsRequest) -> Result<Self, FieldError> {
        let only = rpc::distinct_ids("section_ids", request.section_ids, SECTION_IDS_MAX, SectionId::try_new)?;
        Ok(Self {
            page_size: rpc::page_size(request.page_size)?,
            after: rpc::page_after(&request.page_token, |[section]| SectionId::try_new(section).ok())?,
            only: (!only.is_empty()).then(|| only.into_iter().collect()),
            course: rpc::optional_id("course_id", request.course_id, CourseId::try_new)?,
        })
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
    let wire::ReserveCoursesOperation { operation, student_id, adds, drops, submitted_at, of_roster } = operation;
    of_student(operation, Direction::Forward, student_id, || {
        let change = change_set(adds, drops, rpc::required_moment("submitted_at", submitted_at)?)?;
        Ok(if of_roster { Action::TakeOver(change) } else { Action::Reserve(change) })
    })
}

fn remove(operation: wire::RemoveCoursesOperation) -> Result<Operation<Command>, FieldError> {
    of_student(operation.operation, Direction::Compensation, operation.student_id, || Ok(Action::Remove))
}

fn settle(operation: wire::SettleCoursesOperation) -> Result<Operation<Command>, FieldError> {
    of_student(operation.operation, Direction::Forward, operation.student_id, || Ok(Action::Settle))
}

/// An operation of a student's registration.
fn of_student(
    operation: Option<common::Operation>,
    direction: Direction,
    student_id: String,
    action: impl FnOnce() -> Result<Action, FieldError>,
) -> Result<Operation<Command>, FieldError> {
    rpc::saga_operation(operation, direction, student_id, |key, student| {
        Ok(Command { registration: key.saga.clone(), student, action: action()? })
    })
}

fn change_set(adds: Vec<String>, drops: Vec<String>, submitted_at: time::UnixMs) -> Result<ChangeSet, FieldError> {
    let adds = rpc::distinct_ids("adds", adds, SECTIONS_MAX, SectionId::try_new)?;
    let drops = rpc::distinct_ids("drops", drops, SECTIONS_MAX, SectionId::try_new)?;
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
    let section = rpc::optional_id("section_id", request.section_id, SectionId::try_new)?;
    Ok(Override {
        id: OverrideId::generate(),
        student: rpc::required_id("student_id", request.student_id, StudentId::try_new)?,
        section,
        reason,
        granted_by: request::required_text("granted_by", request.granted_by)?,
        justification: request::required_text("justification", request.justification)?,
        granted_at: time::now(),
        valid_until: rpc::moment("valid_until", request.valid_until)?,
        source: Source::Staff,
    })
}
