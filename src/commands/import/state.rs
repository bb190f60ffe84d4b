//! The state of the services: every row that an import can change, by id, and the version of each service.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use matricula_proto::academics::v1::{Course, Section, Student, Term};
use matricula_proto::fees::v1::{CourseFee, TermRates};
use matricula_proto::imports::v1::import_row::Row as Inner;
use matricula_proto::imports::v1::import_service_client::ImportServiceClient;
use matricula_proto::imports::v1::{ImportRow, ReadImportedRequest, ReadImportedResponse};
use matricula_proto::notifications::v1::Contact;
use matricula_proto::seats::v1::SectionCapacity;
use tonic::transport::Channel;

use super::rows::Row;
use crate::clients::{MESSAGE_BYTES_MAX, Services, read_whole};

/// How long to wait for a service that is restarting or busy.
pub const RETRY_FOR: Duration = Duration::from_secs(30);

/// Rows of one kind by id.
pub type ById<R> = BTreeMap<String, R>;

/// The services that receive imports, in the order in which an import is applied: services that can still refuse rows
/// come first. Academics is last, because a section must not be on offer before its fees, seats and addresses exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Rates and course fees.
    Fees,
    /// Capacities.
    Seats,
    /// Addresses.
    Notifications,
    /// Terms, courses, sections and students.
    Academics,
}

/// The rows of all services.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The version of each service's rows.
    pub versions: BTreeMap<Service, i64>,
    /// Terms.
    pub terms: ById<Term>,
    /// Courses.
    pub courses: ById<Course>,
    /// Sections.
    pub sections: ById<Section>,
    /// Students, with their transcripts and the holds of bundles.
    pub students: ById<Student>,
    /// The capacities of the last bundle.
    pub capacities: ById<SectionCapacity>,
    /// Rates of terms.
    pub rates: ById<TermRates>,
    /// Fees of courses.
    pub course_fees: ById<CourseFee>,
    /// Addresses of students.
    pub contacts: ById<Contact>,
}

impl Service {
    /// All services, in the order of an import.
    pub const ALL: [Self; 4] = [Self::Fees, Self::Seats, Self::Notifications, Self::Academics];

    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fees => "the fee service",
            Self::Seats => "the seat service",
            Self::Notifications => "the notification service",
            Self::Academics => "the academic service",
        }
    }

    /// The service's import client.
    pub fn client(self, services: &Services) -> ImportServiceClient<Channel> {
        let channel = match self {
            Self::Fees => &services.fees,
            Self::Seats => &services.seats,
            Self::Notifications => &services.notifications,
            Self::Academics => &services.academics,
        };
        ImportServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}

impl State {
    /// Reads all services.
    pub async fn read(services: &Services) -> anyhow::Result<Self> {
        let mut state = Self::default();
        for service in Service::ALL {
            let client = service.client(services);
            let open = async || client.clone().read_imported(ReadImportedRequest {}).await;
            let add = |(version, rows): &mut (Option<i64>, Vec<ImportRow>), message: ReadImportedResponse| {
                *version = Some(message.version);
                rows.extend(message.rows);
            };
            let (version, rows) = read_whole(RETRY_FOR, open, add).await.context(service.name())?;
            let version = version.context("the service sent no version").context(service.name())?;
            state.versions.insert(service, version);
            rows.into_iter().filter_map(|row| row.row).for_each(|row| state.insert(row));
        }
        Ok(state)
    }

    fn insert(&mut self, row: Inner) {
        fn put<R: Row>(rows: &mut ById<R>, row: R) {
            rows.insert(row.id().to_owned(), row);
        }
        match row {
            Inner::Term(row) => put(&mut self.terms, row),
            Inner::Course(row) => put(&mut self.courses, row),
            Inner::Section(row) => put(&mut self.sections, row),
            Inner::Student(row) => put(&mut self.students, row),
            Inner::Capacity(row) => put(&mut self.capacities, row),
            Inner::Rates(row) => put(&mut self.rates, row),
            Inner::CourseFee(row) => put(&mut self.course_fees, row),
            Inner::Contact(row) => put(&mut self.contacts, row),
        }
    }
}
