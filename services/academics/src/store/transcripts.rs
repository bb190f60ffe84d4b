//! Transcripts: all courses that a student has completed are one text in one row. Imports and rules read them together,
//! and imports write them together. A student has dozens of them, so that one row for each would hold up decisions for
//! dozens of times as many rows when an import brings the grades of a term.
//!
//! The text has `course|term|grade` for each course, separated by commas: ids have neither of both signs. The term is
//! empty where it is not known.

use matricula_kit::database::{DbError, PendingQuery, Row, Rows, Tx};
use matricula_kit::id::{CourseId, StudentId, TermId};

use super::students::ids;
use crate::domain::student::{Completed, Profile};

// `CROSS JOIN` with a condition keeps SQLite from reading the whole table: it takes the rows one after the other.
const OF_STUDENTS: &str = "SELECT t.student_id, t.completed FROM {rows} CROSS JOIN transcript t \
     WHERE t.student_id = r.student_id";
const PUT: &str = "INSERT INTO transcript (student_id, completed) SELECT student_id, completed FROM {rows} WHERE true \
     ON CONFLICT (student_id) DO UPDATE SET completed = excluded.completed";

/// Queries the transcripts of these students. A student who has completed nothing may have none.
pub(super) fn queue(tx: &mut Tx, students: &[&StudentId]) -> PendingQuery {
    tx.queue(OF_STUDENTS, ids(students))
}

/// The student and the completed courses of a row.
pub(super) fn transcript(row: &Row) -> Result<(String, Vec<Completed>), DbError> {
    let (student, text) = (row.text("student_id")?, row.text("completed")?);
    let completed = parse(&text);
    let completed =
        completed.ok_or_else(|| DbError::corrupt(format!("student {student}: the transcript is {text:?}")))?;
    Ok((student, completed))
}

/// Stores the transcripts of these students.
pub(super) async fn put(tx: &mut Tx, profiles: &[&Profile]) -> Result<(), DbError> {
    let rows = Rows::new()
        .text("student_id", profiles.iter().map(|profile| profile.id.as_str()))
        .text("completed", profiles.iter().map(|profile| shown(&profile.completed)));
    tx.execute(PUT, rows.into()).await.map(drop)
}

fn shown(completed: &[Completed]) -> String {
    let one =
        |done: &Completed| format!("{}|{}|{}", done.course, done.term.as_ref().map_or("", TermId::as_str), done.grade);
    completed.iter().map(one).collect::<Vec<_>>().join(",")
}

fn parse(text: &str) -> Option<Vec<Completed>> {
    let one = |text: &str| {
        let mut fields = text.split('|');
        let (course, term, grade) = (fields.next()?, fields.next()?, fields.next()?);
        let term = (!term.is_empty()).then(|| TermId::stored(term.to_owned()));
        Some(Completed { course: CourseId::stored(course.to_owned()), grade: grade.parse().ok()?, term })
    };
    if text.is_empty() { Some(Vec::new()) } else { text.split(',').map(one).collect() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_stored_is_read(
            stored in proptest::collection::vec(("[!#-&(-+./-_a-z{}~-]{1,9}", "[!#-&(-+./-_a-z{}~-]{0,9}", "[A-D][+-]?|F|N?P"), 0..5)
        ) {
            let completed: Vec<Completed> = stored.into_iter().map(|(course, term, grade)| Completed {
                course: CourseId::try_new(course).expect("an id"),
                term: (!term.is_empty()).then(|| TermId::try_new(term).expect("an id")),
                grade: grade.parse().expect("a grade"),
            }).collect();
            prop_assert_eq!(parse(&shown(&completed)), Some(completed));
        }
    }

    #[test]
    fn what_is_no_transcript_is_told() {
        for text in ["c1", "c1|fall", "c1|fall|E", "c1||B,", ","] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
