//! A hand-written saga, as an operator sees it.

use matricula_kit::time::UnixMs;
use matricula_proto::ops::v1::{Event, GetSagaResponse, Leg, LegStatus, SagaPhase, SagaSummary, Step};
use matricula_proto::registration::v1::{Outcome, Registration};

const START: UnixMs = UnixMs(1_787_000_000_000);

fn leg(status: LegStatus, attempts: i32) -> Leg {
    Leg { status: status.into(), attempts, ..Leg::default() }
}

fn step(stage: i32, name: &str, service: &str, kind: &str, action: Leg, undo: Option<(&str, Leg)>) -> Step {
    let (undo_name, undo) = undo.map_or((String::new(), None), |(name, leg)| (name.to_owned(), Some(leg)));
    Step {
        name: name.to_owned(),
        stage,
        service: service.to_owned(),
        kind: kind.to_owned(),
        applies: true,
        action: Some(action),
        undo,
        undo_name,
    }
}

fn event(sequence: i64, name: &str, step: &str, undo: bool, attempt: i32, duration_ms: i64, what: &str) -> Event {
    Event {
        sequence,
        at: Some(START.plus_ms(sequence * 10).to_wire()),
        name: name.to_owned(),
        description: what.to_owned(),
        step: step.to_owned(),
        undo,
        attempt,
        duration_ms,
    }
}

#[test]
fn a_compensating_saga_is_shown() {
    let done = |attempts| leg(LegStatus::Done, attempts);
    let idle = || leg(LegStatus::NotStarted, 0);
    let stuck = Leg {
        last_error: "Unavailable: connection refused".to_owned(),
        next_attempt_at: Some(START.plus_ms(60_000).to_wire()),
        needs_attention: true,
        ..leg(LegStatus::Trying, 12)
    };
    let saga = GetSagaResponse {
        roster_row_id: String::new(),
        summary: Some(SagaSummary {
            saga_id: "0198c5d0-0000-7000-8000-000000000001".to_owned(),
            student_id: "S000001".to_owned(),
            phase: SagaPhase::Compensating.into(),
            outcome: Outcome::Pending.into(),
            needs_attention: true,
            created_at: Some(START.to_wire()),
            updated_at: Some(START.plus_ms(50).to_wire()),
            owner: "i-7".to_owned(),
            definition: "registration".to_owned(),
            definition_version: 2,
            ..SagaSummary::default()
        }),
        registration: Some(Registration { adds: vec!["C001-L1".to_owned()], ..Registration::default() }),
        steps: vec![
            step(1, "reserve_courses", "academics", "compensatable", done(1), Some(("remove_courses", stuck))),
            step(
                2,
                "hold_seats",
                "seats",
                "compensatable",
                leg(LegStatus::Refused, 2),
                Some(("release_seats", done(1))),
            ),
            step(3, "assess_fees", "fees", "compensatable", idle(), Some(("void_fees", idle()))),
            step(4, "enroll", "enrollments", "pivot", idle(), None),
            step(5, "settle_courses", "academics", "retriable", idle(), None),
            Step { applies: false, ..step(5, "refund_fees", "fees", "retriable", idle(), None) },
        ],
        events: vec![
            event(1, "created", "", false, 0, 0, "accepted"),
            event(2, "step_succeeded", "reserve_courses", false, 1, 7, "done"),
            event(3, "attempt_failed", "hold_seats", false, 1, 30, "Unavailable"),
            event(4, "step_refused", "hold_seats", false, 2, 12, "CLOSED_SECTION C001-L1"),
            event(5, "step_succeeded", "hold_seats", true, 1, 4, "undone"),
        ],
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        turned_because: "hold_seats was refused: CLOSED_SECTION C001-L1".to_owned(),
        unreadable_because: String::new(),
        archived_in: String::new(),
    };
    insta::assert_snapshot!(super::shown(&saga, 100), @"
    0198c5d0-0000-7000-8000-000000000001  compensating, PENDING
      attention     needed: a step below has failed for longer than its policy allows; it is still
                    retried
      student       S000001
      adds          C001-L1
      drops         -
      undo cause    hold_seats was refused: CLOSED_SECTION C001-L1
      created       2026-08-17T20:53:20.000Z
      last recorded 2026-08-17T20:53:20.050Z
      driven by     i-7
      definition    registration version 2
      trace         00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01

    stage 1
    └─ reserve_courses (academics, compensatable): done, 1 attempt, 7 ms in calls
         undo remove_courses: trying, 12 attempts
         ! needs attention
         last error: Unavailable: connection refused
         next attempt: 2026-08-17T20:54:20.000Z

    stage 2
    └─ hold_seats (seats, compensatable): refused, 2 attempts, 42 ms in calls
         undo release_seats: done, 1 attempt, 4 ms in calls

    stage 3
    └─ assess_fees (fees, compensatable): not started

    stage 4
    └─ enroll (enrollments, pivot): not started

    stage 5, in parallel
    ├─ settle_courses (academics, retriable): not started
    └─ refund_fees (fees, retriable): not needed

     1  2026-08-17T20:53:20.010Z  accepted
     2  2026-08-17T20:53:20.020Z  done (7 ms)
     3  2026-08-17T20:53:20.030Z  Unavailable (30 ms)
     4  2026-08-17T20:53:20.040Z  CLOSED_SECTION C001-L1 (12 ms)
     5  2026-08-17T20:53:20.050Z  undone (4 ms)
    ");
}
