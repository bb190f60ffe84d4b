//! The kinds of rows that an import brings, and what the plan needs of each: its id, whether it is closed, and how two
//! rows with one id differ.

use matricula_proto::academics::v1::{Course, Section, Student, Term};
use matricula_proto::common::v1::Source;
use matricula_proto::fees::v1::{CourseFee, TermRates};
use matricula_proto::imports::v1::import_row::Row as Inner;
use matricula_proto::notifications::v1::Contact;
use matricula_proto::seats::v1::SectionCapacity;

/// One kind of row.
pub trait Row: prost::Message + Clone + Default + PartialEq {
    /// Makes the row as it is staged.
    const WIRE: fn(Self) -> Inner;

    /// Its id, unique in its kind.
    fn id(&self) -> &str;

    /// Whether it accepts no new registration, or is an empty value: no rates, no fee, no address.
    fn is_closed(&self) -> bool {
        false
    }

    /// Closes a record that its file no longer contains. An empty value needs no change.
    fn close(&mut self) {}

    /// The differences from the row before, in a few words.
    fn differences(&self, before: &Self) -> String;
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
    const WIRE: fn(Self) -> Inner = Inner::Term;

    fn id(&self) -> &str {
        &self.term_id
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn close(&mut self) {
        self.closed = true;
    }

    fn differences(&self, before: &Self) -> String {
        differences!(self, before; title: "title", add_deadline: "add deadline", drop_deadline: "drop deadline",
            max_credits_hundredths: "credit limit", starts_on: "start", ends_on: "end", time_zone: "time zone",
            parent_term_id: "parent", kind: "type")
    }
}

impl Row for Course {
    const WIRE: fn(Self) -> Inner = Inner::Course;

    fn id(&self) -> &str {
        &self.course_id
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn close(&mut self) {
        self.closed = true;
    }

    fn differences(&self, before: &Self) -> String {
        differences!(self, before; code: "code", title: "title", credits_hundredths: "credits",
            prerequisites: "prerequisites", corequisites: "corequisites")
    }
}

impl Row for Section {
    const WIRE: fn(Self) -> Inner = Inner::Section;

    fn id(&self) -> &str {
        &self.section_id
    }

    fn is_closed(&self) -> bool {
        self.cancelled
    }

    fn close(&mut self) {
        self.cancelled = true;
    }

    fn differences(&self, before: &Self) -> String {
        differences!(self, before; course_id: "course", term_id: "term", title: "title", component: "component",
            meetings: "meetings", permission_required: "permission")
    }
}

impl Row for Student {
    const WIRE: fn(Self) -> Inner = Inner::Student;

    fn id(&self) -> &str {
        &self.student_id
    }

    fn is_closed(&self) -> bool {
        self.closed || self.disabled
    }

    fn close(&mut self) {
        self.closed = true;
    }

    fn differences(&self, before: &Self) -> String {
        differences!(self, before; name: "name", appointment_start: "appointment", appointment_end: "appointment end",
            max_credits_hundredths: "credit limit", active_from: "begin of the role", active_until: "end of the role",
            completed: "transcript", holds: "holds")
    }
}

impl Row for SectionCapacity {
    const WIRE: fn(Self) -> Inner = Inner::Capacity;

    fn id(&self) -> &str {
        &self.section_id
    }

    fn differences(&self, before: &Self) -> String {
        let by_staff = before.source() == Source::Staff && before.current_capacity != before.capacity;
        let now = if by_staff { format!(", {} now, set by staff", before.current_capacity) } else { String::new() };
        format!("{} -> {}{now}", seats(before.capacity), seats(self.capacity))
    }
}

impl Row for TermRates {
    const WIRE: fn(Self) -> Inner = Inner::Rates;

    fn id(&self) -> &str {
        &self.term_id
    }

    fn is_closed(&self) -> bool {
        self.per_credit.is_none()
    }

    fn differences(&self, before: &Self) -> String {
        differences!(self, before; per_credit: "rate", refund_ladder: "refunds", balance_limit_minor_units: "balance limit")
    }
}

impl Row for CourseFee {
    const WIRE: fn(Self) -> Inner = Inner::CourseFee;

    fn id(&self) -> &str {
        &self.course_id
    }

    fn is_closed(&self) -> bool {
        self.minor_units == 0
    }

    fn differences(&self, _before: &Self) -> String {
        "amount".to_owned()
    }
}

impl Row for Contact {
    const WIRE: fn(Self) -> Inner = Inner::Contact;

    fn id(&self) -> &str {
        &self.student_id
    }

    fn is_closed(&self) -> bool {
        self.email.is_empty()
    }

    fn differences(&self, before: &Self) -> String {
        differences!(self, before; email: "address", name: "name")
    }
}

/// The number of seats for a section without a limit: the largest capacity that the seat service accepts.
pub const CAPACITY_UNLIMITED: i32 = 1_000_000;

/// A number of seats for people.
fn seats(capacity: i32) -> String {
    if capacity == CAPACITY_UNLIMITED { "no limit".to_owned() } else { capacity.to_string() }
}
