//! Suggests the name that was probably meant.

/// One wrong letter per this many letters is a typing error; more means another word.
const LETTERS_A_SLIP: usize = 5;
/// No name is longer; this bounds the time of a comparison.
const CHARS_MAX: usize = 100;

/// The known name that is most similar to the text, if any is similar enough. Case is ignored.
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

/// `; did you mean NAME?`, or an empty text.
pub(crate) fn did_you_mean<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(text, known).map_or(String::new(), |name| format!("; did you mean {name}?"))
}

/// `did you mean NAME?`, or `use one of` with all names.
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
    fn typing_errors_are_found_and_other_words_are_not() {
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
