//! Why a saga is where it is, in words, and what an operator can do about it.

use std::fmt::Write as _;

use matricula_engine::{Definition, advice, explain};
use matricula_kit::time::UnixMs;
use matricula_proto::ops::v1 as ops;
use matricula_registration::StoredRegistration;

use crate::wire;

/// The explanation of a stored saga.
pub(crate) fn explained(definition: &Definition, stored: &StoredRegistration, now: UnixMs) -> ops::ExplainSagaResponse {
    let (mut explanation, advice) = match &stored.read {
        Ok((_, state)) => (explain(definition, state, now.0), advice(definition, state)),
        Err(_) if !stored.is_unreadable() => {
            let file = stored.archived_in().unwrap_or_default();
            (format!("finished; its log is in the archive, in {file}\n"), Vec::new())
        }
        // No verb can be carried out: none of them would know what it does.
        Err(problem) => (format!("can't be read here, and is left alone: {problem}\n"), Vec::new()),
    };
    explanation.push_str(&driver(stored));
    let advice = advice.into_iter().map(|advice| ops::Advice {
        verb: advice.verb.to_owned(),
        step: advice.step.unwrap_or_default().to_owned(),
        effect: advice.effect.to_owned(),
        answers: advice.answers.iter().map(|answer| (*answer).to_owned()).collect(),
    });
    ops::ExplainSagaResponse { summary: Some(wire::summary(stored)), explanation, advice: advice.collect() }
}

/// Who drives it, and whether that instance lives by the database's clock.
fn driver(stored: &StoredRegistration) -> String {
    let mut text = String::from("  ");
    let owner = &stored.row.owner;
    // Writing to a string does not fail.
    let _ = match (wire::is_finished(stored), stored.row.owner_alive) {
        (true, _) => writeln!(text, "nobody drives it any more: it is finished"),
        (false, true) if stored.read.is_err() => writeln!(text, "it belongs to instance {owner}, which lives"),
        (false, true) => writeln!(text, "driven by instance {owner}, which lives"),
        (false, false) => {
            writeln!(text, "instance {owner}, which drove it, does not live: the next one that does adopts it")
        }
    };
    text
}
