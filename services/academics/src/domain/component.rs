//! The part of a course that a section is: `configuration/subpart`.

use std::fmt;

use matricula_kit::id::check_id;

/// A part of a course. A course is taken as one class of each subpart of one configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Component {
    /// The way in which the course is taken.
    pub configuration: String,
    /// The part of it: the lecture, the lab.
    pub subpart: String,
}

/// A text that is no component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be configuration/subpart, such as 1/2, got {shown:?}")]
pub struct InvalidComponent {
    shown: String,
}

impl Component {
    /// Takes a component from its text; empty means that the course has one part.
    pub fn parse(text: &str) -> Result<Option<Self>, InvalidComponent> {
        if text.is_empty() {
            return Ok(None);
        }
        let invalid = || InvalidComponent { shown: text.chars().take(80).collect() };
        let (configuration, subpart) = text.split_once('/').ok_or_else(invalid)?;
        check_id(configuration).and(check_id(subpart)).map_err(|_| invalid())?;
        Ok(Some(Self { configuration: configuration.to_owned(), subpart: subpart.to_owned() }))
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.configuration, self.subpart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_are_wanted() {
        assert_eq!(Component::parse(""), Ok(None));
        assert_eq!(Component::parse("322/522").expect("a component").expect("not empty").to_string(), "322/522");
        for bad in ["1", "1/", "/2", "1/2/3", "1 / 2", "/"] {
            assert!(Component::parse(bad).is_err(), "{bad}");
        }
    }
}
