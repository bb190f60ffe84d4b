//! Rosters: the existing enrollments of students.

use std::collections::HashMap;

use super::{
    Reading,
    people::{OtherRoles, STUDENT, parse_role},
    values::parse_end,
};
use crate::{
    file::File,
    ids::{RosterId, SectionId, StudentId},
    model::RosterEntry,
    problem::Finding,
    table::{Index, Row},
};

impl Reading<'_> {
    pub(super) fn rosters(&mut self) {
        let columns = ["sourcedId", "classSourcedId", "userSourcedId", "role"];
        let Some(mut table) = self.open(File::Enrollments, &columns) else { return };
        let mut rows = Index::new(File::Enrollments);
        let mut in_force: HashMap<(StudentId, SectionId), u64> = HashMap::new();
        let (mut entries, mut others) = (Vec::new(), OtherRoles::default());
        while let Some(row) = table.next_row(&mut self.problems) {
            let (id, ended) = rows.add(row, RosterId::try_new, &mut self.problems);
            let Some(role) = row.required("role", parse_role, &mut self.problems) else { continue };
            if role != STUDENT {
                others.add(role);
                continue;
            }
            let Some(entry) = id.and_then(|id| self.parse_entry(row, id, ended)) else { continue };
            if !ended {
                if !self.refers_to_people_and_classes(row, &entry) {
                    continue;
                }
                let place = (entry.student_id.clone(), entry.section_id.clone());
                let first = *in_force.entry(place).or_insert(row.line);
                if first != row.line {
                    let text = format!(
                        "{} is already in class {} by line {first}; this row is ignored",
                        entry.student_id, entry.section_id
                    );
                    self.notes.push(Finding::of_column(row.file, row.line, "userSourcedId", text));
                    continue;
                }
            }
            entries.push(entry);
        }
        self.notes.extend(others.note(File::Enrollments));
        self.bundle.rosters = Some(entries);
    }

    fn parse_entry(&mut self, row: Row<'_>, id: RosterId, ended: bool) -> Option<RosterEntry> {
        let problems = &mut self.problems;
        let student_id = row.required("userSourcedId", StudentId::try_new, problems);
        let section_id = row.required("classSourcedId", SectionId::try_new, problems);
        let ends_on = row.optional("endDate", parse_end, problems).flatten();
        Some(RosterEntry { id, student_id: student_id?, section_id: section_id?, ended, ends_on, line: row.line })
    }

    fn refers_to_people_and_classes(&mut self, row: Row<'_>, entry: &RosterEntry) -> bool {
        let has_section = self.sections.check(row, "classSourcedId", entry.section_id.as_str(), &mut self.problems);
        has_section & self.is_student_or_noted(row, "userSourcedId", entry.student_id.as_str())
    }
}
