//! Distributes the demand very unevenly, as on real registration days: the top 1 % of the sections get 20 % of the
//! adds, and the top 10 % get 75 %. Demand is assigned as exact numbers instead of being drawn, so that small campuses
//! have the same shares.

use rand::{Rng, seq::SliceRandom as _};

use super::catalog::Unit;
use crate::model::Section;

/// For each stretch of sections: the share of the sections at its end, the share of the adds up to there, and the ratio
/// of the demand at its beginning to its average.
const STRETCHES: [(f64, f64, f64); 3] = [(0.01, 0.20, 1.2), (0.10, 0.75, 1.3), (1.0, 1.0, 1.4)];
/// The most wanted sections are always oversubscribed; chance selects the others, up to half of all sections.
const SURELY_OVERSUBSCRIBED_SHARE: f64 = 0.3;
const OVERSUBSCRIBED_SHARE: f64 = 0.5;
/// Demand in percent of the seats, for oversubscribed sections.
const OVERSUBSCRIBED_PERCENT: std::ops::RangeInclusive<u64> = 110..=200;
/// Seats in percent of the demand, for other sections.
const ROOMY_PERCENT: std::ops::RangeInclusive<u64> = 105..=180;
const ROOMY_SEATS_MORE: std::ops::RangeInclusive<u64> = 2..=10;

/// `picks` wishes in random order; each is the index of a unit.
pub(super) fn wishes(units: &[Unit], picks: usize, rng: &mut impl Rng) -> Vec<usize> {
    let sections: usize = units.iter().map(Unit::sections).sum();
    let mut order: Vec<usize> = (0..units.len()).collect();
    order.shuffle(rng);
    // On a small campus the top 1 % is a single section.
    if let Some(alone) = order.iter().position(|unit| units[*unit].labs.is_empty()) {
        order.swap(0, alone);
    }
    let mut before = 0;
    let weights = order.iter().map(|&unit| {
        let from = share_of_adds(before as f64 / sections as f64);
        before += units[unit].sections();
        let adds = share_of_adds(before as f64 / sections as f64) - from;
        // A wish for a lecture with its lab is two adds.
        if units[unit].labs.is_empty() { adds } else { adds / 2.0 }
    });
    let weights: Vec<f64> = weights.collect();
    let total: f64 = weights.iter().sum();

    let mut wishes = Vec::with_capacity(picks);
    let mut reached = 0.0;
    for (unit, weight) in order.into_iter().zip(weights) {
        reached += weight;
        let until = (reached / total * picks as f64).round() as usize;
        wishes.resize(until.clamp(wishes.len(), picks), unit);
    }
    let last = wishes.last().copied().unwrap_or(0);
    wishes.resize(picks, last);
    wishes.shuffle(rng);
    wishes
}

/// The share of all adds for the most wanted share `x` of the sections.
fn share_of_adds(x: f64) -> f64 {
    let (mut x_from, mut share_from) = (0.0, 0.0);
    for (x_to, share_to, steepness) in STRETCHES {
        if x <= x_to {
            let part = (x - x_from) / (x_to - x_from);
            // Demand falls linearly along the stretch.
            let bent = part * (steepness - (steepness - 1.0) * part);
            return share_from + (share_to - share_from) * bent;
        }
        (x_from, share_from) = (x_to, share_to);
    }
    1.0
}

/// Gives each section its seats, so that half of them are oversubscribed. `demand` is the number of students per
/// section.
pub(super) fn set_capacities(sections: &mut [Section], demand: &[u64], rng: &mut impl Rng) {
    // A section with one interested student can't have too few seats.
    let mut wanted: Vec<usize> = (0..sections.len()).filter(|section| demand[*section] > 1).collect();
    wanted.sort_by_key(|section| std::cmp::Reverse(demand[*section]));
    let share = |share: f64| ((sections.len() as f64 * share).round() as usize).min(wanted.len());
    let (surely, all) = (share(SURELY_OVERSUBSCRIBED_SHARE), share(OVERSUBSCRIBED_SHARE));
    wanted[surely..].shuffle(rng);
    let mut oversubscribed = vec![false; sections.len()];
    wanted[..all].iter().for_each(|section| oversubscribed[*section] = true);

    for (at, section) in sections.iter_mut().enumerate() {
        let demand = demand[at];
        let seats = if oversubscribed[at] {
            (demand * 100 / rng.random_range(OVERSUBSCRIBED_PERCENT)).clamp(1, demand - 1)
        } else {
            demand * rng.random_range(ROOMY_PERCENT) / 100 + rng.random_range(ROOMY_SEATS_MORE)
        };
        section.capacity = i32::try_from(seats).ok();
    }
}
