//! The registration morning: each click refers to records of the bundle.

use super::Reading;
use crate::{file::File, model::Registration, registrations, table::Row};

impl Reading<'_> {
    pub(super) fn registrations(&mut self) {
        let Some(mut table) = self.open(File::Registrations, File::Registrations.columns()) else { return };
        let mut last_arrival_ms = 0;
        while let Some(row) = table.next_row(&mut self.problems) {
            let Some(registration) = registrations::parse(row, &mut last_arrival_ms, &mut self.problems) else {
                continue;
            };
            if self.refers_to_what_exists(row, &registration) {
                self.bundle.registrations.push(registration);
            }
        }
    }

    fn refers_to_what_exists(&mut self, row: Row<'_>, registration: &Registration) -> bool {
        let mut exists = self.is_student(row, registration.student_id.as_str());
        let lists = [("addClassSourcedIds", &registration.adds), ("dropClassSourcedIds", &registration.drops)];
        for (column, sections) in lists {
            for section in sections {
                // A cancelled section may be requested: the refusal is part of the morning.
                exists &= self.sections.check(row, column, section.as_str(), &mut self.problems);
            }
        }
        exists
    }

    /// Whether `studentSourcedId` of a row refers to a student, which may be closed; otherwise it is a problem.
    fn is_student(&mut self, row: Row<'_>, id: &str) -> bool {
        if !self.users.check(row, "studentSourcedId", id, &mut self.problems) {
            return false;
        }
        let is_student = self.has_student_role(id);
        if !is_student {
            let what =
                format!("does not have the role student in {}; add the role there or correct this value", File::Roles);
            row.refuse("studentSourcedId", id, what, &mut self.problems);
        }
        is_student
    }
}
