//! The rules as a table of scripts, and random sequences that keep the invariants.
//!
//! A script is commands with `;` between them: `r1 +M1 -r0/P2` creates, `r1 cancel`, `r1 commit`, and `r1 enroll +M1`
//! is an enroll. `r1@T` is a registration of student T, all others are of S. `M1` and `M2` are lectures of course M,
//! `ML1` is a lab of it. `r1 +M1 #E7` is of an import that takes row E7 of a roster over.

use std::collections::HashSet;

use matricula_kit::answer::Answer;
use matricula_kit::id::{CourseId, RosterRowId, SagaId, SectionId, StudentId};
use matricula_kit::named::NamedValue as _;
use matricula_kit::time::UnixMs;
use proptest::prelude::*;

use super::*;

const NOW: UnixMs = UnixMs(1_000_000);

fn saga(name: &str) -> SagaId {
    SagaId::try_new(name).expect("a valid id")
}

fn section(name: &str) -> SectionId {
    SectionId::try_new(name).expect("a valid id")
}

/// The command of one line of a script.
pub fn command(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let registration = words.next().expect("a registration");
    let (registration, student) = registration.split_once('@').unwrap_or((registration, "S"));
    let registration = saga(registration);
    let student = StudentId::try_new(student).expect("a valid id");
    let of = |action| Command { registration, student, action };
    let (mut adds, mut drops, mut roster_row, mut is_enroll) = (Vec::new(), Vec::new(), None, false);
    for word in words {
        match (word, word.strip_prefix('+'), word.strip_prefix('-')) {
            ("cancel", ..) => return of(Action::Cancel),
            ("commit", ..) => return of(Action::Commit),
            ("withdraw", ..) => return of(Action::Withdraw),
            ("enroll", ..) => is_enroll = true,
            (_, Some(name), _) => adds.push(Add {
                section: section(name),
                course: CourseId::try_new(&name[..1]).expect("a valid id"),
                component: if name[1..].starts_with('L') { "lab".to_owned() } else { String::new() },
            }),
            (_, _, Some(key)) => {
                let (earlier, name) = key.split_once('/').expect("registration/section");
                drops.push((saga(earlier), section(name)));
            }
            _ if word.starts_with('#') => roster_row = Some(RosterRowId::try_new(&word[1..]).expect("a valid id")),
            _ => panic!("{word}?"),
        }
    }
    let change = ChangeSet { adds, drops, roster_row };
    of(if is_enroll { Action::Enroll(change) } else { Action::Create(change) })
}

/// "r1/M1 ENROLLED", with "#E7" when an import added it by row E7, and "<r2" when r2 has marked or dropped it, "<#r2"
/// when that is an import's.
pub fn shown(row: &Enrollment) -> String {
    let import = if row.dropped_by_import { "#" } else { "" };
    let by = row.dropped_by.as_ref().map(|by| format!("<{import}{by}")).unwrap_or_default();
    let roster = row.roster_row.as_ref().map(|id| format!("#{id}")).unwrap_or_default();
    format!("{}/{} {}{roster}{by}", row.key.0, row.key.1, row.status.name())
}

fn answer_shown(answer: &Answer) -> String {
    let Answer::Refused(reasons) = answer else { return "done".to_owned() };
    let reasons = reasons.iter().map(|refusal| {
        let section = refusal.section.as_ref().map(|section| format!(" {section}")).unwrap_or_default();
        let against = Some(&refusal.conflicts_with).filter(|against| !against.is_empty());
        format!(
            "{}{section}{}",
            refusal.reason.name(),
            against.map(|against| format!("/{against}")).unwrap_or_default()
        )
    });
    reasons.collect::<Vec<_>>().join(", ")
}

/// Runs a script; expects the answer to the last command, and the state after it.
#[track_caller]
fn check(script: &str, answer: &str, state: &str) {
    let mut world = World::new([]);
    let mut last = Answer::done();
    for (index, line) in script.split(';').enumerate() {
        last = world.decide(&command(line), NOW.plus_ms(index as i64));
        assert_invariants(&world);
    }
    let rows: Vec<String> = world.rows.rows().map(shown).collect();
    assert_eq!((answer_shown(&last).as_str(), rows.join(", ").as_str()), (answer, state), "{script}");
}

#[track_caller]
fn assert_invariants(world: &World) {
    let (mut sections, mut courses) = (HashSet::new(), HashSet::new());
    for row in world.rows.rows().filter(|row| row.takes_place()) {
        assert!(sections.insert((&row.student, &row.key.1)), "twice in a section: {row:?}");
        assert!(courses.insert((&row.student, &row.course, &row.component)), "twice in a course: {row:?}");
    }
    for row in world.rows.rows() {
        let marked_or_dropped = matches!(row.status, EnrollmentStatus::Enrolled | EnrollmentStatus::Dropped);
        assert!(row.dropped_by.is_none() || marked_or_dropped, "{row:?}");
        assert!(row.dropped_by.is_some() || row.status != EnrollmentStatus::Dropped, "{row:?}");
        assert!(row.dropped_by.is_some() || !row.dropped_by_import, "{row:?}");
    }
}

#[test]
fn adds_are_pending_until_they_are_committed() {
    check("r1 +M1 +ML1", "done", "r1/M1 PENDING, r1/ML1 PENDING");
    check("r1 +M1; r1 commit", "done", "r1/M1 ENROLLED");
    check("r1 +M1; r1 commit; r1 commit", "done", "r1/M1 ENROLLED");
    check("r1 +M1; r1 cancel", "done", "r1/M1 CANCELLED");
    check("r1 +M1; r1 cancel; r1 cancel", "done", "r1/M1 CANCELLED");
    check("r1 +M1; r1 cancel; r2 +M1", "done", "r1/M1 CANCELLED, r2/M1 PENDING");
}

#[test]
fn what_was_cancelled_or_never_created_is_not_committed() {
    check("r1 +M1; r1 cancel; r1 commit", "REGISTRATION_CANCELLED", "r1/M1 CANCELLED");
    check("r1 commit", "REGISTRATION_CANCELLED", "");
    check("r0 +M1; r0 commit; r1 -r0/M1; r1 cancel; r1 commit", "REGISTRATION_CANCELLED", "r0/M1 ENROLLED");
}

#[test]
fn what_was_committed_is_not_undone() {
    check("r1 +M1; r1 commit; r1 cancel", "done", "r1/M1 ENROLLED");
    check("r0 +M1; r0 commit; r1 -r0/M1; r1 commit; r1 cancel", "done", "r0/M1 DROPPED<r1");
    check("r1 +M1; r1 commit; r1 withdraw", "ALREADY_ENROLLED", "r1/M1 ENROLLED");
}

#[test]
fn drops_are_marked_then_dropped() {
    check("r0 +M1; r0 commit; r1 -r0/M1", "done", "r0/M1 ENROLLED<r1");
    check("r0 +M1; r0 commit; r1 -r0/M1; r1 commit", "done", "r0/M1 DROPPED<r1");
    check("r0 +M1; r0 commit; r1 -r0/M1; r1 cancel", "done", "r0/M1 ENROLLED");
    check("r0 +M1; r1 -r0/M1", "NOT_ENROLLED M1", "r0/M1 PENDING");
    check("r1 -r0/M1", "NOT_ENROLLED M1", "");
    check("r0@T +M1; r0@T commit; r1 -r0/M1", "NOT_ENROLLED M1", "r0/M1 ENROLLED");
    check("r0 +M1; r0 commit; r1 -r0/M1; r2 -r0/M1", "NOT_ENROLLED M1", "r0/M1 ENROLLED<r1");
    check("r0 +M1; r0 commit; r1 -r0/M1; r1 commit; r2 -r0/M1", "NOT_ENROLLED M1", "r0/M1 DROPPED<r1");
}

#[test]
fn a_swap_is_whole_or_not_at_all() {
    let before = "r0 +M1; r0 commit; ";
    check(&format!("{before}r1 +M2 -r0/M1"), "done", "r0/M1 ENROLLED<r1, r1/M2 PENDING");
    check(&format!("{before}r1 +M2 -r0/M1; r1 commit"), "done", "r0/M1 DROPPED<r1, r1/M2 ENROLLED");
    check(&format!("{before}r1 +M2 -r0/M1; r1 cancel"), "done", "r0/M1 ENROLLED, r1/M2 CANCELLED");
    check(&format!("{before}r1 +M1 -r0/M1; r1 commit"), "done", "r0/M1 DROPPED<r1, r1/M1 ENROLLED");
    check(&format!("{before}r1 +P1 +M2"), "DUPLICATE_COURSE M2/M1", "r0/M1 ENROLLED");
}

#[test]
fn nobody_is_in_force_twice() {
    check("r1 +M1; r2 +M1", "ALREADY_ENROLLED M1", "r1/M1 PENDING");
    check("r1 +M1; r1 commit; r2 +M1 +M2", "ALREADY_ENROLLED M1, DUPLICATE_COURSE M2/M1", "r1/M1 ENROLLED");
    check("r1 +M1; r2 +M2", "DUPLICATE_COURSE M2/M1", "r1/M1 PENDING");
    check("r1 +M1 +M2", "DUPLICATE_COURSE M2/M1", "");
    check("r1 +M1; r2 +ML1", "done", "r1/M1 PENDING, r2/ML1 PENDING");
    check("r1 +M1; r2@T +M1", "done", "r1/M1 PENDING, r2/M1 PENDING");
    check("r1 +M1; r1 cancel; r1 +M1", "ALREADY_ENROLLED M1", "r1/M1 CANCELLED");
    check("r1 +M1; r2 +M1 -r0/P1", "ALREADY_ENROLLED M1, NOT_ENROLLED P1", "r1/M1 PENDING");
    // What another registration has marked may stay after all.
    check("r0 +M1; r0 commit; r1 -r0/M1; r2 +M2", "DUPLICATE_COURSE M2/M1", "r0/M1 ENROLLED<r1");
    check("r0 +M1; r0 commit; r1 -r0/M1; r2 +M1", "ALREADY_ENROLLED M1", "r0/M1 ENROLLED<r1");
}

#[test]
fn to_enroll_is_one_step() {
    check("r1 enroll +M1 +ML1", "done", "r1/M1 ENROLLED, r1/ML1 ENROLLED");
    check("r1 enroll +M1; r1 withdraw", "ALREADY_ENROLLED", "r1/M1 ENROLLED");
    check("r1 enroll +M1; r2 enroll -r1/M1", "done", "r1/M1 DROPPED<r2");
    check("r1 enroll +M1; r2 enroll +M1", "ALREADY_ENROLLED M1", "r1/M1 ENROLLED");
    check("r1 enroll +M1; r2 enroll +M2", "DUPLICATE_COURSE M2/M1", "r1/M1 ENROLLED");
    check("r1 enroll +M1 +M2", "DUPLICATE_COURSE M2/M1", "");
    check("r1 enroll +P1 -r0/M1", "NOT_ENROLLED M1", "");
    check("r1 enroll +M1; r2 enroll +M1 -r0/P1", "ALREADY_ENROLLED M1, NOT_ENROLLED P1", "r1/M1 ENROLLED");
    check("r1 enroll +M1; r2 enroll -r1/M1; r3 enroll -r1/M1", "NOT_ENROLLED M1", "r1/M1 DROPPED<r2");
    check("r1@T enroll +M1; r2 enroll -r1/M1", "NOT_ENROLLED M1", "r1/M1 ENROLLED");
    check("r1 enroll +M1 #E1; r2 enroll -r1/M1 #E1", "done", "r1/M1 DROPPED#E1<#r2");
    check("r1 enroll +M1; r2 enroll -r1/M1 #E1", "NOT_ENROLLED M1", "r1/M1 ENROLLED");
}

#[test]
fn a_swap_in_one_step_goes_there_and_back() {
    let there = "r0 enroll +M1; r1 enroll +M2 -r0/M1";
    check(there, "done", "r0/M1 DROPPED<r1, r1/M2 ENROLLED");
    check(&format!("{there}; r2 enroll +M1 -r1/M2"), "done", "r0/M1 DROPPED<r1, r1/M2 DROPPED<r2, r2/M1 ENROLLED");
    check("r0 enroll +M1; r1 enroll +M1 -r0/M1", "done", "r0/M1 DROPPED<r1, r1/M1 ENROLLED");
    check("r0 enroll +M1; r1 enroll +P1 +M2", "DUPLICATE_COURSE M2/M1", "r0/M1 ENROLLED");
}

/// Rows and marks of one version are in the way of the other.
#[test]
fn both_versions_keep_the_same_rows() {
    check("r1 +M1; r2 enroll +M1", "ALREADY_ENROLLED M1", "r1/M1 PENDING");
    check("r1 +M1; r2 enroll +M2", "DUPLICATE_COURSE M2/M1", "r1/M1 PENDING");
    check("r1 +M1; r2 enroll -r1/M1", "NOT_ENROLLED M1", "r1/M1 PENDING");
    check("r1 enroll +M1; r2 +M1", "ALREADY_ENROLLED M1", "r1/M1 ENROLLED");
    check("r1 enroll +M1; r2 +M2", "DUPLICATE_COURSE M2/M1", "r1/M1 ENROLLED");
    let marked = "r0 enroll +M1; r1 -r0/M1; ";
    check(&format!("{marked}r2 enroll +M2 -r0/M1"), "NOT_ENROLLED M1", "r0/M1 ENROLLED<r1");
    check(&format!("{marked}r2 enroll +M2"), "DUPLICATE_COURSE M2/M1", "r0/M1 ENROLLED<r1");
    check(&format!("{marked}r1 cancel; r2 enroll +M2 -r0/M1"), "done", "r0/M1 DROPPED<r2, r2/M2 ENROLLED");
    check(&format!("{marked}r1 commit; r2 enroll +M1"), "done", "r0/M1 DROPPED<r1, r2/M1 ENROLLED");
    check("r1 +M1; r1 commit; r2 enroll +M2 -r1/M1", "done", "r1/M1 DROPPED<r2, r2/M2 ENROLLED");
    // A cancel of one version touches nothing of the other.
    check("r1 enroll +M1; r1 cancel", "done", "r1/M1 ENROLLED");
    check("r0 enroll +M1; r1 enroll +M2 -r0/M1; r1 cancel", "done", "r0/M1 DROPPED<r1, r1/M2 ENROLLED");
}

#[test]
fn an_import_ends_only_what_an_import_added() {
    let taken_over = "r0 +M1 #E1; r0 commit; ";
    check(taken_over.trim_end_matches("; "), "done", "r0/M1 ENROLLED#E1");
    check(&format!("{taken_over}r1 -r0/M1 #E1; r1 commit"), "done", "r0/M1 DROPPED#E1<#r1");
    check(&format!("{taken_over}r1 -r0/M1 #E1; r1 cancel"), "done", "r0/M1 ENROLLED#E1");
    check(&format!("{taken_over}r1 +M2 -r0/M1 #E1"), "done", "r0/M1 ENROLLED#E1<#r1, r1/M2 PENDING#E1");
    check(&format!("{taken_over}r1 -r0/M1; r1 commit"), "done", "r0/M1 DROPPED#E1<r1");
    check("r0 +M1; r0 commit; r1 -r0/M1 #E1", "NOT_ENROLLED M1", "r0/M1 ENROLLED");
    check("r0 +M1; r0 commit; r1 +M1 #E1", "ALREADY_ENROLLED M1", "r0/M1 ENROLLED");
    check("r0 +M1; r0 commit; r1 +M2 #E1", "DUPLICATE_COURSE M2/M1", "r0/M1 ENROLLED");
}

/// One line of a random script: registrations are numbered by their line, so a create is always new, and what is
/// dropped, cancelled or committed belongs to an earlier line.
#[derive(Debug, Clone)]
pub enum Line {
    /// Of a student, or of the one whose section it drops: the line that had added it, and which of its adds.
    Create {
        student: u8,
        adds: Vec<&'static str>,
        drop: Option<(u8, u8)>,
        goes: Goes,
    },
    Cancel(u8),
    Commit(u8),
}

/// How far a registration goes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goes {
    Created,
    Committed,
    Enrolled,
}

/// Few students, sections and courses, so that lines meet each other.
pub fn any_script(lines_max: usize) -> impl Strategy<Value = Vec<Line>> {
    const SECTIONS: [&str; 6] = ["M1", "M2", "ML1", "ML2", "P1", "P2"];
    let adds = prop::sample::subsequence(SECTIONS.to_vec(), 0..3);
    let drop = prop::option::of((any::<u8>(), any::<u8>()));
    let goes = prop::sample::select(vec![Goes::Created, Goes::Committed, Goes::Enrolled]);
    let create = (0..2u8, adds, drop, goes);
    let line = prop_oneof![
        4 => create.prop_map(|(student, adds, drop, goes)| Line::Create { student, adds, drop, goes }),
        2 => any::<u8>().prop_map(Line::Cancel),
        1 => any::<u8>().prop_map(Line::Commit),
    ];
    prop::collection::vec(line, 1..lines_max)
}

/// The commands of a random script; `name` makes the id of the registration that a line creates.
pub fn commands(script: &[Line], name: impl Fn(usize) -> String) -> Vec<Command> {
    let mut created: Vec<(String, u8, &[&'static str])> = Vec::new();
    let mut commands = Vec::new();
    for (index, line) in script.iter().enumerate() {
        let earlier = |number: &u8| created.get(usize::from(*number) % created.len().max(1)).cloned();
        match line {
            Line::Create { student, adds, drop, goes } => {
                let dropped = drop.and_then(|(number, which)| earlier(&number).map(|line| (line, usize::from(which))));
                let dropped = dropped.filter(|((_, _, adds), _)| !adds.is_empty());
                let student = dropped.as_ref().map_or(*student, |((_, student, _), _)| *student);
                let adds_shown: String = adds.iter().map(|section| format!(" +{section}")).collect();
                let drop_shown = dropped.map(|((of, _, adds), which)| format!(" -{of}/{}", adds[which % adds.len()]));
                let own = name(index);
                let verb = if *goes == Goes::Enrolled { " enroll" } else { "" };
                let drop_shown = drop_shown.unwrap_or_default();
                commands.push(command(&format!("{own}@S{student}{verb}{adds_shown}{drop_shown}")));
                if *goes == Goes::Committed {
                    commands.push(command(&format!("{own}@S{student} commit")));
                }
                created.push((own, student, adds));
            }
            Line::Cancel(number) | Line::Commit(number) => {
                let Some((of, student, _)) = earlier(number) else { continue };
                let verb = if matches!(line, Line::Cancel(_)) { "cancel" } else { "commit" };
                commands.push(command(&format!("{of}@S{student} {verb}")));
            }
        }
    }
    commands
}

proptest! {
    #[test]
    fn random_scripts_keep_the_invariants(script in any_script(40)) {
        let mut world = World::new([]);
        for command in commands(&script, |index| format!("r{index:03}")) {
            let before: Vec<Enrollment> = world.rows.rows().cloned().collect();
            let answer = world.decide(&command, NOW);
            assert_invariants(&world);
            let after: Vec<Enrollment> = world.rows.rows().cloned().collect();
            prop_assert!(matches!(answer, Answer::Done(_)) || before == after, "a refusal changes nothing");
            for row in before.iter().filter(|row| !row.is_in_force()) {
                prop_assert!(after.contains(row), "what is over does not change: {row:?}");
            }
        }
    }
}
