//! The serialization of an optional ratio in settings: a number, or an empty text if it is not set.

use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serializer};

const EXPECTED: &str = "a number from 0 to 1, or nothing";

/// What a setting can hold.
#[derive(Deserialize)]
#[serde(untagged, expecting = "invalid value, expected a number from 0 to 1, or nothing")]
enum Setting {
    Number(f64),
    Text(String),
    Nothing,
}

pub(super) fn serialize<S: Serializer>(ratio: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match ratio {
        Some(ratio) => serializer.serialize_f64(*ratio),
        None => serializer.serialize_str(""),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    match Setting::deserialize(deserializer)? {
        Setting::Number(ratio) => Ok(Some(ratio)),
        Setting::Nothing => Ok(None),
        Setting::Text(text) if text.trim().is_empty() => Ok(None),
        Setting::Text(text) => {
            text.trim().parse().map(Some).map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &EXPECTED))
        }
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
