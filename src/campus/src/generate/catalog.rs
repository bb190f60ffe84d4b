//! Courses and sections: single lectures, and lectures with labs.

use matricula_grammar::Meetings;
use rand::{Rng, seq::IndexedRandom as _};

use crate::{
    ids::{CourseId, SectionId, TermId},
    model::{Course, Section},
};

const LINKED_COURSE_SHARE: f64 = 0.25;
const PREREQUISITE_SHARE: f64 = 0.2;
const NO_SET_TIME_SHARE: f64 = 0.03;
const LABS_PER_LECTURE: usize = 2;
const LECTURES_PER_COURSE_MAX: usize = 4;
const LAB_FEE_MINOR: i64 = 7_500;
const SUBJECTS: [&str; 16] = [
    "Biology",
    "Chemistry",
    "Physics",
    "Mathematics",
    "Statistics",
    "History",
    "Philosophy",
    "Economics",
    "Geography",
    "Linguistics",
    "Music",
    "Art",
    "Psychology",
    "Sociology",
    "Engineering",
    "Informatics",
];
/// 50 minutes on three days, 75 minutes on two: the grids of a North American campus.
const MWF_STARTS: [u16; 9] = [480, 540, 600, 660, 720, 780, 840, 900, 960];
const TR_STARTS: [u16; 6] = [480, 570, 660, 750, 840, 930];
const LAB_STARTS: [u16; 5] = [480, 600, 840, 960, 1080];
const LAB_MINUTES: u16 = 110;

/// A lecture with its labs, as indexes into the sections. A student adds the lecture and one of the labs, if there are
/// any.
pub(super) struct Unit {
    pub course: usize,
    pub lecture: usize,
    pub labs: Vec<usize>,
}

pub(super) struct Catalog {
    pub courses: Vec<Course>,
    pub sections: Vec<Section>,
    /// The parsed meetings of each section.
    pub meetings: Vec<Meetings>,
    pub units: Vec<Unit>,
    /// For each course, the courses in its prerequisites.
    pub prerequisites: Vec<Vec<usize>>,
}

impl Unit {
    /// The number of its sections, including all labs.
    pub(super) fn sections(&self) -> usize {
        1 + self.labs.len()
    }
}

impl Catalog {
    pub(super) fn generate(sections: usize, term_id: &TermId, rng: &mut impl Rng) -> Self {
        let mut catalog = Self {
            courses: Vec::new(),
            sections: Vec::with_capacity(sections),
            meetings: Vec::with_capacity(sections),
            units: Vec::new(),
            prerequisites: Vec::new(),
        };
        while catalog.sections.len() < sections {
            catalog.add_course(sections - catalog.sections.len(), term_id, rng);
        }
        catalog
    }

    /// Adds a course with at most `room` sections.
    fn add_course(&mut self, room: usize, term_id: &TermId, rng: &mut impl Rng) {
        let number = self.courses.len() + 1;
        let linked = room > LABS_PER_LECTURE && rng.random_bool(LINKED_COURSE_SHARE);
        let labs = if linked { LABS_PER_LECTURE } else { 0 };
        let lectures = rng.random_range(1..=LECTURES_PER_COURSE_MAX / (1 + labs / 2)).min(room / (1 + labs));
        let credits_hundredths = if linked { 400 } else { *[300, 300, 300, 300, 150, 200].choose(rng).unwrap_or(&300) };
        let (rule, required) = self.prerequisites(rng);
        let code = format!("C{number:03}");
        self.courses.push(Course {
            id: CourseId::try_new(&code).expect("a letter and a number are an id"),
            title: format!("{} {number}", SUBJECTS.choose(rng).unwrap_or(&SUBJECTS[0])),
            code,
            credits_hundredths,
            prerequisites: rule,
            corequisites: String::new(),
            fee_minor: if linked { LAB_FEE_MINOR } else { 0 },
            closed: false,
        });
        self.prerequisites.push(required);
        for at in 0..lectures {
            let times = lecture_times(rng);
            let lecture = self.add_section("L", at + 1, linked.then_some(1), times, term_id);
            let labs = (0..labs).map(|lab| {
                let times = lab_times(&self.meetings[lecture], rng);
                self.add_section("B", at * labs + lab + 1, Some(2), times, term_id)
            });
            let labs = labs.collect();
            self.units.push(Unit { course: number - 1, lecture, labs });
        }
    }

    /// Adds a section to the last course, and returns its index.
    fn add_section(&mut self, kind: &str, nth: usize, subpart: Option<u8>, times: String, term_id: &TermId) -> usize {
        let number = self.courses.len();
        let course = &self.courses[number - 1];
        let part = if kind == "L" { "lecture" } else { "lab" };
        self.meetings.push(Meetings::parse(&times).unwrap_or_default());
        let id = format!("{}-{kind}{nth}", course.code);
        self.sections.push(Section {
            id: SectionId::try_new(&id).expect("letters, a dash and numbers are an id"),
            course_id: course.id.clone(),
            term_id: term_id.clone(),
            title: format!("{}, {part} {nth}", course.title),
            capacity: None,
            component: subpart.map_or(String::new(), |subpart| format!("{number}/{subpart}")),
            meetings: times,
            permission_required: false,
            cancelled: false,
        });
        self.sections.len() - 1
    }

    /// An expression over the courses so far, and the indexes of its courses.
    fn prerequisites(&self, rng: &mut impl Rng) -> (String, Vec<usize>) {
        if self.courses.len() < 3 || !rng.random_bool(PREREQUISITE_SHARE) {
            return (String::new(), Vec::new());
        }
        let named = rand::seq::index::sample(rng, self.courses.len(), 3).into_vec();
        let [first, second, third] = [0, 1, 2].map(|at| self.courses[named[at]].code.as_str());
        let (rule, names) = match rng.random_range(0..4) {
            0 => (first.to_owned(), 1),
            1 => (format!("{first}:C"), 1),
            2 => (format!("{first} or {second}"), 2),
            _ => (format!("{first} and ({second}:B or {third})"), 3),
        };
        (rule, named[..names].to_vec())
    }
}

fn lecture_times(rng: &mut impl Rng) -> String {
    if rng.random_bool(NO_SET_TIME_SHARE) {
        return String::new();
    }
    // Both grids are chosen in proportion to their starts.
    let slot = rng.random_range(0..MWF_STARTS.len() + TR_STARTS.len());
    match slot.checked_sub(MWF_STARTS.len()) {
        None => times("MWF", MWF_STARTS[slot], 50),
        Some(slot) => times("TR", TR_STARTS[slot], 75),
    }
}

/// A time that does not overlap the lecture. There always is one, because a lecture meets at one time of its days.
fn lab_times(lecture: &Meetings, rng: &mut impl Rng) -> String {
    loop {
        let day = ["M", "T", "W", "R", "F"].choose(rng).unwrap_or(&"M");
        let start = LAB_STARTS.choose(rng).unwrap_or(&LAB_STARTS[0]);
        let times = times(day, *start, LAB_MINUTES);
        let lab = Meetings::parse(&times).unwrap_or_default();
        if lecture.clashes(&lab).next().is_none() {
            return times;
        }
    }
}

fn times(days: &str, start_minute: u16, minutes: u16) -> String {
    let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    format!("{days} {}-{}", clock(start_minute), clock(start_minute + minutes))
}
