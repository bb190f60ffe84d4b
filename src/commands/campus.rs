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
    output::show(format, || shown(&bundle), || to_json(&bundle, &dir.to_string()))?;
    eprintln!("Wrote the bundle to {dir}. Next: `matricula import {dir}`, then `matricula rush {dir} --speed 60x`");
    Ok(ExitCode::SUCCESS)
}

/// The counts of the bundle: the name of each for programs, its name for people, and the count.
fn counts(bundle: &Bundle) -> [(&'static str, &'static str, u64); 6] {
    let seats: i64 = bundle.sections.iter().filter_map(|section| section.capacity).map(i64::from).sum();
    let duration_s = bundle.registrations.last().map_or(0, |click| click.arrival_ms / 1_000);
    [
        ("courses", "courses", bundle.courses.len() as u64),
        ("sections", "sections", bundle.sections.len() as u64),
        ("seats", "seats", seats.unsigned_abs()),
        ("students", "students", bundle.students.len() as u64),
        ("clicks", "clicks of the morning", bundle.registrations.len() as u64),
        ("duration_s", "length of the morning, s", duration_s),
    ]
}

fn to_json(bundle: &Bundle, dir: &str) -> Value {
    let mut document = json!({ "dir": dir });
    for (name, _, count) in counts(bundle) {
        document[name] = count.into();
    }
    document
}

fn shown(bundle: &Bundle) -> String {
    let rows = counts(bundle).into_iter().map(|(_, what, count)| [what.to_owned(), grouped(count)]);
    table(["generated", "count"], rows, &[])
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
