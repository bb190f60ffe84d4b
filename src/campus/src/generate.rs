//! A made-up campus and its registration morning, calibrated to real ones and fixed by the seed: the same [`Spec`]
//! gives the same bundle on every machine.
//!
//! ```text
//! catalog: courses, sections, what is taken together
//!    └─ demand: how many want what, and how many seats that leaves them
//!          └─ morning: who wants it, when they click, what they change their mind about
//!                └─ students: what they completed to be allowed to, who has a hold
//! ```

mod catalog;
mod demand;
mod morning;
mod students;

use jiff::{Timestamp, civil::date, tz::TimeZone};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::{
    ids::{Invalid, TermId},
    model::{Bundle, Currency, Money, Rates, RefundStep, Term, TermKind},
};

/// The largest university has fewer, and their ids keep their width.
pub const STUDENTS_MAX: u32 = 999_999;
/// No term has a larger catalogue.
pub const SECTIONS_MAX: u32 = 100_000;

/// 18 credits.
const TERM_MAX_CREDITS_HUNDREDTHS: i32 = 1_800;
/// USD 450.
const PER_CREDIT_MINOR: i64 = 45_000;
/// The year of the term. It is far, so that no generated campus expires: nobody registers for a term that has ended.
const YEAR: i16 = 2099;
/// The first step of the refund ladder ends with August, the others a week apart.
const REFUND_PERCENTS: [u8; 4] = [100, 75, 50, 25];

/// What is to be generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    students: u32,
    sections: u32,
    seed: u64,
}

/// A campus of this size is not generated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// None, or more than the ids can name.
    #[error("{0} students: use 1 to {STUDENTS_MAX}")]
    Students(u32),
    /// None, or more than a catalogue holds.
    #[error("{0} sections: use 1 to {SECTIONS_MAX}")]
    Sections(u32),
}

impl Spec {
    /// Exactly so many students and sections. The proportions of real mornings need 200 sections or more (on a smaller
    /// campus the top 1 % would be wanted by more students than there are) and three students a section or more (with
    /// fewer, many sections are wanted by nobody).
    pub fn try_new(students: u32, sections: u32, seed: u64) -> Result<Self, SpecError> {
        if !(1..=STUDENTS_MAX).contains(&students) {
            return Err(SpecError::Students(students));
        }
        if !(1..=SECTIONS_MAX).contains(&sections) {
            return Err(SpecError::Sections(sections));
        }
        Ok(Self { students, sections, seed })
    }
}

/// Makes the campus.
pub fn generate(spec: Spec) -> Bundle {
    let mut rng = ChaCha8Rng::seed_from_u64(spec.seed);
    let term = fall_term().expect("the term is made of constants, and every test makes it");
    let mut catalog = catalog::Catalog::generate(spec.sections as usize, &term.id, &mut rng);
    let morning = morning::Morning::generate(spec.students as usize, &catalog, &mut rng);
    demand::set_capacities(&mut catalog.sections, &morning.demand, &mut rng);
    let students = students::generate(&catalog, &morning, &mut rng);
    Bundle {
        terms: vec![term],
        courses: catalog.courses,
        sections: catalog.sections,
        students,
        registrations: morning.registrations,
        ..Bundle::default()
    }
}

/// A fall of a far year, without deadlines.
fn fall_term() -> Result<Term, Invalid> {
    let first_step = date(YEAR, 9, 1);
    let steps = REFUND_PERCENTS.iter().zip(0i64..);
    let refund_ladder = steps.filter_map(|(&percent, week)| {
        let day = first_step.checked_add(jiff::Span::new().try_weeks(week).ok()?).ok()?;
        let until: Timestamp = day.to_zoned(TimeZone::UTC).ok()?.timestamp();
        Some(RefundStep { until, percent })
    });
    let per_credit = Money { currency: Currency::try_new("USD")?, minor_units: PER_CREDIT_MINOR };
    Ok(Term {
        id: TermId::try_new(&format!("{YEAR}-fall"))?,
        title: format!("Fall {YEAR}"),
        kind: TermKind::Term,
        parent: None,
        starts_on: date(YEAR, 8, 24),
        ends_on: date(YEAR, 12, 19),
        time_zone: None,
        add_deadline: None,
        drop_deadline: None,
        max_credits_hundredths: Some(TERM_MAX_CREDITS_HUNDREDTHS),
        rates: Some(Rates { per_credit, refund_ladder: refund_ladder.collect(), balance_limit_minor: None }),
        closed: false,
    })
}
