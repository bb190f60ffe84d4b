//! Amounts within bounds, and the two roundings. All are in the minor unit of the installation's one currency.
//!
//! Both roundings are half up: 0.5 of a minor unit counts as 1. A refund is rounded in the student's favour that way,
//! and still never exceeds the charge.

use std::fmt::Display;
use std::ops::RangeInclusive;

/// Highest price of a credit and highest fee of a course, in minor units: ten million of a currency with two decimals.
pub const PRICE_MAX: i64 = 1_000_000_000;
/// Most credits of one section, in hundredths: 100 credits are more than any degree's year.
pub const CREDITS_HUNDREDTHS_MAX: i32 = 10_000;
/// Highest balance limit, in minor units: more than any account comes to.
pub const BALANCE_LIMIT_MAX: i64 = 1_000_000_000_000;
/// Most that one posting can come to.
const CHARGE_MAX: i64 = PRICE_MAX * CREDITS_HUNDREDTHS_MAX as i64 / 100 + PRICE_MAX;

// No product below can overflow, nor can the sum of a batch (a thousand operations of twenty sections, with room to
// spare).
const _: () = assert!(PRICE_MAX.checked_mul(CREDITS_HUNDREDTHS_MAX as i64 + 50).is_some());
const _: () = assert!(CHARGE_MAX.checked_mul(1_000_000).is_some());

/// A value that the bounds forbid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OutOfBounds(String);

/// A price that is not negative and at most [`PRICE_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Price(i64);

/// Credits of a section, in hundredths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Credits(i32);

/// Part of a charge, 0 to 100 percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Percent(i32);

/// What a section was charged: not negative, and at most [`CHARGE_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Charge(i64);

/// The most that a student may owe: at least 1, since less would forbid every charge, and at most
/// [`BALANCE_LIMIT_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BalanceLimit(i64);

/// A number within its bounds; an error has the unit.
fn within<N: PartialOrd + Display>(bounds: RangeInclusive<N>, number: N, unit: &str) -> Result<N, OutOfBounds> {
    if bounds.contains(&number) {
        return Ok(number);
    }
    Err(OutOfBounds(format!("must be {} to {}{unit}, got {number}", bounds.start(), bounds.end())))
}

impl Price {
    /// Takes a price within its bounds.
    pub fn try_new(minor_units: i64) -> Result<Self, OutOfBounds> {
        within(0..=PRICE_MAX, minor_units, " minor units").map(Self)
    }

    /// In minor units.
    pub fn minor_units(self) -> i64 {
        self.0
    }
}

impl Credits {
    /// Takes credits within their bounds.
    pub fn try_new(hundredths: i32) -> Result<Self, OutOfBounds> {
        within(0..=CREDITS_HUNDREDTHS_MAX, hundredths, " hundredths of a credit").map(Self)
    }

    /// Whether there are none.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl Percent {
    /// Takes a percentage.
    pub fn try_new(percent: i32) -> Result<Self, OutOfBounds> {
        within(0..=100, percent, "").map(Self)
    }

    /// The number.
    pub fn get(self) -> i32 {
        self.0
    }
}

impl Charge {
    /// Credits at a price each, rounded half up, and the course's fee.
    pub fn new(credits: Credits, per_credit: Price, course_fee: Price) -> Self {
        Self((i64::from(credits.0) * per_credit.0 + 50) / 100 + course_fee.0)
    }

    /// A charge as it was posted.
    pub fn stored(minor_units: i64) -> Result<Self, OutOfBounds> {
        if (0..=CHARGE_MAX).contains(&minor_units) {
            return Ok(Self(minor_units));
        }
        Err(OutOfBounds(format!("a charge of {minor_units} minor units")))
    }

    /// In minor units.
    pub fn minor_units(self) -> i64 {
        self.0
    }

    /// A part of it, rounded half up; never more than all of it.
    pub fn part(self, percent: Percent) -> Self {
        Self((self.0 * i64::from(percent.0) + 50) / 100)
    }
}

impl BalanceLimit {
    /// Takes a limit within its bounds.
    pub fn try_new(minor_units: i64) -> Result<Self, OutOfBounds> {
        within(1..=BALANCE_LIMIT_MAX, minor_units, " minor units").map(Self)
    }

    /// In minor units.
    pub fn minor_units(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_charge(hundredths: i32, per_credit: i64, fee: i64, expect: i64) {
        let credits = Credits::try_new(hundredths).expect("credits within bounds");
        let price = |units| Price::try_new(units).expect("a price within bounds");
        assert_eq!(Charge::new(credits, price(per_credit), price(fee)).minor_units(), expect);
    }

    #[test]
    fn charges_round_half_up() {
        check_charge(300, 45_000, 0, 135_000);
        check_charge(300, 45_000, 2_500, 137_500);
        check_charge(0, 45_000, 2_500, 2_500);
        check_charge(0, 0, 0, 0);
        check_charge(150, 333, 0, 500); // 499.5
        check_charge(150, 331, 0, 497); // 496.5
        check_charge(133, 100, 0, 133);
        check_charge(133, 1, 0, 1); // 1.33
        check_charge(50, 1, 0, 1); // 0.5
        check_charge(49, 1, 0, 0); // 0.49
        check_charge(CREDITS_HUNDREDTHS_MAX, PRICE_MAX, PRICE_MAX, CHARGE_MAX);
    }

    #[track_caller]
    fn check_part(charge: i64, percent: i32, expect: i64) {
        let percent = Percent::try_new(percent).expect("a percentage");
        assert_eq!(Charge::stored(charge).expect("a charge").part(percent).minor_units(), expect);
    }

    #[test]
    fn parts_round_half_up() {
        check_part(10_000, 100, 10_000);
        check_part(10_000, 0, 0);
        check_part(1, 50, 1); // 0.5
        check_part(1, 49, 0);
        check_part(333, 50, 167); // 166.5
        check_part(999, 33, 330); // 329.67
        check_part(CHARGE_MAX, 100, CHARGE_MAX);
    }

    #[test]
    fn bounds_hold() {
        assert!(Price::try_new(-1).is_err() && Price::try_new(PRICE_MAX + 1).is_err() && Price::try_new(0).is_ok());
        assert!(Credits::try_new(-1).is_err() && Credits::try_new(CREDITS_HUNDREDTHS_MAX + 1).is_err());
        assert!(Percent::try_new(-1).is_err() && Percent::try_new(101).is_err() && Percent::try_new(100).is_ok());
        assert!(Charge::stored(-1).is_err() && Charge::stored(CHARGE_MAX + 1).is_err());
        assert!(BalanceLimit::try_new(0).is_err() && BalanceLimit::try_new(BALANCE_LIMIT_MAX + 1).is_err());
    }
}
