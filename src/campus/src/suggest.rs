//! Finds what somebody may have meant.

/// One wrong letter in so many is a slip, more is another word.
const LETTERS_A_SLIP: usize = 5;
/// No name is longer, and the time for a comparison has an end.
const CHARS_MAX: usize = 100;

/// The known name that is most like the text, if any is like it. Capitals do not count.
pub(crate) fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if text.len() > CHARS_MAX {
        return None;
    }
    let wanted = text.to_lowercase();
    let slips_max = (wanted.chars().count() / LETTERS_A_SLIP).max(1);
    let distance = |name: &str| strsim::damerau_levenshtein(&wanted, &name.to_lowercase());
    let nearest = known.into_iter().map(|name| (distance(name), name)).min_by_key(|(distance, _)| *distance);
    nearest.filter(|(distance, _)| *distance <= slips_max).map(|(_, name)| name)
}

/// `; did you mean NAME?`, or nothing.
pub(crate) fn did_you_mean<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(text, known).map_or(String::new(), |name| format!("; did you mean {name}?"))
}

/// `did you mean NAME?`, or `use one of` all names.
pub(crate) fn suggested(text: &str, known: &[&str]) -> String {
    match nearest(text, known.iter().copied()) {
        Some(name) => format!("did you mean {name}?"),
        None => format!("use one of {}", known.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_are_found_and_other_words_are_not() {
        let known = ["metadata.maxNumberStudents", "metadata.credits", "student", "teacher"];
        for (text, expected) in [
            ("metadata.maxNumberStudent", Some("metadata.maxNumberStudents")),
            ("metadata.Credtis", Some("metadata.credits")),
            ("Student", Some("student")),
            ("techer", Some("teacher")),
            ("metadata.seats", None),
            ("pupil", None),
            ("", None),
        ] {
            assert_eq!(nearest(text, known), expected, "{text}");
        }
    }
}
