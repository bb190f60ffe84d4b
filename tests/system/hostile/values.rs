//! Messages from descriptors: a valid one of every kind, and every way in which a field of it can be invalid.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

/// A million bytes: far above every limit of a field, and below the largest message.
const HUGE: usize = 1_000_000;
/// Lengths of lists, around the limits of the contract.
const COUNTS: [usize; 6] = [2, 20, 21, 1_000, 1_001, 10_001];
/// Deepest nesting of a random message.
const DEPTH_MAX: usize = 6;

/// Texts that have broken other systems: limits of length, other alphabets, control characters, and syntax of
/// databases, shells, formats and browsers.
const TEXTS: [&str; 16] = [
    "",
    " ",
    "\0",
    "a\0b",
    "é",
    "学生",
    "\u{202e}gnp.exe",
    "\u{fffd}\u{feff}",
    "a\r\nSet-Cookie: b",
    "'; DROP TABLE sagas; --",
    "\" OR \"\"=\"",
    "$1, {rows}, {}",
    "%s%n%x",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "-1",
];
const INTEGERS: [i64; 8] = [-1, 0, 1, 1_000, 1_001, 30_001, i64::MAX, i64::MIN];

/// The change of a field.
#[derive(Debug, Clone)]
pub enum Change {
    /// It gets this value.
    Value(Value),
    /// It is left out.
    Left,
    /// The list has its first element this many times.
    Times(usize),
}

/// A field of a message, by its path.
#[derive(Debug, Clone)]
pub struct Place {
    /// Fields from the outside in. In a list it is the first element.
    way: Vec<FieldDescriptor>,
    /// The list itself, not its first element.
    is_list: bool,
}

impl Place {
    /// Its form in an error: `operations[0].student_id`.
    pub fn name(&self) -> String {
        let last = self.way.len() - 1;
        let parts =
            self.way.iter().enumerate().map(|(at, field)| match field.is_list() && (at < last || !self.is_list) {
                true => format!("{}[0]", field.name()),
                false => field.name().to_owned(),
            });
        parts.collect::<Vec<_>>().join(".")
    }

    /// The field.
    pub fn field(&self) -> &FieldDescriptor {
        self.way.last().expect("a place has a field")
    }

    /// Every change that is tried at this place.
    pub fn changes(&self) -> Vec<Change> {
        let field = self.field();
        if self.is_list {
            // Ten thousand nested messages would add no new case.
            let counts = COUNTS.iter().filter(|count| self.way.len() == 1 || **count <= 1_001);
            return counts.map(|count| Change::Times(*count)).chain([Change::Left]).collect();
        }
        let mut changes: Vec<Change> = hostile(&field.kind()).into_iter().map(Change::Value).collect();
        if !field.is_list() {
            changes.push(Change::Left);
        }
        changes
    }
}

/// The bad values of a kind.
fn hostile(kind: &Kind) -> Vec<Value> {
    match kind {
        Kind::String => {
            let long = [64, 65, 501, HUGE].map(|length| "x".repeat(length));
            let wide = "é".repeat(60);
            let nested = format!("{}C101{}", "(".repeat(5_000), ")".repeat(5_000));
            let texts = TEXTS.iter().map(|text| (*text).to_owned());
            texts.chain(long).chain([wide, nested]).map(Value::String).collect()
        }
        Kind::Int32 => {
            let fitting = INTEGERS.iter().map(|number| i32::try_from(*number).unwrap_or(i32::MAX));
            fitting.chain([i32::MIN]).map(Value::I32).collect()
        }
        Kind::Int64 => INTEGERS.iter().map(|number| Value::I64(*number)).collect(),
        Kind::Enum(_) => [-1, 0, 99, i32::MAX, i32::MIN].map(Value::EnumNumber).to_vec(),
        Kind::Bool => vec![Value::Bool(true)],
        Kind::Message(of) => vec![Value::Message(DynamicMessage::new(of.clone()))],
        other => panic!("{other:?}: say here what is bad of it"),
    }
}

/// Makes messages from a seed.
pub struct Maker {
    rng: ChaCha8Rng,
    made: u64,
    /// The role that gets the messages: an import has rows of its kinds only.
    role: &'static str,
}

impl Maker {
    /// The same seed makes the same messages; `stream` separates generators that work at the same time.
    pub fn new(seed: u64, stream: u64, role: &'static str) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self { rng, made: stream << 32, role }
    }

    /// A message within all limits: every field is set, every list has one element.
    pub fn good(&mut self, of: &MessageDescriptor) -> DynamicMessage {
        let mut message = DynamicMessage::new(of.clone());
        let role = self.role;
        for field in of.fields().filter(|field| of.name() != "ImportRow" || role_of_row(field.name()) == role) {
            // One of the fields of a choice.
            let choice = field.containing_oneof();
            let is_taken = choice.is_some_and(|choice| choice.fields().any(|other| message.has_field(&other)));
            if is_taken && self.rng.random_bool(0.5) {
                continue;
            }
            let value = self.good_value(&field);
            message.set_field(&field, if field.is_list() { Value::List(vec![value]) } else { value });
        }
        message
    }

    fn good_value(&mut self, field: &FieldDescriptor) -> Value {
        match field.kind() {
            Kind::String => Value::String(self.good_text(field)),
            Kind::Int32 => Value::I32(if field.name() == "nanos" || field.name() == "wait_ms" { 0 } else { 50 }),
            Kind::Int64 => Value::I64(if field.name() == "seconds" { 1_800_000_000 } else { 50 }),
            Kind::Enum(of) => {
                let good = if of.name() == "Reason" { 5 } else { 1 };
                Value::EnumNumber(good)
            }
            Kind::Bool => Value::Bool(false),
            Kind::Message(of) => Value::Message(self.good(&of)),
            other => panic!("{other:?}: say here what is good of it"),
        }
    }

    fn good_text(&mut self, field: &FieldDescriptor) -> String {
        self.made += 1;
        let fixed = match field.name() {
            "student_id" => "S2",
            "section_id" | "section_ids" | "adds" | "added_section_ids" => "F1",
            "drops" | "dropped_section_ids" => "F2",
            "course_id" => "course-F1",
            "term_id" => "spring",
            "saga_id" | "registration_id" | "idempotency_key" => return format!("hostile-{}", self.made),
            "step" => "hold_seats",
            "traceparent" | "tracestate" | "page_token" | "component" | "prerequisites" | "corequisites" => "",
            "meetings" | "closed_section_override_id" => "",
            "code" => "C-F1",
            "starts_on" => "2096-08-24",
            "ends_on" => "2096-12-18",
            "time_zone" => "America/New_York",
            "parent_term_id" => "",
            "email" => "s2@example.edu",
            "currency" => "USD",
            "grade" => "A",
            "name" if field.parent_message().name() == "SetDestinationLimitRequest" => "fees",
            _ => "good",
        };
        fixed.to_owned()
    }

    /// Every place of a message.
    pub fn places(&self, message: &DynamicMessage) -> Vec<Place> {
        let mut places = Vec::new();
        places_within(message, &[], &mut places);
        places
    }

    /// A random message: fields missing, valid, invalid, nested, repeated.
    pub fn random(&mut self, of: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(of.clone());
        for field in of.fields() {
            if self.rng.random_bool(0.1) {
                continue;
            }
            let value = if field.is_list() {
                let count = *[0, 1, 1, 1, 2, 3, 20].choose(&mut self.rng).expect("counts");
                Value::List((0..count).map(|_| self.random_value(&field, depth)).collect())
            } else {
                self.random_value(&field, depth)
            };
            message.set_field(&field, value);
        }
        message
    }

    fn random_value(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        match field.kind() {
            Kind::Message(of) if depth < DEPTH_MAX => Value::Message(self.random(&of, depth + 1)),
            _ if self.rng.random_bool(0.85) => self.good_value(field),
            // A random message has many fields: a million bytes in each would only be slow.
            kind => {
                let small = |value: &Value| value.as_str().is_none_or(|text| text.len() < HUGE);
                let bad: Vec<Value> = hostile(&kind).into_iter().filter(small).collect();
                bad.choose(&mut self.rng).cloned().expect("every kind has bad values")
            }
        }
    }

    /// Bytes of a message, damaged: cut, flipped, or with random ones put in.
    pub fn damaged(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..self.rng.random_range(1..4) {
            let at = self.rng.random_range(0..=bytes.len());
            match self.rng.random_range(0..3) {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => bytes[at] ^= 1 << self.rng.random_range(0..8),
                _ => {
                    let count = self.rng.random_range(1..20);
                    let put: Vec<u8> = (0..count).map(|_| self.rng.random()).collect();
                    bytes.splice(at..at, put);
                }
            }
        }
        bytes
    }
}

/// The role that accepts a kind of rows of an import.
fn role_of_row(kind: &str) -> &'static str {
    match kind {
        "term" | "course" | "section" | "student" => "academics",
        "rates" | "course_fee" => "fees",
        "contact" => "notifications",
        "capacity" => "seats",
        other => panic!("{other}: say here which role takes such rows"),
    }
}

fn places_within(message: &DynamicMessage, way: &[FieldDescriptor], places: &mut Vec<Place>) {
    for (field, value) in message.fields() {
        let way: Vec<FieldDescriptor> = way.iter().cloned().chain([field.clone()]).collect();
        if field.is_list() {
            places.push(Place { way: way.clone(), is_list: true });
        }
        places.push(Place { way: way.clone(), is_list: false });
        let inner = match value {
            Value::List(elements) => elements.first(),
            value => Some(value),
        };
        if let Some(Value::Message(inner)) = inner {
            places_within(inner, &way, places);
        }
    }
}

/// The message with one change.
pub fn changed(message: &DynamicMessage, place: &Place, change: &Change) -> DynamicMessage {
    let mut message = message.clone();
    change_within(&mut message, &place.way, change);
    message
}

fn change_within(message: &mut DynamicMessage, way: &[FieldDescriptor], change: &Change) {
    let [field, rest @ ..] = way else { unreachable!("a place has a field") };
    if rest.is_empty() {
        return match change {
            Change::Left => message.clear_field(field),
            Change::Times(count) => {
                let elements = message.get_field_mut(field).as_list_mut().expect("a list");
                *elements = vec![elements[0].clone(); *count];
            }
            Change::Value(value) if field.is_list() => {
                message.get_field_mut(field).as_list_mut().expect("a list")[0] = value.clone();
            }
            Change::Value(value) => message.set_field(field, value.clone()),
        };
    }
    let inner = match message.get_field_mut(field) {
        Value::List(elements) => &mut elements[0],
        value => value,
    };
    change_within(inner.as_message_mut().expect("a message"), rest, change);
}
