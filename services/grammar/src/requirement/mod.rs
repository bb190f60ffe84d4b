//! Prerequisites and corequisites: courses joined by `and` and `or`, each with an optional minimum grade.

use std::fmt;

use crate::grade::Letter;

mod parse;
#[cfg(test)]
mod tests;

pub use parse::InvalidRequirement;

/// What must have been taken. `and` and `or` have at least two branches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// One course.
    Course {
        /// Its code, or its id where no course has that code.
        name: String,
        /// The least grade that counts; `None`: any pass.
        minimum: Option<Letter>,
    },
    /// All of these.
    All(Vec<Requirement>),
    /// One of these.
    Any(Vec<Requirement>),
}

impl Requirement {
    /// Takes a requirement from its text, such as `C101 and ("MATH 102":B or C103)`; an empty text requires nothing.
    pub fn parse(text: &str) -> Result<Option<Self>, InvalidRequirement> {
        parse::parse(text, parse::Words::Apart)
    }

    /// The same; several words in a row are one name, as people write it.
    pub fn parse_joined(text: &str) -> Result<Option<Self>, InvalidRequirement> {
        parse::parse(text, parse::Words::Joined)
    }

    /// Whether it is met by one who has what `has` says.
    pub fn is_met(&self, has: &impl Fn(&str, Option<Letter>) -> bool) -> bool {
        match self {
            Self::Course { name, minimum } => has(name, *minimum),
            Self::All(branches) => branches.iter().all(|branch| branch.is_met(has)),
            Self::Any(branches) => branches.iter().any(|branch| branch.is_met(has)),
        }
    }

    /// Every name in it, in order.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Course { name, .. } => vec![name],
            Self::All(branches) | Self::Any(branches) => branches.iter().flat_map(Self::names).collect(),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Course { name, minimum: None } => write!(f, "{}", parse::Quoted(name)),
            Self::Course { name, minimum: Some(minimum) } => write!(f, "{}:{minimum}", parse::Quoted(name)),
            Self::All(branches) => join(f, branches, " and ", |branch| !matches!(branch, Self::Course { .. })),
            Self::Any(branches) => join(f, branches, " or ", |branch| matches!(branch, Self::Any(_))),
        }
    }
}

fn join(
    f: &mut fmt::Formatter<'_>,
    branches: &[Requirement],
    word: &str,
    in_parentheses: impl Fn(&Requirement) -> bool,
) -> fmt::Result {
    for (index, branch) in branches.iter().enumerate() {
        if index > 0 {
            f.write_str(word)?;
        }
        if in_parentheses(branch) { write!(f, "({branch})")? } else { write!(f, "{branch}")? }
    }
    Ok(())
}
