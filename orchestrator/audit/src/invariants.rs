//! The invariants, one a file.

mod all_or_nothing;
mod each_notified_once;
mod first_come_first_served;
mod no_seat_without_right;
mod nobody_twice;
mod nothing_forgotten;
mod nothing_left_behind;
mod one_truth;

use crate::report::Verdict;
use crate::world::World;

/// How to prove each, in order of their numbers.
pub const ALL: [fn(&World<'_>) -> Verdict; 8] = [
    no_seat_without_right::prove,
    one_truth::prove,
    all_or_nothing::prove,
    nobody_twice::prove,
    nothing_left_behind::prove,
    each_notified_once::prove,
    nothing_forgotten::prove,
    first_come_first_served::prove,
];
