//! The calibrated campus, once for every repeat. Prefixes of names keep several campuses apart in one system, so that
//! no click repeats one of another campus.

use std::collections::HashSet;

use matricula_campus::{Bundle, Course, CourseId, Section, SectionId, Spec, Student, StudentId};
use matricula_harness::campus as harness;
use matricula_harness::submission;
use matricula_proto::registration::v1::SubmitRegistrationRequest;

/// Students a section: as on the campus that `matricula up` makes.
const STUDENTS_PER_SECTION: u32 = 5;
/// The longest wait for an outcome that the contract allows.
const WAIT_MS: i32 = 30_000;
/// The balance limit of a student where some registrations are to exceed it: more than all other courses cost.
const BALANCE_LIMIT_MINOR: i64 = 900_000_000;
/// The fee of the course that exceeds every balance limit.
const UNPAYABLE_MINOR: i64 = 1_000_000_000;
/// One registration of this many is for that course: 2 %.
const UNPAYABLE_ONE_IN: usize = 50;

/// One repeat: a campus, and its morning in order of arrival.
pub(crate) struct Morning {
    /// The bundle to import, without the clicks.
    pub(crate) bundle: Bundle,
    /// The clicks to play.
    pub(crate) clicks: Vec<Click>,
}

/// One click.
#[derive(Debug, Clone)]
pub(crate) struct Click {
    /// The submission.
    pub(crate) request: SubmitRegistrationRequest,
    /// Whether it is the first of its key. Later ones get the same outcome.
    pub(crate) is_first: bool,
}

impl Morning {
    /// Generates one. The same arguments give the same morning.
    pub(crate) fn generate(prefix: &str, students: u32, seed: u64) -> Self {
        let sections = (students / STUDENTS_PER_SECTION).max(1);
        let spec = Spec::try_new(students, sections, seed).expect("the plan's sizes are a campus");
        let mut bundle = matricula_campus::generate(spec);
        rename(&mut bundle, prefix);
        let mut keys = HashSet::new();
        let clicks = std::mem::take(&mut bundle.registrations).into_iter().map(|click| {
            let texts = |ids: Vec<SectionId>| ids.into_iter().map(SectionId::into_string).collect();
            Click {
                is_first: keys.insert(click.key.clone()),
                request: SubmitRegistrationRequest {
                    idempotency_key: click.key.into_string(),
                    student_id: click.student_id.into_string(),
                    adds: texts(click.adds),
                    drops: texts(click.drops),
                    seen_versions: Vec::new(),
                    wait_ms: WAIT_MS,
                },
            }
        });
        let clicks = clicks.collect();
        Self { bundle, clicks }
    }

    /// The same, with no seat in any section: everything is refused.
    pub(crate) fn full(prefix: &str, students: u32, seed: u64) -> Self {
        let mut morning = Self::generate(prefix, students, seed);
        morning.bundle.sections.iter_mut().for_each(|section| section.capacity = Some(0));
        morning
    }

    /// The same, where one registration of 50 is for a course above the balance limit. It is refused at the fee step,
    /// and its course and its seat are given back.
    pub(crate) fn with_unpayable(prefix: &str, students: u32, seed: u64) -> Self {
        let mut morning = Self::generate(prefix, students, seed);
        let bundle = &mut morning.bundle;
        for rates in bundle.terms.iter_mut().filter_map(|term| term.rates.as_mut()) {
            rates.balance_limit_minor = Some(BALANCE_LIMIT_MINOR);
        }
        let course = Course {
            id: CourseId::try_new(&format!("{prefix}DEAR")).expect("a short id"),
            code: format!("{prefix}DEAR"),
            title: "A course above every balance limit".to_owned(),
            credits_hundredths: 0,
            prerequisites: String::new(),
            corequisites: String::new(),
            fee_minor: UNPAYABLE_MINOR,
            closed: false,
        };
        let section = Section {
            id: SectionId::try_new(&format!("{prefix}DEAR-L1")).expect("a short id"),
            course_id: course.id.clone(),
            term_id: bundle.terms[0].id.clone(),
            title: course.title.clone(),
            capacity: Some(1_000_000),
            component: String::new(),
            meetings: String::new(),
            permission_required: false,
            cancelled: false,
        };
        let free: HashSet<&str> =
            bundle.students.iter().filter(|student| student.holds.is_empty()).map(|s| s.id.as_str()).collect();
        let can_ask = |click: &Click| click.is_first && free.contains(click.request.student_id.as_str());
        let asking = morning.clicks.iter().filter(|click| can_ask(click)).step_by(UNPAYABLE_ONE_IN);
        let key = |click: &Click| (click.request.student_id.clone(), click.request.idempotency_key.clone());
        let asking: HashSet<(String, String)> = asking.map(key).collect();
        for click in morning.clicks.iter_mut().filter(|click| asking.contains(&key(click))) {
            click.request.adds = vec![section.id.to_string()];
            click.request.drops.clear();
        }
        bundle.courses.push(course);
        bundle.sections.push(section);
        morning
    }

    /// Students who all want one section at once, with seats for half of them. No other rule refuses them.
    pub(crate) fn hot(prefix: &str, students: u32) -> Self {
        let mut bundle = harness::bundle(&[("HOT", (students / 2) as i32, "MWF 09:00-09:50")], students);
        rename(&mut bundle, prefix);
        let section = bundle.sections[0].id.to_string();
        let click = |student: &Student| Click {
            is_first: true,
            request: submission(student.id.as_str(), "hot", &[&section], &[]),
        };
        let clicks = bundle.students.iter().map(click).collect();
        Self { bundle, clicks }
    }

    /// How many registrations its clicks are.
    pub(crate) fn registrations(&self) -> usize {
        self.clicks.iter().filter(|click| click.is_first).count()
    }
}

/// Puts a prefix of letters and digits before every name.
fn rename(bundle: &mut Bundle, prefix: &str) {
    let course = |id: &CourseId| CourseId::try_new(&format!("{prefix}{id}")).expect("a short id stays one");
    let section = |id: &SectionId| SectionId::try_new(&format!("{prefix}{id}")).expect("a short id stays one");
    let student = |id: &StudentId| StudentId::try_new(&format!("{prefix}{id}")).expect("a short id stays one");
    for each in &mut bundle.courses {
        each.id = course(&each.id);
        each.code.insert_str(0, prefix);
        each.prerequisites = with_codes(&each.prerequisites, prefix);
        each.corequisites = with_codes(&each.corequisites, prefix);
    }
    for each in &mut bundle.sections {
        (each.id, each.course_id) = (section(&each.id), course(&each.course_id));
    }
    for each in &mut bundle.students {
        each.id = student(&each.id);
        each.completed.iter_mut().for_each(|completed| completed.course_id = course(&completed.course_id));
    }
    for each in &mut bundle.registrations {
        each.student_id = student(&each.student_id);
        each.adds.iter_mut().chain(&mut each.drops).for_each(|id| *id = section(id));
        let key = matricula_campus::IdempotencyKey::try_new(&format!("{prefix}{}", each.key));
        each.key = key.expect("a short key stays one");
    }
}

/// An expression of course codes such as `C101 and (C102:B or C103)`, with the prefix before each code. A code begins
/// with a letter and has a digit.
fn with_codes(expression: &str, prefix: &str) -> String {
    let words = expression.split_inclusive([' ', '(', ')']);
    let is_code = |word: &&str| word.chars().any(|c| c.is_ascii_digit());
    words.map(|word| if is_code(&word) { format!("{prefix}{word}") } else { word.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_campus_is_a_bundle_and_shares_no_name_with_another() {
        let folder = std::env::temp_dir().join(format!("matricula-bench-{}", std::process::id()));
        let (one, other) = (Morning::generate("A", 300, 7), Morning::generate("B", 300, 7));
        matricula_campus::write(&one.bundle, &folder).expect("it is written");
        let read = matricula_campus::read(&folder);
        std::fs::remove_dir_all(&folder).expect("it was written");
        assert_eq!(read.expect("it is consistent").courses, one.bundle.courses);
        let names = |morning: &Morning| -> HashSet<String> {
            let sections = morning.bundle.sections.iter().map(|section| section.id.to_string());
            sections.chain(morning.bundle.courses.iter().map(|course| course.code.clone())).collect()
        };
        assert!(names(&one).is_disjoint(&names(&other)));
        assert!(one.registrations() < one.clicks.len(), "some click twice");
        assert_eq!(with_codes("C1 and (C2:B or C3)", "R"), "RC1 and (RC2:B or RC3)");
    }
}
