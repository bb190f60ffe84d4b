//! The texts that people and the store read: the table, the log as JSON, the log and the state in words.

use super::sample;
use super::world::{Script, World, run};
use crate::*;

#[test]
fn the_table() {
    insta::assert_snapshot!(sample().render(), @r#"
    registration v1, to its pivot within 10000 ms
      1  reserve_courses        academics      ReserveCourses     <- RemoveCourses      compensatable
      2  hold_seats             seats          HoldSeats          <- ReleaseSeats       compensatable
      3  create_enrollments     enrollments    CreateEnrollments  <- CancelEnrollments  compensatable
      |  assess_fees            fees           AssessFees         <- VoidFees           compensatable
      4  commit_enrollments     enrollments    CommitEnrollments                        pivot
      5  settle_courses         academics      SettleCourses                            retriable
      |  release_dropped_seats  seats          ReleaseSeats                             retriable
      |  refund_fees            fees           RefundFees                               retriable
      |  notify                 notifications  SendNotification                         closing
    "#);
}

fn varied_log() -> Vec<Recorded> {
    let def = sample();
    let script = "skip:assess_fees reserve_courses=unavailable create_enrollments=no undo:hold_seats=permission_denied";
    run(&def, script).log
}

#[test]
fn the_log_for_people() {
    let lines: Vec<_> = varied_log().iter().map(describe).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    admitted as registration v1, to its pivot within 10 s; steps: reserve_courses, hold_seats, create_enrollments, commit_enrollments, settle_courses, release_dropped_seats, refund_fees, notify
    reserve_courses failed: unavailable: lost; next attempt in 100 ms
    reserve_courses succeeded at attempt 2
    hold_seats succeeded
    create_enrollments refused: create_enrollments says no
    compensation started: refused
    undo of hold_seats failed: permission_denied: lost; next attempt in 1000 ms; needs attention
    undo of hold_seats succeeded at attempt 2
    undo of reserve_courses succeeded
    notify succeeded
    finished
    "#);
}

/// The persisted form, which must be readable for ever.
#[test]
fn the_log_in_the_store() {
    let log = varied_log();
    let mut causes = vec![
        Recorded { sequence: 1, at_ms: 0, event: Event::CompensationStarted { cause: Cause::DeadlinePassed } },
        Recorded {
            sequence: 1,
            at_ms: 0,
            event: Event::CompensationStarted {
                cause: Cause::Cancelled { by: "ada".to_owned(), reason: "no time".to_owned() },
            },
        },
        Recorded {
            sequence: 1,
            at_ms: 0,
            event: Event::CompensationReverted { step: "commit_enrollments".to_owned(), attempt: 1, started_at_ms: 0 },
        },
    ];
    let mut log = [log[..4].to_vec(), log[6..8].to_vec(), log[log.len() - 1..].to_vec()].concat();
    log.append(&mut causes);
    let lines: Vec<_> = log.iter().map(|recorded| serde_json::to_string(recorded).unwrap()).collect();
    for (recorded, line) in log.iter().zip(&lines) {
        assert_eq!(&serde_json::from_str::<Recorded>(line).unwrap(), recorded);
        assert!(line.contains(&format!("\"event\":\"{}\"", recorded.event.name())));
    }
    insta::assert_snapshot!(lines.join("\n"), @r#"
    {"sequence":1,"at_ms":0,"event":{"event":"admitted","definition":"registration","version":1,"applies":["reserve_courses","hold_seats","create_enrollments","commit_enrollments","settle_courses","release_dropped_seats","refund_fees","notify"],"deadline_at_ms":10000}}
    {"sequence":2,"at_ms":0,"event":{"event":"step_failed","step":"reserve_courses","leg":"action","attempt":1,"started_at_ms":0,"error":{"code":"unavailable","message":"lost"},"next_attempt_at_ms":100,"needs_attention":false}}
    {"sequence":3,"at_ms":100,"event":{"event":"step_succeeded","step":"reserve_courses","leg":"action","attempt":2,"started_at_ms":100,"output":"reserve_courses done"}}
    {"sequence":4,"at_ms":100,"event":{"event":"step_succeeded","step":"hold_seats","leg":"action","attempt":1,"started_at_ms":100,"output":"hold_seats done"}}
    {"sequence":7,"at_ms":100,"event":{"event":"step_failed","step":"hold_seats","leg":"undo","attempt":1,"started_at_ms":100,"error":{"code":"permission_denied","message":"lost"},"next_attempt_at_ms":1100,"needs_attention":true}}
    {"sequence":8,"at_ms":1100,"event":{"event":"step_succeeded","step":"hold_seats","leg":"undo","attempt":2,"started_at_ms":1100,"output":"hold_seats done"}}
    {"sequence":11,"at_ms":1100,"event":{"event":"finished"}}
    {"sequence":1,"at_ms":0,"event":{"event":"turned","cause":{"kind":"deadline_passed"}}}
    {"sequence":1,"at_ms":0,"event":{"event":"turned","cause":{"kind":"cancelled","by":"ada","reason":"no time"}}}
    {"sequence":1,"at_ms":0,"event":{"event":"turned_back","step":"commit_enrollments","attempt":1,"started_at_ms":0}}
    "#);
}

/// Decisions of operators are in the log too.
#[test]
fn interventions_in_the_store() {
    let (step, direction) = (String::from("notify"), Direction::Compensation);
    let answer = Resolution::Done;
    let interventions = [
        Intervention::Retry { step: None },
        Intervention::Skip { step: step.clone(), direction: Direction::Forward },
        Intervention::Resolve { step, direction, answer },
        Intervention::Abandon,
    ];
    let lines = interventions.map(|intervention| {
        let (by, reason, command_id) = (String::from("ada"), String::from("now"), Some(String::from("one")));
        let event = Event::Intervened { by, reason, intervention, command_id };
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
        line
    });
    insta::assert_snapshot!(lines.join("\n"), @r#"
    {"event":"intervened","by":"ada","reason":"now","intervention":{"verb":"retry"},"command":"one"}
    {"event":"intervened","by":"ada","reason":"now","intervention":{"verb":"skip","step":"notify","leg":"action"},"command":"one"}
    {"event":"intervened","by":"ada","reason":"now","intervention":{"verb":"resolve","step":"notify","leg":"undo","answer":{"kind":"done"}},"command":"one"}
    {"event":"intervened","by":"ada","reason":"now","intervention":{"verb":"abandon"},"command":"one"}
    "#);
}

#[test]
fn a_saga_explained() {
    let def = sample();
    let script = Script::parse("skip:assess_fees create_enrollments=no undo:hold_seats=permission_denied,never");
    let world = World::admit(&def, script.applies(&def)).run(&script);
    insta::assert_snapshot!(explain(&def, &world.state, None, world.now_ms - 400), @r#"
    compensating: being undone (refused); needs attention
      reserve_courses        done
      hold_seats             done; undo attempt 1 failed: permission_denied: lost; next in 400 ms
      create_enrollments     refused: create_enrollments says no
      commit_enrollments     not started
      settle_courses         not started
      release_dropped_seats  not started
      refund_fees            not started
      notify                 not started
    "#);
    let world = run(&def, "skip:hold_seats commit_enrollments=unavailable,never");
    insta::assert_snapshot!(explain(&def, &world.state, None, world.now_ms), @r#"
    running: its pivot may have been called, can't be cancelled any more
      reserve_courses        done
      create_enrollments     done
      assess_fees            done
      commit_enrollments     attempt 1 failed: unavailable: lost; next is due
      settle_courses         not started
      release_dropped_seats  not started
      refund_fees            not started
      notify                 not started
    "#);
    let world = run(&def, "skip:hold_seats notify=never");
    insta::assert_snapshot!(explain(&def, &world.state, None, world.now_ms), @r#"
    completing: committed, its tail is being finished
      reserve_courses        done
      create_enrollments     done
      assess_fees            done
      commit_enrollments     done
      settle_courses         done
      release_dropped_seats  done
      refund_fees            done
      notify                 waits for its turn or for notifications: the log does not say which
    "#);
}

/// The text distinguishes a turn, a queue, a call, a pause and a breaker, where the owner of the saga has answered.
#[test]
fn the_waits_of_a_saga_are_distinguished() {
    let def = sample();
    let world = World::admit(&def, ["reserve_courses", "commit_enrollments"]);
    let explained = |wait: Wait, last_error: &str| {
        let call = CallWait {
            last_error: last_error.to_owned(),
            ..CallWait::new("reserve_courses", Direction::Forward, wait)
        };
        let text = serde_json::to_string(&call).unwrap();
        assert_eq!(serde_json::from_str::<CallWait>(&text).unwrap(), call, "it goes from replica to replica");
        assert!(text.starts_with(r#"{"step":"reserve_courses","leg":"action","wait":"#), "{text}");
        let text = explain(&def, &world.state, Some(&[call]), 20_000);
        text.lines().nth(1).unwrap().trim().to_owned()
    };
    let waits = [
        explained(Wait::Turn { ahead: Some(41) }, ""),
        explained(Wait::Record, ""),
        explained(Wait::Queue { since_ms: 17_000, ahead: 40 }, ""),
        explained(Wait::Breaker { since_ms: 5_000, ahead: 3, probe_at_ms: Some(22_000) }, "unavailable: refused"),
        explained(Wait::Breaker { since_ms: 5_000, ahead: 3, probe_at_ms: None }, ""),
        explained(Wait::Limit { since_ms: 19_000, ahead: 0 }, ""),
        explained(Wait::Call { since_ms: 18_800, until_ms: 23_800 }, ""),
        explained(Wait::Pause { until_ms: 20_400 }, ""),
    ];
    insta::assert_snapshot!(waits.join("\n"), @"
    reserve_courses        not called: the saga waits for its turn, 41 are ahead of it
    reserve_courses        about to be called, or its answer is being recorded
    reserve_courses        not called: in the queue of academics for 3000 ms, 40 calls are ahead of it
    reserve_courses        not called: parked for 15 s, the breaker of academics is open (unavailable: refused); the next probe is in 2000 ms, 3 calls are ahead of it
    reserve_courses        not called: parked for 15 s, the breaker of academics is open (no answer); a probe is in flight, 3 calls are ahead of it
    reserve_courses        not called: parked for 1000 ms, an operator has set the limit of academics to 0
    reserve_courses        called 1200 ms ago, not answered; given up in 3800 ms
    reserve_courses        next in 400 ms
    ");
}
