//! Reads a requirement by recursive descent.
//!
//! ```text
//! any    = all { "or" all }
//! all    = atom { "and" atom }
//! atom   = "(" any ")" | code [ ":" grade ]
//! ```

use super::Requirement;
use crate::domain::grade::{InvalidGrade, Letter};

/// Longest requirement in bytes: some hundred courses.
const REQUIREMENT_BYTES_MAX: usize = 2_000;
/// Deepest nesting of parentheses, so that no text can exhaust the stack.
const DEPTH_MAX: usize = 20;

/// Why a text is no requirement, and where. Places count characters from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequirement {
    /// It is too long to be one.
    #[error("must have at most {REQUIREMENT_BYTES_MAX} bytes, got {0}")]
    TooLong(usize),
    /// Something else should stand here.
    #[error("at character {at}: expected {expected}, found {found}")]
    Unexpected {
        /// Where.
        at: usize,
        /// What should stand here.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// A parenthesis is opened here and never closed.
    #[error("at character {at}: this parenthesis is never closed")]
    Unclosed {
        /// Where.
        at: usize,
    },
    /// The minimum is no letter grade.
    #[error("at character {at}: {source}")]
    Grade {
        /// Where.
        at: usize,
        /// Why.
        source: InvalidGrade,
    },
    /// Too many parentheses in one another.
    #[error("at character {at}: more than {DEPTH_MAX} parentheses in one another")]
    TooDeep {
        /// Where.
        at: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Open,
    Close,
    Colon,
    And,
    Or,
    Word(&'a str),
}

struct Parser<'a> {
    text: &'a str,
    /// Tokens with their place in bytes.
    tokens: Vec<(usize, Token<'a>)>,
    next: usize,
}

pub(super) fn parse(text: &str) -> Result<Option<Requirement>, InvalidRequirement> {
    if text.len() > REQUIREMENT_BYTES_MAX {
        return Err(InvalidRequirement::TooLong(text.len()));
    }
    let mut parser = Parser { text, tokens: tokens(text), next: 0 };
    if parser.tokens.is_empty() {
        return Ok(None);
    }
    let requirement = parser.any(0)?;
    match parser.peek() {
        None => Ok(Some(requirement)),
        Some(_) => Err(parser.unexpected("`and`, `or` or the end")),
    }
}

fn tokens(text: &str) -> Vec<(usize, Token<'_>)> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let at = text.len() - rest.len();
        let special = |c: char| c.is_whitespace() || "():".contains(c);
        let length = if special(first) { first.len_utf8() } else { rest.find(special).unwrap_or(rest.len()) };
        let (word, after) = rest.split_at(length);
        rest = after;
        let token = match word {
            "(" => Token::Open,
            ")" => Token::Close,
            ":" => Token::Colon,
            _ if first.is_whitespace() => continue,
            _ if word.eq_ignore_ascii_case("and") => Token::And,
            _ if word.eq_ignore_ascii_case("or") => Token::Or,
            _ => Token::Word(word),
        };
        tokens.push((at, token));
    }
    tokens
}

impl<'a> Parser<'a> {
    fn any(&mut self, depth: usize) -> Result<Requirement, InvalidRequirement> {
        let first = self.all(depth)?;
        let mut branches = vec![first];
        while self.take(Token::Or) {
            branches.push(self.all(depth)?);
        }
        Ok(one_or(branches, Requirement::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Requirement, InvalidRequirement> {
        let first = self.atom(depth)?;
        let mut branches = vec![first];
        while self.take(Token::And) {
            branches.push(self.atom(depth)?);
        }
        Ok(one_or(branches, Requirement::All))
    }

    fn atom(&mut self, depth: usize) -> Result<Requirement, InvalidRequirement> {
        let at = self.place();
        match self.peek() {
            Some(Token::Open) if depth == DEPTH_MAX => Err(InvalidRequirement::TooDeep { at }),
            Some(Token::Open) => {
                self.next += 1;
                let inner = self.any(depth + 1)?;
                match self.peek() {
                    Some(Token::Close) => self.next += 1,
                    Some(_) => return Err(self.unexpected("`and`, `or` or `)`")),
                    None => return Err(InvalidRequirement::Unclosed { at }),
                }
                Ok(inner)
            }
            Some(Token::Word(code)) => {
                self.next += 1;
                let minimum = if self.take(Token::Colon) { Some(self.grade()?) } else { None };
                Ok(Requirement::Course { code: code.to_owned(), minimum })
            }
            _ => Err(self.unexpected("a course code or `(`")),
        }
    }

    fn grade(&mut self) -> Result<Letter, InvalidRequirement> {
        let at = self.place();
        let Some(Token::Word(word)) = self.peek() else { return Err(self.unexpected("a grade")) };
        self.next += 1;
        word.parse().map_err(|source| InvalidRequirement::Grade { at, source })
    }

    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.next).map(|(_, token)| *token)
    }

    fn take(&mut self, token: Token<'_>) -> bool {
        let found = self.peek() == Some(token);
        self.next += usize::from(found);
        found
    }

    /// The place of the next token, in characters from 1.
    fn place(&self) -> usize {
        let byte = self.tokens.get(self.next).map_or(self.text.len(), |(at, _)| *at);
        self.text[..byte].chars().count() + 1
    }

    fn unexpected(&self, expected: &'static str) -> InvalidRequirement {
        let found = match self.peek() {
            None => "the end".to_owned(),
            Some(Token::Open) => "`(`".to_owned(),
            Some(Token::Close) => "`)`".to_owned(),
            Some(Token::Colon) => "`:`".to_owned(),
            Some(Token::And) => "`and`".to_owned(),
            Some(Token::Or) => "`or`".to_owned(),
            Some(Token::Word(word)) => format!("{word:?}"),
        };
        InvalidRequirement::Unexpected { at: self.place(), expected, found }
    }
}

fn one_or(mut branches: Vec<Requirement>, many: fn(Vec<Requirement>) -> Requirement) -> Requirement {
    match branches.len() {
        1 => branches.remove(0),
        _ => many(branches),
    }
}
