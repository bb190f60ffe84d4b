//! What registrations are charged, as tables; and that no series of operations gives back more than was charged.

use matricula_kit::id::{CourseId, SagaId, SectionId, StudentId, TermId};
use proptest::prelude::*;

use super::price::{BalanceLimit, Percent, Price};
use super::rates::{RefundLadder, TermRates};
use super::*;

const NOW: UnixMs = UnixMs(1_000);

/// Term `T` costs 100.00 a credit with a ladder of 100 % before 10 and 50 % before 20; course `LAB` has a fee of 25.00.
/// Terms `L5` and `L9` cost the same, and allow to owe 500.00 and 900.00.
fn world() -> World {
    let price = |units| Price::try_new(units).expect("a price");
    let percent = |percent| Percent::try_new(percent).expect("a percentage");
    let ladder = RefundLadder::try_new(vec![(UnixMs(10), percent(100)), (UnixMs(20), percent(50))]).expect("a ladder");
    let mut world = World::default();
    for (term, limit) in [("T", None), ("L5", Some(50_000)), ("L9", Some(90_000))] {
        let balance_limit = limit.map(|limit| BalanceLimit::try_new(limit).expect("a limit"));
        let rates = TermRates { per_credit: price(10_000), ladder: ladder.clone(), balance_limit };
        world.prices.terms.insert(id_term(term), rates);
    }
    world.prices.course_fees.insert(id_course("LAB"), price(2_500));
    world
}

fn id_term(text: &str) -> TermId {
    TermId::try_new(text).expect("an id")
}

fn id_course(text: &str) -> CourseId {
    CourseId::try_new(text).expect("an id")
}

fn saga(text: &str) -> SagaId {
    SagaId::try_new(text).expect("an id")
}

fn student(text: &str) -> StudentId {
    StudentId::try_new(text).expect("an id")
}

fn section(text: &str) -> SectionId {
    SectionId::try_new(text).expect("an id")
}

/// `section course component credits term`, with `-` for no component.
fn add(text: &str) -> Add {
    let fields: Vec<&str> = text.split_whitespace().collect();
    Add {
        section: section(fields[0]),
        course: id_course(fields[1]),
        is_only_part: fields[2] == "-",
        credits: Credits::try_new(fields[3].parse().expect("credits")).expect("credits"),
        term: id_term(fields[4]),
    }
}

fn assess(registration: &str, adds: &[&str]) -> Command {
    Command::Assess {
        registration: saga(registration),
        student: student("s1"),
        adds: adds.iter().map(|text| add(text)).collect(),
        basis: Basis::Rates,
    }
}

/// The same for a roster.
fn take_over(registration: &str, adds: &[&str], basis: Basis) -> Command {
    let adds = adds.iter().map(|text| add(text)).collect();
    Command::Assess { registration: saga(registration), student: student("s1"), adds, basis }
}

fn void(registration: &str) -> Command {
    Command::Void { registration: saga(registration) }
}

/// `drops` as (section, the registration that added it).
fn refund(registration: &str, by: &str, drops: &[(&str, &str)], at: i64) -> Command {
    let drop = |(section_id, added_by): &(&str, &str)| DroppedCourse {
        section: section(section_id),
        course: id_course("C"),
        registration: saga(added_by),
    };
    let drops = drops.iter().map(drop).collect();
    Command::Refund { registration: saga(registration), student: student(by), drops, effective_at: UnixMs(at) }
}

fn shown(postings: &[Posting]) -> Vec<String> {
    let line = |p: &Posting| {
        format!("{} {} {} {} by {}", p.kind.name(), p.registration, p.section, p.minor_units, p.caused_by)
    };
    postings.iter().map(line).collect()
}

#[track_caller]
fn check(commands: &[Command], amount: Option<i64>, expect: &[&str]) {
    let mut world = world();
    let mut last = Answer::done();
    for command in commands {
        last = decide(&mut world, command, NOW);
    }
    let Answer::Done(done) = last else { panic!("refused: {last:?}") };
    assert_eq!(done.amount.map(|money| money.minor_units), amount);
    assert_eq!(shown(&world.postings), expect);
}

#[test]
fn credits_and_fees_are_charged() {
    check(&[assess("r1", &["A1 A - 300 T"])], Some(30_000), &["CHARGE r1 A1 30000 by r1"]);
    check(&[assess("r1", &["X1 LAB - 300 T"])], Some(32_500), &["CHARGE r1 X1 32500 by r1"]);
    check(
        &[assess("r1", &["A1 A - 300 OTHER", "X1 LAB - 300 OTHER"])],
        Some(0),
        &["CHARGE r1 A1 0 by r1", "CHARGE r1 X1 0 by r1"],
    );
    check(&[assess("r1", &[])], Some(0), &[]);
}

#[test]
fn a_course_fee_goes_to_the_part_with_the_credits_once() {
    check(
        &[assess("r1", &["B1 LAB 1/2 0 T", "L1 LAB 1/1 400 T"])],
        Some(42_500),
        &["CHARGE r1 B1 0 by r1", "CHARGE r1 L1 42500 by r1"],
    );
    check(
        &[assess("r1", &["X2 LAB 1/1 100 T", "X1 LAB 1/1 100 T"])],
        Some(22_500),
        &["CHARGE r1 X2 10000 by r1", "CHARGE r1 X1 12500 by r1"],
    );
    // A change of the lab alone.
    check(&[assess("r1", &["B2 LAB 1/2 0 T"])], Some(0), &["CHARGE r1 B2 0 by r1"]);
    check(&[assess("r1", &["Z1 LAB - 0 T"])], Some(2_500), &["CHARGE r1 Z1 2500 by r1"]);
}

#[test]
fn a_section_is_charged_once_a_registration() {
    let charged = assess("r1", &["A1 A - 300 T"]);
    check(&[charged.clone(), charged], Some(0), &["CHARGE r1 A1 30000 by r1"]);
}

#[test]
fn a_void_gives_back_everything_once() {
    let expect = ["CHARGE r1 A1 30000 by r1", "VOID r1 A1 -30000 by r1"];
    check(&[assess("r1", &["A1 A - 300 T"]), void("r1")], None, &expect);
    check(&[assess("r1", &["A1 A - 300 T"]), void("r1"), void("r1")], None, &expect);
    check(&[assess("r1", &["A1 A - 300 OTHER"]), void("r1")], None, &["CHARGE r1 A1 0 by r1", "VOID r1 A1 0 by r1"]);
    check(&[void("r1")], None, &[]);
}

#[test]
fn a_refund_follows_the_ladder() {
    for (at, back) in [(0, -32_500), (9, -32_500), (10, -16_250), (19, -16_250), (20, 0), (99, 0)] {
        let line = format!("REFUND r1 X1 {back} by r2");
        let commands = [assess("r1", &["X1 LAB - 300 T"]), refund("r2", "s1", &[("X1", "r1")], at)];
        check(&commands, Some(back), &["CHARGE r1 X1 32500 by r1", &line]);
    }
}

/// The rates of a term go while charges of it are in force.
#[test]
fn the_last_ladder_holds_for_charges_of_a_term_without_rates() {
    for (at, back) in [(9, -30_000), (10, -15_000), (20, 0)] {
        let mut world = world();
        decide(&mut world, &assess("r1", &["A1 A - 300 T"]), NOW);
        let rates = world.prices.terms.remove(&id_term("T")).expect("the term has rates");
        world.prices.former_ladders.insert(id_term("T"), rates.ladder);
        decide(&mut world, &assess("r2", &["X1 LAB - 300 T"]), NOW);
        decide(&mut world, &refund("r3", "s1", &[("A1", "r1")], at), NOW);
        let back = format!("REFUND r1 A1 {back} by r3");
        assert_eq!(shown(&world.postings), ["CHARGE r1 A1 30000 by r1", "CHARGE r2 X1 0 by r2", &back]);
    }
}

#[test]
fn what_was_given_back_or_is_not_there_is_left_alone() {
    let charge = assess("r1", &["A1 A - 300 T"]);
    let drop = |by, of| refund("r2", by, &[("A1", of)], 0);
    check(
        &[charge.clone(), void("r1"), drop("s1", "r1")],
        Some(0),
        &["CHARGE r1 A1 30000 by r1", "VOID r1 A1 -30000 by r1"],
    );
    check(
        &[charge.clone(), drop("s1", "r1"), void("r1")],
        None,
        &["CHARGE r1 A1 30000 by r1", "REFUND r1 A1 -30000 by r2"],
    );
    check(&[charge.clone(), drop("s2", "r1")], Some(0), &["CHARGE r1 A1 30000 by r1"]);
    check(&[charge, drop("s1", "r9")], Some(0), &["CHARGE r1 A1 30000 by r1"]);
}

/// What student s1 owes after the commands, from a balance before them, and which of them were refused.
#[track_caller]
fn check_limit(before: i64, commands: &[Command], after: i64, refused: &[usize]) {
    let mut world = world();
    world.balances.insert(student("s1"), before);
    let mut seen = Vec::new();
    for (index, command) in commands.iter().enumerate() {
        let (postings, balances) = (world.postings.len(), world.balances.clone());
        if let Answer::Refused(reasons) = decide(&mut world, command, NOW) {
            assert_eq!(reasons[0].reason, Reason::BalanceLimitExceeded);
            assert_eq!((world.postings.len(), &world.balances), (postings, &balances), "a refusal changes nothing");
            seen.push(index);
        }
    }
    assert_eq!(seen, refused);
    assert_eq!(world.balances[&student("s1")], after);
    assert_eq!(after - before, world.postings.iter().map(|posting| posting.minor_units).sum::<i64>());
}

#[test]
fn nobody_is_charged_above_the_limit() {
    let a = || assess("r1", &["A1 A - 300 L5"]);
    let b = || assess("r2", &["B1 B - 300 L5"]);
    // Up to the limit itself; all or nothing; what is owed from before counts, and so does what was paid ahead.
    check_limit(20_000, &[a()], 50_000, &[]);
    check_limit(20_001, &[a()], 20_001, &[0]);
    check_limit(0, &[assess("r1", &["A1 A - 300 L5", "B1 B - 201 L5"])], 0, &[0]);
    check_limit(-10_000, &[a(), b()], 50_000, &[]);
    // Each counts for the next; what is given back makes room again.
    check_limit(0, &[a(), b()], 30_000, &[1]);
    check_limit(0, &[a(), b(), assess("r3", &["C1 C - 200 L5"])], 50_000, &[1]);
    check_limit(0, &[a(), void("r1"), b()], 30_000, &[]);
    check_limit(0, &[a(), refund("r9", "s1", &[("A1", "r1")], 0), b()], 30_000, &[]);
    check_limit(20_000, &[a(), refund("r9", "s1", &[("A1", "r1")], 15), b()], 35_000, &[2]);
    // The lowest limit of the terms holds, and a term without one does not ask.
    check_limit(0, &[assess("r1", &["A1 A - 300 L9", "B1 B - 300 L5"])], 0, &[0]);
    check_limit(0, &[assess("r1", &["A1 A - 300 L9", "B1 B - 300 T"])], 60_000, &[]);
    check_limit(80_000, &[assess("r1", &["A1 A - 300 T"])], 110_000, &[]);
    // What costs nothing is never refused.
    check_limit(80_000, &[assess("r1", &["A1 A - 0 L5"]), assess("r2", &[])], 80_000, &[]);
}

#[test]
fn rosters_are_charged_nothing_or_without_a_limit() {
    let adds = ["A1 LAB - 300 L5", "B1 B - 300 L5"];
    check_limit(80_000, &[take_over("r1", &adds, Basis::Waived)], 80_000, &[]);
    check_limit(80_000, &[take_over("r1", &adds, Basis::RatesWithoutLimit)], 142_500, &[]);
    check_limit(80_000, &[assess("r1", &adds)], 80_000, &[0]);
    // What was waived is given back as zero, and what was charged by the ladder.
    let refunded = |basis| [take_over("r1", &["A1 A - 300 T"], basis), refund("r9", "s1", &[("A1", "r1")], 15)];
    check_limit(0, &refunded(Basis::Waived), 0, &[]);
    check_limit(0, &refunded(Basis::RatesWithoutLimit), 15_000, &[]);

    let mut world = world();
    decide(&mut world, &take_over("r1", &adds, Basis::Waived), NOW);
    let posted: Vec<_> = world.postings.iter().map(|it| (it.section.as_str(), it.kind, it.minor_units)).collect();
    let zeros = [("A1", PostingKind::Charge, 0), ("B1", PostingKind::Charge, 0)];
    assert_eq!(posted, zeros, "the zero shows that each section was assessed");
}

#[test]
fn a_refusal_names_charge_balance_and_limit() {
    let mut world = world();
    world.balances.insert(student("s1"), 20_001);
    let answer = decide(&mut world, &assess("r1", &["A1 A - 300 L5"]), NOW);
    let expect = Refusal::whole(
        Reason::BalanceLimitExceeded,
        "This registration costs USD 300.00. Your balance is USD 200.01, and term L5 allows no more than USD 500.00.",
        "Pay your balance down and register again.",
    );
    assert_eq!(answer, Answer::Refused(vec![expect]));
}

fn any_command() -> impl Strategy<Value = Command> {
    let registration = 0..4_u8;
    let sections = proptest::collection::btree_map(0..5_u8, (0..=10_000_i32, any::<bool>()), 0..4);
    let assessed = (registration.clone(), sections).prop_map(|(registration, sections)| {
        let adds: Vec<String> = sections
            .into_iter()
            .map(|(section, (credits, lab))| {
                format!("S{section} {} - {credits} {}", if lab { "LAB" } else { "C" }, if lab { "T" } else { "OTHER" })
            })
            .collect();
        assess(&format!("r{registration}"), &adds.iter().map(String::as_str).collect::<Vec<_>>())
    });
    let voided = registration.clone().prop_map(|registration| void(&format!("r{registration}")));
    let refunded = (0..5_u8, registration, 0..30_i64).prop_map(|(section, registration, at)| {
        refund("r9", "s1", &[(&format!("S{section}"), &format!("r{registration}"))], at)
    });
    prop_oneof![assessed, voided, refunded]
}

proptest! {
    #[test]
    fn no_series_gives_back_more_than_was_charged(commands in proptest::collection::vec(any_command(), 0..40)) {
        let mut world = world();
        for command in &commands {
            let before = world.postings.len();
            let answer = decide(&mut world, command, NOW);
            let Answer::Done(done) = answer else { panic!("refused without a limit") };
            if let Some(amount) = done.amount {
                let posted: i64 = world.postings[before..].iter().map(|posting| posting.minor_units).sum();
                prop_assert_eq!(amount.minor_units, posted);
            }
        }
        let mut lines: BTreeMap<(SagaId, SectionId), Vec<&Posting>> = BTreeMap::new();
        for posting in &world.postings {
            lines.entry((posting.registration.clone(), posting.section.clone())).or_default().push(posting);
        }
        for lines in lines.values() {
            prop_assert_eq!(lines[0].kind, PostingKind::Charge);
            prop_assert!(lines.len() <= 2, "given back twice");
            if let Some(back) = lines.get(1) {
                prop_assert!(back.minor_units <= 0 && -back.minor_units <= lines[0].minor_units);
                prop_assert!(back.kind != PostingKind::Void || -back.minor_units == lines[0].minor_units);
            }
        }
    }

    #[test]
    fn a_void_after_an_assessment_nets_to_zero(adds in proptest::collection::btree_map(0..9_u8, 0..=10_000_i32, 0..9)) {
        let adds: Vec<String> = adds.iter().map(|(section, credits)| format!("S{section} LAB - {credits} T")).collect();
        let mut world = world();
        decide(&mut world, &assess("r1", &adds.iter().map(String::as_str).collect::<Vec<_>>()), NOW);
        decide(&mut world, &void("r1"), NOW);
        prop_assert_eq!(world.postings.len(), adds.len() * 2);
        prop_assert_eq!(world.postings.iter().map(|posting| posting.minor_units).sum::<i64>(), 0);
    }
}
