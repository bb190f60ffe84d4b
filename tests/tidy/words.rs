//! Holds what a program can check of plain English, in comments and in Markdown.
//!
//! Prose is read without code: code blocks and code spans are left out, and so is everything that is not a comment.
//! Sentences that begin with `What` or `One` are left to people. "What a portal shows." labels an item, and "What was
//! written stays." hides an actor; only a reader can tell the two apart. `Who` has no such harmless use.

use std::path::Path;

use super::{files, names};

/// Longer lines of prose are hard to read beside code.
const COLUMNS_MAX: usize = 120;

/// Subjects that name no actor. English has the capital only where a sentence begins.
const SUBJECTS: [&str; 2] = ["Who", "Whoever"];

/// Phrases with a plainer form.
const PHRASES: [(&str, &str); 3] =
    [("but for", "write `except`"), ("by hand", "write `manually`"), ("turned away", "write `rejected`")];

/// How a kind of file marks its prose.
#[derive(Clone, Copy)]
enum Prose {
    /// All of it is prose.
    Markdown,
    /// Prose stands behind this mark.
    Comments(&'static str),
}

fn prose_of(path: &str) -> Option<Prose> {
    let extension = path.rsplit('.').next().filter(|extension| !extension.contains('/'));
    match extension {
        Some("md") => Some(Prose::Markdown),
        Some("rs" | "proto") => Some(Prose::Comments("//")),
        Some("toml" | "yaml" | "sh" | "py") => Some(Prose::Comments("#")),
        _ => None,
    }
}

/// A line of prose, without the mark of its comment.
struct Line<'a> {
    number: usize,
    text: &'a str,
    /// How wide the whole line is. `None`: code stands before the comment, and is wrapped by rustfmt.
    columns: Option<usize>,
}

fn violations(path: &str, source: &str) -> Vec<String> {
    let Some(prose) = prose_of(path) else { return Vec::new() };
    let mut found = Vec::new();
    for paragraph in paragraphs(prose, source) {
        for line in &paragraph {
            if !line.text.starts_with('|') && line.columns.is_some_and(|columns| columns > COLUMNS_MAX) {
                found.push(format!("{path}:{}: is wider than {COLUMNS_MAX} columns", line.number));
            }
        }
        let text: Vec<&str> = paragraph.iter().map(|line| line.text).collect();
        let (text, first) = (without_code(&text.join(" ")), paragraph[0].number);
        if let Some(subject) = SUBJECTS.iter().find(|subject| names(&text, subject)) {
            found.push(format!("{path}:{first}: a sentence begins with `{subject}`: name the actor"));
        }
        let text = text.to_lowercase();
        for (phrase, instead) in PHRASES.iter().filter(|(phrase, _)| names(&text, phrase)) {
            found.push(format!("{path}:{first}: has `{phrase}`: {instead}"));
        }
    }
    found
}

/// The paragraphs of a file: lines that belong together. Items of lists, rows of tables and headings stand alone.
fn paragraphs(prose: Prose, source: &str) -> Vec<Vec<Line<'_>>> {
    let mut all: Vec<Vec<Line>> = vec![Vec::new()];
    let mut in_code_block = false;
    for (at, line) in source.lines().enumerate() {
        let (text, stands_alone) = match prose {
            Prose::Markdown => (line.trim(), false),
            Prose::Comments(mark) => match comment(line, mark) {
                Some(text) => (text, !line.trim_start().starts_with(mark)),
                None => {
                    in_code_block = false;
                    all.push(Vec::new());
                    continue;
                }
            },
        };
        if text.starts_with("```") {
            in_code_block = !in_code_block;
        }
        if in_code_block || text.starts_with("```") || text.is_empty() {
            all.push(Vec::new());
            continue;
        }
        if stands_alone || begins_anew(text) {
            all.push(Vec::new());
        }
        let columns = (!stands_alone).then(|| without_targets(line).chars().count());
        all.last_mut().expect("there is a first paragraph").push(Line { number: at + 1, text, columns });
        if stands_alone || text.starts_with(['#', '|']) {
            all.push(Vec::new());
        }
    }
    all.retain(|paragraph| !paragraph.is_empty());
    all
}

/// The text of a comment. Behind code it begins with a space on either side of its mark, outside of a string.
fn comment<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    let without_mark = |text: &'a str| text.trim_start_matches(['/', '!', '#']).trim();
    let trimmed = line.trim();
    if trimmed.starts_with(mark) {
        return (!trimmed.starts_with("#[")).then(|| without_mark(trimmed));
    }
    let behind = format!(" {mark} ");
    let mut places = line.match_indices(&behind);
    let quotes = |code: &str| code.replace("\\\"", "").matches('"').count();
    places.find(|(at, _)| quotes(&line[..*at]) % 2 == 0).map(|(at, _)| without_mark(line[at..].trim()))
}

/// Whether a line begins a paragraph, though no empty line is before it.
fn begins_anew(text: &str) -> bool {
    let numbered = text.trim_start_matches(|c: char| c.is_ascii_digit());
    text.starts_with(['#', '|', '>']) || text.starts_with("- ") || (numbered != text && numbered.starts_with(". "))
}

/// A text without what stands in backticks, and without the targets of its links.
fn without_code(text: &str) -> String {
    let spans = text.split('`').enumerate();
    let kept: Vec<&str> = spans.map(|(at, span)| if at % 2 == 0 { span } else { "_" }).collect();
    without_targets(&kept.concat())
}

/// A text without the targets of its links: `[title]` instead of `[title](target)`. A target can't be wrapped.
fn without_targets(text: &str) -> String {
    let mut parts = text.split("](");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.push(']');
        kept.push_str(part.split_once(')').map_or("", |(_, rest)| rest));
    }
    kept
}

#[test]
fn every_sentence_is_plain() {
    let files = files(Path::new(env!("CARGO_MANIFEST_DIR")), |name| prose_of(name).is_some());
    let found: Vec<String> = files.iter().flat_map(|(path, source)| violations(path, source)).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[track_caller]
fn check(path: &str, source: &str, expected: &[&str]) {
    let expected: Vec<String> = expected.iter().map(|reason| format!("{path}:{reason}")).collect();
    assert_eq!(violations(path, source), expected);
}

#[test]
fn a_sentence_that_begins_with_who_is_found() {
    let who = |line: u8| format!("{line}: a sentence begins with `Who`: name the actor");
    check("a.md", "Who comes late waits.\n", &[&who(1)]);
    check("a.md", "A seat goes. Who comes late waits.\n", &[&who(1)]);
    check("a.md", "A seat goes.\nWho comes late waits.\n", &[&who(1)]);
    check("a.md", "## Who is let in\n", &[&who(1)]);
    check("a.md", "A line:\n\n- **Who** comes late waits.\n", &[&who(3)]);
    check("a.md", "| seat | Who comes late waits. |\n", &[&who(1)]);
    check("a.rs", "//! A job.\n\nfn a() {} // Who comes late waits.\n", &[&who(3)]);
    check("a.rs", "/// Whoever comes late waits.\n", &["1: a sentence begins with `Whoever`: name the actor"]);
    check("a.yaml", "a: 1\n# Who comes late waits.\n", &[&who(2)]);
    check("a.proto", "// Who comes late waits.\n", &[&who(1)]);
}

#[test]
fn a_who_that_begins_no_sentence_of_prose_is_left_alone() {
    check("a.md", "The student who comes late waits, whoever it is.\n", &[]);
    check("a.md", "A sentence does not begin with `Who`.\n", &[]);
    check("a.md", "```text\nWho comes late waits.\n```\n", &[]);
    check("a.md", "Whole or not at all.\n", &[]);
    check("a.rs", "let who = \"Who comes late waits. // Who waits.\";\nWho::comes();\n", &[]);
    check("a.rs", "/// ```\n/// Who::comes();\n/// ```\n#[derive(Who)]\n", &[]);
    check("a.sql", "-- Who comes late waits.\n", &[]);
}

#[test]
fn a_phrase_with_a_plainer_form_is_found() {
    check("a.md", "All but\nfor one.\n", &["1: has `but for`: write `except`"]);
    check("a.rs", "// Done By hand.\n", &["1: has `by hand`: write `manually`"]);
    check("a.rs", "//! They are turned away.\n", &["1: has `turned away`: write `rejected`"]);
    check("a.md", "`submissions_turned_away` and `by hand` are names. By handles.\n", &[]);
    check("a.rs", "let text = \"by hand\";\n", &[]);
    check("a.rs", "// All but\nlet a = 1;\n// for one.\n", &[]);
}

#[test]
fn a_line_of_prose_that_is_too_wide_is_found() {
    let wide = "x".repeat(COLUMNS_MAX + 1);
    check("a.md", &wide, &["1: is wider than 120 columns"]);
    check("a.rs", &format!("    /// {}\n", "x".repeat(COLUMNS_MAX - 7)), &["1: is wider than 120 columns"]);
    check("a.rs", &format!("    /// {}\n", "x".repeat(COLUMNS_MAX - 8)), &[]);
    check("a.md", &format!("| {wide} |\n"), &[]);
    check("a.md", &format!("```sh\n{wide}\n```\n"), &[]);
    check("a.md", &format!("See [the page]({wide}).\n"), &[]);
    check("a.rs", &format!("let a = \"{wide}\";\n"), &[]);
}
