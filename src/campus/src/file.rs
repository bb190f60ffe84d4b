//! The files of a bundle: their names, their columns, and their names in the manifest.

use std::fmt;

/// A file of a bundle. Problems are listed in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    /// `manifest.csv`: which files the bundle has.
    Manifest,
    /// `academicSessions.csv`: terms.
    AcademicSessions,
    /// `orgs.csv`: schools, which are only checked.
    Orgs,
    /// `courses.csv`.
    Courses,
    /// `classes.csv`: sections.
    Classes,
    /// `users.csv`: people, among them the students.
    Users,
    /// `roles.csv`: which people are students.
    Roles,
    /// `holds.csv`, an extension to OneRoster.
    Holds,
    /// `completed.csv`, an extension to OneRoster: transcripts.
    Completed,
    /// `enrollments.csv`: rosters.
    Enrollments,
    /// `registrations.csv`, an extension to OneRoster: the clicks of a registration morning, which `rush` replays.
    Registrations,
}

impl File {
    /// Every file that is read.
    pub const ALL: [Self; 11] = [
        Self::Manifest,
        Self::AcademicSessions,
        Self::Orgs,
        Self::Courses,
        Self::Classes,
        Self::Users,
        Self::Roles,
        Self::Holds,
        Self::Completed,
        Self::Enrollments,
        Self::Registrations,
    ];

    /// The file name in the folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest.csv",
            Self::AcademicSessions => "academicSessions.csv",
            Self::Orgs => "orgs.csv",
            Self::Courses => "courses.csv",
            Self::Classes => "classes.csv",
            Self::Users => "users.csv",
            Self::Roles => "roles.csv",
            Self::Holds => "holds.csv",
            Self::Completed => "completed.csv",
            Self::Enrollments => "enrollments.csv",
            Self::Registrations => "registrations.csv",
        }
    }

    /// The file with this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|file| file.name() == name)
    }

    /// Its property in the manifest; `None` for the manifest itself and for our extensions.
    pub(crate) fn property(self) -> Option<String> {
        let is_in_it = !matches!(self, Self::Manifest | Self::Holds | Self::Completed | Self::Registrations);
        is_in_it.then(|| format!("file.{}", self.name().trim_end_matches(".csv")))
    }

    /// Whether every bundle must have the file.
    pub(crate) fn is_required(self) -> bool {
        match self {
            Self::Manifest | Self::AcademicSessions | Self::Courses | Self::Classes | Self::Users | Self::Roles => true,
            Self::Orgs | Self::Holds | Self::Completed | Self::Enrollments | Self::Registrations => false,
        }
    }

    /// The columns that are read.
    #[rustfmt::skip]
    pub(crate) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Manifest => &["propertyName", "value"],
            Self::AcademicSessions => &[
                "sourcedId", "status", "title", "type", "startDate", "endDate", "parentSourcedId",
                "metadata.addDeadline", "metadata.dropDeadline", "metadata.maxCredits", "metadata.currency",
                "metadata.perCreditMinor", "metadata.refundLadder", "metadata.balanceLimitMinor", "metadata.timeZone",
            ],
            Self::Orgs => &["sourcedId", "status"],
            Self::Courses => &[
                "sourcedId", "status", "title", "courseCode", "orgSourcedId", "metadata.credits",
                "metadata.prerequisites", "metadata.corequisites", "metadata.feeMinor",
            ],
            Self::Classes => &[
                "sourcedId", "status", "title", "courseSourcedId", "schoolSourcedId", "termSourcedIds",
                "metadata.maxNumberStudents", "metadata.component", "metadata.meetings",
                "metadata.permissionRequired",
            ],
            Self::Users => &[
                "sourcedId", "status", "enabledUser", "givenName", "familyName", "email",
                "metadata.appointmentStart", "metadata.appointmentEnd", "metadata.maxCredits",
            ],
            Self::Roles => &["sourcedId", "status", "userSourcedId", "role", "beginDate", "endDate"],
            Self::Holds => &["holdId", "studentSourcedId", "description"],
            Self::Completed => &["studentSourcedId", "courseSourcedId", "termSourcedId", "grade"],
            Self::Enrollments => &["sourcedId", "status", "classSourcedId", "userSourcedId", "role", "endDate"],
            Self::Registrations => {
                &["arrivalMs", "idempotencyKey", "studentSourcedId", "addClassSourcedIds", "dropClassSourcedIds"]
            }
        }
    }

    /// Columns of OneRoster 1.2 that are not read, because course registration does not need them.
    #[rustfmt::skip]
    pub(crate) fn unused_columns(self) -> &'static [&'static str] {
        match self {
            Self::AcademicSessions => &["dateLastModified", "schoolYear"],
            Self::Orgs => &["dateLastModified", "name", "type", "identifier", "parentSourcedId"],
            Self::Courses => &["dateLastModified", "schoolYearSourcedId", "grades", "subjects", "subjectCodes"],
            Self::Classes => &[
                "dateLastModified", "grades", "classCode", "classType", "location", "subjects", "subjectCodes",
                "periods",
            ],
            Self::Users => &[
                "dateLastModified", "username", "userIds", "middleName", "identifier", "sms", "phone",
                "agentSourcedIds", "grades", "password", "userMasterIdentifier", "resourceSourcedIds",
                "preferredGivenName", "preferredMiddleName", "preferredFamilyName", "primaryOrgSourcedId", "pronouns",
            ],
            Self::Roles => &["dateLastModified", "roleType", "orgSourcedId", "userProfileSourcedId"],
            Self::Enrollments => &["dateLastModified", "schoolSourcedId", "primary", "beginDate"],
            Self::Manifest | Self::Holds | Self::Completed | Self::Registrations => &[],
        }
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
