//! The stored form of an answer is the one that the log has always had.

use matricula_kit::answer::{Answer, Done, DroppedCourse, NotYet, Reason, Refusal, ReservedCourse};
use matricula_kit::id::{CourseId, OverrideId, SagaId, SectionId, TermId};
use matricula_kit::money::Currency;
use matricula_kit::time::UnixMs;

use super::*;

const SAGA: &str = "0198b2c4-0000-7000-8000-000000000001";

fn added(closed_section_override: Option<OverrideId>) -> ReservedCourse {
    ReservedCourse {
        section: SectionId::stored("A-1".into()),
        course: CourseId::stored("A".into()),
        component: "1/2".into(),
        credits_hundredths: 300,
        term: TermId::stored("2026-3".into()),
        closed_section_override,
    }
}

fn of_services() -> Vec<Answer> {
    let dropped = DroppedCourse {
        section: SectionId::stored("B-1".into()),
        course: CourseId::stored("B".into()),
        registration: SagaId::stored(SAGA.into()),
    };
    let full = Refusal {
        section_version: Some(19),
        closed_at: Some(UnixMs(1_786_999_999_123)),
        capacity: Some(0),
        capacity_set_at: Some(UnixMs(-1)),
        ..Refusal::section(Reason::ClosedSection, &dropped.section, "It is full.", "Take another.").against("B-2")
    };
    let refused = Reason::ALL.iter().map(|reason| Refusal::whole(*reason, "No.", "Ask."));
    vec![
        Answer::done(),
        Answer::Done(Done {
            added: vec![added(None), added(Some(OverrideId::stored("o1".into())))],
            dropped: vec![dropped],
            amount: Some(Currency::stored("EUR".into()).amount(-5)),
        }),
        Answer::Refused(refused.chain([full]).collect()),
    ]
}

/// The services write the form that the log has had since the first release.
#[test]
fn an_answer_has_one_stored_form() {
    for answer in of_services() {
        let expected = match &answer {
            Answer::Done(done) => CallAnswer::Done(serde_json::to_string(done).expect("JSON")),
            Answer::Refused(reasons) => CallAnswer::Refused(serde_json::to_string(reasons).expect("JSON")),
            Answer::NotYet(_) => unreachable!("none is among them"),
        };
        assert_eq!(to_log(answer.into()), expected);
    }
}

#[test]
fn an_answer_comes_back_from_the_log() {
    for answer in of_services() {
        let result = wire::OperationResult::from(answer);
        let read = match to_log(result.clone()) {
            CallAnswer::Done(text) => Outcome::Done(serde_json::from_str::<Done>(&text).expect("read").into()),
            CallAnswer::Refused(text) => {
                let reasons = refusals(&text).expect("read").into_iter().map(Into::into).collect();
                Outcome::Refused(wire::Refused { reasons })
            }
            CallAnswer::Unknown(error) => panic!("{error:?}"),
        };
        assert_eq!(Some(read), result.outcome);
    }
}

#[test]
fn an_old_log_is_readable() {
    let text = r#"[{"reason":"CLOSED_SECTION","section":"A","message":"Full.","next_step":"","seen":{"version":1}}]"#;
    let refusals = refusals(text).expect("read");
    assert_eq!((refusals[0].reason, refusals[0].seen), (Reason::ClosedSection, None));
    assert!(super::refusals(r#"[{"reason":"NEW","message":"","next_step":""}]"#).is_err());
}

#[test]
fn an_unreadable_answer_is_unknown() {
    #[track_caller]
    fn check(outcome: Option<Outcome>, message: &str) {
        let expected = CallError::new(Code::Internal, message, None);
        assert_eq!(to_log(wire::OperationResult { outcome }), CallAnswer::Unknown(expected));
    }
    let bounds = "must be 1-128 printable ASCII characters without spaces, quotes, commas and |";
    check(None, "the result is empty");
    let mut course = wire::ReservedCourse::from(added(None));
    course.term_id = "a b".into();
    let done = wire::Done { added: vec![course], ..Default::default() };
    check(Some(Outcome::Done(done)), &format!("the answer can't be read: term_id: {bounds}, got \"a b\""));
    let done = wire::Done { dropped: vec![wire::DroppedCourse::default()], ..Default::default() };
    check(Some(Outcome::Done(done)), &format!("the answer can't be read: section_id: {bounds}, got an empty value"));
    let reasons = vec![wire::Refusal { reason: 999, ..Default::default() }];
    check(Some(Outcome::Refused(wire::Refused { reasons })), "the answer can't be read: reason: unknown reason 999");
}

#[test]
fn an_undecided_answer_has_a_delay_and_the_saga_that_it_waits_for() {
    let waits_for = Some(SagaId::stored(SAGA.into()));
    let not_yet = NotYet { reason: "BUSY".into(), message: "Wait.".into(), retry_after_ms: 50, waits_for };
    let CallAnswer::Unknown(error) = to_log(Answer::NotYet(not_yet).into()) else { panic!("it is unknown") };
    let expected = CallError::new(Code::Aborted, "BUSY: Wait.", Some(50));
    assert_eq!(error, CallError { waits_for: Some(SAGA.to_owned()), ..expected });
}
