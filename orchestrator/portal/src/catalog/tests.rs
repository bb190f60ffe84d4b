//! The bounds of a request.

use super::*;

fn request(change: impl FnOnce(&mut wire::ListSectionsRequest)) -> wire::ListSectionsRequest {
    let mut request = wire::ListSectionsRequest::default();
    change(&mut request);
    request
}

#[track_caller]
fn check(change: impl FnOnce(&mut wire::ListSectionsRequest), expect: &str) {
    let problem = page_request(request(change)).map(|_| ()).map_err(|problem| problem.field);
    assert_eq!(problem.err().as_deref().unwrap_or_default(), expect);
}

#[test]
fn bounds() {
    check(|_| {}, "");
    check(|request| request.page_size = 1_000, "");
    check(|request| request.page_size = 1_001, "page_size");
    check(|request| request.page_size = -1, "page_size");
    check(|request| request.page_token = "x".repeat(129), "page_token");
    check(|request| request.section_ids = vec!["A".into(); 1_000], "");
    check(|request| request.section_ids = vec!["A".into(); 1_001], "section_ids");
    check(|request| request.section_ids = vec!["A".into(), "a b".into()], "section_ids[1]");
    check(|request| request.course_id = "C-1".into(), "");
    check(|request| request.course_id = "é".into(), "course_id");
}
