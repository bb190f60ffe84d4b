//! A written bundle is read back unchanged; bundles of other systems keep their meaning.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::campus;
use crate::{Bundle, File, Finding, RosterEntry, Spec, TermKind, generate, read, registrations, write};

/// Writes a bundle, reads it again, and returns the notes.
#[track_caller]
fn check(bundle: &Bundle) -> Vec<Finding> {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("new");
    write(bundle, &dir).unwrap();
    let again = read(&dir).unwrap_or_else(|errors| panic!("{errors}"));
    // What is not read is not written either, so that the notes differ.
    assert_eq!(Bundle { notes: bundle.notes.clone(), ..again.clone() }, *bundle);
    if bundle.scope.has_file(File::Registrations) {
        let clicks: Vec<_> = registrations(&dir).unwrap().map(Result::unwrap).collect();
        assert_eq!(clicks, bundle.registrations);
    }
    again.notes
}

#[test]
fn generated_campuses() {
    for seed in 1..=10 {
        for (students, sections) in [(1, 1), (5, 2), (40, 3), (3, 200), (300, 60)] {
            eprintln!("{students} students, {sections} sections, seed {seed}");
            assert_eq!(check(&generate(Spec::try_new(students, sections, seed).unwrap())), []);
        }
    }
}

/// Every column that a generated campus leaves empty.
fn campus_with_every_rule() -> Bundle {
    let dir = campus(&[
        (
            "academicSessions.csv",
            Some(
                "sourcedId,status,title,type,startDate,endDate,parentSourcedId,metadata.addDeadline,\
                 metadata.dropDeadline,metadata.maxCredits,metadata.currency,metadata.perCreditMinor,\
                 metadata.refundLadder,metadata.balanceLimitMinor,metadata.timeZone\n\
                 T1,,Fall,semester,2026-08-24,2026-12-18,Y,2026-09-01T00:00:00Z,2026-10-01T02:00:00+02:00,17.25,EUR,0,\
                 2026-09-01T00:00:00.5Z:100;2026-09-08T00:00:00Z:0,500000,america/los_angeles\n\
                 T2,,Spring,,2027-01-11,2027-05-14,,,,,,,,,\n\
                 Y,tobedeleted,Year,schoolYear,2026-08-01,2027-08-01,,,,,,,,,\n",
            ),
        ),
        (
            "courses.csv",
            Some(
                "sourcedId,status,title,courseCode,metadata.credits,metadata.prerequisites,metadata.corequisites,\
                 metadata.feeMinor\nC1,,One,C 101,1.5,,,\n\
                 C2,tobedeleted,Two,,0.05,\"\"\"C 101\"\":B- and (C1 or C 101:A)\",C2,12\n",
            ),
        ),
        (
            "classes.csv",
            Some(
                "sourcedId,status,title,courseSourcedId,termSourcedIds,metadata.maxNumberStudents,metadata.component,\
                 metadata.meetings,metadata.permissionRequired\n\
                 C1-L1,active,One,C1,T1,0,1/1,M 08:00-08:50; SU 10:00-11:00,true\nC2-L1,tobedeleted,Two,C2,T2,,,,false\n",
            ),
        ),
        (
            "users.csv",
            Some(
                "sourcedId,enabledUser,givenName,familyName,email,metadata.appointmentStart,metadata.appointmentEnd,\
                 metadata.maxCredits\nS1,,Ada,,ada@example.org,2026-08-01T08:00:00Z,2026-08-02T08:00:00Z,21\n\
                 S2,false,,,,,,\nP1,,Prof,X,,,,\n",
            ),
        ),
        (
            "roles.csv",
            Some(
                "sourcedId,status,userSourcedId,role,beginDate,endDate\nR1,,S1,student,2026-08-01,2027-06-01\n\
                 R2,,S2,student,,\nR3,,P1,teacher,,\n",
            ),
        ),
        (
            "enrollments.csv",
            Some(
                "sourcedId,status,classSourcedId,userSourcedId,role,endDate\nE1,,C1-L1,S1,student,2026-10-01\n\
                 E2,tobedeleted,gone,S2,student,\n",
            ),
        ),
        ("holds.csv", Some("holdId,studentSourcedId,description\nH1,S2,\"Fine, unpaid\"\n")),
        (
            "completed.csv",
            Some("studentSourcedId,courseSourcedId,termSourcedId,grade\nS2,C1,T1,NP\nS2,C1,,F\nS2,C1,Y,B\nS2,X9,,A+\n"),
        ),
        (
            "registrations.csv",
            Some(
                "arrivalMs,idempotencyKey,studentSourcedId,addClassSourcedIds,dropClassSourcedIds\n\
                 0,a key,S1,C1-L1,C2-L1\n5,b,S2,,C2-L1\n",
            ),
        ),
    ]);
    read(dir.path()).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn every_rule() {
    let bundle = campus_with_every_rule();
    check(&bundle);
    let [fall, spring, year] = &bundle.terms[..] else { panic!("{:?}", bundle.terms) };
    assert_eq!((fall.max_credits_hundredths, spring.max_credits_hundredths), (Some(1_725), None));
    assert_eq!(fall.drop_deadline.unwrap().to_string(), "2026-10-01T00:00:00Z");
    assert_eq!(fall.rates.as_ref().unwrap().refund_ladder.len(), 2);
    assert_eq!(fall.rates.as_ref().unwrap().balance_limit_minor, Some(500_000));
    assert_eq!(spring.rates, None);
    assert_eq!([fall.kind, spring.kind, year.kind], [TermKind::Semester, TermKind::Term, TermKind::SchoolYear]);
    assert_eq!((fall.parent.as_ref(), spring.parent.as_ref()), (Some(&year.id), None));
    assert_eq!((fall.time_zone.as_deref(), spring.time_zone.as_deref()), (Some("America/Los_Angeles"), None));
    assert_eq!([fall.closed, spring.closed, year.closed], [false, false, true]);
    let credits: Vec<i32> = bundle.courses.iter().map(|course| course.credits_hundredths).collect();
    assert_eq!(credits, [150, 5]);
    assert_eq!(bundle.courses[1].prerequisites, r#""C 101":B- and (C1 or "C 101":A)"#);
    assert_eq!(bundle.courses.iter().map(|course| course.closed).collect::<Vec<_>>(), [false, true]);
    let seats: Vec<_> = bundle.sections.iter().map(|section| (section.capacity, section.cancelled)).collect();
    assert_eq!(seats, [(Some(0), false), (None, true)]);
}

#[test]
fn every_rule_of_students() {
    let bundle = campus_with_every_rule();
    let names: Vec<String> = bundle.students.iter().map(|student| student.name()).collect();
    assert_eq!(names, ["Ada", "S2"]);
    let [ada, other] = &bundle.students[..] else { panic!("{:?}", bundle.students) };
    assert_eq!((ada.closed, ada.disabled, other.closed, other.disabled), (false, false, false, true));
    assert_eq!(ada.active_from.unwrap().to_string(), "2026-08-01");
    assert_eq!(ada.active_until.unwrap().to_string(), "2027-06-01");
    assert_eq!((other.active_from, other.active_until), (None, None));
    let completed: Vec<_> = other
        .completed
        .iter()
        .map(|completed| {
            (completed.course_id.as_str(), completed.term_id.as_ref().map(|id| id.as_str()), &*completed.grade)
        })
        .collect();
    assert_eq!(completed, [("C1", Some("T1"), "NP"), ("C1", None, "F"), ("C1", Some("Y"), "B"), ("X9", None, "A+")]);
    let [current, ended] = &bundle.rosters.as_ref().unwrap()[..] else { panic!("{:?}", bundle.rosters) };
    let RosterEntry { id, student_id, section_id, ended: false, ends_on: Some(ends_on), line: 2 } = current else {
        panic!("{current:?}")
    };
    assert_eq!([id.as_str(), student_id.as_str(), section_id.as_str()], ["E1", "S1", "C1-L1"]);
    assert_eq!(ends_on.to_string(), "2026-10-01");
    assert!(ended.ended && ended.ends_on.is_none() && ended.line == 3, "{ended:?}");
}

/// A bundle with the required columns only is written without the others.
#[test]
fn absent_columns_stay_absent() {
    let bundle = read(campus(&[("orgs.csv", None)]).path()).unwrap();
    check(&bundle);
    for file in [File::Orgs, File::Holds, File::Completed, File::Enrollments, File::Registrations] {
        assert!(!bundle.scope.has_file(file), "{file}");
    }
    let scope = &bundle.scope;
    assert!(scope.has_file(File::Users) && scope.has_column(File::Users, "givenName"));
    assert!(!scope.has_column(File::Users, "email") && !scope.has_column(File::Classes, "metadata.maxNumberStudents"));
    assert!(!scope.has_column(File::Holds, "holdId"));
}

/// A folder may have files of an older bundle that this one does not have.
#[test]
fn files_of_an_older_bundle_go_away() {
    let dir = campus(&[("orgs.csv", None)]);
    let bundle = read(dir.path()).unwrap();
    let target = tempfile::tempdir().unwrap();
    write(&campus_with_every_rule(), target.path()).unwrap();
    std::fs::write(target.path().join("README.md"), "Not ours.").unwrap();
    write(&bundle, target.path()).unwrap();
    assert_eq!(read(target.path()).unwrap().scope, bundle.scope);
    assert!(target.path().join("README.md").exists());
}

#[test]
fn an_absent_value_is_no_rule() {
    let bundle = read(campus(&[]).path()).unwrap();
    assert_eq!(bundle.students.len(), 2, "the teacher is no student");
    assert!(bundle.terms.iter().all(|term| term.rates.is_none() && term.max_credits_hundredths.is_none()));
    assert!(bundle.sections.iter().all(|section| section.capacity.is_none() && section.component.is_empty()));
    assert!(bundle.registrations.is_empty());
}

#[test]
fn clicks_alone_need_their_file() {
    let dir = campus(&[]);
    let errors = registrations(dir.path()).map(|_| ()).unwrap_err();
    assert!(errors.to_string().contains("; generate a campus, or use a bundle that contains it"), "{errors}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_survives(title in ".{0,40}", given in ".{0,40}", hold in "(?s).{0,40}") {
        let mut bundle = campus_with_every_rule();
        let clean = |text: &str| text.replace(char::is_control, "").trim().to_owned();
        bundle.sections[0].title = clean(&title);
        bundle.students[0].given_name = clean(&given);
        bundle.students[1].holds[0].description = clean(&format!("a hold{hold}"));
        check(&bundle);
    }
}

/// A real, anonymised campus that lies beside the repository on some machines.
fn bethlehem() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/bethlehem-fall")
}

#[test]
fn a_real_campus() {
    if !bethlehem().exists() {
        eprintln!("SKIPPED: {} is not there, so no real campus was read", bethlehem().display());
        return;
    }
    let bundle = read(&bethlehem()).unwrap_or_else(|errors| panic!("{errors}"));
    let counts = [bundle.courses.len(), bundle.sections.len(), bundle.students.len(), bundle.registrations.len()];
    assert_eq!(counts, [353, 983, 3_018, 20_081]);
    check(&bundle);
}

/// Small bundles that lie beside the repository on some machines: each changes one thing of `base`.
#[test]
fn bundles_that_failed_once() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases");
    if !cases.exists() {
        eprintln!("SKIPPED: {} is not there, so no case was read", cases.display());
        return;
    }
    let bundle = |case: &str| read(&cases.join(case)).unwrap_or_else(|errors| panic!("{case}: {errors}"));
    let base = bundle("base");
    assert_eq!((base.students.len(), base.sections.len(), base.terms.len(), base.notes.len()), (8, 9, 4, 0));
    for case in ["with-rates", "rates-emptied", "yen", "with-enrollments", "with-holds", "meeting-to-midnight"] {
        check(&bundle(case));
        assert_eq!(bundle(case).notes, [], "{case}");
    }
    assert_eq!(bundle("course-code-with-space").courses[1].prerequisites, r#""MATH 101""#);
    assert_eq!(bundle("capacity-emptied").notes.len(), 1);
    assert!(bundle("tobedeleted-student-8").students.iter().all(|student| student.id.as_str() != "S8"));
    assert_eq!(bundle("with-enrollments").rosters.map(|entries| entries.len()), Some(1));
    assert_eq!(read(&cases.join("role-capital")).unwrap_err().total(), 1);
    assert_eq!(read(&cases.join("windows1252")).unwrap_err().total(), 2);
}
