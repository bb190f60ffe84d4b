//! Money as people read it: one table of currencies, and one form for every message, table and log line.
//!
//! The table is that of ISO 4217: it says how many digits the minor unit of a currency has.

use std::fmt;

use iso_currency::Currency;

use crate::answer::Money;

/// Digits of the minor unit where ISO 4217 does not know the currency: an earlier version has stored such codes.
const MINOR_DIGITS_DEFAULT: u32 = 2;

/// A currency that ISO 4217 does not have, or in which nobody can pay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a currency of ISO 4217 with a minor unit, such as USD or JPY, got {0:?}")]
pub struct UnknownCurrency(String);

/// How many digits the minor unit of a currency has: 2 for `USD`, 0 for `JPY`. An error for codes that ISO 4217 does
/// not have, and for those without a minor unit, such as gold.
pub fn minor_digits(currency: &str) -> Result<u32, UnknownCurrency> {
    let digits = Currency::from_code(currency).and_then(Currency::exponent);
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
        f.write_str(&shown(&self.currency, self.minor_units))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(currency: &str, minor_units: i64, expect: &str) {
        assert_eq!(shown(currency, minor_units), expect);
        assert_eq!(Money { currency: currency.to_owned(), minor_units }.to_string(), expect);
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
