//! Hand-written mornings, and which of their registrations were overtaken.

use std::time::Instant;

use super::*;

/// When the runs begin.
const STARTED: UnixMs = UnixMs(1_800_000_000_000);

/// A registration "sent..acknowledged..ended" in milliseconds, of a student of the same name.
fn click(name: &str, sent: u64, acknowledged: u64, ended: u64) -> Click {
    let at = Duration::from_millis;
    Click {
        key: (name.to_owned(), name.to_owned()),
        registration_id: format!("r-{name}"),
        sent: at(sent),
        admitted: at(sent),
        acknowledged: Some(at(acknowledged)),
        ended: Some(at(ended)),
        submitted_at: Some(STARTED.plus_ms(acknowledged as i64)),
        decided_at: Some(STARTED.plus_ms(ended as i64)),
        is_enrolled: false,
        full: Vec::new(),
    }
}

/// A refused registration: the section was full at that version.
fn refused(click: Click, section: &str, version: i64) -> Click {
    Click { full: vec![(section.to_owned(), version)], ..click }
}

/// An enrolled registration with its seat, whose grant made that version of the section.
fn granted(click: Click, section: &str, version: i64) -> (Click, SeatHold) {
    let hold = SeatHold {
        section_id: section.to_owned(),
        registration_id: click.registration_id.clone(),
        granted_at: click.decided_at.map(UnixMs::to_wire),
        section_version: version,
        ..SeatHold::default()
    };
    (Click { is_enrolled: true, ..click }, hold)
}

/// Judges and expects (overtaken, excused, by clicks), in whatever order the clicks are given.
#[track_caller]
fn check(refused: &[&Click], granted: &[(Click, SeatHold)], expected: (u64, u64, u64)) -> Order {
    let holds: Vec<SeatHold> = granted.iter().map(|(_, hold)| hold.clone()).collect();
    let clicks: Vec<Click> = refused.iter().copied().chain(granted.iter().map(|(click, _)| click)).cloned().collect();
    let mut reversed = clicks.clone();
    reversed.reverse();
    let order = judge(clicks, &holds, STARTED);
    assert_eq!((order.overtaken, order.overtaken_excused, order.overtaken_by_clicks), expected, "{order:?}");
    assert_eq!(judge(reversed, &holds, STARTED), order);
    order
}

#[test]
fn a_later_click_that_gets_the_seat_overtakes() {
    let a = refused(click("a", 0, 100, 900), "S", 17);
    let b = granted(click("b", 351, 400, 800), "S", 17);
    let order = check(&[&a], &[b], (1, 0, 1));
    assert_eq!((order.refused_closed_section, order.overtaken_longest_ms), (1, 251.0));
    let example = Overtaken {
        student_id: "a".to_owned(),
        key: "a".to_owned(),
        section_id: "S".to_owned(),
        sent_ms: 0.0,
        acknowledged_ms: 100.0,
        refused_at_version: 17,
        by_student_id: "b".to_owned(),
        by_key: "b".to_owned(),
        by_sent_ms: 351.0,
        granted_at_version: 17,
        overtaken_by_ms: 251.0,
    };
    assert_eq!(order.overtaken_examples, [example]);
}

#[test]
fn within_a_quarter_of_a_second_nobody_is_overtaken() {
    let a = refused(click("a", 0, 100, 900), "S", 17);
    check(&[&a], &[granted(click("b", 350, 400, 800), "S", 17)], (0, 0, 1));
    check(&[&a], &[granted(click("b", 199, 400, 800), "S", 17)], (0, 0, 0));
}

#[test]
fn a_seat_that_was_granted_after_the_refusal_overtakes_nobody() {
    let a = refused(click("a", 0, 100, 900), "S", 17);
    check(&[&a], &[granted(click("b", 500, 600, 800), "S", 18)], (0, 0, 1));
    // The latest click among the grants up to the refusal counts, wherever it is in their order.
    let grants = [(400, 5), (700, 16), (500, 17), (800, 18)];
    let grants = grants.map(|(sent, version)| granted(click(&format!("b{version}"), sent, sent, 850), "S", version));
    let order = check(&[&a], &grants, (1, 0, 1));
    assert_eq!((order.overtaken_longest_ms, order.overtaken_examples[0].by_key.as_str()), (600.0, "b16"));
}

#[test]
fn another_section_or_an_override_overtakes_nobody() {
    let a = refused(click("a", 0, 100, 900), "S", 17);
    let b = granted(click("b", 500, 600, 800), "T", 17);
    let (c, hold) = granted(click("c", 500, 600, 800), "S", 17);
    check(&[&a], &[b, (c, SeatHold { override_id: "O1".to_owned(), ..hold })], (0, 0, 0));
}

#[test]
fn without_versions_the_times_of_the_decisions_count() {
    let a = refused(click("a", 0, 100, 900), "S", 0);
    check(&[&a], &[granted(click("b", 500, 600, 900), "S", 17)], (1, 0, 1));
    check(&[&a], &[granted(click("b", 500, 600, 901), "S", 17)], (0, 0, 1));
    // The ledger of an earlier version of the seat service has no versions.
    check(
        &[&Click { full: vec![("S".to_owned(), 17)], ..a }],
        &[granted(click("b", 500, 600, 900), "S", 0)],
        (1, 0, 1),
    );
}

#[test]
fn an_unsettled_earlier_registration_of_the_student_excuses() {
    let a = refused(click("a", 100, 150, 900), "S", 17);
    let b = granted(click("b", 500, 600, 800), "S", 17);
    let earlier = |ended: Option<u64>| {
        let other = click("x", 50, 60, 100);
        Click { key: ("a".to_owned(), "earlier".to_owned()), ended: ended.map(Duration::from_millis), ..other }
    };
    check(&[&a, &earlier(Some(101))], std::slice::from_ref(&b), (0, 1, 1));
    check(&[&a, &earlier(None)], std::slice::from_ref(&b), (0, 1, 1));
    check(&[&a, &earlier(Some(100))], std::slice::from_ref(&b), (1, 0, 1));
    // Neither a later registration nor another click of the same one excuses.
    let later = Click { admitted: Duration::from_millis(101), ..earlier(None) };
    let again = Click { sent: Duration::from_millis(50), admitted: Duration::from_millis(50), ..a.clone() };
    check(&[&a, &later, &again], &[b], (1, 0, 1));
}

#[test]
fn a_rejected_click_counts_from_the_call_that_can_have_been_accepted() {
    let a = refused(click("a", 200, 300, 900), "S", 17);
    let (b, hold) = granted(click("b", 0, 700, 800), "S", 17);
    let b = Click { admitted: Duration::from_millis(600), ..b };
    check(&[&a], &[(b, hold)], (1, 0, 0));
}

#[test]
fn the_server_says_when_a_click_was_accepted_that_waited_for_its_outcome() {
    let unmeasured = |click: Click| Click { acknowledged: None, ..click };
    let a = unmeasured(refused(click("a", 0, 100, 900), "S", 17));
    let (b, hold) = granted(click("b", 360, 400, 800), "S", 17);
    let b = unmeasured(b);
    let order = check(&[&a], &[(b.clone(), hold.clone())], (1, 0, 1));
    assert_eq!((order.acknowledged_is_measured, order.overtaken_longest_ms), (false, 260.0));
    // A clock that is a second ahead says that it was submitted after it had ended: so it is ahead by 599 ms at least.
    let skewed =
        |click: &Click, ms| Click { submitted_at: click.submitted_at.map(|at| at.plus_ms(ms)), ..click.clone() };
    let order = check(&[&skewed(&a, 1_000)], &[(skewed(&b, 1_000), hold.clone())], (0, 0, 1));
    assert_eq!(order.overtaken_longest_ms, 0.0);
    let order = check(&[&skewed(&a, -1_000)], &[(skewed(&b, -1_000), hold.clone())], (1, 0, 1));
    assert_eq!(order.overtaken_longest_ms, 300.0);
    // A registration that was there before is not judged.
    let order = check(&[&skewed(&a, -6_000)], &[(b, hold)], (0, 0, 0));
    assert_eq!((order.submitted_before, order.refused_closed_section), (1, 0));
}

#[test]
fn a_hundred_thousand_clicks_are_judged_at_once() {
    let mut clicks = Vec::new();
    let mut holds = Vec::new();
    for number in 0..100_000_u64 {
        let (section, one) = (format!("S{}", number % 7), click(&number.to_string(), number, number + 5, number + 900));
        if number % 2 == 0 {
            clicks.push(refused(one, &section, number as i64));
        } else {
            let (one, hold) = granted(one, &section, number as i64);
            clicks.push(one);
            holds.push(hold);
        }
    }
    let began = Instant::now();
    let order = judge(clicks, &holds, STARTED);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "without optimization, on a busy machine: {:?}",
        began.elapsed()
    );
    assert_eq!((order.refused_closed_section, order.overtaken, order.overtaken_examples.len()), (50_000, 0, 0));
}
