//! The serialization of an optional ratio in settings: a number, or an empty text if it is not set.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserializer, Serializer};

pub(super) fn serialize<S: Serializer>(ratio: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match ratio {
        Some(ratio) => serializer.serialize_f64(*ratio),
        None => serializer.serialize_str(""),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    deserializer.deserialize_any(RatioVisitor)
}

struct RatioVisitor;

impl Visitor<'_> for RatioVisitor {
    type Value = Option<f64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number from 0 to 1, or nothing")
    }

    fn visit_f64<E>(self, ratio: f64) -> Result<Option<f64>, E> {
        Ok(Some(ratio))
    }

    fn visit_i64<E>(self, ratio: i64) -> Result<Option<f64>, E> {
        Ok(Some(ratio as f64))
    }

    fn visit_u64<E>(self, ratio: u64) -> Result<Option<f64>, E> {
        Ok(Some(ratio as f64))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Option<f64>, E> {
        match text.trim() {
            "" => Ok(None),
            other => other.parse().map(Some).map_err(|_| E::invalid_value(Unexpected::Str(text), &self)),
        }
    }

    fn visit_unit<E>(self) -> Result<Option<f64>, E> {
        Ok(None)
    }

    fn visit_none<E>(self) -> Result<Option<f64>, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Result<Option<f64>, &str>) {
        let read = deserialize(&mut serde_json::Deserializer::from_str(json));
        match (read, expected) {
            (Ok(read), Ok(expected)) => assert_eq!(read, expected, "{json}"),
            (Err(problem), Err(words)) => assert!(problem.to_string().contains(words), "{problem}"),
            (read, expected) => panic!("{json}: {read:?}, not {expected:?}"),
        }
    }

    #[test]
    fn a_ratio_may_be_left_empty() {
        check("0.25", Ok(Some(0.25)));
        check("1", Ok(Some(1.0)));
        check("\"0.5\"", Ok(Some(0.5)));
        check("\"\"", Ok(None));
        check("null", Ok(None));
        check("\"half\"", Err("a number from 0 to 1, or nothing"));
        check("true", Err("a number from 0 to 1, or nothing"));
    }
}
