//! Every bound, and the name of its field.

use matricula_registration::request::ROSTER_KEY_PREFIX;

use super::*;

type Submit = wire::SubmitRegistrationRequest;
type Cart = wire::SubmitCartRequest;

#[track_caller]
fn check(change: impl FnOnce(&mut Submit), expect: &str) {
    let mut request = Submit {
        idempotency_key: "k1".into(),
        student_id: "s1".into(),
        adds: vec!["A".into()],
        drops: vec!["B".into()],
        seen_versions: vec![wire::SeenVersion { section_id: "A".into(), version: 3 }],
        wait_ms: 0,
    };
    change(&mut request);
    let checked = wait_time(request.wait_ms).and_then(|_| item(request, UnixMs(0)));
    assert_eq!(checked.err().map(|problem| problem.field).unwrap_or_default(), expect);
}

#[test]
fn bounds_of_a_registration() {
    check(|_| {}, "");
    check(|request| request.idempotency_key = String::new(), "idempotency_key");
    check(|request| request.idempotency_key = "~".repeat(128), "");
    check(|request| request.idempotency_key = "~".repeat(129), "idempotency_key");
    check(|request| request.idempotency_key = "with a space".into(), "");
    check(|request| request.idempotency_key = "tab\t".into(), "idempotency_key");
    check(|request| request.idempotency_key = "é".into(), "idempotency_key");
    check(|request| request.idempotency_key = format!("{}E1·0", ROSTER_KEY_PREFIX), "idempotency_key");
    check(|request| request.idempotency_key = "\u{7f}".into(), "idempotency_key");
    check(|request| request.student_id = String::new(), "student_id");
    check(|request| request.student_id = "x".repeat(129), "student_id");
    check(|request| request.adds = vec!["A".into(), "A".into()], "adds[1]");
    check(|request| request.adds = vec!["a b".into()], "adds[0]");
    check(|request| request.adds = (0..21).map(|n| format!("A{n}")).collect(), "adds");
    check(|request| request.adds = (0..20).map(|n| format!("A{n}")).collect(), "drops");
    check(|request| request.adds = (0..19).map(|n| format!("A{n}")).collect(), "");
    check(|request| request.drops = vec!["A".into()], "drops");
    check(|request| (request.adds, request.drops) = (Vec::new(), Vec::new()), "adds");
    check(|request| request.adds = Vec::new(), "");
    check(|request| request.seen_versions[0].section_id = "a b".into(), "seen_versions[0].section_id");
    check(|request| request.seen_versions = vec![wire::SeenVersion::default(); 21], "seen_versions");
    check(|request| request.wait_ms = 30_000, "");
    check(|request| request.wait_ms = 30_001, "wait_ms");
    check(|request| request.wait_ms = -1, "wait_ms");
}

#[track_caller]
fn check_cart(items: usize, change: impl FnOnce(&mut Cart), expect: &str) {
    let item = |n: usize| wire::CartItem {
        idempotency_key: format!("k{n}"),
        adds: vec![format!("A{n}")],
        ..Default::default()
    };
    let mut request = Cart { student_id: "s1".into(), items: (0..items).map(item).collect(), wait_ms: 0 };
    change(&mut request);
    let checked = cart(request, UnixMs(0));
    assert_eq!(checked.err().map(|problem| problem.field).unwrap_or_default(), expect);
}

#[test]
fn bounds_of_a_cart() {
    check_cart(0, |_| {}, "items");
    check_cart(20, |_| {}, "");
    check_cart(21, |_| {}, "items");
    check_cart(2, |request| request.student_id = "a b".into(), "student_id");
    check_cart(2, |request| request.items[1].idempotency_key = "k0".into(), "items[1].idempotency_key");
    check_cart(3, |request| request.items[2].adds = Vec::new(), "items[2].adds");
    check_cart(3, |request| request.items[2].adds.push("é".into()), "items[2].adds[1]");
}

#[test]
fn bounds_of_a_cancel() {
    for good in ["", "two lines,\nthe second", &"x".repeat(500)] {
        assert_eq!(free_text("reason", good.to_owned(), REASON_BYTES_MAX).as_deref(), Ok(good));
    }
    for bad in ["a\0b", &"x".repeat(501)] {
        assert_eq!(free_text("reason", bad.to_owned(), REASON_BYTES_MAX).expect_err("out of bounds").field, "reason");
    }
    assert!(registration_id(String::new()).is_err());
}
