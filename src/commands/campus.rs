//! `matricula campus`: makes up a campus with its registration morning, as a bundle to import and to play.

use std::process::ExitCode;

use anyhow::Context as _;
use matricula_campus::{Bundle, Spec};

use crate::arguments::Campus;
use crate::output::{self, Progress, grouped, table};

/// Runs a verb of `campus`.
pub async fn run(command: Campus) -> anyhow::Result<ExitCode> {
    let Campus::Generate { dir, students, sections, seed } = command;
    let spec = Spec::try_new(students, sections, seed)?;
    let progress = Progress::on_terminal();
    progress.now("making up the campus");
    let target = dir.clone();
    let written: anyhow::Result<Bundle> = tokio::task::spawn_blocking(move || {
        let bundle = matricula_campus::generate(spec);
        matricula_campus::write(&bundle, &target).context("the bundle can't be written; name another folder")?;
        Ok(bundle)
    })
    .await?;
    let bundle = written?;
    drop(progress);
    output::print(shown(&bundle));
    let dir = dir.display();
    eprintln!("Written to {dir}. Next: `matricula import {dir}`, then `matricula rush {dir} --speed 60x`");
    Ok(ExitCode::SUCCESS)
}

fn shown(bundle: &Bundle) -> String {
    let seats: i64 = bundle.sections.iter().filter_map(|section| section.capacity).map(i64::from).sum();
    let duration_s = bundle.registrations.last().map_or(0, |click| click.arrival_ms / 1_000);
    let mut table = table(["made up", "count"]);
    for (what, count) in [
        ("courses", bundle.courses.len() as u64),
        ("sections", bundle.sections.len() as u64),
        ("seats", seats.unsigned_abs()),
        ("students", bundle.students.len() as u64),
        ("clicks of the morning", bundle.registrations.len() as u64),
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
    fn what_was_made_up_is_shown() {
        let spec = Spec::try_new(30, 10, 1).expect("a small campus");
        insta::assert_snapshot!(shown(&matricula_campus::generate(spec)), @"
         made up                    count
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
