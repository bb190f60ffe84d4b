//! 4: a student has one enrollment in force a section, and one a component of a course; a student's idempotency key has
//! one registration.

use std::collections::HashSet;

use matricula_proto::common::v1::EnrollmentStatus;

use crate::report::Verdict;
use crate::world::{World, entries};

pub fn prove(world: &World<'_>) -> Verdict {
    let mut verdict = Verdict::new(4, "nobody twice");
    let enrollments = &world.ledgers.enrollments;
    let mut sections = HashSet::with_capacity(enrollments.len());
    let mut courses = HashSet::with_capacity(enrollments.len());
    for e in enrollments.iter().filter(|e| e.status() == EnrollmentStatus::Enrolled) {
        let is_first = sections.insert((&e.student_id, &e.section_id));
        verdict.require(is_first, || format!("student {} is enrolled twice in section {}", e.student_id, e.section_id));
        // Twice in a section is twice in its course, too: one violation is enough.
        let is_first = !is_first || courses.insert((&e.student_id, &e.course_id, &e.component));
        verdict.require(is_first, || {
            format!("student {} is enrolled twice in course {} {}", e.student_id, e.course_id, e.component)
        });
    }
    let mut keys = HashSet::with_capacity(world.ledgers.registrations_after.len());
    for (registration, _) in entries(&world.ledgers.registrations_after) {
        verdict.require(keys.insert((&registration.student_id, &registration.idempotency_key)), || {
            format!(
                "student {} has two registrations with the key {}: one is {}",
                registration.student_id, registration.idempotency_key, registration.registration_id
            )
        });
    }
    verdict
}
