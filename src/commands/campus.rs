//! `matricula campus`: generates a campus and its registration morning, as a bundle for `import` and `rush`.

use std::process::ExitCode;

use anyhow::Context as _;
use matricula_campus::{Bundle, Spec};
use serde_json::{Value, json};

use crate::arguments::{Campus, Format};
use crate::output::{self, Progress, grouped, table};

/// Runs a subcommand of `campus`.
pub async fn run(command: Campus, format: Format) -> anyhow::Result<ExitCode> {
    let Campus::Generate { dir, students, sections, seed } = command;
    let spec = Spec::try_new(students, sections, seed)?;
    let progress = Progress::on_terminal();
    progress.now("generating the campus");
    let target = dir.clone();
    let written: anyhow::Result<Bundle> = tokio::task::spawn_blocking(move || {
        let bundle = matricula_campus::generate(spec);
        matricula_campus::write(&bundle, &target).context("the bundle can't be written; choose another folder")?;
        Ok(bundle)
    })
    .await?;
    let bundle = written?;
    drop(progress);
    let dir = dir.display();
    match format {
        Format::Table => output::print(shown(&bundle)),
        Format::Json => output::json(&to_json(&bundle, &dir.to_string()))?,
    }
    eprintln!("Wrote the bundle to {dir}. Next: `matricula import {dir}`, then `matricula rush {dir} --speed 60x`");
    Ok(ExitCode::SUCCESS)
}

/// The size of the generated campus.
struct Counts {
    courses: u64,
    sections: u64,
    seats: u64,
    students: u64,
    clicks: u64,
    duration_s: u64,
}

impl Counts {
    fn of(bundle: &Bundle) -> Self {
        let seats: i64 = bundle.sections.iter().filter_map(|section| section.capacity).map(i64::from).sum();
        Self {
            courses: bundle.courses.len() as u64,
            sections: bundle.sections.len() as u64,
            seats: seats.unsigned_abs(),
            students: bundle.students.len() as u64,
            clicks: bundle.registrations.len() as u64,
            duration_s: bundle.registrations.last().map_or(0, |click| click.arrival_ms / 1_000),
        }
    }
}

fn to_json(bundle: &Bundle, dir: &str) -> Value {
    let Counts { courses, sections, seats, students, clicks, duration_s } = Counts::of(bundle);
    json!({
        "dir": dir,
        "courses": courses,
        "sections": sections,
        "seats": seats,
        "students": students,
        "clicks": clicks,
        "duration_s": duration_s,
    })
}

fn shown(bundle: &Bundle) -> String {
    let Counts { courses, sections, seats, students, clicks, duration_s } = Counts::of(bundle);
    let mut table = table(["generated", "count"]);
    for (what, count) in [
        ("courses", courses),
        ("sections", sections),
        ("seats", seats),
        ("students", students),
        ("clicks of the morning", clicks),
        ("length of the morning, s", duration_s),
    ] {
        table.add_row([what.to_owned(), grouped(count)]);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generated_campus_is_shown() {
        let spec = Spec::try_new(30, 10, 1).expect("a small campus");
        insta::assert_snapshot!(shown(&matricula_campus::generate(spec)), @"
         generated                  count
        ──────────────────────────────────
         courses                    2
         sections                   10
         seats                      174
         students                   30
         clicks of the morning      170
         length of the morning, s   725
        ");
    }
}
