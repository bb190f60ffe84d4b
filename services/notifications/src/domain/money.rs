//! Money as people read it: the currency's code, and its own number of decimals.

use matricula_kit::answer::Money;

/// Currencies of ISO 4217 that have other than two decimals.
const NO_DECIMALS: [&str; 17] = [
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF",
    "XPF",
];
const THREE_DECIMALS: [&str; 7] = ["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];
const FOUR_DECIMALS: [&str; 2] = ["CLF", "UYW"];

/// `USD 1,234.50`, `JPY 1,234`, `KWD 1.234`.
pub fn shown(money: &Money) -> String {
    let decimals = decimals(&money.currency);
    let unit = 10_u64.pow(decimals);
    let sign = if money.minor_units < 0 { "-" } else { "" };
    let amount = money.minor_units.unsigned_abs();
    let whole = grouped(amount / unit);
    match decimals {
        0 => format!("{} {sign}{whole}", money.currency),
        _ => format!("{} {sign}{whole}.{:0width$}", money.currency, amount % unit, width = decimals as usize),
    }
}

fn decimals(currency: &str) -> u32 {
    match currency {
        code if NO_DECIMALS.contains(&code) => 0,
        code if THREE_DECIMALS.contains(&code) => 3,
        code if FOUR_DECIMALS.contains(&code) => 4,
        _ => 2,
    }
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(currency: &str, minor_units: i64, expect: &str) {
        assert_eq!(shown(&Money { currency: currency.to_owned(), minor_units }), expect);
    }

    #[test]
    fn decimals_follow_the_currency() {
        check("USD", 0, "USD 0.00");
        check("USD", 5, "USD 0.05");
        check("USD", 135_000, "USD 1,350.00");
        check("USD", -135_000, "USD -1,350.00");
        check("EUR", 99_999, "EUR 999.99");
        check("EUR", 100_000_000, "EUR 1,000,000.00");
        check("JPY", 135_000, "JPY 135,000");
        check("JPY", 7, "JPY 7");
        check("KWD", 1_234, "KWD 1.234");
        check("KWD", 34, "KWD 0.034");
        check("CLF", 12_345, "CLF 1.2345");
        check("USD", i64::MIN, "USD -92,233,720,368,547,758.08");
    }
}
