//! What things cost: the rates of terms with their refund ladders, and the fees of courses.

use std::collections::HashMap;

use matricula_kit::id::{CourseId, TermId};
use matricula_kit::money::Currency;
use matricula_kit::time::UnixMs;

use super::price::{BalanceLimit, Charge, OutOfBounds, Percent, Price};
use super::{Add, GiveBack};

/// Most steps of a refund ladder: a step a day of a long term.
pub const LADDER_STEPS_MAX: usize = 200;

/// The rates of one term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TermRates {
    /// Price of a credit.
    pub per_credit: Price,
    /// What is given back of a charge, by the moment of the drop.
    pub ladder: RefundLadder,
    /// The most that a student may owe after a charge; `None`: no limit.
    pub balance_limit: Option<BalanceLimit>,
}

/// Steps in order of time; each holds before its moment, and after the last one nothing is given back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RefundLadder(Vec<(UnixMs, Percent)>);

/// Why steps are not a ladder: the step's index, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("step {index}: {problem}")]
pub struct BadStep {
    /// Which step.
    pub index: usize,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// An import: everything in it is set, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RateTable {
    /// The currency of its rates; `None` when it has none.
    pub currency: Option<Currency>,
    /// Terms, none twice; one without rates charges nothing from now on.
    pub terms: Vec<(TermId, Option<TermRates>)>,
    /// Courses, none twice; one without a fee has none from now on.
    pub course_fees: Vec<(CourseId, Option<Price>)>,
}

/// The prices that a batch needs.
#[derive(Debug, Clone, Default)]
pub struct Prices {
    /// The installation's currency.
    pub currency: Currency,
    /// Rates of the terms that have any.
    pub terms: HashMap<TermId, TermRates>,
    /// The last ladders of terms whose rates were removed. They hold for what these terms have charged before: a
    /// student who drops later gets back as much as if the rates were still there.
    pub former_ladders: HashMap<TermId, RefundLadder>,
    /// Fees of the courses that have one.
    pub course_fees: HashMap<CourseId, Price>,
}

impl RefundLadder {
    /// Takes steps that are ordered by their moment, none twice.
    pub fn try_new(steps: Vec<(UnixMs, Percent)>) -> Result<Self, BadStep> {
        if steps.len() > LADDER_STEPS_MAX {
            let problem = format!("at most {LADDER_STEPS_MAX} steps, got {}", steps.len());
            return Err(BadStep { index: LADDER_STEPS_MAX, problem });
        }
        match steps.windows(2).position(|pair| pair[0].0 >= pair[1].0) {
            Some(index) => {
                let problem = "must be later than the step before it".to_owned();
                Err(BadStep { index: index + 1, problem })
            }
            None => Ok(Self(steps)),
        }
    }

    /// What is given back of a course that is dropped at a moment.
    pub fn percent_at(&self, moment: UnixMs) -> Percent {
        self.0.iter().find(|(until, _)| moment < *until).map(|(_, percent)| *percent).unwrap_or_default()
    }

    /// As it is stored: moments and percentages.
    pub fn to_stored(&self) -> Vec<(i64, i32)> {
        self.0.iter().map(|(until, percent)| (until.0, percent.get())).collect()
    }

    /// From what was stored.
    pub fn from_stored(steps: Vec<(i64, i32)>) -> Result<Self, OutOfBounds> {
        let steps = steps.into_iter().map(|(until, percent)| Ok((UnixMs(until), Percent::try_new(percent)?)));
        Ok(Self(steps.collect::<Result<_, _>>()?))
    }
}

impl Prices {
    /// What an add costs. A term without rates costs nothing, course fees included.
    pub(super) fn charge(&self, add: &Add, with_course_fee: bool) -> Charge {
        let Some(rates) = self.terms.get(&add.term) else { return Charge::default() };
        let fee = self.course_fees.get(&add.course).copied().filter(|_| with_course_fee).unwrap_or_default();
        Charge::new(add.credits, rates.per_credit, fee)
    }

    /// The lowest balance limit of the terms of what is added, with its term.
    pub fn balance_limit<'a>(&self, adds: &'a [Add]) -> Option<(BalanceLimit, &'a TermId)> {
        adds.iter().filter_map(|add| Some((self.terms.get(&add.term)?.balance_limit?, &add.term))).min()
    }

    /// The ladder by which a term gives back what it has charged.
    pub fn ladder(&self, term: &TermId) -> Option<&RefundLadder> {
        self.terms.get(term).map(|rates| &rates.ladder).or_else(|| self.former_ladders.get(term))
    }

    /// The part of a charge that is given back; nothing where the term has never had a ladder.
    pub(super) fn given_back(&self, charge: Charge, term: &TermId, how: GiveBack) -> Charge {
        match how {
            GiveBack::All => charge,
            GiveBack::ByLadder { dropped_at } => {
                let percent = self.ladder(term).map(|ladder| ladder.percent_at(dropped_at));
                charge.part(percent.unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ladder(steps: &[(i64, i32)]) -> Result<RefundLadder, BadStep> {
        let percent = |percent| Percent::try_new(percent).expect("a percentage");
        RefundLadder::try_new(steps.iter().map(|(until, part)| (UnixMs(*until), percent(*part))).collect())
    }

    #[track_caller]
    fn check(steps: &[(i64, i32)], moment: i64, expect: i32) {
        assert_eq!(ladder(steps).expect("a ladder").percent_at(UnixMs(moment)).get(), expect, "at {moment}");
    }

    #[test]
    fn a_step_holds_before_its_moment() {
        let steps = [(100, 100), (200, 50), (300, 25)];
        for (moment, expect) in [(-1, 100), (99, 100), (100, 50), (199, 50), (200, 25), (299, 25), (300, 0), (9_999, 0)]
        {
            check(&steps, moment, expect);
        }
        check(&[], 0, 0);
        check(&[(100, 0)], 5, 0);
    }

    #[test]
    fn steps_must_be_in_order() {
        let index = |steps: &[(i64, i32)]| ladder(steps).map_err(|bad| bad.index);
        assert_eq!(index(&[(100, 100), (100, 50)]), Err(1));
        assert_eq!(index(&[(100, 100), (200, 50), (150, 25)]), Err(2));
        let many: Vec<(i64, i32)> = (0..=LADDER_STEPS_MAX as i64).map(|until| (until, 1)).collect();
        assert_eq!(index(&many), Err(LADDER_STEPS_MAX));
    }
}
