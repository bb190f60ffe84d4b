//! `matricula override`: exempts a student from one reason for a refusal. (`override` is a keyword of Rust.)

use std::process::ExitCode;

use matricula_kit::time::UnixMs;
use matricula_proto::academics::v1::{GrantOverrideRequest, Override as Wire};
use serde_json::{Value, json};

use crate::arguments::{Format, Grant, Override};
use crate::clients::answered;
use crate::commands::registration::reason_name;
use crate::commands::student::{academics, record};
use crate::config::Config;
use crate::output::{self, moment, moment_or_none, or_none, text};

/// Runs a subcommand of `override`.
pub async fn run(config: &Config, command: Override, format: Format) -> anyhow::Result<ExitCode> {
    let academics = academics(config).await?;
    match command {
        Override::Grant(grant) => {
            let granted = self::grant(academics, &grant).await?;
            output::show(format, || shown(std::slice::from_ref(&granted)), || to_json(&granted))?;
            eprintln!("Granted and recorded, by {}. The student can register now.", grant.decision.by());
        }
        Override::List { student } => {
            let overrides = record(academics, &student).await?.overrides;
            let text = || if overrides.is_empty() { format!("{student} has no override.") } else { shown(&overrides) };
            output::show(format, text, || overrides.iter().map(to_json).collect())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn grant(mut academics: crate::commands::student::Academics, grant: &Grant) -> anyhow::Result<Wire> {
    let request = GrantOverrideRequest {
        student_id: grant.student.clone(),
        section_id: grant.section.clone().unwrap_or_default(),
        reason: grant.past.to_wire().into(),
        granted_by: grant.decision.by(),
        justification: grant.decision.reason.clone(),
        valid_until: grant.until.map(|until| UnixMs(until.as_millisecond()).to_wire()),
    };
    Ok(answered(academics.grant_override(request)).await?.r#override.unwrap_or_default())
}

/// Overrides for people.
pub fn shown(overrides: &[Wire]) -> String {
    let rows = overrides.iter().map(|granted| {
        [
            reason_name(granted.reason).to_owned(),
            if granted.section_id.is_empty() { "all".to_owned() } else { granted.section_id.clone() },
            moment(granted.valid_until.as_ref()).unwrap_or_else(|| "no limit".to_owned()),
            or_none(&granted.granted_by),
            output::source(granted.source()),
            granted.justification.clone(),
            moment_or_none(granted.granted_at.as_ref()),
            granted.override_id.clone(),
        ]
    });
    output::table(
        ["reason", "section", "until", "by", "source", "justification", "granted", "override"],
        rows,
        &["override", "granted", "source", "by"],
    )
}

/// An override for programs.
pub fn to_json(granted: &Wire) -> Value {
    json!({
        "override_id": granted.override_id,
        "student_id": granted.student_id,
        "section_id": text(&granted.section_id),
        "reason": reason_name(granted.reason),
        "granted_by": granted.granted_by,
        "source": output::source_to_json(granted.source()),
        "justification": granted.justification,
        "granted_at": moment(granted.granted_at.as_ref()),
        "valid_until": moment(granted.valid_until.as_ref()),
    })
}
