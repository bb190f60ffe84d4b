//! A small bundle as files of a registrar's system, and changes to them.

use std::fs;
use std::path::{Path, PathBuf};

use matricula_harness::System;

/// Fall with its two halves, and spring; far in the future.
const SESSIONS: &str = "\
sourcedId,status,title,type,startDate,endDate,parentSourcedId,schoolYear,metadata.maxCredits
FALL,,Fall,term,2096-08-24,2096-12-18,,2097,18
FALLA,,\"Fall, first half\",term,2096-08-24,2096-10-16,FALL,2097,
FALLB,,\"Fall, second half\",term,2096-10-19,2096-12-18,FALL,2097,
SPRING,,Spring,term,2097-01-11,2097-05-07,,2097,18
";
const COURSES: &str = "\
sourcedId,status,title,courseCode,orgSourcedId,metadata.credits,metadata.prerequisites
C1,,Algebra,MATH101,org1,3,
C2,,Analysis,MATH102,org1,3,MATH101
C3,,Poetry,ENGL101,org1,3,
C4,,Chess,GAME101,org1,3,
C5,,Rowing,SPRT101,org1,3,
";
const CLASSES: &str = "\
sourcedId,status,title,courseSourcedId,schoolSourcedId,termSourcedIds,metadata.maxNumberStudents,metadata.meetings
M1-F,,,C1,org1,FALL,30,MWF 09:00-09:50
M1-S,,,C1,org1,SPRING,30,MWF 09:00-09:50
M2-F,,,C2,org1,FALL,30,TR 11:00-12:15
M2-S,,,C2,org1,SPRING,30,TR 11:00-12:15
E1-F,,,C3,org1,FALL,30,MWF 09:50-10:40
G1-FA,,,C4,org1,FALLA,30,MWF 09:00-09:50
R1-FB,,,C5,org1,FALLB,30,MWF 09:00-09:50
R1-F,,,C5,org1,FALL,30,
";

/// A folder with the files of a bundle.
pub struct Files {
    folder: PathBuf,
}

impl Files {
    /// The bundle without changes, with this many students, S1 to S<students>.
    pub fn new(system: &System, students: u32) -> Self {
        let folder = system.folder().join("files");
        fs::create_dir_all(&folder).expect("a folder");
        let files = Self { folder };
        files.put(
            "manifest.csv",
            "propertyName,value\nmanifest.version,1.0\noneroster.version,1.2\nfile.academicSessions,bulk\n\
             file.orgs,bulk\nfile.courses,bulk\nfile.classes,bulk\nfile.users,bulk\nfile.roles,bulk\n",
        );
        files.put("orgs.csv", "sourcedId,status,name,type\norg1,,Test College,school\n");
        files.put("academicSessions.csv", SESSIONS);
        files.put("courses.csv", COURSES);
        files.put("classes.csv", CLASSES);
        let mut users = "sourcedId,status,enabledUser,username,givenName,familyName,email\n".to_owned();
        let mut roles = "sourcedId,status,userSourcedId,roleType,role,beginDate,endDate,orgSourcedId\n".to_owned();
        for number in 1..=students {
            users.push_str(&format!("S{number},,true,s{number},Test,Person{number},s{number}@example.edu\n"));
            roles.push_str(&format!("r{number},,S{number},primary,student,,,org1\n"));
        }
        files.put("users.csv", &users);
        files.put("roles.csv", &roles);
        files
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Writes a file.
    pub fn put(&self, file: &str, text: &str) {
        fs::write(self.folder.join(file), text).expect("the file is written");
    }

    /// Removes a file.
    pub fn remove(&self, file: &str) {
        fs::remove_file(self.folder.join(file)).expect("the file is there");
    }

    /// Replaces a text that occurs once in a file.
    #[track_caller]
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.folder.join(file)).expect("the file is there");
        assert_eq!(text.matches(from).count(), 1, "{file} has {from:?} once:\n{text}");
        self.put(file, &text.replace(from, to));
    }

    /// Removes a column from a file. No field of these files has a line break; a quoted line is left as it is.
    pub fn without_column(&self, file: &str, column: &str) {
        let mut reader = csv::Reader::from_path(self.folder.join(file)).expect("the file is there");
        let header = reader.headers().expect("a header").clone();
        let at = header.iter().position(|name| name == column).expect("the column is there");
        let mut writer = csv::Writer::from_writer(Vec::new());
        let rows = reader.records().map(|row| row.expect("a row"));
        for row in std::iter::once(header.clone()).chain(rows) {
            writer
                .write_record(row.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, field)| field))
                .expect("written");
        }
        fs::write(self.folder.join(file), writer.into_inner().expect("written")).expect("the file is written");
    }
}
