//! Parsers of values that several files share: timestamps, dates, credits, amounts.

use std::{ops::RangeInclusive, str::FromStr};

use iso_currency::Currency;
use jiff::{Timestamp, civil::Date};

use crate::ids::Invalid;

// The limits below are those of the services, so that they accept everything that was read.
/// A hundred credits: more than any student takes.
const CREDITS_HUNDREDTHS_MAX: i32 = 10_000;
/// Ten million in a currency with two decimals: more than any price, and small enough that products with credits do not
/// overflow.
const MINOR_UNITS_MAX: i64 = 1_000_000_000;
/// A thousand times that: more than any balance.
const BALANCE_LIMIT_MAX: i64 = 1_000_000_000_000;
/// The years of terms, roles and rosters.
const YEARS: RangeInclusive<i16> = 1900..=9998;
/// The year that means "no end".
const ENDLESS_YEAR: i16 = 9999;

pub(super) fn parse_timestamp(text: &str) -> Result<Timestamp, Invalid> {
    Timestamp::from_str(text)
        .map_err(|_| Invalid::new("not a moment; write it with its time zone, as in `2026-09-01T08:00:00Z`"))
}

/// Parses up to two decimals, as hundredths.
pub(super) fn parse_credits(text: &str) -> Result<i32, Invalid> {
    let invalid = || Invalid::new("not a number of credits; use 0 to 100 with at most two decimals, such as 1.5");
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.is_empty() || decimals.trim_end_matches('0').len() > 2 {
        return Err(invalid());
    }
    let decimals = decimals.get(..2).map_or_else(|| format!("{decimals}0"), str::to_owned);
    let hundredths = format!("{whole}{decimals}").parse::<i32>().map_err(|_| invalid())?;
    if whole.is_empty() || hundredths > CREDITS_HUNDREDTHS_MAX { Err(invalid()) } else { Ok(hundredths) }
}

/// Parses a credit limit. 0 is rejected, because on the wire it means no limit.
pub(super) fn parse_credit_limit(text: &str) -> Result<i32, Invalid> {
    match parse_credits(text)? {
        0 => Err(Invalid::new("0 credits would forbid every registration; leave it empty for no limit, or use a hold")),
        hundredths => Ok(hundredths),
    }
}

pub(super) fn parse_currency(text: &str) -> Result<Currency, Invalid> {
    let payable = Currency::from_code(text).filter(|known| known.exponent().is_some());
    payable.ok_or(Invalid::new("not a currency; use the three letters of ISO 4217, such as USD"))
}

pub(super) fn parse_minor_units(text: &str) -> Result<i64, Invalid> {
    parse_amount(text, MINOR_UNITS_MAX)
}

fn parse_amount(text: &str, max: i64) -> Result<i64, Invalid> {
    match text.parse() {
        Ok(minor) if (0..=max).contains(&minor) => Ok(minor),
        _ => Err(Invalid::new(format!(
            "not an amount; use a whole number of minor units up to {max}, such as 45000 for USD 450.00"
        ))),
    }
}

pub(super) fn parse_bool(text: &str) -> Result<bool, Invalid> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Invalid::new("not a boolean; use true or false")),
    }
}

pub(super) fn parse_balance_limit(text: &str) -> Result<i64, Invalid> {
    match parse_amount(text, BALANCE_LIMIT_MAX)? {
        0 => Err(Invalid::new("0 would forbid every charge; leave it empty for no limit")),
        minor => Ok(minor),
    }
}

/// Parses a day. The limits on years keep its timestamps in range, in every time zone.
pub(super) fn parse_date(text: &str) -> Result<Date, Invalid> {
    let date = Date::from_str(text).map_err(|_| Invalid::new("not a date; write it as in `2026-08-24`"))?;
    if YEARS.contains(&date.year()) {
        return Ok(date);
    }
    let (first, last) = (YEARS.start(), YEARS.end());
    Err(Invalid::new(format!("not in the years {first} to {last}; correct the date")))
}

/// Parses an optional end: systems that require a date write a date in the year 9999.
pub(super) fn parse_end(text: &str) -> Result<Option<Date>, Invalid> {
    let is_endless = Date::from_str(text).is_ok_and(|date| date.year() == ENDLESS_YEAR);
    if is_endless { Ok(None) } else { parse_date(text).map(Some) }
}
