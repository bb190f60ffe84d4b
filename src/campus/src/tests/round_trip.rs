//! What is written is read again as it was; what others write is read as they meant it.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::campus;
use crate::{Bundle, Spec, generate, read, registrations, write};

#[track_caller]
fn check(bundle: &Bundle) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("new");
    write(bundle, &dir).unwrap();
    assert_eq!(&read(&dir).unwrap_or_else(|errors| panic!("{errors}")), bundle);
    let clicks: Vec<_> = registrations(&dir).unwrap().map(Result::unwrap).collect();
    assert_eq!(clicks, bundle.registrations);
}

#[test]
fn generated_campuses() {
    for seed in 1..=10 {
        for (students, sections) in [(1, 1), (5, 2), (40, 3), (3, 200), (300, 60)] {
            eprintln!("{students} students, {sections} sections, seed {seed}");
            check(&generate(Spec::try_new(students, sections, seed).unwrap()));
        }
    }
}

/// Every column that a generated campus leaves empty.
fn campus_with_every_rule() -> Bundle {
    let dir = campus(&[
        (
            "academicSessions.csv",
            Some(
                "sourcedId,title,startDate,endDate,metadata.addDeadline,metadata.dropDeadline,metadata.maxCredits,\
                 metadata.currency,metadata.perCreditMinor,metadata.refundLadder,metadata.balanceLimitMinor\n\
                 T1,Fall,2026-08-24,2026-12-18,2026-09-01T00:00:00Z,2026-10-01T02:00:00+02:00,17.25,EUR,0,\
                 2026-09-01T00:00:00.5Z:100;2026-09-08T00:00:00Z:0,500000\nT2,Spring,2027-01-11,2027-05-14,,,,,,,\n",
            ),
        ),
        (
            "courses.csv",
            Some(
                "sourcedId,title,courseCode,metadata.credits,metadata.prerequisites,metadata.corequisites,metadata.feeMinor\n\
                 C1,One,C101,1.5,,,\nC2,Two,,0.05,C101:B- and (C101 or C101),C2,12\n",
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
                "sourcedId,givenName,familyName,email,metadata.appointmentStart,metadata.appointmentEnd,metadata.maxCredits\n\
                 S1,Ada,,ada@example.org,2026-08-01T08:00:00Z,2026-08-02T08:00:00Z,21\nS2,,,,,,\nP1,Prof,X,,,,\n",
            ),
        ),
        ("holds.csv", Some("holdId,studentSourcedId,description\nH1,S2,\"Fine, unpaid\"\n")),
        ("completed.csv", Some("studentSourcedId,courseSourcedId,grade\nS2,C1,NP\nS2,C2,A+\n")),
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
    let [fall, spring] = &bundle.terms[..] else { panic!("{:?}", bundle.terms) };
    assert_eq!((fall.max_credits_hundredths, spring.max_credits_hundredths), (Some(1_725), None));
    assert_eq!(fall.drop_deadline.unwrap().to_string(), "2026-10-01T00:00:00Z");
    assert_eq!(fall.rates.as_ref().unwrap().refund_ladder.len(), 2);
    assert_eq!(fall.rates.as_ref().unwrap().balance_limit_minor, Some(500_000));
    assert_eq!(spring.rates, None);
    let credits: Vec<i32> = bundle.courses.iter().map(|course| course.credits_hundredths).collect();
    assert_eq!(credits, [150, 5]);
    let seats: Vec<_> = bundle.sections.iter().map(|section| (section.capacity, section.cancelled)).collect();
    assert_eq!(seats, [(Some(0), false), (None, true)]);
    let names: Vec<String> = bundle.students.iter().map(|student| student.name()).collect();
    assert_eq!(names, ["Ada", "S2"]);
}

#[test]
fn what_is_absent_is_no_rule() {
    let bundle = read(campus(&[]).path()).unwrap();
    assert_eq!(bundle.students.len(), 2, "the teacher is no student");
    assert!(bundle.terms.iter().all(|term| term.rates.is_none() && term.max_credits_hundredths.is_none()));
    assert!(bundle.sections.iter().all(|section| section.capacity.is_none() && section.component.is_empty()));
    assert!(bundle.registrations.is_empty());
}

#[test]
fn what_is_to_be_deleted_is_left_out_with_what_refers_to_it() {
    let dir = campus(&[
        ("users.csv", Some("sourcedId,status,givenName,familyName\nS1,active,A,A\nS2,tobedeleted,B,B\n")),
        ("roles.csv", Some("sourcedId,status,userSourcedId,role\nR1,active,S1,student\nR2,tobedeleted,S2,student\n")),
    ]);
    let bundle = read(dir.path()).unwrap();
    assert_eq!(bundle.students.len(), 1);
}

#[test]
fn clicks_alone_need_their_file() {
    let dir = campus(&[]);
    let errors = registrations(dir.path()).map(|_| ()).unwrap_err();
    assert!(errors.to_string().contains("; generate a campus or name a bundle that has it"), "{errors}");
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
