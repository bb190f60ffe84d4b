//! The bounds of rows of a roster. A row out of its bounds is rejected with its number and the name of the field.

use std::collections::HashSet;

use matricula_kit::id::{RosterRowId, StudentId};
use matricula_kit::rpc::{FieldError, each, required_id};
use matricula_kit::time::UnixMs;
use matricula_proto::ops::v1 as ops;
use matricula_registration::{RegistrationRequest, Roster};

/// Rows in a call: each becomes a saga, and all of them are read and written together.
const ROWS_MAX: usize = 1_000;

/// A row, and its change set.
#[derive(Debug)]
pub(super) struct Row {
    pub id: RosterRowId,
    pub request: RegistrationRequest,
}

/// The rows of a call, none twice.
pub(super) fn rows(wire: Vec<ops::RosterRow>, charge: bool, now: UnixMs) -> Result<Vec<Row>, FieldError> {
    let rows = each("rows", wire, 1..=ROWS_MAX, |wire| row(wire, charge, now))?;
    let mut named = HashSet::with_capacity(rows.len());
    match rows.iter().position(|row| !named.insert((&row.request.student, &row.id))) {
        Some(index) => {
            Err(FieldError::new(format!("rows[{index}].row_id"), format!("{} is named twice", rows[index].id)))
        }
        None => Ok(rows),
    }
}

fn row(wire: ops::RosterRow, charge: bool, now: UnixMs) -> Result<Row, FieldError> {
    let ops::RosterRow { row_id, student_id, section_id, ended_section_id } = wire;
    let id = required_id("row_id", row_id, RosterRowId::try_new)?;
    let student = required_id("student_id", student_id, StudentId::try_new)?;
    let list = |section: String| if section.is_empty() { Vec::new() } else { vec![section] };
    let (adds, drops) = (list(section_id), list(ended_section_id));
    if adds.is_empty() && drops.is_empty() {
        let problem =
            "must name the section to add; a row that only ends an enrollment names its section in ended_section_id";
        return Err(FieldError::new("section_id", problem));
    }
    if adds == drops {
        return Err(FieldError::new("ended_section_id", "must not be the section to add"));
    }
    let request = RegistrationRequest::try_new(student, adds, drops, Vec::new(), now).map_err(of_row)?;
    let request = request.of_roster(Roster { row: id.clone(), charge });
    Ok(Row { id, request })
}

/// A problem with the section that is added or dropped, with the name of its field in a row.
fn of_row(problem: FieldError) -> FieldError {
    let field = match problem.field.as_str() {
        "adds[0]" => "section_id",
        "drops[0]" => "ended_section_id",
        _ => return problem,
    };
    FieldError { field: field.to_owned(), ..problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(row: &str, student: &str, section: &str, ended: &str) -> ops::RosterRow {
        let [row_id, student_id, section_id, ended_section_id] = [row, student, section, ended].map(str::to_owned);
        ops::RosterRow { row_id, student_id, section_id, ended_section_id }
    }

    #[track_caller]
    fn check(wire: Vec<ops::RosterRow>, expect: &str) {
        let checked = rows(wire, false, UnixMs(0));
        assert_eq!(checked.err().map(|problem| problem.field).unwrap_or_default(), expect);
    }

    #[test]
    fn bounds_are_named_by_row_and_field() {
        check(vec![wire("E1", "s1", "A", ""), wire("E1", "s2", "", "A"), wire("E2", "s1", "B", "A")], "");
        check(Vec::new(), "rows");
        check(vec![wire("E1", "s1", "A", ""); ROWS_MAX + 1], "rows");
        check(vec![wire("E1", "s1", "A", ""), wire("E1", "s1", "B", "")], "rows[1].row_id");
        check(vec![wire("", "s1", "A", "")], "rows[0].row_id");
        check(vec![wire("a b", "s1", "A", "")], "rows[0].row_id");
        check(vec![wire("E1", "", "A", "")], "rows[0].student_id");
        check(vec![wire("E1", "s1", "", "")], "rows[0].section_id");
        check(vec![wire("E1", "s1", "a b", "")], "rows[0].section_id");
        check(vec![wire("E1", "s1", "A", "a b")], "rows[0].ended_section_id");
        check(vec![wire("E1", "s1", "A", "A")], "rows[0].ended_section_id");
    }

    #[test]
    fn a_row_is_a_request_of_its_import() {
        let rows = rows(vec![wire("E1", "s1", "B", "A")], true, UnixMs(7)).expect("within the bounds");
        let Row { id, request } = &rows[0];
        let roster = request.roster.as_ref().expect("it is an import's");
        assert_eq!((&roster.row, roster.charge, request.submitted_at), (id, true, UnixMs(7)));
        assert_eq!(request.fingerprint(), "+B -A");
    }
}
