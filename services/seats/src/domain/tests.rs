//! The rules as a table, and random sequences that keep the invariants.

use matricula_kit::answer::{Answer, Reason};
use matricula_kit::id::{OverrideId, SagaId, SectionId, StepName, StudentId};
use matricula_kit::participant::Key;
use matricula_kit::source::Source;
use matricula_kit::time::{TimeZone, UnixMs, zone};
use proptest::prelude::*;

use super::*;

const NOW: UnixMs = UnixMs(1_000_000);

fn section_id(name: &str) -> SectionId {
    SectionId::try_new(name).expect("a valid id")
}

fn saga(name: &str) -> SagaId {
    SagaId::try_new(name).expect("a valid id")
}

fn key(name: &str) -> Key {
    Key { saga: saga(name), step: StepName::stored("hold_seats".to_owned()) }
}

/// "S1 S2!" asks for two sections, the second with an override.
fn hold(by: &str, sections: &str) -> Command {
    let wanted = sections.split_whitespace().map(|name| Wanted {
        section: section_id(name.trim_end_matches('!')),
        override_id: name.ends_with('!').then(|| OverrideId::stored("O1".to_owned())),
    });
    Command::Hold { holder: key(by), student: StudentId::stored(format!("student-{by}")), wanted: wanted.collect() }
}

fn undo(by: &str) -> Command {
    Command::ReleaseStep(key(by))
}

fn drop_of(by: &str, earlier: &str, section: &str) -> Command {
    Command::ReleaseDropped { by: saga(by), seats: vec![(saga(earlier), section_id(section))] }
}

fn set(section: &str, capacity: i32) -> Command {
    Command::SetCapacity { section: section_id(section), capacity }
}

/// "A=5 B=1", planned from a version of imports.
fn import(base_version: i64, capacities: &str) -> Command {
    let capacity = |text: &str| {
        let (section, capacity) = text.split_once('=').expect("a section and its capacity");
        (section_id(section), capacity.parse().expect("a number"))
    };
    Command::Import { base_version, capacities: capacities.split_whitespace().map(capacity).collect() }
}

/// Sections A with 2 seats, B with 1, Z frozen; imports are at version 7.
fn campus() -> World {
    let sections = [("A", 2), ("B", 1), ("Z", 0)];
    let sections = sections.map(|(name, capacity)| Section::new(section_id(name), capacity, NOW));
    World::new(sections.into(), Vec::new(), Some(7), TimeZone::UTC)
}

fn shown(answer: &Answer) -> String {
    match answer {
        Answer::Done(_) => "done".to_owned(),
        Answer::NotYet(_) => "not yet".to_owned(),
        Answer::Refused(reasons) => {
            let reasons = reasons.iter();
            let section = |section: &Option<SectionId>| section.as_ref().map(ToString::to_string).unwrap_or_default();
            let reasons = reasons.map(|refusal| format!("{} {}", refusal.reason.name(), section(&refusal.section)));
            reasons.collect::<Vec<_>>().join(", ")
        }
    }
}

/// Runs commands one after the other; expects the answer to the last, and "A taken/capacity vVersion" of sections.
#[track_caller]
fn check(commands: &[Command], answer: &str, sections: &str) {
    let mut world = campus();
    let mut last = Answer::done();
    for (index, command) in commands.iter().enumerate() {
        last = world.decide(command, NOW.plus_ms(index as i64 + 1));
        assert_invariants(&world);
    }
    let state = world.sections.rows().filter(|section| section.version > 1);
    let state =
        state.map(|section| format!("{} {}/{} v{}", section.id, section.taken, section.capacity, section.version));
    assert_eq!((shown(&last).as_str(), state.collect::<Vec<_>>().join(", ").as_str()), (answer, sections));
}

#[track_caller]
fn assert_invariants(world: &World) {
    for section in world.sections.rows() {
        let live = world.holds.rows().filter(|hold| hold.key.1 == section.id && hold.released.is_none()).count();
        assert_eq!(section.taken as usize, live, "taken = live holds: {section:?}");
        assert_eq!(section.closed_at.is_some(), section.free() == 0, "closed exactly while none is free: {section:?}");
    }
    for hold in world.holds.rows() {
        assert!(hold.taken_after <= hold.capacity_at_grant || hold.override_id.is_some(), "no right to: {hold:?}");
    }
    let versions: Vec<_> = world.holds.rows().map(|hold| (&hold.key.1, hold.section_version)).collect();
    let distinct: std::collections::BTreeSet<_> = versions.iter().collect();
    assert_eq!(distinct.len(), versions.len(), "each grant makes a version of its own: {versions:?}");
}

#[test]
fn seats_are_granted_while_they_are_free() {
    check(&[hold("r1", "A")], "done", "A 1/2 v2");
    check(&[hold("r1", "A B")], "done", "A 1/2 v2, B 1/1 v2");
    check(&[hold("r1", "A"), hold("r2", "A")], "done", "A 2/2 v3");
    check(&[hold("r1", "B"), hold("r2", "B")], "CLOSED_SECTION B", "B 1/1 v2");
    check(&[hold("r1", "Z")], "CLOSED_SECTION Z", "");
    check(&[hold("r1", "X")], "SECTION_NOT_FOUND X", "");
}

#[test]
fn all_or_none_with_every_reason() {
    check(&[hold("r1", "B"), hold("r2", "A B")], "CLOSED_SECTION B", "B 1/1 v2");
    check(
        &[hold("r1", "B"), hold("r2", "A B Z X")],
        "CLOSED_SECTION B, CLOSED_SECTION Z, SECTION_NOT_FOUND X",
        "B 1/1 v2",
    );
    check(&[hold("r1", "A"), hold("r1", "A B")], "ALREADY_ENROLLED A", "A 1/2 v2");
}

#[test]
fn an_override_lets_in_beyond_the_capacity_and_is_recorded_only_when_used() {
    check(&[hold("r1", "B"), hold("r2", "B!")], "done", "B 2/1 v3");
    check(&[hold("r1", "Z!")], "done", "Z 1/0 v2");
    check(&[hold("r1", "B"), hold("r2", "B!"), hold("r3", "B")], "CLOSED_SECTION B", "B 2/1 v3");
    check(&[hold("r1", "B"), hold("r2", "B!"), undo("r1"), hold("r3", "B")], "CLOSED_SECTION B", "B 1/1 v4");

    let mut world = campus();
    world.decide(&hold("r1", "B!"), NOW);
    world.decide(&hold("r2", "B!"), NOW);
    let recorded: Vec<bool> = world.holds.rows().map(|hold| hold.override_id.is_some()).collect();
    assert_eq!(recorded, [false, true]);
}

#[test]
fn releases_give_back_once() {
    check(&[hold("r1", "A B"), undo("r1")], "done", "A 0/2 v3, B 0/1 v3");
    check(&[hold("r1", "A"), undo("r1"), undo("r1")], "done", "A 0/2 v3");
    check(&[hold("r1", "A"), drop_of("r2", "r1", "A")], "done", "A 0/2 v3");
    check(&[hold("r1", "A"), drop_of("r2", "r1", "A"), drop_of("r3", "r1", "A")], "done", "A 0/2 v3");
    check(&[hold("r1", "A"), hold("r10", "A"), undo("r1")], "done", "A 1/2 v4");
    check(&[drop_of("r2", "r1", "A")], "done", "");
    check(&[drop_of("r2", "r1", "X")], "done", "");
    check(&[hold("r1", "B"), undo("r1"), hold("r2", "B")], "done", "B 1/1 v4");
}

#[test]
fn capacity_changes_evict_nobody_and_grant_nothing() {
    // The same number by staff is theirs from then on, which is a change, once.
    check(&[set("A", 2), set("A", 2)], "done", "A 0/2 v2");
    check(&[set("X", 2)], "SECTION_NOT_FOUND X", "");
    check(&[hold("r1", "A"), hold("r2", "A"), set("A", 1), hold("r3", "A")], "CLOSED_SECTION A", "A 2/1 v4");
    check(
        &[hold("r1", "A"), hold("r2", "A"), set("A", 1), undo("r1"), hold("r3", "A")],
        "CLOSED_SECTION A",
        "A 1/1 v5",
    );
    check(&[hold("r1", "A"), set("A", 0), hold("r2", "A")], "CLOSED_SECTION A", "A 1/0 v3");
    check(&[hold("r1", "B"), set("B", 2), hold("r2", "B")], "done", "B 2/2 v4");
}

#[test]
fn an_import_creates_and_sets() {
    check(&[hold("r1", "A"), import(7, "A=5 B=1 C=3")], "done", "A 1/5 v3");
    let mut world = campus();
    assert_eq!(world.decide(&import(7, "A=5 B=1 C=3"), NOW), Answer::done());
    assert_eq!(world.imports_applied, 1);
    let changed: Vec<String> = world.sections.into_written().map(|section| section.id.into()).collect();
    assert_eq!(changed, ["A", "C"]);
}

#[test]
fn a_plan_of_another_version_changes_nothing() {
    check(&[import(6, "A=5")], "not yet", "");
    check(&[import(8, "A=5")], "not yet", "");
    check(&[import(7, "A=5"), import(7, "A=6")], "not yet", "A 0/5 v2");
    check(&[import(7, "A=5"), import(8, "A=6")], "done", "A 0/6 v3");
}

/// Compares section A after the commands: its capacity, the source of that, and the capacity in the bundle.
#[track_caller]
fn check_source(section: Section, commands: &[Command], expect: (i32, Source, i32)) {
    let mut world = World::new(vec![section], Vec::new(), Some(7), TimeZone::UTC);
    for command in commands {
        assert_eq!(world.decide(command, NOW), Answer::done());
    }
    let section = world.sections.rows().next().expect("section A");
    let seen = (section.capacity, section.capacity_source, section.bundle_capacity);
    assert_eq!(seen, (expect.0, Some(expect.1), Some(expect.2)));
}

#[test]
fn what_staff_set_is_not_what_the_bundle_says() {
    use Source::{Bundle, Staff};

    let new = || Section::new(section_id("A"), 30, NOW);
    check_source(new(), &[], (30, Bundle, 30));
    check_source(new(), &[set("A", 0)], (0, Staff, 30));
    check_source(new(), &[set("A", 30)], (30, Staff, 30));
    check_source(new(), &[set("A", 0), set("A", 5)], (5, Staff, 30));
    // A plan has the section only when the bundle says another number; then that replaces what staff set.
    check_source(new(), &[set("A", 0), import(7, "B=9")], (0, Staff, 30));
    check_source(new(), &[set("A", 0), import(7, "A=31")], (31, Bundle, 31));
    check_source(new(), &[set("A", 31), import(7, "A=31")], (31, Bundle, 31));
    // A section of an earlier version: what it had counts as what the bundle said.
    let old = || Section { capacity_source: None, bundle_capacity: None, ..new() };
    check_source(old(), &[set("A", 0)], (0, Staff, 30));
    check_source(old(), &[import(7, "A=30")], (30, Bundle, 30));
}

#[test]
fn a_refusal_says_how_full_it_is_and_since_when() {
    // Each command comes a second after the one before; the first an hour after the sections were made.
    let at = |index: usize| NOW.plus_ms(3_600_000 + index as i64 * 1_000);
    let check = |commands: &[Command], closed_by: usize, capacity_set_by: Option<usize>, expect: &str| {
        let mut world = campus();
        for (index, command) in commands.iter().enumerate() {
            world.decide(command, at(index));
        }
        let mut sections = world.sections.rows();
        let closed = sections.find(|section| section.closed_at.is_some() && section.version > 1);
        let closed = closed.expect("one is closed");
        let refusal = closed.closed(&TimeZone::UTC);
        assert_eq!((refusal.reason, refusal.section_version), (Reason::ClosedSection, Some(closed.version)));
        assert_eq!((refusal.closed_at, refusal.capacity), (Some(at(closed_by)), Some(closed.capacity)));
        assert_eq!(refusal.capacity_set_at, Some(capacity_set_by.map_or(NOW, at)));
        assert_eq!(refusal.message, expect);
    };
    let full = "Section A is full: all 2 seats are taken. The last seat went at 1970-01-01 01:16:41 UTC.";
    check(&[hold("r1", "A"), hold("r2", "A")], 1, None, full);
    let one = "Section B is full: its one seat is taken. The last seat went at 1970-01-01 01:16:40 UTC.";
    check(&[hold("r1", "B")], 0, None, one);
    let later = "Section A is full: 2 seats are taken, of 1. The last seat went at 1970-01-01 01:16:41 UTC.";
    check(&[hold("r1", "A"), hold("r2", "A"), set("A", 1)], 1, Some(2), later);
    // A section that was closed by its capacity says so, and not that a seat went.
    let frozen = "Section A gives out no seats at present. Its capacity was set to 0 at 1970-01-01 01:16:40 UTC.";
    check(&[set("A", 0)], 0, Some(0), frozen);
    let lowered = "Section A is full: its one seat is taken. Its capacity was set to 1 at 1970-01-01 01:16:41 UTC.";
    check(&[hold("r1", "A"), set("A", 1)], 1, Some(1), lowered);
    let full_then_frozen =
        "Section B gives out no seats at present. Its capacity was set to 0 at 1970-01-01 01:16:41 UTC.";
    check(&[hold("r1", "B"), set("B", 0)], 0, Some(1), full_then_frozen);
}

#[test]
fn moments_are_told_in_the_zone_of_the_campus() {
    let new_york = zone("America/New_York").expect("a zone");
    let mut world = World::new(vec![Section::new(section_id("B"), 1, NOW)], Vec::new(), None, new_york);
    // 2028-08-24 13:00:03 UTC.
    world.decide(&hold("r1", "B"), UnixMs(1_850_734_803_000));
    let Answer::Refused(reasons) = world.decide(&hold("r2", "B"), NOW) else { panic!("it is full") };
    let expect = "Section B is full: its one seat is taken. The last seat went at 2028-08-24 09:00:03 EDT.";
    assert_eq!(reasons[0].message, expect);
}

/// Registrations, sections and capacities are few, so that sequences meet each other.
fn any_command() -> impl Strategy<Value = Command> {
    let by = || (0..12u8).prop_map(|number| format!("r{number}"));
    let one = || prop::sample::select(vec!["A", "B", "Z", "X"]);
    let some = prop::sample::subsequence(vec!["A", "B", "Z", "A!", "B!", "Z!", "X"], 1..4).prop_map(|mut names| {
        names.dedup_by_key(|name| name.as_bytes()[0]);
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.as_bytes()[0]));
        names.join(" ")
    });
    prop_oneof![
        6 => (by(), some).prop_map(|(by, sections)| hold(&by, &sections)),
        2 => by().prop_map(|by| undo(&by)),
        2 => (by(), by(), one()).prop_map(|(by, earlier, section)| drop_of(&by, &earlier, section)),
        1 => (one(), 0..4i32).prop_map(|(section, capacity)| set(section, capacity)),
        1 => (7..9i64, one(), 0..4i32).prop_map(|(base_version, section, capacity)| Command::Import {
            base_version,
            capacities: vec![(section_id(section), capacity)],
        }),
    ]
}

proptest! {
    #[test]
    fn random_sequences_keep_the_invariants(commands in prop::collection::vec(any_command(), 1..60)) {
        let mut world = campus();
        for (index, command) in commands.iter().enumerate() {
            let before: Vec<Section> = world.sections.rows().cloned().collect();
            let answer = world.decide(command, NOW.plus_ms(index as i64));
            assert_invariants(&world);
            for old in before {
                let new = world.sections.rows().find(|section| section.id == old.id).expect("sections stay");
                let grew = new.version - old.version;
                prop_assert!(if *new == old { grew == 0 } else { grew == 1 }, "{old:?} {new:?}");
                prop_assert!(matches!(answer, Answer::Done(_)) || *new == old, "a refusal changes nothing");
            }
        }
    }
}
