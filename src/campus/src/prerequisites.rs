//! The form of prerequisites: course codes with `and`, `or` and parentheses, each with an optional minimum grade, as
//! in `C101 and (C102:B or C103)`. Only the form is checked here; what it means is for the academics service.

use crate::ids::Invalid;

/// No catalogue nests deeper, and the stack of whoever reads it has an end.
const DEPTH_MAX: usize = 20;
/// Grades that can be had and are no minimum of anything.
const NO_MINIMUM: [&str; 2] = ["P", "NP"];
/// Best first.
const GRADES: [&str; 15] = ["A+", "A", "A-", "B+", "B", "B-", "C+", "C", "C-", "D+", "D", "D-", "F", "P", "NP"];

/// The course codes that an expression names; none for an empty one.
pub(crate) fn course_codes(text: &str) -> Result<Vec<&str>, Invalid> {
    let mut parser = Parser { tokens: tokens(text), next: 0, codes: Vec::new() };
    if parser.tokens.is_empty() {
        return Ok(Vec::new());
    }
    parser.expression(0)?;
    match parser.take() {
        None => Ok(parser.codes),
        Some(")") => Err(Invalid::new("a `)` without its `(`; remove it or add the other")),
        Some(token) => Err(Invalid::new(format!("expected `and` or `or` before {token:?}"))),
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

struct Parser<'a> {
    tokens: Vec<&'a str>,
    next: usize,
    codes: Vec<&'a str>,
}

impl<'a> Parser<'a> {
    fn take(&mut self) -> Option<&'a str> {
        let token = self.tokens.get(self.next).copied();
        self.next += 1;
        token
    }

    /// Operands joined by `and` or `or`: how tightly each binds does not matter to the form.
    fn expression(&mut self, depth: usize) -> Result<(), Invalid> {
        self.operand(depth)?;
        while self.tokens.get(self.next).is_some_and(|token| is_join(token)) {
            self.next += 1;
            self.operand(depth)?;
        }
        Ok(())
    }

    fn operand(&mut self, depth: usize) -> Result<(), Invalid> {
        match self.take() {
            Some("(") if depth == DEPTH_MAX => {
                Err(Invalid::new(format!("nested deeper than {DEPTH_MAX} parentheses; write it flatter")))
            }
            Some("(") => {
                self.expression(depth + 1)?;
                match self.take() {
                    Some(")") => Ok(()),
                    Some(token) => Err(Invalid::new(format!("expected `and`, `or` or `)` before {token:?}"))),
                    None => Err(Invalid::new("a `(` without its `)`; add it")),
                }
            }
            Some(token) if token == ")" || is_join(token) => {
                Err(Invalid::new(format!("expected a course code before {token:?}")))
            }
            Some(token) => self.course(token),
            None => Err(Invalid::new("ends too early; a course code must follow")),
        }
    }

    fn course(&mut self, token: &'a str) -> Result<(), Invalid> {
        let code = match token.split_once(':') {
            Some((code, grade)) => {
                check_grade(grade)?;
                if NO_MINIMUM.contains(&grade) {
                    return Err(Invalid::new(format!("{grade} is no minimum; use a letter, or name the course alone")));
                }
                code
            }
            None => token,
        };
        if code.is_empty() {
            return Err(Invalid::new(format!("{token:?} names no course; write the code before the `:`")));
        }
        self.codes.push(code);
        Ok(())
    }
}

/// The words that join courses are no codes of any, however they are written.
fn is_join(token: &str) -> bool {
    token.eq_ignore_ascii_case("and") || token.eq_ignore_ascii_case("or")
}

fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    for word in text.split_whitespace() {
        let mut rest = word;
        while let Some(at) = rest.find(['(', ')']) {
            let (before, paren) = rest.split_at(at);
            if !before.is_empty() {
                tokens.push(before);
            }
            tokens.push(&paren[..1]);
            rest = &paren[1..];
        }
        if !rest.is_empty() {
            tokens.push(rest);
        }
    }
    tokens
}
