//! The rules of fees, pure: what a registration is charged, and what is given back of it.
//!
//! - Each added section is charged its credits at the term's rate, and its course's fee once a registration. The fee
//!   goes to the part that carries the course's credits, or to the only part of a course; so a student who changes the
//!   lab of a course alone pays no second fee. Of several such parts the first by section id has it. A course of
//!   several parts without any credits has no part that could carry a fee.
//! - A term without rates charges zero, and the zero is posted: it shows that the section was assessed. A term whose
//!   rates were removed charges zero, too; what it has charged before is given back by its last refund ladder.
//! - A roster that is taken over is charged zero in the same way, or by the rates and without a limit.
//! - A registration that costs something is refused as a whole when the student would then owe more than the lowest
//!   balance limit of its terms. What it drops is refunded later, and makes no room yet.
//! - A void gives back all of what the registration was charged. A refund gives back a part of what the dropped section
//!   was charged, fee included, by the refund ladder of the charge's term; zero percent is posted too. A charge that
//!   was given back before is left alone, whichever way it was.

pub mod price;
pub mod rates;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

use matricula_kit::answer::{Answer, Done, DroppedCourse, Reason, Refusal};
use matricula_kit::id::{CourseId, SagaId, SectionId, StudentId, TermId};
use matricula_kit::named::NamedValue;
use matricula_kit::time::UnixMs;

use price::{Charge, Credits};
use rates::Prices;

/// The command of an operation.
#[derive(Debug, Clone)]
pub enum Command {
    /// Charge what a registration adds.
    Assess {
        /// The registration.
        registration: SagaId,
        /// The student who pays.
        student: StudentId,
        /// What it adds, no section twice.
        adds: Vec<Add>,
        /// By what it is charged.
        basis: Basis,
    },
    /// Give back all that a registration was charged.
    Void {
        /// The registration.
        registration: SagaId,
    },
    /// Give back a part of what dropped sections were charged.
    Refund {
        /// The registration that drops.
        registration: SagaId,
        /// The student who drops.
        student: StudentId,
        /// What it drops, no section twice.
        drops: Vec<DroppedCourse>,
        /// When the student submitted the drop.
        effective_at: UnixMs,
    },
}

/// By what a registration is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The rates of the terms, up to their balance limits: a student registers.
    Rates,
    /// The rates of the terms, whatever the student owes then: a roster is taken over, and is to be charged.
    RatesWithoutLimit,
    /// Nothing, and the zero is posted: a roster is taken over.
    Waived,
}

/// A section to be charged.
#[derive(Debug, Clone)]
pub struct Add {
    /// The section.
    pub section: SectionId,
    /// Its course.
    pub course: CourseId,
    /// Its term.
    pub term: TermId,
    /// The credits that it carries.
    pub credits: Credits,
    /// Whether the course has no other part.
    pub is_only_part: bool,
}

/// Kind of a posting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PostingKind {
    /// Added to the balance.
    Charge,
    /// All of a charge taken back.
    Void,
    /// A part of a charge given back.
    Refund,
}

/// How much of a charge is given back.
#[derive(Debug, Clone, Copy)]
enum GiveBack {
    All,
    ByLadder { dropped_at: UnixMs },
}

/// One line of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// Whose account.
    pub student: StudentId,
    /// The registration that was charged.
    pub registration: SagaId,
    /// The section that was charged.
    pub section: SectionId,
    /// What it is.
    pub kind: PostingKind,
    /// The term of the section.
    pub term: TermId,
    /// Positive for a charge, negative for what is given back.
    pub minor_units: i64,
    /// The registration that caused it.
    pub caused_by: SagaId,
    /// When.
    pub posted_at: UnixMs,
}

/// A charge on record.
#[derive(Debug, Clone)]
pub struct Charged {
    /// The student who was charged.
    pub student: StudentId,
    /// The term whose ladder holds.
    pub term: TermId,
    /// How much.
    pub amount: Charge,
    /// Whether it was voided or refunded.
    pub given_back: bool,
}

/// What registrations were charged, by section.
pub type Charges = HashMap<SagaId, BTreeMap<SectionId, Charged>>;

/// What a batch has loaded, and what its operations post.
#[derive(Debug, Default)]
pub struct World {
    /// Prices of what is charged, and ladders of what may be refunded.
    pub prices: Prices,
    /// What registrations were charged.
    pub charges: Charges,
    /// Balances of the students concerned, as the operations change them. Loaded only when a term of what is assessed
    /// has a balance limit; a student who is missing has no balance.
    pub balances: HashMap<StudentId, i64>,
    /// New postings, in order.
    pub postings: Vec<Posting>,
}

/// Decides one operation. Only an assessment can be refused, and only for the balance limit.
pub fn decide(world: &mut World, command: &Command, now: UnixMs) -> Answer {
    match command {
        Command::Assess { registration, student, adds, basis } => {
            assess(world, registration, student, adds, *basis, now)
        }
        Command::Void { registration } => {
            let charged = world.charges.get(registration);
            let sections: Vec<SectionId> = charged.into_iter().flat_map(BTreeMap::keys).cloned().collect();
            for section in &sections {
                world.give_back(registration, section, GiveBack::All, registration, now);
            }
            Answer::done()
        }
        Command::Refund { registration, student, drops, effective_at } => {
            let how = GiveBack::ByLadder { dropped_at: *effective_at };
            let mut sum = 0;
            for drop in drops {
                if world.is_charged_to(student, &drop.registration, &drop.section) {
                    sum += world.give_back(&drop.registration, &drop.section, how, registration, now);
                }
            }
            world.done(sum)
        }
    }
}

fn assess(
    world: &mut World,
    registration: &SagaId,
    student: &StudentId,
    adds: &[Add],
    basis: Basis,
    now: UnixMs,
) -> Answer {
    let with_fee = sections_with_course_fee(adds);
    // The barrier keeps a step from being done twice; this keeps a section from being charged by two steps.
    let before = world.charges.get(registration);
    let open = adds.iter().filter(|add| before.is_none_or(|sections| !sections.contains_key(&add.section)));
    let amount = |add: &Add| match basis {
        Basis::Waived => Charge::default(),
        Basis::Rates | Basis::RatesWithoutLimit => world.prices.charge(add, with_fee.contains(&add.section)),
    };
    let amounts: Vec<(&Add, Charge)> = open.map(|add| (add, amount(add))).collect();
    let sum = amounts.iter().map(|(_, amount)| amount.minor_units()).sum();
    if basis == Basis::Rates
        && let Some(refusal) = world.above_limit(student, adds, sum)
    {
        return Answer::Refused(vec![refusal]);
    }
    for (add, amount) in amounts {
        world.post(Posting {
            student: student.clone(),
            registration: registration.clone(),
            section: add.section.clone(),
            kind: PostingKind::Charge,
            term: add.term.clone(),
            minor_units: amount.minor_units(),
            caused_by: registration.clone(),
            posted_at: now,
        });
        let charged = Charged { student: student.clone(), term: add.term.clone(), amount, given_back: false };
        world.charges.entry(registration.clone()).or_default().insert(add.section.clone(), charged);
    }
    world.done(sum)
}

/// The sections that carry their course's fee: one a course.
fn sections_with_course_fee(adds: &[Add]) -> HashSet<SectionId> {
    let mut first: BTreeMap<&CourseId, &SectionId> = BTreeMap::new();
    for add in adds.iter().filter(|add| add.is_only_part || !add.credits.is_zero()) {
        let section = first.entry(&add.course).or_insert(&add.section);
        *section = (*section).min(&add.section);
    }
    first.into_values().cloned().collect()
}

impl GiveBack {
    fn kind(self) -> PostingKind {
        match self {
            Self::All => PostingKind::Void,
            Self::ByLadder { .. } => PostingKind::Refund,
        }
    }
}

impl NamedValue for PostingKind {
    const NAMES: &'static [(Self, &'static str)] =
        &[(Self::Charge, "CHARGE"), (Self::Void, "VOID"), (Self::Refund, "REFUND")];
}

impl World {
    fn is_charged_to(&self, student: &StudentId, registration: &SagaId, section: &SectionId) -> bool {
        let charged = self.charges.get(registration).and_then(|sections| sections.get(section));
        charged.is_some_and(|charged| charged.student == *student)
    }

    /// Posts what is given back of a charge, unless that was done before. Returns what was posted: zero or negative.
    fn give_back(
        &mut self,
        registration: &SagaId,
        section: &SectionId,
        how: GiveBack,
        caused_by: &SagaId,
        now: UnixMs,
    ) -> i64 {
        let charged = self.charges.get_mut(registration).and_then(|sections| sections.get_mut(section));
        let Some(charged) = charged.filter(|charged| !charged.given_back) else { return 0 };
        charged.given_back = true;
        let minor_units = -self.prices.given_back(charged.amount, &charged.term, how).minor_units();
        let posting = Posting {
            student: charged.student.clone(),
            registration: registration.clone(),
            section: section.clone(),
            kind: how.kind(),
            term: charged.term.clone(),
            minor_units,
            caused_by: caused_by.clone(),
            posted_at: now,
        };
        self.post(posting);
        minor_units
    }

    fn post(&mut self, posting: Posting) {
        if let Some(balance) = self.balances.get_mut(&posting.student) {
            *balance += posting.minor_units;
        }
        self.postings.push(posting);
    }

    /// Why a student can't be charged this sum for what is added.
    fn above_limit(&self, student: &StudentId, adds: &[Add], sum: i64) -> Option<Refusal> {
        let (limit, term) = self.prices.balance_limit(adds)?;
        let balance = self.balances.get(student).copied().unwrap_or_default();
        if sum == 0 || balance + sum <= limit.minor_units() {
            return None;
        }
        let amount = |minor_units| self.prices.currency.amount(minor_units);
        let message = format!(
            "This registration costs {}. Your balance is {}, and term {term} allows no more than {}.",
            amount(sum),
            amount(balance),
            amount(limit.minor_units())
        );
        Some(Refusal::whole(Reason::BalanceLimitExceeded, message, "Pay your balance down and register again."))
    }

    fn done(&self, minor_units: i64) -> Answer {
        Answer::Done(Done { amount: Some(self.prices.currency.amount(minor_units)), ..Done::default() })
    }
}
