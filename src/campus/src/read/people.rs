//! Students: users with the role of a student, and the dates of their roles.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::civil::Date;

use super::{
    NAMED_MAX, Reading,
    values::{parse_bool, parse_credit_limit, parse_date, parse_end, parse_timestamp},
};
use crate::{
    file::File,
    ids::{Invalid, StudentId, check_email},
    model::Student,
    problem::{Finding, Problems},
    suggest::suggested,
    table::{Index, PEOPLE_CHARS_MAX, Row},
};

/// The role of students.
pub(super) const STUDENT: &str = "student";
/// The roles of OneRoster: those in an organisation, and `administrator`, which occurs in rosters only.
const ROLES: [&str; 13] = [
    "administrator",
    "aide",
    "counselor",
    "districtAdministrator",
    "guardian",
    "parent",
    "principal",
    "proctor",
    "relative",
    "siteAdministrator",
    STUDENT,
    "systemAdministrator",
    "teacher",
];
/// The prefix of custom roles in OneRoster.
const OWN_ROLE_PREFIX: &str = "ext:";

/// When a user has the role of a student: from the earliest begin to the latest end.
#[derive(Clone, Copy)]
struct Active {
    /// `None`: no begin.
    from: Option<Date>,
    /// The day after the last day; `None`: no end.
    until: Option<Date>,
}

/// Counts rows of roles that are not read.
#[derive(Default)]
pub(super) struct OtherRoles {
    rows: BTreeMap<String, usize>,
}

impl Reading<'_> {
    /// Reads every user; [`Self::roles`] keeps the students.
    pub(super) fn users(&mut self) {
        let Some(mut table) = self.open(File::Users, &["sourcedId", "givenName", "familyName"]) else { return };
        while let Some(row) = table.next_row(&mut self.problems) {
            let problems = &mut self.problems;
            let (id, deleted) = self.users.add(row, StudentId::try_new, problems);
            self.bundle.students.extend(id.and_then(|id| parse_student(row, id, deleted, problems)));
        }
        self.users.complete = table.complete;
    }

    pub(super) fn roles(&mut self) {
        let Some(mut table) = self.open(File::Roles, &["sourcedId", "userSourcedId", "role"]) else { return };
        let mut rows = Index::new(File::Roles);
        let mut actives: HashMap<String, Active> = HashMap::new();
        let (mut with_other_roles, mut others) = (HashSet::new(), OtherRoles::default());
        while let Some(row) = table.next_row(&mut self.problems) {
            let problems = &mut self.problems;
            let (_, deleted) = rows.add(row, Ok, problems);
            let user = row.required("userSourcedId", Ok, problems);
            let role = row.required("role", parse_role, problems);
            let active = parse_active(row, problems);
            let (Some(user), Some(role), false) = (user, role, deleted) else { continue };
            if role != STUDENT {
                others.add(role);
                with_other_roles.insert(user.to_owned());
            } else if self.users.check(row, "userSourcedId", user, problems) {
                actives.entry(user.to_owned()).and_modify(|known| known.extend(active)).or_insert(active);
            }
        }
        self.notes.extend(others.note(File::Roles));
        if table.complete {
            self.without_role(|id| actives.contains_key(id) || with_other_roles.contains(id));
        }
        for student in &mut self.bundle.students {
            if let Some(active) = actives.get(student.id.as_str()) {
                (student.active_from, student.active_until) = (active.from, active.until);
            }
        }
        self.bundle.students.retain(|student| actives.contains_key(student.id.as_str()));
        self.students = table.complete.then(|| actives.into_keys().collect());
    }

    /// Notes the users without any role, which are therefore not students.
    fn without_role(&mut self, has_role: impl Fn(&str) -> bool) {
        let students = self.bundle.students.iter();
        let mut without = students.filter(|student| !student.closed && !has_role(student.id.as_str()));
        let Some(first) = without.next() else { return };
        let text = match without.count() {
            0 => format!("user {} has no role in {}, and is not imported as a student", first.id, File::Roles),
            more => format!(
                "user {} and {more} more have no role in {}, and are not imported as students",
                first.id,
                File::Roles
            ),
        };
        self.notes.push(Finding::of_file(File::Users, text));
    }
}

impl Active {
    fn extend(&mut self, other: Self) {
        // `None` is before every date as a begin, and after every date as an end.
        self.from = self.from.min(other.from);
        self.until = self.until.zip(other.until).map(|(one, other)| one.max(other));
    }
}

impl OtherRoles {
    pub(super) fn add(&mut self, role: &str) {
        *self.rows.entry(role.to_owned()).or_default() += 1;
    }

    pub(super) fn note(self, file: File) -> Option<Finding> {
        let rows: usize = self.rows.values().sum();
        let counts: Vec<String> =
            self.rows.iter().take(NAMED_MAX).map(|(role, rows)| format!("{rows} {role}")).collect();
        let text = format!(
            "only rows of the role {STUDENT} are read; {rows} rows of other roles are ignored ({})",
            counts.join(", ")
        );
        (rows > 0).then(|| Finding::of_file(file, text))
    }
}

/// Parses a role of OneRoster.
pub(super) fn parse_role(text: &str) -> Result<&str, Invalid> {
    if ROLES.contains(&text) || text.strip_prefix(OWN_ROLE_PREFIX).is_some_and(|own| !own.is_empty()) {
        return Ok(text);
    }
    Err(Invalid::new(format!("not a role of OneRoster; {}", suggested(text, &ROLES))))
}

fn parse_active(row: Row<'_>, problems: &mut Problems) -> Active {
    let from = row.optional("beginDate", parse_date, problems);
    let until = row.optional("endDate", parse_end, problems).flatten();
    if let (Some(from), Some(until)) = (from, until)
        && until < from
    {
        row.refuse("endDate", &until.to_string(), "is before beginDate; correct one of them", problems);
    }
    Active { from, until }
}

fn parse_student(row: Row<'_>, id: StudentId, deleted: bool, problems: &mut Problems) -> Option<Student> {
    let given_name = row.for_people("givenName", problems);
    let family_name = row.for_people("familyName", problems);
    if let (Some(given), Some(family)) = (given_name, family_name)
        && given.chars().count() + 1 + family.chars().count() > PEOPLE_CHARS_MAX
    {
        let what = format!("is longer than {PEOPLE_CHARS_MAX} characters with givenName; shorten one of them");
        row.refuse("familyName", family, what, problems);
    }
    let checked_email = |text| check_email(text).map(|()| text);
    let email = row.optional("email", checked_email, problems).unwrap_or_default();
    let enabled = row.optional("enabledUser", parse_bool, problems).unwrap_or(true);
    let appointment_start = row.optional("metadata.appointmentStart", parse_timestamp, problems);
    let appointment_end = row.optional("metadata.appointmentEnd", parse_timestamp, problems);
    if let (Some(start), Some(end)) = (appointment_start, appointment_end)
        && end <= start
    {
        let what = "is not after metadata.appointmentStart; correct one of them";
        row.refuse("metadata.appointmentEnd", &end.to_string(), what, problems);
    }
    let max_credits_hundredths = row.optional("metadata.maxCredits", parse_credit_limit, problems);
    Some(Student {
        id,
        given_name: given_name?.to_owned(),
        family_name: family_name?.to_owned(),
        email: email.to_owned(),
        appointment_start,
        appointment_end,
        max_credits_hundredths,
        holds: Vec::new(),
        completed: Vec::new(),
        closed: deleted,
        disabled: !enabled,
        active_from: None,
        active_until: None,
    })
}
