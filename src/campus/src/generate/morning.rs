//! The morning of each student: a first click after the opening, then further clicks with time to think. Some clicks
//! are repeated out of impatience, and some change earlier registrations.

use rand::{Rng, seq::IndexedRandom as _};

use super::{catalog::Catalog, demand, students::student_id};
use crate::{
    ids::{IdempotencyKey, SectionId},
    model::Registration,
};

/// The length of a measured morning.
const MORNING_MS: u64 = 16 * 60_000;
/// Requests of a student: one plus up to eight more, 5.2 on average.
const REQUESTS_MORE_MAX: u32 = 8;
const REQUEST_MORE_CHANCE: f64 = 0.525;
/// Applies to requests after the first, so that 4 % of all requests drop something; half of these are swaps.
const DROP_CHANCE: f64 = 0.05;
const SWAP_SHARE: f64 = 0.5;
/// 7 % of the rows are second clicks.
const DOUBLE_CLICK_CHANCE: f64 = 0.07 / 0.93;
const DOUBLE_CLICK_MS: std::ops::Range<u64> = 150..900;
/// First clicks: within the opening minute, within three minutes more, or later.
const OPENING_MS: u64 = 60_000;
const OPENING_SHARE: f64 = 0.5;
const OPENING_MEAN_MS: f64 = 20_000.0;
const SECOND_WAVE_MS: u64 = 180_000;
const SECOND_WAVE_SHARE: f64 = 0.35;
const SECOND_WAVE_MEAN_MS: f64 = 60_000.0;
const LAST_FIRST_CLICK_MS: u64 = 13 * 60_000;
/// Time between two requests: a minimum, and the mean above it.
const THINK_MIN_MS: u64 = 800;
const THINK_MEAN_MS: f64 = 20_000.0;
/// Draws to find a wish for a course that the student has not requested yet.
const DRAWS_MAX: usize = 24;
/// Draws in which a time conflict with an earlier wish is avoided: students check for conflicts, but not always.
const DRAWS_WITHOUT_CLASH: usize = 2;

pub(super) struct Morning {
    /// In order of arrival.
    pub registrations: Vec<Registration>,
    /// For each section, the number of students that request it.
    pub demand: Vec<u64>,
    /// For each student, the requested courses.
    pub courses: Vec<Vec<usize>>,
}

#[derive(Clone, Copy)]
enum Click {
    Add,
    Drop,
    Swap,
}

/// A row, with the key that orders rows of the same millisecond.
struct Arrival {
    at_ms: u64,
    student: usize,
    nth: usize,
    registration: Registration,
}

/// The requests of a student so far.
#[derive(Default)]
struct Wishes {
    /// The sections of each wish that was not dropped since.
    kept: Vec<Vec<usize>>,
    sections: Vec<usize>,
    courses: Vec<usize>,
}

/// All wishes of the campus; the first `next` are used.
struct Pool {
    units: Vec<usize>,
    next: usize,
}

impl Morning {
    pub(super) fn generate(students: usize, catalog: &Catalog, rng: &mut impl Rng) -> Self {
        let clicks: Vec<Vec<Click>> = (0..students).map(|_| plan(rng)).collect();
        let picks = clicks.iter().flatten().filter(|click| !matches!(click, Click::Drop)).count();
        let mut pool = Pool { units: demand::wishes(&catalog.units, picks, rng), next: 0 };
        let mut morning = Self {
            registrations: Vec::new(),
            demand: vec![0; catalog.sections.len()],
            courses: Vec::with_capacity(students),
        };
        let mut arrivals = Vec::new();
        for (student, clicks) in clicks.into_iter().enumerate() {
            let mut wishes = Wishes::default();
            let mut at_ms = first_click_ms(rng);
            for (nth, click) in clicks.into_iter().enumerate() {
                if nth > 0 {
                    at_ms = next_click_ms(at_ms, rng);
                }
                let registration = wishes.click(click, (student, nth, at_ms), catalog, &mut pool, rng);
                if rng.random_bool(DOUBLE_CLICK_CHANCE) {
                    let again_ms = (at_ms + rng.random_range(DOUBLE_CLICK_MS)).min(MORNING_MS - 1);
                    let registration = Registration { arrival_ms: again_ms, ..registration.clone() };
                    arrivals.push(Arrival { at_ms: again_ms, student, nth, registration });
                }
                arrivals.push(Arrival { at_ms, student, nth, registration });
            }
            wishes.sections.sort_unstable();
            wishes.sections.dedup();
            wishes.sections.iter().for_each(|section| morning.demand[*section] += 1);
            morning.courses.push(wishes.courses);
        }
        arrivals.sort_by_key(|arrival| (arrival.at_ms, arrival.student, arrival.nth));
        morning.registrations = arrivals.into_iter().map(|arrival| arrival.registration).collect();
        morning
    }
}

/// The actions of a student, before their courses are chosen.
fn plan(rng: &mut impl Rng) -> Vec<Click> {
    let more = (0..REQUESTS_MORE_MAX).filter(|_| rng.random_bool(REQUEST_MORE_CHANCE)).count();
    let mut clicks = vec![Click::Add];
    let mut held = 1;
    for _ in 0..more {
        let click = match rng.random_bool(DROP_CHANCE) && held > 0 {
            false => Click::Add,
            true if rng.random_bool(SWAP_SHARE) => Click::Swap,
            true => Click::Drop,
        };
        match click {
            Click::Add => held += 1,
            Click::Drop => held -= 1,
            Click::Swap => {}
        }
        clicks.push(click);
    }
    clicks
}

impl Wishes {
    fn click(
        &mut self,
        click: Click,
        (student, nth, arrival_ms): (usize, usize, u64),
        catalog: &Catalog,
        pool: &mut Pool,
        rng: &mut impl Rng,
    ) -> Registration {
        let mut drops = match click {
            Click::Add => Vec::new(),
            Click::Drop | Click::Swap => self.kept.swap_remove(rng.random_range(0..self.kept.len())),
        };
        let adds = match click {
            Click::Drop => Vec::new(),
            Click::Add | Click::Swap => self.wish(catalog, pool, rng),
        };
        // A swap for the same section makes no sense. The smallest catalogues offer nothing else; then it becomes an
        // add.
        if adds.iter().any(|section| drops.contains(section)) {
            drops.clear();
        }
        let ids = |sections: &[usize]| -> Vec<SectionId> {
            sections.iter().map(|section| catalog.sections[*section].id.clone()).collect()
        };
        let student_id = student_id(student);
        let key = IdempotencyKey::try_new(&format!("{student_id}-{}", nth + 1));
        let key = key.expect("a student id with a number is a key");
        Registration { arrival_ms, key, student_id, adds: ids(&adds), drops: ids(&drops) }
    }

    /// Takes a wish from the pool, if possible for a course that the student has not requested.
    fn wish(&mut self, catalog: &Catalog, pool: &mut Pool, rng: &mut impl Rng) -> Vec<usize> {
        let mut found = None;
        for draw in 0..DRAWS_MAX {
            let at = rng.random_range(pool.next..pool.units.len());
            let unit = pool.units[at];
            if self.courses.contains(&catalog.units[unit].course) {
                continue;
            }
            let sections = sections_of(unit, catalog, rng);
            let clashes = self.clashes(&sections, catalog);
            found = Some((at, unit, sections));
            if !clashes || draw >= DRAWS_WITHOUT_CLASH {
                break;
            }
        }
        let (at, unit, sections) = found.unwrap_or_else(|| {
            let unit = self.anything(catalog, rng);
            (pool.next, unit, sections_of(unit, catalog, rng))
        });
        pool.units.swap(pool.next, at);
        pool.next += 1;
        let course = catalog.units[unit].course;
        if !self.courses.contains(&course) {
            self.courses.push(course);
        }
        self.sections.extend(&sections);
        self.kept.push(sections.clone());
        sections
    }

    /// Chooses from the whole catalogue, because the pool of the last students has little variety. If the catalogue is
    /// too small, the student requests the same course again.
    fn anything(&self, catalog: &Catalog, rng: &mut impl Rng) -> usize {
        let mut unit = 0;
        for _ in 0..DRAWS_MAX {
            unit = rng.random_range(0..catalog.units.len());
            if !self.courses.contains(&catalog.units[unit].course) {
                break;
            }
        }
        unit
    }

    fn clashes(&self, sections: &[usize], catalog: &Catalog) -> bool {
        let meetings = |section: &usize| &catalog.meetings[*section];
        let kept: Vec<_> = self.kept.iter().flatten().map(meetings).collect();
        sections.iter().map(meetings).any(|new| kept.iter().any(|kept| kept.clashes(new).next().is_some()))
    }
}

/// The lecture and one of its labs.
fn sections_of(unit: usize, catalog: &Catalog, rng: &mut impl Rng) -> Vec<usize> {
    let unit = &catalog.units[unit];
    let lab = unit.labs.choose(rng);
    [unit.lecture].into_iter().chain(lab.copied()).collect()
}

fn first_click_ms(rng: &mut impl Rng) -> u64 {
    let wave: f64 = rng.random();
    if wave < OPENING_SHARE {
        exponential_below_ms(OPENING_MEAN_MS, OPENING_MS, rng)
    } else if wave < OPENING_SHARE + SECOND_WAVE_SHARE {
        OPENING_MS + exponential_below_ms(SECOND_WAVE_MEAN_MS, SECOND_WAVE_MS, rng)
    } else {
        rng.random_range(OPENING_MS..LAST_FIRST_CLICK_MS)
    }
}

/// A click after the end of the morning is moved to a random time before its end.
fn next_click_ms(last_ms: u64, rng: &mut impl Rng) -> u64 {
    let next_ms = last_ms + THINK_MIN_MS + exponential_ms(THINK_MEAN_MS, rng);
    if next_ms < MORNING_MS { next_ms } else { rng.random_range(last_ms..MORNING_MS) }
}

fn exponential_below_ms(mean_ms: f64, limit_ms: u64, rng: &mut impl Rng) -> u64 {
    loop {
        let drawn_ms = exponential_ms(mean_ms, rng);
        if drawn_ms < limit_ms {
            return drawn_ms;
        }
    }
}

fn exponential_ms(mean_ms: f64, rng: &mut impl Rng) -> u64 {
    let uniform: f64 = rng.random();
    (-mean_ms * (1.0 - uniform).ln()) as u64
}
