//! The kinds of rows that an import brings, and what the plan needs of each: its id, whether it is closed, and how two
//! rows with one id differ.

use matricula_proto::academics::v1::{Course, Section, Student, Term};
use matricula_proto::common::v1::Source;
use matricula_proto::fees::v1::{CourseFee, TermRates};
use matricula_proto::imports::v1::ImportRow;
use matricula_proto::imports::v1::import_row::Row as Inner;
use matricula_proto::notifications::v1::Contact;
use matricula_proto::seats::v1::SectionCapacity;

/// One kind of row.
pub trait Row: prost::Message + Clone + PartialEq {
    /// Its id, unique in its kind.
    fn id(&self) -> &str;

    /// Whether it accepts no new registration, or is an empty value: no rates, no fee, no address.
    fn is_closed(&self) -> bool;

    /// The row for a record that its file no longer contains; `None` if that changes nothing.
    fn closed(&self) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }

    /// The differences from the row before, in a few words.
    fn differences(&self, before: &Self) -> String;

    /// The row as it is staged.
    fn into_import(self) -> ImportRow;
}

/// Lists the fields in which two rows differ.
macro_rules! differences {
    ($after:expr, $before:expr; $($field:ident: $name:literal),* $(,)?) => {{
        let mut names: Vec<&str> = Vec::new();
        $(if $after.$field != $before.$field { names.push($name); })*
        names.join(", ")
    }};
}

impl Row for Term {
    fn id(&self) -> &str {
        &self.term_id
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn closed(&self) -> Option<Self> {
        Some(Self { closed: true, ..self.clone() })
    }

    fn differences(&self, before: &Self) -> String {
        differences!(self, before; title: "title", add_deadline: "add deadline", drop_deadline: "drop deadline",
            max_credits_hundredths: "credit limit", starts_on: "start", ends_on: "end", time_zone: "time zone",
            parent_term_id: "parent", kind: "type")
    }

    fn into_import(self) -> ImportRow {
        ImportRow { row: Some(Inner::Term(self)) }
    }
}

impl Row for Course {
    fn id(&self) -> &str {
        &self.course_id
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn closed(&self) -> Option<Self> {
        Some(Self { closed: true, ..self.clone() })
    }

    fn differences(&self, before: &Self) -> String {
        differences!(self, before; code: "code", title: "title", credits_hundredths: "credits",
            prerequisites: "prerequisites", corequisites: "corequisites")
    }

    fn into_import(self) -> ImportRow {
        ImportRow { row: Some(Inner::Course(self)) }
    }
}

impl Row for Section {
    fn id(&self) -> &str {
        &self.section_id
    }

    fn is_closed(&self) -> bool {
        self.cancelled
    }

    fn closed(&self) -> Option<Self> {
        Some(Self { cancelled: true, ..self.clone() })
    }

    fn differences(&self, before: &Self) -> String {
        differences!(self, before; course_id: "course", term_id: "term", title: "title", component: "component",
            meetings: "meetings", permission_required: "permission")
    }

    fn into_import(self) -> ImportRow {
        ImportRow { row: Some(Inner::Section(self)) }
    }
}

impl Row for Student {
    fn id(&self) -> &str {
        &self.student_id
    }

    fn is_closed(&self) -> bool {
        self.closed || self.disabled
    }

    fn closed(&self) -> Option<Self> {
        Some(Self { closed: true, ..self.clone() })
    }

    fn differences(&self, before: &Self) -> String {
        differences!(self, before; name: "name", appointment_start: "appointment", appointment_end: "appointment end",
            max_credits_hundredths: "credit limit", active_from: "begin of the role", active_until: "end of the role",
            completed: "transcript", holds: "holds")
    }

    fn into_import(self) -> ImportRow {
        ImportRow { row: Some(Inner::Student(self)) }
    }
}

impl Row for SectionCapacity {
    fn id(&self) -> &str {
        &self.section_id
    }

    fn is_closed(&self) -> bool {
        false
    }

    fn differences(&self, before: &Self) -> String {
        let by_staff = before.source() == Source::Staff && before.current_capacity != before.capacity;
        let now = if by_staff { format!(", {} now, set by staff", before.current_capacity) } else { String::new() };
        format!("{} -> {}{now}", seats(before.capacity), seats(self.capacity))
    }

    fn into_import(self) -> ImportRow {
        ImportRow { row: Some(Inner::Capacity(self)) }
    }
}

impl Row for TermRates {
    fn id(&self) -> &str {
        &self.term_id
    }

    fn is_closed(&self) -> bool {
        self.per_credit.is_none()
    }

    fn differences(&self, before: &Self) -> String {
        differences!(self, before; per_credit: "rate", refund_ladder: "refunds", balance_limit_minor_units: "balance limit")
    }

    fn into_import(self) -> ImportRow {
        ImportRow { row: Some(Inner::Rates(self)) }
    }
}

impl Row for CourseFee {
    fn id(&self) -> &str {
        &self.course_id
    }

    fn is_closed(&self) -> bool {
        self.minor_units == 0
    }

    fn differences(&self, _before: &Self) -> String {
        "amount".to_owned()
    }

    fn into_import(self) -> ImportRow {
        ImportRow { row: Some(Inner::CourseFee(self)) }
    }
}

impl Row for Contact {
    fn id(&self) -> &str {
        &self.student_id
    }

    fn is_closed(&self) -> bool {
        self.email.is_empty()
    }

    fn differences(&self, before: &Self) -> String {
        differences!(self, before; email: "address", name: "name")
    }

    fn into_import(self) -> ImportRow {
        ImportRow { row: Some(Inner::Contact(self)) }
    }
}

/// The number of seats for a section without a limit: the largest capacity that the seat service accepts.
pub const CAPACITY_UNLIMITED: i32 = 1_000_000;

/// A number of seats for people.
fn seats(capacity: i32) -> String {
    if capacity == CAPACITY_UNLIMITED { "no limit".to_owned() } else { capacity.to_string() }
}
