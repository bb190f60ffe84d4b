//! Grades, and which of them meets a minimum.

use std::fmt;
use std::str::FromStr;

/// Letter grades from worst to best; a [`Letter`] is a place in this list.
const LETTERS: [&str; 13] = ["F", "D-", "D", "D+", "C-", "C", "C+", "B-", "B", "B+", "A-", "A", "A+"];
/// A course graded P is worth a C at most, so it meets no higher minimum.
const PASS_IS_WORTH: Letter = Letter(5);
const FAILED: Letter = Letter(0);

/// A letter grade, `F` to `A+`; the better one is the greater one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Letter(u8);

/// How a course ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grade {
    /// `A+` to `F`.
    Letter(Letter),
    /// `P`: passed, without a letter.
    Pass,
    /// `NP`: not passed.
    NoPass,
}

/// A text that is not a grade.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{shown:?} is not a grade; use A+ to D-, F{or_pass}")]
pub struct InvalidGrade {
    shown: String,
    or_pass: &'static str,
}

impl Letter {
    /// Every letter grade, worst first.
    pub fn all() -> impl Iterator<Item = Self> {
        // The list has 13 entries.
        (0..LETTERS.len()).map(|place| Self(place as u8))
    }
}

impl Grade {
    /// The grade as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Letter(letter) => LETTERS[usize::from(letter.0)],
            Self::Pass => "P",
            Self::NoPass => "NP",
        }
    }

    /// Whether a course that ended so counts where this minimum is asked for, or a pass where none is.
    pub fn meets(self, minimum: Option<Letter>) -> bool {
        match (self, minimum) {
            (Self::Letter(letter), None) => letter > FAILED,
            (Self::Letter(letter), Some(minimum)) => letter >= minimum,
            (Self::Pass, None) => true,
            (Self::Pass, Some(minimum)) => minimum <= PASS_IS_WORTH,
            (Self::NoPass, _) => false,
        }
    }
}

impl FromStr for Letter {
    type Err = InvalidGrade;

    fn from_str(text: &str) -> Result<Self, InvalidGrade> {
        let found = Self::all().find(|letter| LETTERS[usize::from(letter.0)] == text);
        found.ok_or_else(|| InvalidGrade { shown: text.to_owned(), or_pass: "" })
    }
}

impl FromStr for Grade {
    type Err = InvalidGrade;

    fn from_str(text: &str) -> Result<Self, InvalidGrade> {
        match text {
            "P" => Ok(Self::Pass),
            "NP" => Ok(Self::NoPass),
            _ => text.parse().map(Self::Letter).map_err(|error| InvalidGrade { or_pass: ", P or NP", ..error }),
        }
    }
}

impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(LETTERS[usize::from(self.0)])
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(grade: &str, minimum: &str, expect: bool) {
        let grade: Grade = grade.parse().expect("a grade");
        let minimum = (!minimum.is_empty()).then(|| minimum.parse().expect("a letter"));
        assert_eq!(grade.meets(minimum), expect, "{grade} against {minimum:?}");
    }

    #[test]
    fn minimums_are_met_by_order() {
        check("A+", "A", true);
        check("A", "A+", false);
        check("A-", "B+", true);
        check("C", "C", true);
        check("C-", "C", false);
        check("D-", "", true);
        check("F", "", false);
        check("F", "F", true);
        check("P", "", true);
        check("P", "C", true);
        check("P", "C+", false);
        check("NP", "", false);
        check("NP", "F", false);
    }

    #[test]
    fn what_is_no_grade_is_said() {
        for bad in ["", "E", "F+", "a", "A++", "D--", "Pass"] {
            assert!(bad.parse::<Grade>().is_err(), "{bad}");
        }
        assert_eq!("E".parse::<Grade>().unwrap_err().to_string(), "\"E\" is not a grade; use A+ to D-, F, P or NP");
        assert_eq!("P".parse::<Letter>().unwrap_err().to_string(), "\"P\" is not a grade; use A+ to D-, F");
    }
}
