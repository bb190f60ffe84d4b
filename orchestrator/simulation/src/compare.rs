//! Compares the core with the old owner: the same seeds, the same faults; what became of each client's saga?

use std::collections::BTreeMap;
use std::fmt::Write as _;

use matricula_engine::{Event, Outcome};

use crate::env::Env;
use crate::history::Simulation;
use crate::names::SectionNo;
use crate::witness::Witness;

/// What became of the saga of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    client: usize,
    saga: u16,
    student: u8,
    sections: Vec<SectionNo>,
    outcome: Outcome,
    phase: &'static str,
    /// How often each step was done and undone.
    effects: Vec<(u32, u32)>,
    /// The log: each event with its step and direction, in the order of the table of steps.
    log: Vec<(u8, String)>,
    is_by_hand: bool,
}

pub(crate) fn ends(env: &Env, witness: &Witness) -> Vec<Ended> {
    let definition = &env.shape.definition;
    let mut ends: Vec<Ended> = witness
        .sagas()
        .map(|(saga, seen)| {
            let request = env.request(saga);
            let place = |event: &Event| {
                let step = match event {
                    Event::Succeeded { step, .. } | Event::Refused { step, .. } | Event::Failed { step, .. } => step,
                    Event::CompensationReverted { step, .. } => step,
                    _ => return (0, event.name().to_owned()),
                };
                let index = definition.index(step).map_or(0, |index| index.0 + 1);
                let direction = match event {
                    Event::Succeeded { direction, .. } | Event::Failed { direction, .. } => direction.to_string(),
                    _ => String::new(),
                };
                (index, format!("{} {step} {direction}", event.name()))
            };
            let mut log: Vec<(u8, String)> = seen.log.iter().map(place).collect();
            log.sort();
            let effects = definition.indexed().map(|(index, _)| {
                let effects = witness.effects(saga, index);
                (effects.done, effects.undone)
            });
            Ended {
                client: saga.client().get(),
                saga: saga.0,
                student: request.student.0,
                sections: request.adds.iter().chain(&request.drops).copied().collect(),
                outcome: seen.state.outcome(),
                phase: seen.state.phase().as_str(),
                effects: effects.collect(),
                log,
                is_by_hand: seen.is_by_hand(),
            }
        })
        .collect();
    ends.sort_by_key(|ended| ended.client);
    ends
}

/// What a comparison has counted.
#[derive(Debug, Default)]
pub struct Compared {
    /// Histories.
    pub histories: u64,
    /// Histories in which all sagas have the same logs.
    pub same_logs: u64,
    /// Histories in which all sagas have the same outcomes and effects, and some log differs.
    pub same_ends: u64,
    /// Histories in which some saga ended otherwise.
    pub other_ends: u64,
    /// Sagas by what is the same, and why it is not.
    pub sagas: BTreeMap<String, u64>,
    /// The first seeds of each kind.
    pub seeds: BTreeMap<String, Vec<u64>>,
    /// Violations, of the one and the other.
    pub violations: Vec<String>,
}

/// Runs histories with both.
pub fn run(first_seed: u64, histories: u64, mut progress: impl FnMut(&Compared)) -> Compared {
    let (new, old) = (Simulation::compared(), Simulation::compared().with_old_owner());
    let mut compared = Compared::default();
    for seed in first_seed..first_seed + histories {
        let (one, other) = (new.run(seed), old.run(seed));
        for (name, report) in [("core", &one), ("old owner", &other)] {
            if let Some(violation) = &report.violation {
                compared.violations.push(format!("{name}, seed {seed}: {}: {}", violation.invariant, violation.what));
            }
        }
        compared.histories += 1;
        compared.one(seed, &one.ends, &other.ends);
        if compared.histories % 50_000 == 0 {
            progress(&compared);
        }
    }
    compared
}

impl Compared {
    fn one(&mut self, seed: u64, one: &[Ended], other: &[Ended]) {
        let clients = |ends: &[Ended]| ends.iter().map(|ended| ended.client).collect::<Vec<_>>();
        if clients(one) != clients(other) {
            self.note(seed, "saga: other sagas exist".to_owned());
            self.other_ends += 1;
            return;
        }
        let (mut same_logs, mut same_ends) = (true, true);
        let mut first_difference = None;
        for (a, b) in one.iter().zip(other) {
            let is_same_end = (a.outcome, a.phase, &a.effects) == (b.outcome, b.phase, &b.effects);
            same_logs &= a.log == b.log;
            same_ends &= is_same_end;
            let kind = if a == b {
                "saga: same log".to_owned()
            } else if is_same_end {
                "saga: same outcome and effects".to_owned()
            } else if a.outcome == b.outcome && a.phase == b.phase {
                "saga: same outcome, other effects on the way".to_owned()
            } else {
                let why = why(a, b, one, other);
                first_difference.get_or_insert(why);
                format!("saga: other outcome: {why}")
            };
            self.note(seed, kind);
        }
        if same_logs && same_ends {
            self.same_logs += 1;
        } else if same_ends {
            self.same_ends += 1;
        } else {
            self.other_ends += 1;
            let why = first_difference.unwrap_or("only the effects on the way differ");
            self.note(seed, format!("history: {why}"));
        }
    }

    fn note(&mut self, seed: u64, kind: String) {
        *self.sagas.entry(kind.clone()).or_default() += 1;
        let seeds = self.seeds.entry(kind).or_default();
        if seeds.len() < 10 && seeds.last() != Some(&seed) {
            seeds.push(seed);
        }
    }

    /// For people.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let part = |count: u64| 100.0 * count as f64 / self.histories.max(1) as f64;
        for (name, count) in [
            ("identical logs", self.same_logs),
            ("identical outcomes and effects", self.same_ends),
            ("other outcomes or effects", self.other_ends),
        ] {
            let _ = writeln!(text, "{name:>32} {count:>9} ({:.2} %)", part(count));
        }
        for (kind, count) in &self.sagas {
            let _ = writeln!(text, "{kind:>60} {count:>9}  {:?}", self.seeds[kind]);
        }
        let _ = writeln!(text, "{} violations", self.violations.len());
        for violation in self.violations.iter().take(20) {
            let _ = writeln!(text, "  {violation}");
        }
        text
    }
}

/// Why the outcomes of a saga differ, as far as its end and those of the others say.
fn why(a: &Ended, b: &Ended, one: &[Ended], other: &[Ended]) -> &'static str {
    let has = |outcome| a.outcome == outcome || b.outcome == outcome;
    let differs = |(x, y): &(&Ended, &Ended)| x.outcome != y.outcome || x.phase != y.phase;
    let others: Vec<(&Ended, &Ended)> =
        one.iter().zip(other).filter(|(x, _)| x.client != a.client).filter(differs).collect();
    let shares = |(x, _): &(&Ended, &Ended)| x.sections.iter().any(|section| a.sections.contains(section));
    if a.saga != b.saga {
        "another try of the client was admitted"
    } else if a.is_by_hand || b.is_by_hand {
        "an operator came at another moment"
    } else if has(Outcome::TimedOut) {
        "a deadline passed"
    } else if has(Outcome::Cancelled) {
        "a cancel came at another moment"
    } else if others.iter().any(|pair| pair.0.student == a.student) {
        "another saga of the student ended otherwise, too"
    } else if others.iter().any(shares) {
        "another saga got the last seat"
    } else if !a.sections.is_empty()
        && one.iter().any(|x| x.client != a.client && x.sections.iter().any(|s| a.sections.contains(s)))
    {
        "another saga wanted the same section"
    } else if has(Outcome::Refused) {
        "another attempt was refused, or at another moment"
    } else {
        "unexplained"
    }
}
