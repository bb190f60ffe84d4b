//! Reads a requirement by recursive descent.
//!
//! ```text
//! any    = all { "or" all }
//! all    = atom { "and" atom }
//! atom   = "(" any ")" | name [ ":" grade ]
//! name   = word | '"' characters without '"' '"'
//! ```
//!
//! A word ends before a space and before `( ) :`. A name that has one of these, or that reads `and` or `or`, is quoted.

use std::fmt;

use super::Requirement;
use crate::grade::{InvalidGrade, Letter};

/// Longest requirement in bytes: some hundred courses.
const REQUIREMENT_BYTES_MAX: usize = 2_000;
/// Deepest nesting of parentheses, so that no text can exhaust the stack.
const DEPTH_MAX: usize = 20;

/// Why a text is no requirement, and where. Places count characters from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRequirement(String);

impl InvalidRequirement {
    fn at(place: usize, problem: impl fmt::Display) -> Self {
        Self(format!("at character {place}: {problem}"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Open,
    Close,
    Colon,
    And,
    Or,
    Word(&'a str),
    Quoted(&'a str),
}

/// A name as a requirement writes it: in quotes where it needs them.
pub(super) struct Quoted<'a>(pub(super) &'a str);

/// What several words in a row are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    /// A mistake: a name with spaces is quoted.
    Apart,
    /// One name, with a space between the words.
    Joined,
}

struct Parser<'a> {
    text: &'a str,
    words: Words,
    /// Tokens with their place in bytes.
    tokens: Vec<(usize, Token<'a>)>,
    next: usize,
}

pub(super) fn parse(text: &str, words: Words) -> Result<Option<Requirement>, InvalidRequirement> {
    if text.len() > REQUIREMENT_BYTES_MAX {
        let problem = format!("must have at most {REQUIREMENT_BYTES_MAX} bytes, got {}", text.len());
        return Err(InvalidRequirement(problem));
    }
    let mut parser = Parser { text, words, tokens: tokens(text)?, next: 0 };
    if parser.tokens.is_empty() {
        return Ok(None);
    }
    let requirement = parser.any(0)?;
    match parser.peek() {
        None => Ok(Some(requirement)),
        Some(_) => Err(parser.unexpected("`and`, `or` or the end")),
    }
}

fn tokens(text: &str) -> Result<Vec<(usize, Token<'_>)>, InvalidRequirement> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let at = text.len() - rest.len();
        let length = match first {
            '"' => rest[1..]
                .find('"')
                .map(|length| length + 2)
                .ok_or_else(|| InvalidRequirement::at(character(text, at), "this quote is never closed"))?,
            _ if ends_word(first) => first.len_utf8(),
            _ => rest.find(ends_word).unwrap_or(rest.len()),
        };
        let (word, after) = rest.split_at(length);
        rest = after;
        let token = match word {
            "(" => Token::Open,
            ")" => Token::Close,
            ":" => Token::Colon,
            "\"\"" => {
                return Err(InvalidRequirement::at(character(text, at), "there is no name in these quotes"));
            }
            _ if first == '"' => Token::Quoted(&word[1..length - 1]),
            _ if first.is_whitespace() => continue,
            _ if word.eq_ignore_ascii_case("and") => Token::And,
            _ if word.eq_ignore_ascii_case("or") => Token::Or,
            _ => Token::Word(word),
        };
        tokens.push((at, token));
    }
    Ok(tokens)
}

fn ends_word(c: char) -> bool {
    c.is_whitespace() || "():".contains(c)
}

/// The place of a byte, in characters from 1.
fn character(text: &str, byte: usize) -> usize {
    text[..byte].chars().count() + 1
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name) = self;
        let joins = ["and", "or"].iter().any(|word| name.eq_ignore_ascii_case(word));
        if joins || name.contains(ends_word) { write!(f, "\"{name}\"") } else { f.write_str(name) }
    }
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
            Some(Token::Open) if depth == DEPTH_MAX => {
                Err(InvalidRequirement::at(at, format!("more than {DEPTH_MAX} parentheses in one another")))
            }
            Some(Token::Open) => {
                self.next += 1;
                let inner = self.any(depth + 1)?;
                match self.peek() {
                    Some(Token::Close) => self.next += 1,
                    Some(_) => return Err(self.unexpected("`and`, `or` or `)`")),
                    None => return Err(InvalidRequirement::at(at, "this parenthesis is never closed")),
                }
                Ok(inner)
            }
            Some(Token::Word(name) | Token::Quoted(name)) => {
                let mut name = name.to_owned();
                while let (Some(Token::Word(_)), Words::Joined) = (self.peek(), self.words)
                    && let Some((_, Token::Word(word))) = self.tokens.get(self.next + 1)
                {
                    self.next += 1;
                    name = format!("{name} {word}");
                }
                self.next += 1;
                let minimum = if self.take(Token::Colon) { Some(self.grade()?) } else { None };
                Ok(Requirement::Course { name, minimum })
            }
            _ => Err(self.unexpected("a course or `(`")),
        }
    }

    fn grade(&mut self) -> Result<Letter, InvalidRequirement> {
        let at = self.place();
        let Some(Token::Word(word)) = self.peek() else { return Err(self.unexpected("a grade")) };
        self.next += 1;
        word.parse().map_err(|problem: InvalidGrade| {
            InvalidRequirement::at(at, format!("{problem}; a name with a colon is quoted"))
        })
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
        character(self.text, self.tokens.get(self.next).map_or(self.text.len(), |(at, _)| *at))
    }

    fn unexpected(&self, expected: &'static str) -> InvalidRequirement {
        let found = match self.peek() {
            None => "the end".to_owned(),
            Some(Token::Open) => "`(`".to_owned(),
            Some(Token::Close) => "`)`".to_owned(),
            Some(Token::Colon) => "`:`".to_owned(),
            Some(Token::And) => "`and`".to_owned(),
            Some(Token::Or) => "`or`".to_owned(),
            Some(Token::Word(found)) => match self.unquoted_name() {
                Some(name) => format!("{found:?}; a name with spaces is quoted: \"{name}\""),
                None => format!("{found:?}"),
            },
            Some(Token::Quoted(name)) => format!("{name:?}"),
        };
        InvalidRequirement::at(self.place(), format!("expected {expected}, found {found}"))
    }

    /// The words that stand side by side around the next token, if there are several. The first word after a colon is
    /// a grade.
    fn unquoted_name(&self) -> Option<&'a str> {
        let is_word = |place: &usize| matches!(self.tokens.get(*place), Some((_, Token::Word(_))));
        let mut first = (0..self.next).rev().take_while(is_word).last()?;
        if first > 0 && self.tokens[first - 1].1 == Token::Colon {
            first += 1;
        }
        let last = (self.next..).take_while(is_word).last()?;
        match self.tokens[last] {
            (at, Token::Word(word)) if first < last => Some(&self.text[self.tokens[first].0..at + word.len()]),
            _ => None,
        }
    }
}

fn one_or(mut branches: Vec<Requirement>, many: fn(Vec<Requirement>) -> Requirement) -> Requirement {
    match branches.len() {
        1 => branches.remove(0),
        _ => many(branches),
    }
}
