//! The syntax of prerequisites: courses with `and`, `or` and parentheses, each with an optional minimum grade, as in
//! `C101 and (C102:B or "MATH 103")`. The academic service applies them to students.
//!
//! ```text
//! any   = all { "or" all }
//! all   = atom { "and" atom }
//! atom  = "(" any ")" | name [ ":" grade ]
//! name  = quoted | word { word }
//! token = '"' ... '"' | "(" | ")" | ":" | word, which ends at a space, a parenthesis or `:`
//! ```
//!
//! Several words in a row are one name if a course has that code. The service requires quotes around such a name, so
//! [`Rule::quoted`] adds them. `and` and `or` are operators in upper and lower case.

use std::ops::Range;

use crate::ids::Invalid;

/// No catalogue nests deeper; the limit protects the stack of the parser.
const DEPTH_MAX: usize = 20;
/// Grades that exist, but can't be a minimum.
const NO_MINIMUM: [&str; 2] = ["P", "NP"];
/// Best first.
const GRADES: [&str; 15] = ["A+", "A", "A-", "B+", "B", "B-", "C+", "C", "C-", "D+", "D", "D-", "F", "P", "NP"];

/// A rule with correct syntax. The default is the empty rule, which requires nothing.
#[derive(Debug, Default)]
pub(crate) struct Rule {
    /// The names of courses, in order.
    pub names: Vec<Name>,
    expression: Option<Expression>,
}

/// The name of a course in a rule.
#[derive(Debug)]
pub(crate) struct Name {
    /// The code or id, without quotes.
    pub text: String,
    /// The position in the text, including quotes.
    at: Range<usize>,
    /// The second word, if there are several.
    second_word: Option<String>,
}

#[derive(Debug)]
enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    /// A name, by its index.
    Name(usize),
}

/// Parses a rule.
pub(crate) fn parse(text: &str) -> Result<Rule, Invalid> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, names: Vec::new() };
    if parser.tokens.is_empty() {
        return Ok(Rule::default());
    }
    let expression = Some(parser.any(0)?);
    match parser.take() {
        None => Ok(Rule { names: parser.names, expression }),
        Some(Token::Close) => Err(Invalid::new("a `)` without its `(`; remove it, or add the other")),
        Some(token) => Err(Invalid::new(format!("expected `and` or `or` before {:?}", token.text()))),
    }
}

/// Checks a grade.
pub(crate) fn check_grade(text: &str) -> Result<String, Invalid> {
    if GRADES.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(Invalid::new(format!("unknown grade {text:?}; use one of {}", GRADES.join(" "))))
    }
}

impl Rule {
    /// Whether the courses for which `has` returns true meet the rule. `has` gets the index of a name.
    pub(crate) fn is_met(&self, has: impl Fn(usize) -> bool) -> bool {
        fn met(expression: &Expression, has: &impl Fn(usize) -> bool) -> bool {
            match expression {
                Expression::All(parts) => parts.iter().all(|part| met(part, has)),
                Expression::Any(parts) => parts.iter().any(|part| met(part, has)),
                Expression::Name(place) => has(*place),
            }
        }
        self.expression.as_ref().is_none_or(|expression| met(expression, &has))
    }

    /// The rule's text, with quotes around every name of several words.
    pub(crate) fn quoted(&self, text: &str) -> String {
        let (mut quoted, mut done) = (String::with_capacity(text.len()), 0);
        for name in self.names.iter().filter(|name| name.second_word.is_some()) {
            quoted.push_str(&text[done..name.at.start]);
            quoted.push_str(&format!("\"{}\"", name.text));
            done = name.at.end;
        }
        quoted + &text[done..]
    }
}

impl Name {
    /// The part of the rule's text to show for an unknown name: the name, or the whole text if words are in a row.
    pub(crate) fn shown<'a>(&'a self, rule: &'a str) -> &'a str {
        if self.second_word.is_some() { rule } else { &self.text }
    }

    /// The problem with a name that no course has.
    pub(crate) fn unknown(&self) -> String {
        match &self.second_word {
            None => "is not the courseCode or sourcedId of a course; add the course or correct the name".to_owned(),
            Some(second) => format!(
                "expected `and` or `or` before {second:?}; write a code with spaces in quotes: \"{}\"",
                self.text
            ),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Open,
    Close,
    Colon,
    And(&'a str),
    Or(&'a str),
    Word(&'a str),
    Quoted(&'a str),
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Open => "(",
            Self::Close => ")",
            Self::Colon => ":",
            Self::And(text) | Self::Or(text) | Self::Word(text) | Self::Quoted(text) => text,
        }
    }
}

struct Parser<'a> {
    /// Tokens with their positions.
    tokens: Vec<(Range<usize>, Token<'a>)>,
    next: usize,
    names: Vec<Name>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.next).map(|(_, token)| *token)
    }

    fn take(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn any(&mut self, depth: usize) -> Result<Expression, Invalid> {
        let mut parts = vec![self.all(depth)?];
        while matches!(self.peek(), Some(Token::Or(_))) {
            self.next += 1;
            parts.push(self.all(depth)?);
        }
        Ok(Expression::Any(parts))
    }

    fn all(&mut self, depth: usize) -> Result<Expression, Invalid> {
        let mut parts = vec![self.atom(depth)?];
        while matches!(self.peek(), Some(Token::And(_))) {
            self.next += 1;
            parts.push(self.atom(depth)?);
        }
        Ok(Expression::All(parts))
    }

    fn atom(&mut self, depth: usize) -> Result<Expression, Invalid> {
        match self.peek() {
            Some(Token::Open) if depth == DEPTH_MAX => {
                Err(Invalid::new(format!("nested deeper than {DEPTH_MAX} parentheses; write it flatter")))
            }
            Some(Token::Open) => {
                self.next += 1;
                let inner = self.any(depth + 1)?;
                match self.take() {
                    Some(Token::Close) => Ok(inner),
                    Some(token) => Err(Invalid::new(format!("expected `and`, `or` or `)` before {:?}", token.text()))),
                    None => Err(Invalid::new("a `(` without its `)`; add it")),
                }
            }
            Some(Token::Word(_) | Token::Quoted(_)) => self.course(),
            Some(token) => Err(Invalid::new(format!("expected a course code before {:?}", token.text()))),
            None => Err(Invalid::new("ends too early; a course code must follow")),
        }
    }

    fn course(&mut self) -> Result<Expression, Invalid> {
        let name = self.name()?;
        self.names.push(name);
        if self.peek() == Some(Token::Colon) {
            self.next += 1;
            let Some(Token::Word(grade)) = self.take() else {
                return Err(Invalid::new("expected a grade after `:`, such as B; write a code with `:` in quotes"));
            };
            check_grade(grade)?;
            if NO_MINIMUM.contains(&grade) {
                return Err(Invalid::new(format!(
                    "{grade} can't be a minimum; use a letter grade, or remove the grade"
                )));
            }
        }
        Ok(Expression::Name(self.names.len() - 1))
    }

    /// A name in quotes, or words in a row.
    fn name(&mut self) -> Result<Name, Invalid> {
        let (mut at, first) = self.tokens[self.next].clone();
        self.next += 1;
        let mut name = Name { text: first.text().to_owned(), at: at.clone(), second_word: None };
        if name.text.trim().is_empty() {
            return Err(Invalid::new("the quotes are empty; write a course code into them"));
        }
        if matches!(first, Token::Quoted(_)) {
            return Ok(name);
        }
        while let Some(Token::Word(word)) = self.peek() {
            at.end = self.tokens[self.next].0.end;
            self.next += 1;
            name.text = format!("{} {word}", name.text);
            name.second_word.get_or_insert(word.to_owned());
        }
        name.at = at;
        Ok(name)
    }
}

fn tokens(text: &str) -> Result<Vec<(Range<usize>, Token<'_>)>, Invalid> {
    let is_end = |char: char| char.is_whitespace() || "():".contains(char);
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (length, token) = match first {
            '(' => (1, Token::Open),
            ')' => (1, Token::Close),
            ':' => (1, Token::Colon),
            '"' => {
                let end =
                    rest[1..].find('"').ok_or(Invalid::new("the closing quote is missing; add it after the code"))?;
                (end + 2, Token::Quoted(&rest[1..=end]))
            }
            space if space.is_whitespace() => {
                at += space.len_utf8();
                continue;
            }
            _ => {
                let word = &rest[..rest.find(is_end).unwrap_or(rest.len())];
                let token = match word {
                    _ if word.eq_ignore_ascii_case("and") => Token::And(word),
                    _ if word.eq_ignore_ascii_case("or") => Token::Or(word),
                    _ => Token::Word(word),
                };
                (word.len(), token)
            }
        };
        tokens.push((at..at + length, token));
        at += length;
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the names, and the sets of them that meet the rule or don't.
    #[track_caller]
    fn check(text: &str, names: &[&str], met_by: &[&[usize]], not_by: &[&[usize]]) {
        let rule = parse(text).unwrap_or_else(|invalid| panic!("{text}: {invalid}"));
        assert_eq!(rule.names.iter().map(|name| name.text.as_str()).collect::<Vec<_>>(), names, "{text}");
        for (sets, expected) in [(met_by, true), (not_by, false)] {
            for set in sets {
                assert_eq!(rule.is_met(|place| set.contains(&place)), expected, "{text} with {set:?}");
            }
        }
    }

    #[test]
    fn names_and_joins() {
        check("", &[], &[&[]], &[]);
        check("C1", &["C1"], &[&[0]], &[&[]]);
        check("C1 or C2 and C3", &["C1", "C2", "C3"], &[&[0], &[1, 2]], &[&[1], &[2]]);
        check("(C1 or C2) AND C3", &["C1", "C2", "C3"], &[&[0, 2], &[1, 2]], &[&[0], &[0, 1]]);
        check(r#""MATH 101" and (C102:B or "a:b")"#, &["MATH 101", "C102", "a:b"], &[&[0, 2]], &[&[0]]);
        check(r#""and"or "x(1)":A-"#, &["and", "x(1)"], &[&[0], &[1]], &[&[]]);
        check("MATH  101:B or ART 7", &["MATH 101", "ART 7"], &[&[0]], &[&[]]);
        check("C1 : B", &["C1"], &[&[0]], &[&[]]);
        // As in the service: a quote starts a quoted name only at the beginning of a name.
        check(r#"C1 or"C2" C3"#, &[r#"C1 or"C2" C3"#], &[&[0]], &[&[]]);
    }

    #[test]
    fn names_of_several_words_get_quotes() {
        for (text, expected) in [
            ("MATH 101", r#""MATH 101""#),
            ("(ÄRT 7 a:B or C1) and MATH\t101", r#"("ÄRT 7 a":B or C1) and "MATH 101""#),
            (r#""MATH 101" and C1"#, r#""MATH 101" and C1"#),
            ("", ""),
        ] {
            let quoted = parse(text).unwrap().quoted(text);
            assert_eq!(quoted, expected);
            let names = |text| parse(text).unwrap().names.into_iter().map(|name| name.text).collect::<Vec<_>>();
            assert_eq!(names(&quoted), names(text));
        }
    }
}
