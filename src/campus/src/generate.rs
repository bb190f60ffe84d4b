//! Generates a campus and its registration morning, calibrated to real ones. The seed fixes the result: the same
//! [`Spec`] gives the same bundle on every machine.
//!
//! ```text
//! catalog: courses, sections, and which sections are taken together
//!    └─ demand: how many students want each section, and how many seats it gets
//!          └─ morning: which students want it, when they click, and what they change later
//!                └─ students: completed courses that meet the prerequisites, and holds
//! ```

mod catalog;
mod demand;
mod morning;
mod students;

use iso_currency::Currency;
use jiff::{Timestamp, civil::date, tz::TimeZone};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::{
    ids::{Invalid, TermId},
    model::{Bundle, Rates, RefundStep, Term, TermKind},
};

/// More than the largest university has; the ids have a fixed width.
pub const STUDENTS_MAX: u32 = 999_999;
/// More than any catalogue has.
pub const SECTIONS_MAX: u32 = 100_000;

/// 18 credits.
const TERM_MAX_CREDITS_HUNDREDTHS: i32 = 1_800;
/// USD 450.
const PER_CREDIT_MINOR: i64 = 45_000;
/// The year of the term. It is far in the future, because registration for a past term is refused.
const YEAR: i16 = 2099;
/// The first step of the refund ladder ends with August; the others follow a week apart.
const REFUND_PERCENTS: [u8; 4] = [100, 75, 50, 25];

/// The parameters of a campus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    students: u32,
    sections: u32,
    seed: u64,
}

/// Why a campus of this size is not generated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Zero, or more than the ids allow.
    #[error("{0} students: use 1 to {STUDENTS_MAX}")]
    Students(u32),
    /// Zero, or more than the catalogue allows.
    #[error("{0} sections: use 1 to {SECTIONS_MAX}")]
    Sections(u32),
}

impl Spec {
    /// A campus with exactly this many students and sections. The proportions of real mornings need at least 200
    /// sections and at least three students per section. On a smaller campus the top 1 % of the sections would need
    /// more students than exist; with fewer students, many sections would have no demand.
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

/// Generates the campus.
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

/// A fall term in the far future, without deadlines.
fn fall_term() -> Result<Term, Invalid> {
    let first_step = date(YEAR, 9, 1);
    let steps = REFUND_PERCENTS.iter().zip(0i64..);
    let refund_ladder = steps.filter_map(|(&percent, week)| {
        let day = first_step.checked_add(jiff::Span::new().try_weeks(week).ok()?).ok()?;
        let until: Timestamp = day.to_zoned(TimeZone::UTC).ok()?.timestamp();
        Some(RefundStep { until, percent })
    });
    let rates = Rates {
        currency: Currency::USD,
        per_credit_minor: PER_CREDIT_MINOR,
        refund_ladder: refund_ladder.collect(),
        balance_limit_minor: None,
    };
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
        rates: Some(rates),
        closed: false,
    })
}
