//! What the rules cost a registration, in memory: one reservation on a catalogue of 3,000 courses.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use jiff::tz::TimeZone;
use matricula_academics::domain::catalog::{Catalog, Course, SectionEntry, Term, TermKind};
use matricula_academics::domain::component::Component;
use matricula_academics::domain::context::ChangeSet;
use matricula_academics::domain::decide::{Action, Command, World};
use matricula_academics::domain::student::{Profile, Student};
use matricula_grammar::Meetings;
use matricula_grammar::Requirement;
use matricula_kit::id::{CourseId, SagaId, SectionId, StudentId, TermId};
use matricula_kit::time::UnixMs;

const COURSES: usize = 3_000;
/// Of the batch that is decided.
const REGISTRATIONS: usize = 100;

fn catalog() -> Catalog {
    let term = TermId::stored("fall".to_owned());
    let days = ["M", "T", "W", "R", "F"];
    let course = |number: usize| Course {
        id: CourseId::stored(format!("C{number}")),
        code: format!("C{number}"),
        title: format!("Course {number}"),
        credits_hundredths: 300,
        prerequisites: if number.is_multiple_of(4) && number > 3 {
            Requirement::parse(&format!("C{} and (C{}:B or C{})", number - 1, number - 2, number - 3)).expect("a rule")
        } else {
            None
        },
        corequisites: None,
        closed: false,
    };
    let section = |number: usize| SectionEntry {
        id: SectionId::stored(format!("C{number}-1")),
        course: CourseId::stored(format!("C{number}")),
        term: term.clone(),
        title: format!("Course {number}, lecture 1"),
        component: Component::parse("").expect("no component"),
        meetings: Meetings::parse(&format!("{} {:02}:00-{:02}:50", days[number % 5], 8 + number % 9, 8 + number % 9))
            .expect("meetings"),
        cancelled: false,
        permission_required: false,
    };
    let terms = vec![Term {
        id: term.clone(),
        title: "Fall".to_owned(),
        add_deadline: None,
        drop_deadline: None,
        max_credits_hundredths: 1_800,
        starts_on: Some(jiff::civil::date(2028, 8, 28)),
        ends_on: Some(jiff::civil::date(2028, 12, 16)),
        time_zone: matricula_kit::time::zone("America/New_York").expect("a time zone"),
        parent: None,
        kind: TermKind::Semester,
        closed: false,
    }];
    let courses = (0..COURSES).map(course).collect();
    Catalog::build(1, terms, courses, (0..COURSES).map(section).collect()).expect("a sound catalogue")
}

fn world(catalog: &Arc<Catalog>) -> World {
    let student = |number: usize| {
        let id = StudentId::stored(format!("S{number}"));
        let profile = Profile {
            id: id.clone(),
            name: "Student".to_owned(),
            appointment_start: None,
            appointment_end: None,
            max_credits_hundredths: 0,
            completed: Vec::new(),
            holds: Vec::new(),
            closed: false,
            active_from: None,
            active_until: None,
            disabled: false,
        };
        (id, Student { profile, overrides: Vec::new(), courses: Vec::new(), granted: Vec::new() })
    };
    let students: HashMap<StudentId, Student> = (0..REGISTRATIONS).map(student).collect();
    World { catalog: catalog.clone(), students, zone: TimeZone::UTC }
}

fn commands() -> Vec<Command> {
    let command = |number: usize| Command {
        registration: SagaId::stored(format!("R{number}")),
        student: StudentId::stored(format!("S{number}")),
        action: Action::Reserve(ChangeSet {
            adds: vec![SectionId::stored(format!("C{}-1", number * 7 % COURSES))],
            drops: Vec::new(),
            submitted_at: UnixMs(0),
        }),
    };
    (0..REGISTRATIONS).map(command).collect()
}

fn domain(criterion: &mut Criterion) {
    let (catalog, commands) = (Arc::new(catalog()), commands());
    let mut group = criterion.benchmark_group("academics");
    group.throughput(criterion::Throughput::Elements(REGISTRATIONS as u64));
    group.bench_function("decide, a batch of 100 reservations", |bencher| {
        bencher.iter_batched_ref(
            || world(&catalog),
            |world| commands.iter().for_each(|command| drop(black_box(world.decide(command, UnixMs(0))))),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, domain);
criterion_main!(benches);
