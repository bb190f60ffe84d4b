//! Students: fictional names, completed courses that meet the prerequisites of their wishes, and a few holds.

use rand::{Rng, seq::IndexedRandom as _};

use super::{catalog::Catalog, morning::Morning};
use crate::{
    ids::{HoldId, StudentId},
    model::{CompletedCourse, Hold, Student},
};

/// The share of students that meet all prerequisites.
const PREREQUISITES_MET_SHARE: f64 = 0.9;
const HOLD_SHARE: f64 = 0.01;
/// Every grade meets the minimum grades of the catalogue.
const GRADES: [&str; 5] = ["A", "A-", "B+", "B", "B"];
const HOLDS: [&str; 3] = [
    "Unpaid library fine: pay at the desk",
    "Advising required: see your advisor",
    "Immunization record missing: send it to student health",
];

pub(super) fn generate(catalog: &Catalog, morning: &Morning, rng: &mut impl Rng) -> Vec<Student> {
    let student = |(at, wanted): (usize, &Vec<usize>)| {
        let id = student_id(at);
        let hold = rng.random_bool(HOLD_SHARE).then(|| Hold {
            id: HoldId::try_new(&format!("H{:06}", at + 1)).expect("a letter and a number are an id"),
            description: (*HOLDS.choose(rng).unwrap_or(&HOLDS[0])).to_owned(),
        });
        Student {
            given_name: "Student".to_owned(),
            family_name: (at + 1).to_string(),
            email: format!("{}@example.org", id.as_str().to_lowercase()),
            id,
            appointment_start: None,
            appointment_end: None,
            max_credits_hundredths: None,
            holds: hold.into_iter().collect(),
            completed: completed(wanted, catalog, rng),
            closed: false,
            disabled: false,
            active_from: None,
            active_until: None,
        }
    };
    morning.courses.iter().enumerate().map(student).collect()
}

/// The prerequisites of the wanted courses, except courses that are wanted too. Requests for both are refused, because
/// a course of the same term does not count.
fn completed(wanted: &[usize], catalog: &Catalog, rng: &mut impl Rng) -> Vec<CompletedCourse> {
    let mut completed: Vec<usize> = Vec::new();
    for course in wanted {
        let required = &catalog.prerequisites[*course];
        if !required.is_empty() && rng.random_bool(PREREQUISITES_MET_SHARE) {
            completed.extend(required.iter().filter(|required| !wanted.contains(required)));
        }
    }
    completed.sort_unstable();
    completed.dedup();
    let grade = |course: usize| CompletedCourse {
        course_id: catalog.courses[course].id.clone(),
        term_id: None,
        grade: (*GRADES.choose(rng).unwrap_or(&GRADES[0])).to_owned(),
    };
    completed.into_iter().map(grade).collect()
}

/// `S000001` is the first.
pub(super) fn student_id(at: usize) -> StudentId {
    StudentId::try_new(&format!("S{:06}", at + 1)).expect("a letter and a number are an id")
}
