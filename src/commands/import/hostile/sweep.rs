//! Tries every kind of bad value in every column of every file: either reading names the file, the line and the column,
//! or the services accept all rows.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use matricula_campus::{CompletedCourse, Finding, Hold, HoldId};

use super::*;

/// A file and a column.
type Named = (&'static str, &'static str);

/// The second place reports a wrong value of the first: a value that is valid by itself may be wrong only where another
/// place refers to it, or beside its neighbour.
const MISSED_BY: [(Named, Named); 18] = [
    (("orgs.csv", "sourcedId"), ("courses.csv", "orgSourcedId")),
    (("orgs.csv", "status"), ("courses.csv", "orgSourcedId")),
    (("academicSessions.csv", "sourcedId"), ("classes.csv", "termSourcedIds")),
    (("academicSessions.csv", "status"), ("classes.csv", "termSourcedIds")),
    (("courses.csv", "sourcedId"), ("classes.csv", "courseSourcedId")),
    (("courses.csv", "status"), ("classes.csv", "courseSourcedId")),
    (("courses.csv", "courseCode"), ("courses.csv", "metadata.prerequisites")),
    (("classes.csv", "sourcedId"), ("registrations.csv", "addClassSourcedIds")),
    (("classes.csv", "metadata.component"), ("classes.csv", "metadata.component")),
    (("users.csv", "sourcedId"), ("roles.csv", "userSourcedId")),
    (("users.csv", "status"), ("roles.csv", "userSourcedId")),
    (("users.csv", "givenName"), ("users.csv", "familyName")),
    (("users.csv", "metadata.appointmentStart"), ("users.csv", "metadata.appointmentEnd")),
    (("roles.csv", "role"), ("registrations.csv", "studentSourcedId")),
    (("roles.csv", "status"), ("registrations.csv", "studentSourcedId")),
    (("registrations.csv", "arrivalMs"), ("registrations.csv", "arrivalMs")),
    // Reported for the whole file, and for the whole row.
    (("manifest.csv", "propertyName"), ("manifest.csv", "")),
    (("registrations.csv", "addClassSourcedIds"), ("registrations.csv", "")),
];

/// A small campus that has a value for everything that the reader reads.
fn campus() -> Bundle {
    let mut campus = matricula_campus::generate(Spec::try_new(12, 8, 1).expect("a small campus"));
    let moment = |text: &str| Some(text.parse().expect("a moment"));
    let (course_id, term) = (campus.courses[0].id.clone(), &mut campus.terms[0]);
    (term.add_deadline, term.drop_deadline) = (moment("2026-09-01T00:00:00Z"), moment("2026-10-01T00:00:00Z"));
    term.rates.as_mut().expect("generated terms have rates").balance_limit_minor = Some(1_000_000);
    campus.sections[0].permission_required = true;
    let student = &mut campus.students[0];
    student.appointment_start = moment("2026-08-01T00:00:00Z");
    student.appointment_end = moment("2026-12-01T00:00:00Z");
    student.max_credits_hundredths = Some(1_800);
    student.holds.push(Hold { id: HoldId::try_new("H1").expect("an id"), description: "Pay".to_owned() });
    student.completed.push(CompletedCourse { course_id, grade: "B".to_owned(), term_id: None });
    campus
}

/// A file of a bundle, as cells.
struct Cells {
    path: PathBuf,
    name: String,
    rows: Vec<Vec<String>>,
}

impl Cells {
    fn read(path: PathBuf) -> Self {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(&path).expect("a file");
        let rows = reader.records().map(|row| row.expect("a row").iter().map(str::to_owned).collect());
        Self { name: path.file_name().expect("a name").to_string_lossy().into_owned(), rows: rows.collect(), path }
    }

    fn write(&self) {
        let mut writer = csv::Writer::from_path(&self.path).expect("a file");
        self.rows.iter().for_each(|row| writer.write_record(row).expect("written"));
        writer.flush().expect("written");
    }

    /// The places to try: every row of the manifest, because its rows differ; of the other files the first row.
    fn places(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (rows, columns) = (self.rows.len(), self.rows[0].len());
        assert!(rows > 1, "{} has a row", self.name);
        let last = if self.name == "manifest.csv" { rows } else { 2 };
        (1..last).flat_map(move |row| (0..columns).map(move |column| (row, column)))
    }
}

/// A value at its place.
struct Tried<'a> {
    file: &'a str,
    line: u64,
    column: &'a str,
    value: &'a str,
}

impl Tried<'_> {
    /// Whether a problem names this place, or a place that depends on the value.
    fn is_named_by(&self, problem: &Finding) -> bool {
        let place = (problem.file.as_str(), problem.column.as_deref().unwrap_or_default());
        let mut missed_by = MISSED_BY.iter().filter(|(column, _)| *column == (self.file, self.column));
        place == (self.file, self.column) && problem.line == Some(self.line)
            || missed_by.any(|(_, missed_by)| *missed_by == place)
    }
}

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.value.chars().take(40).collect();
        write!(f, "{}:{}: {} = {shown:?} ({} bytes)", self.file, self.line, self.column, self.value.len())
    }
}

/// Imports into services that have other bundles, and into new ones if these refuse it. A valid bundle must not depend
/// on the existing data, except for the currency.
async fn import(bundle: &Bundle, services: &Services) -> anyhow::Result<()> {
    let imported = import_bundle(bundle, services, &TimeZone::UTC).await;
    if imported.is_ok() {
        return imported;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (services, end) = super::services(folder.path()).await;
    let imported = import_bundle(bundle, &services, &TimeZone::UTC).await;
    end.cancel();
    imported
}

#[tokio::test]
async fn every_column_refuses_by_its_name_or_is_imported() {
    let folder = tempfile::tempdir().expect("a folder");
    let (dir, sound, values) = (folder.path().join("bundle"), campus(), values());
    matricula_campus::write(&sound, &dir).expect("it is written");
    assert_eq!(matricula_campus::read(&dir).as_ref(), Ok(&sound));
    let (services, end) = services(folder.path()).await;
    let (mut wrong, mut imported) = (Vec::new(), 0);
    let mut refused: BTreeMap<(String, String), u32> = BTreeMap::new();
    for entry in fs::read_dir(&dir).expect("the bundle") {
        let mut cells = Cells::read(entry.expect("a file").path());
        for (row, column) in cells.places() {
            let before = cells.rows[row][column].clone();
            for value in &values {
                cells.rows[row][column].clone_from(value);
                cells.write();
                let (file, line, column) = (&cells.name, row as u64 + 1, &cells.rows[0][column]);
                let tried = Tried { file, line, column, value };
                match matricula_campus::read(&dir) {
                    Err(errors) => {
                        check_problems(&errors);
                        let is_named = errors.problems().iter().any(|problem| tried.is_named_by(problem));
                        if !is_named {
                            wrong.push(format!("{tried}: rejected, but the place is wrong: {errors}"));
                        }
                        *refused.entry((file.clone(), column.clone())).or_default() += 1;
                    }
                    // The column is not read, or the value means the same.
                    Ok(bundle) if bundle == sound => {}
                    Ok(bundle) => {
                        imported += 1;
                        if let Err(error) = import(&bundle, &services).await {
                            wrong
                                .push(format!("{tried}: accepted by the reader, but rejected by a service: {error:#}"));
                        }
                    }
                }
            }
            cells.rows[row][column] = before;
        }
        cells.write();
    }
    end.cancel();
    println!("{refused:?} refused, {imported} imported");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
