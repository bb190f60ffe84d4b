//! `matricula hold`: holds, which block a student's registrations until staff lift them.

use std::process::ExitCode;

use matricula_proto::academics::v1::{Hold as Wire, SetHoldRequest};
use serde_json::{Value, json};

use crate::arguments::{Decision, Format, Hold, SetHold};
use crate::clients::answered;
use crate::commands::student::{Academics, academics, record};
use crate::config::Config;
use crate::output;

/// Runs a subcommand of `hold`.
pub async fn run(config: &Config, command: Hold, format: Format) -> anyhow::Result<ExitCode> {
    let academics = academics(config).await?;
    let student = match command {
        Hold::List { student } => student,
        Hold::Set(SetHold { student, hold, text, decision }) => {
            let hold = Wire { hold_id: hold, description: text, ..Wire::default() };
            change(academics.clone(), &student, hold, false, &decision).await?;
            student
        }
        Hold::Lift { student, hold, decision } => {
            let holds = holds(academics.clone(), &student).await?;
            if !holds.iter().any(|known| known.hold_id == hold) {
                let known: Vec<&str> = holds.iter().map(|hold| hold.hold_id.as_str()).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                anyhow::bail!("{student} has no hold named {hold}; the existing holds are: {known}");
            }
            let hold = Wire { hold_id: hold, ..Wire::default() };
            change(academics.clone(), &student, hold, true, &decision).await?;
            student
        }
    };
    let holds = holds(academics, &student).await?;
    let text = || if holds.is_empty() { format!("{student} has no hold.") } else { shown(&holds) };
    output::show(format, text, || holds.iter().map(to_json).collect())?;
    Ok(ExitCode::SUCCESS)
}

async fn change(
    mut academics: Academics,
    student: &str,
    hold: Wire,
    lifted: bool,
    decision: &Decision,
) -> anyhow::Result<()> {
    let name = hold.hold_id.clone();
    let request = SetHoldRequest {
        student_id: student.to_owned(),
        hold: Some(hold),
        lifted,
        changed_by: decision.by(),
        justification: decision.reason.clone(),
    };
    answered(academics.set_hold(request)).await?;
    let done = if lifted { "lifted" } else { "set" };
    eprintln!("Recorded in the log of the academic service: {name} {done} by {}", decision.by());
    Ok(())
}

async fn holds(academics: Academics, student: &str) -> anyhow::Result<Vec<Wire>> {
    Ok(record(academics, student).await?.student.unwrap_or_default().holds)
}

/// Holds for people.
pub fn shown(holds: &[Wire]) -> String {
    let rows = holds.iter().map(|hold| [hold.hold_id.clone(), hold.description.clone(), output::source(hold.source())]);
    output::table(["hold", "the student reads", "set by"], rows, &["set by"])
}

/// A hold for programs.
pub fn to_json(hold: &Wire) -> Value {
    json!({
        "hold_id": hold.hold_id,
        "description": hold.description,
        "source": output::source_to_json(hold.source()),
    })
}
