//! Money: amounts in one currency, as domains, the wire and people have them.
//!
//! The table of currencies is that of ISO 4217: it says how many digits the minor unit of a currency has.

use std::fmt;

use matricula_proto::common::v1 as wire;
use serde::{Deserialize, Serialize};

use crate::rpc::FieldError;

/// Digits of the minor unit where ISO 4217 does not know the currency: an earlier version has stored such codes.
const MINOR_DIGITS_DEFAULT: u32 = 2;

/// A currency that ISO 4217 does not have, or in which nobody can pay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a currency of ISO 4217 with a minor unit, such as USD or JPY, got {0:?}")]
pub struct UnknownCurrency(String);

/// The code of a currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Currency(String);

/// An amount in the currency's minor unit. Answers store it, so its fields are never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// ISO 4217.
    pub currency: Currency,
    /// 12345 is 123.45 in a currency with two decimals.
    pub minor_units: i64,
}

impl Currency {
    /// Takes a code that ISO 4217 has.
    pub fn try_new(code: String) -> Result<Self, UnknownCurrency> {
        minor_digits(&code)?;
        Ok(Self(code))
    }

    /// Takes a code as it was stored: earlier versions took every three capital letters.
    pub fn stored(code: String) -> Self {
        Self(code)
    }

    /// An amount in this currency.
    pub fn amount(&self, minor_units: i64) -> Money {
        Money { currency: self.clone(), minor_units }
    }
}

impl Default for Currency {
    /// What zeros are counted in before any rate was imported.
    fn default() -> Self {
        Self("USD".to_owned())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Money {
    /// Takes an amount from a caller, whose currency may be any that was ever stored.
    pub fn checked(money: wire::Money) -> Result<Self, FieldError> {
        if money.currency.len() == 3 && money.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Ok(money.into());
        }
        Err(FieldError::new("currency", "must be an ISO 4217 code of three capital letters"))
    }

    /// The same amount the other way.
    pub fn negated(&self) -> Self {
        self.currency.amount(self.minor_units.saturating_neg())
    }
}

impl From<Money> for wire::Money {
    fn from(money: Money) -> Self {
        Self { currency: money.currency.0, minor_units: money.minor_units }
    }
}

impl From<wire::Money> for Money {
    fn from(money: wire::Money) -> Self {
        Self { currency: Currency(money.currency), minor_units: money.minor_units }
    }
}

/// How many digits the minor unit of a currency has: 2 for `USD`, 0 for `JPY`. An error for codes that ISO 4217 does
/// not have, and for those without a minor unit, such as gold.
pub fn minor_digits(currency: &str) -> Result<u32, UnknownCurrency> {
    let known = iso_currency::Currency::from_code(currency);
    let digits = known.and_then(iso_currency::Currency::exponent);
    digits.map(u32::from).ok_or_else(|| UnknownCurrency(currency.to_owned()))
}

/// An amount for people: `USD 1,234.50`, `JPY 45,000`, `KWD 1.234`, `USD -3.00`.
pub fn shown(currency: &str, minor_units: i64) -> String {
    let digits = minor_digits(currency).unwrap_or(MINOR_DIGITS_DEFAULT);
    let (units, unit) = (minor_units.unsigned_abs(), 10_u64.pow(digits));
    let sign = if minor_units < 0 { "-" } else { "" };
    let whole = grouped(units / unit);
    match digits {
        0 => format!("{currency} {sign}{whole}"),
        _ => format!("{currency} {sign}{whole}.{:0width$}", units % unit, width = digits as usize),
    }
}

/// A number with its thousands parted: 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.currency.0, self.minor_units))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(currency: &str, minor_units: i64, expect: &str) {
        assert_eq!(shown(currency, minor_units), expect);
        assert_eq!(Currency::stored(currency.to_owned()).amount(minor_units).to_string(), expect);
    }

    #[test]
    fn amounts_have_the_digits_of_their_currency() {
        check("USD", 0, "USD 0.00");
        check("USD", 5, "USD 0.05");
        check("USD", 123_450, "USD 1,234.50");
        check("USD", -135_000, "USD -1,350.00");
        check("EUR", -5, "EUR -0.05");
        check("EUR", 100_000_000, "EUR 1,000,000.00");
        check("JPY", 45_000, "JPY 45,000");
        check("JPY", 7, "JPY 7");
        check("KWD", 1_234, "KWD 1.234");
        check("KWD", 34, "KWD 0.034");
        check("CLF", 12_345, "CLF 1.2345");
        check("USD", i64::MIN, "USD -92,233,720,368,547,758.08");
        // A code that an earlier version has stored.
        check("QQQ", 12_345, "QQQ 123.45");
    }

    /// Every currency whose minor unit is not a hundredth, as the standard lists them.
    #[test]
    fn the_table_is_that_of_the_standard() {
        let listed = [
            (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
            (2, "USD EUR GBP CHF CNY INR HUF MGA MRU TWD"),
            (3, "BHD IQD JOD KWD LYD OMR TND"),
            (4, "CLF UYW"),
        ];
        for (digits, codes) in listed {
            for code in codes.split(' ') {
                assert_eq!(minor_digits(code), Ok(digits), "{code}");
            }
        }
        for unknown in ["", "usd", "US", "QQQ", "XXX", "XAU", "ÄÖ"] {
            let problem = minor_digits(unknown).expect_err(unknown).to_string();
            assert!(Currency::try_new(unknown.to_owned()).is_err());
            assert!(problem.contains("ISO 4217") && problem.ends_with(&format!("{unknown:?}")), "{problem}");
        }
    }

    #[test]
    fn thousands_are_parted() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }
}
