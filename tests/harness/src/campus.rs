//! Small campuses, made in the test.

use matricula_campus::{Bundle, Course, CourseId, Section, SectionId, Student, StudentId, Term, TermId, TermKind};

/// Ids in a test are short and good.
fn id<T, E: std::fmt::Debug>(made: Result<T, E>) -> T {
    made.expect("a good id")
}

/// A campus of single-section courses: `sections` are (id, seats, meetings); students are `S1` to `S<students>`.
pub fn bundle(sections: &[(&str, i32, &str)], students: u32) -> Bundle {
    let term = id(TermId::try_new("fall"));
    let courses = sections.iter().map(|(name, ..)| Course {
        id: id(CourseId::try_new(&format!("course-{name}"))),
        code: format!("C-{name}"),
        title: format!("Course {name}"),
        credits_hundredths: 300,
        prerequisites: String::new(),
        corequisites: String::new(),
        fee_minor: 0,
        closed: false,
    });
    let classes = sections.iter().map(|(name, seats, meetings)| Section {
        id: id(SectionId::try_new(name)),
        course_id: id(CourseId::try_new(&format!("course-{name}"))),
        term_id: term.clone(),
        title: format!("Section {name}"),
        capacity: Some(*seats),
        component: String::new(),
        meetings: (*meetings).to_owned(),
        permission_required: false,
        cancelled: false,
    });
    let students = (1..=students).map(|number| Student {
        id: id(StudentId::try_new(&format!("S{number}"))),
        given_name: "Student".to_owned(),
        family_name: number.to_string(),
        email: format!("s{number}@example.edu"),
        appointment_start: None,
        appointment_end: None,
        max_credits_hundredths: None,
        holds: Vec::new(),
        completed: Vec::new(),
        closed: false,
        disabled: false,
        active_from: None,
        active_until: None,
    });
    Bundle {
        terms: vec![Term {
            id: term.clone(),
            title: "Fall".to_owned(),
            kind: TermKind::Term,
            parent: None,
            time_zone: None,
            closed: false,
            starts_on: "2096-08-24".parse().expect("a date"),
            ends_on: "2096-12-18".parse().expect("a date"),
            add_deadline: None,
            drop_deadline: None,
            max_credits_hundredths: None,
            rates: None,
        }],
        courses: courses.collect(),
        sections: classes.collect(),
        students: students.collect(),
        ..Bundle::default()
    }
}
