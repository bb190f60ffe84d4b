//! Plans of imports, from bundles in memory and the state that the services would have after them.

use std::collections::BTreeMap;

use matricula_campus::{Bundle, File, Hold, HoldId, Spec, StudentId};
use matricula_proto::common::v1::Source;

use super::plan::{Alarm, Desired};
use super::rows::Row;
use super::state::{ById, Service};
use super::*;

fn campus(students: u32) -> Bundle {
    matricula_campus::generate(Spec::try_new(students, 20, 7).expect("a campus"))
}

fn plan(bundle: &Bundle, state: &State) -> Plan {
    Plan::new(state, desired(bundle, state))
}

fn desired(bundle: &Bundle, state: &State) -> Desired {
    Overlay { bundle, state, zone: &TimeZone::UTC }.desired()
}

/// The state of the services after a bundle was imported into empty ones.
fn after(bundle: &Bundle) -> State {
    fn by_id<R: Row>(rows: Vec<R>) -> ById<R> {
        rows.into_iter().filter(|row| !row.is_closed()).map(|row| (row.id().to_owned(), row)).collect()
    }
    let desired = desired(bundle, &State::default());
    let mut capacities = by_id(desired.capacities);
    for row in capacities.values_mut() {
        row.current_capacity = row.capacity;
        row.set_source(Source::Bundle);
    }
    State {
        versions: BTreeMap::from([(Service::Academics, 1)]),
        terms: by_id(desired.terms),
        courses: by_id(desired.courses),
        sections: by_id(desired.sections),
        students: by_id(desired.students),
        capacities,
        rates: by_id(desired.rates),
        course_fees: by_id(desired.course_fees),
        contacts: by_id(desired.contacts),
    }
}

#[test]
fn everything_is_new_to_empty_services_and_nothing_the_second_time() {
    let bundle = campus(30);
    let first = plan(&bundle, &State::default());
    assert_eq!((first.students.added.len(), first.sections.added.len(), first.is_empty()), (30, 20, false));
    assert_eq!(first.rows_of(Service::Seats).len(), 20);
    let second = plan(&bundle, &after(&bundle));
    assert!(second.is_empty(), "{}", show::shown(&second));
    assert_eq!((second.students.left_alone, second.versions[&Service::Academics]), (30, 1));
}

#[test]
fn rows_are_changed_closed_and_opened() {
    let mut bundle = campus(30);
    let mut state = after(&bundle);
    bundle.sections[0].title = "Another title".to_owned();
    bundle.sections[1].cancelled = true;
    bundle.courses[0].closed = true;
    let gone = bundle.students.remove(0).id;
    bundle.students[0].disabled = true;
    let made = plan(&bundle, &state);
    let (after_row, before) = &made.sections.changed[0];
    assert_eq!(
        (after_row.section_id.as_str(), after_row.differences(before)),
        (bundle.sections[0].id.as_str(), "title".to_owned())
    );
    assert_eq!(made.sections.closed[0].section_id, bundle.sections[1].id.as_str());
    assert_eq!(made.courses.closed[0].course_id, bundle.courses[0].id.as_str());
    let closed: Vec<&str> = made.students.closed.iter().map(|student| student.student_id.as_str()).collect();
    assert_eq!(closed, [bundle.students[0].id.as_str(), gone.as_str()]);

    for row in made.students.closed {
        state.students.insert(row.student_id.clone(), row);
    }
    bundle.students[0].disabled = false;
    let opened = plan(&bundle, &state).students;
    assert_eq!((opened.opened.len(), opened.closed.len(), opened.left_alone), (1, 0, 29));
}

#[test]
fn an_absent_column_changes_nothing_and_an_empty_cell_removes() {
    let mut bundle = campus(5);
    bundle.sections[0].meetings = "M 08:00-08:50".to_owned();
    let state = after(&bundle);
    bundle.sections[0].meetings = String::new();
    bundle.sections[0].capacity = None;
    bundle.courses[0].credits_hundredths = 0;
    let removed = plan(&bundle, &state);
    assert_eq!((removed.sections.changed.len(), removed.courses.changed.len()), (1, 1));
    let (after_row, before) = &removed.capacities.changed[0];
    let was = before.current_capacity;
    assert_eq!(after_row.differences(before), format!("{was} -> no limit"));

    let scope = bundle.scope.without_column(File::Classes, "metadata.meetings");
    let scope = scope.without_column(File::Classes, "metadata.maxNumberStudents");
    bundle.scope = scope.without_column(File::Courses, "metadata.credits");
    let left = plan(&bundle, &state);
    assert!(left.is_empty(), "{}", show::shown(&left));
}

#[test]
fn holds_are_those_of_the_file_if_it_is_present() {
    let mut bundle = campus(3);
    let hold = |text: &str| Hold { id: HoldId::try_new("LIB").expect("an id"), description: text.to_owned() };
    bundle.students[0].holds = vec![hold("Library fine")];
    let state = after(&bundle);
    let student = bundle.students[0].id.clone();
    let is = |plan: &Plan| {
        (plan.holds.added.len(), plan.holds.changed.len(), plan.holds.removed.clone(), plan.holds.left_alone)
    };
    assert_eq!(is(&plan(&bundle, &state)), (0, 0, vec![], 1));
    bundle.students[0].holds = vec![hold("Another fine")];
    assert_eq!(is(&plan(&bundle, &state)), (0, 1, vec![], 0));
    bundle.students[0].holds = Vec::new();
    assert_eq!(is(&plan(&bundle, &state)), (0, 0, vec![format!("{student}/LIB")], 0));
    // No hold is lifted of a student who is not in the bundle.
    bundle.students.remove(0);
    assert_eq!(is(&plan(&bundle, &state)), (0, 0, vec![], 1));
}

#[test]
fn a_freeze_by_staff_survives_until_the_bundle_changes_the_capacity() {
    let mut bundle = campus(3);
    bundle.sections[0].capacity = Some(30);
    let mut state = after(&bundle);
    let id = bundle.sections[0].id.to_string();
    let frozen = state.capacities.get_mut(&id).expect("it is there");
    frozen.current_capacity = 0;
    frozen.set_source(Source::Staff);
    assert!(plan(&bundle, &state).is_empty());
    bundle.sections[0].capacity = Some(31);
    let (after_row, before) = &plan(&bundle, &state).capacities.changed[0];
    assert_eq!(after_row.differences(before), "30 -> 31, 0 now, set by staff");
    assert_eq!(after_row.capacity, 31);
}

#[track_caller]
fn check_alarm(students: u32, gone: usize, expect: bool) {
    let mut bundle = campus(students);
    let state = after(&bundle);
    bundle.students.drain(..gone);
    let alarms = plan(&bundle, &state).alarms();
    assert_eq!(!alarms.is_empty(), expect, "{gone} of {students}: {alarms:?}");
    if let [Alarm { what, ids, of, .. }] = alarms.as_slice() {
        assert_eq!((*what, ids.len(), *of), ("students", gone, students as usize));
    }
}

#[test]
fn closing_more_than_5_percent_and_more_than_10_needs_yes() {
    check_alarm(20, 10, false);
    check_alarm(20, 11, true);
    check_alarm(220, 11, false);
    check_alarm(220, 12, true);
    check_alarm(219, 11, true);
}

#[test]
fn the_rows_that_would_be_closed_are_listed() {
    let ids = (1..=30).map(|number| format!("S{number}")).collect();
    let alarm = Alarm { what: "students", how: "closed", ids, of: 60 };
    insta::assert_snapshot!(show::stopped(&[alarm]), @r"
    30 of 60 students (50 %) would be closed: S1, S2, S3, S4, S5, S6, S7, S8, S9, S10, S11, S12, S13, S14, S15, S16, S17, S18, S19, S20 and 10 more
    Nothing was imported. If these changes are intended, import again with --yes; `--output json` lists all of them.
    ");
}

#[test]
fn a_plan_is_a_table_with_samples() {
    let mut bundle = campus(12);
    let state = after(&bundle);
    bundle.students.drain(..3);
    bundle.sections[0].title = "Another title".to_owned();
    bundle.students[0].id = StudentId::try_new("NEW").expect("an id");
    insta::assert_snapshot!(show::shown(&plan(&bundle, &state)), @r"
     plan                            added   changed   closed   opened   left alone
    ────────────────────────────────────────────────────────────────────────────────
     terms                           -       -         -        -        1
     courses                         -       -         -        -        7
     sections                        -       1         -        -        19
     seats                           -       -         -        -        20
     students                        1       -         4        -        8
     holds (closed: lifted)          -       -         -        -        1
     transcripts (closed: removed)   -       -         -        -        -
     rates (closed: removed)         -       -         -        -        1
     course fees (closed: removed)   -       -         -        -        7
     addresses (closed: removed)     1       -         -        -        12
    sections changed: C001-L1 (title)
    students added: NEW
    students closed: S000001, S000002, S000003, S000004
    addresses added: NEW
    ");
}
