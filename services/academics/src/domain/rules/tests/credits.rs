//! Credits add up over the parts of a semester.

use super::*;

fn ready() -> Student {
    student().completed("MATH", "A").completed("PHYS", "A").completed("CHEM", "A")
}

#[test]
fn max_credits() {
    let refused = ["MAX_CREDITS_EXCEEDED - fall"];
    check(ready().enrolled("PHYS-2"), "OPUS-1", "", &refused);
    check(ready().pending("PHYS-2"), "OPUS-1", "", &refused);
    check(ready().enrolled("MATH-1"), "OPUS-1", "", &[]);
    check(ready().enrolled("PHYS-2"), "OPUS-1", "PHYS-2", &[]);
    check(ready().max_credits(13).enrolled("PHYS-2"), "OPUS-1", "", &[]);
    check(ready().max_credits(3), "CHEM-A CHEM-LA", "", &refused);
    check(ready().max_credits(4), "CHEM-A CHEM-LA", "", &[]);
    check(ready().max_credits(4).enrolled("CHEM-A CHEM-LA"), "CHEM-B", "CHEM-A", &[]);
    check(ready().max_credits(1).enrolled("CHEM-A CHEM-LA"), "CHEM-LB", "CHEM-LA", &[]);
    check(ready().max_credits(1).enrolled("MATH-1"), "MATH-2", "MATH-1", &[]);
    check(ready().max_credits(1).enrolled("MATH-1"), "PHYS-2", "MATH-1", &refused);
    check(student(), "MATH-S", "", &[]);
}

#[test]
fn parts_of_a_semester_share_its_limit() {
    let refused = ["MAX_CREDITS_EXCEEDED - fall"];
    check(ready().enrolled("OPUS-1"), "MATH-A", "", &[]);
    check(ready().enrolled("OPUS-1 MATH-A"), "DANCE-B", "", &refused);
    check(ready().enrolled("OPUS-1 MATH-A"), "DANCE-B", "MATH-A", &[]);
    check(ready().enrolled("OPUS-1 MATH-A"), "BIO-S", "", &[]);
    check(ready().max_credits(3).enrolled("MATH-A"), "DANCE-B", "", &refused);
    check(ready().max_credits(3), "DANCE-B MATH-A", "", &refused);
    check(ready().max_credits(3).enrolled("MATH-A"), "MATH-S", "MATH-A", &[]);
    // The school year has a limit of ten, which does not count.
    check(ready().enrolled("OPUS-1 MATH-A"), "PHYS-S", "", &[]);
}

#[test]
fn a_part_with_a_limit_of_its_own_is_checked_too() {
    let refused = ["MAX_CREDITS_EXCEEDED - fall-b"];
    check(ready().enrolled("MATH-B"), "DANCE-B", "", &["TIME_CONFLICT DANCE-B MATH-B"]);
    check(ready().enrolled("DANCE-B"), "PHYS-B", "", &refused);
    check(ready().max_credits(18).enrolled("DANCE-B"), "PHYS-B", "", &refused);
    check(ready().enrolled("DANCE-B"), "PHYS-B", "DANCE-B", &[]);
    check(ready().enrolled("DANCE-A"), "PHYS-B", "", &[]);
    let both = ["MAX_CREDITS_EXCEEDED - fall", "MAX_CREDITS_EXCEEDED - fall-b"];
    check(ready().enrolled("OPUS-1 DANCE-B"), "PHYS-B", "", &both);
    check_sentence(
        ready().enrolled("DANCE-B"),
        "PHYS-B",
        "",
        "This would make 5 credits in Term fall-b, and your limit is 4: you have 1 and add 4.",
        "Drop a course in the same registration, or ask your advisor for a higher limit.",
    );
}

/// With a permit for one of two courses, the student could register the other one first.
#[test]
fn permitted_credits_leave_room_for_others() {
    let refused = ["MAX_CREDITS_EXCEEDED - fall"];
    let full = || ready().permit(MaxCreditsExceeded, "OPUS-1");
    check(ready().enrolled("PHYS-2").permit(MaxCreditsExceeded, "OPUS-1"), "OPUS-1", "", &[]);
    check(ready().enrolled("PHYS-2").permit(MaxCreditsExceeded, "MATH-1"), "OPUS-1", "", &refused);
    check(full(), "OPUS-1 PHYS-2", "", &[]);
    check(full().enrolled("CHEM-A CHEM-LA BIO-1 ART-1 DANCE-A"), "OPUS-1 PHYS-2", "", &refused);
    check(full().enrolled("OPUS-1"), "PHYS-2", "", &refused);
    // The other one asks for it as a prerequisite, so that it comes first.
    let before = |completed: Student| completed.max_credits(4).permit(MaxCreditsExceeded, "MATH-A");
    check(before(student()), "MATH-A PHYS-B", "", &refused);
    check(before(student().completed("MATH", "C")), "MATH-A PHYS-B", "", &[]);
    // One part of a course is enough.
    let permitted = ready().max_credits(3).permit(MaxCreditsExceeded, "CHEM-LA");
    check(permitted, "CHEM-A CHEM-LA", "", &[]);
}
