//! What a message says, from the facts of the registration alone. Plain text, so that every sink can carry it.

use std::fmt::Write as _;

use matricula_kit::answer::Refusal;
use matricula_kit::id::SectionId;

use super::{Outcome, RegistrationResult};

/// Most sections that a subject names; more are counted.
const SECTIONS_NAMED_MAX: usize = 3;
/// Longest sentence that is taken from another service, in characters: what is longer is no sentence.
const SENTENCE_CHARS_MAX: usize = 1_000;

/// The subject: one line with the outcome and the sections.
pub fn subject(result: &RegistrationResult) -> String {
    let (added, dropped) = (&result.added, &result.dropped);
    match (result.outcome, added.as_slice(), dropped.as_slice()) {
        (Outcome::Enrolled, [], []) => "Your registration is complete".to_owned(),
        (Outcome::Enrolled, added, []) => format!("You are enrolled in {}", named(added)),
        (Outcome::Enrolled, [], dropped) => format!("You dropped {}", named(dropped)),
        (Outcome::Enrolled, added, dropped) => {
            format!("You are enrolled in {} and dropped {}", named(added), named(dropped))
        }
        (Outcome::Refused, added, dropped) => format!("Your registration{} was refused", wanted(added, dropped)),
        (Outcome::Cancelled, added, dropped) => format!("Your registration{} was cancelled", wanted(added, dropped)),
    }
}

/// The body: what was done or wanted, what it costs, every reason with what to do next, and the registration's id.
pub fn body(result: &RegistrationResult) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    match result.outcome {
        Outcome::Enrolled => {
            text.push_str("Your registration is complete.\n");
            list(&mut text, "Added", &result.added);
            list(&mut text, "Dropped", &result.dropped);
        }
        Outcome::Refused => {
            text.push_str("Your registration was refused. Nothing in your schedule has changed.\n");
            list(&mut text, "You asked to add", &result.added);
            list(&mut text, "You asked to drop", &result.dropped);
        }
        Outcome::Cancelled => {
            text.push_str("Your registration was cancelled. Nothing in your schedule has changed.\n");
            list(&mut text, "You had asked to add", &result.added);
            list(&mut text, "You had asked to drop", &result.dropped);
        }
    }
    match &result.charged {
        Some(charged) if charged.minor_units > 0 => {
            let _ = write!(text, "\nCharged to your account: {charged}\n");
        }
        Some(charged) if charged.minor_units < 0 => {
            let _ = write!(text, "\nGiven back to your account: {}\n", charged.negated());
        }
        _ => {}
    }
    if !result.reasons.is_empty() {
        text.push_str(if result.reasons.len() == 1 { "\nThe reason:\n" } else { "\nThe reasons:\n" });
        for refusal in &result.reasons {
            reason(&mut text, refusal);
        }
    }
    let _ = write!(text, "\nRegistration {}\n", result.registration);
    text
}

fn reason(text: &mut String, refusal: &Refusal) {
    text.push_str("- ");
    if let Some(section) = &refusal.section {
        let _ = write!(text, "{section}: ");
    }
    text.push_str(&sentence(&refusal.message));
    let against = sentence(&refusal.conflicts_with);
    if !against.is_empty() {
        let _ = write!(text, " ({against})");
    }
    text.push('\n');
    let next_step = sentence(&refusal.next_step);
    if !next_step.is_empty() {
        let _ = writeln!(text, "  What you can do: {next_step}");
    }
    if refusal.reason.overridable() {
        text.push_str("  Staff can grant you an override of this.\n");
    }
}

fn list(text: &mut String, title: &str, sections: &[SectionId]) {
    if sections.is_empty() {
        return;
    }
    let _ = write!(text, "\n{title}:\n");
    for section in sections {
        let _ = writeln!(text, "- {section}");
    }
}

/// " for A", or nothing when there is nothing to name.
fn wanted(added: &[SectionId], dropped: &[SectionId]) -> String {
    match (added, dropped) {
        ([], []) => String::new(),
        (added, []) => format!(" for {}", named(added)),
        ([], dropped) => format!(" to drop {}", named(dropped)),
        (added, dropped) => format!(" for {} in place of {}", named(added), named(dropped)),
    }
}

/// "A", "A and B", "A, B and C", "4 sections".
fn named(sections: &[SectionId]) -> String {
    match sections {
        [only] => only.to_string(),
        [first @ .., last] if sections.len() <= SECTIONS_NAMED_MAX => {
            let first: Vec<&str> = first.iter().map(SectionId::as_str).collect();
            format!("{} and {last}", first.join(", "))
        }
        _ => format!("{} sections", sections.len()),
    }
}

/// A sentence on one line: a line break of another service's must not look like a line of this message.
fn sentence(text: &str) -> String {
    let line = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    line.take(SENTENCE_CHARS_MAX).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests;
