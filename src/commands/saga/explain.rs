//! Explains why a saga is where it is, and what an operator can do about it.

use matricula_proto::ops::v1::{Advice, ExplainSagaRequest, ExplainSagaResponse, Wait};
use serde_json::{Value, json};

use super::lines;
use super::{Client, destinations, summary_to_json};
use crate::arguments::Format;
use crate::clients::answered;
use crate::output::{self, NONE, enum_name, moment, text};

/// The indentation of a step's continuation lines, relative to its name.
const HANG: usize = 23;

/// Requests the explanation and prints it.
pub async fn run(mut client: Client, saga_id: String, format: Format) -> anyhow::Result<()> {
    let answer = answered(client.explain_saga(ExplainSagaRequest { saga_id })).await?;
    output::show(format, || shown(&answer, lines::width()), || to_json(&answer))
}

fn shown(answer: &ExplainSagaResponse, width: usize) -> String {
    let id = answer.summary.as_ref().map(|summary| summary.saga_id.as_str()).unwrap_or_default();
    let (headline, steps) = answer.explanation.split_once('\n').unwrap_or((&answer.explanation, ""));
    // The id is never wrapped; the headline follows on the same line if it fits.
    let is_short = id.chars().count() + 2 + headline.chars().count() <= width;
    let mut text = format!("{id}{}{headline}", if is_short { "  " } else { "\n  " });
    text = lines::wrapped(&text, 2, width);
    for line in steps.lines() {
        let is_step = line.get(2..HANG + 1).is_some_and(|name| !name.trim_end().contains(' '));
        text = text + "\n" + &lines::wrapped(line, if is_step { HANG } else { 2 }, width);
    }
    text.push('\n');
    if answer.advice.is_empty() {
        text.push_str("\nNo decision is needed.\n");
        return text;
    }
    text.push_str("\nPossible now (each as `matricula saga ...` with a --reason):\n");
    for advice in &answer.advice {
        let lines = format!("  {}\n      {}\n", command(id, advice), advice.effect);
        text.push_str(&lines::wrapped(&lines, 0, width));
        text.push('\n');
    }
    text
}

fn command(id: &str, advice: &Advice) -> String {
    let answers: Vec<String> = advice.answers.iter().map(|answer| format!("--{answer}")).collect();
    format!("{} {id} {} {}", advice.verb, advice.step, answers.join("|")).trim_end().to_owned()
}

fn to_json(answer: &ExplainSagaResponse) -> Value {
    let advice = answer.advice.iter().map(|advice| {
        json!({
            "verb": advice.verb,
            "step": text(&advice.step),
            "effect": advice.effect,
            "answers": advice.answers,
        })
    });
    json!({
        "summary": answer.summary.as_ref().map(summary_to_json),
        "explanation": answer.explanation,
        "advice": advice.collect::<Vec<_>>(),
        "waits": answer.waits.iter().map(wait_to_json).collect::<Vec<_>>(),
        "only_log_because": text(&answer.only_log_because),
        "waits_for_saga_ids": answer.waits_for_saga_ids,
        "causes": answer.causes.iter().map(destinations::to_json).collect::<Vec<_>>(),
    })
}

fn wait_to_json(wait: &Wait) -> Value {
    json!({
        "step": wait.step,
        "undo": wait.undo,
        "service": wait.service,
        "kind": enum_name(wait.kind().as_str_name(), "WAIT_KIND_").to_lowercase(),
        "since": moment(wait.since.as_ref()),
        "until": moment(wait.until.as_ref()),
        "ahead": wait.ahead,
        "service_failing_since": moment(wait.service_failing_since.as_ref()),
        "service_last_error": text(&wait.service_last_error),
    })
}

/// The effect that an unconfirmed command would have; `said` is the result given to a resolve.
pub fn preview(answer: &ExplainSagaResponse, verb: &str, step: &str, said: Option<&str>) -> String {
    let is_taken = |advice: &Advice| said.is_none_or(|said| advice.answers.iter().any(|answer| answer == said));
    let found = answer.advice.iter().find(|advice| advice.verb == verb && advice.step == step && is_taken(advice));
    let what = if step.is_empty() { verb.to_owned() } else { format!("{verb} {step}") };
    match found {
        Some(advice) => format!("`{what}` {}.\nNothing was changed. Add --yes to carry it out.", advice.effect),
        None => format!(
            "`{what}` would be refused in the current state of the saga:\n{}\nNothing was changed.",
            if answer.explanation.is_empty() { NONE } else { answer.explanation.trim_end() }
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use matricula_proto::ops::v1::SagaSummary;

    fn advice(verb: &str, step: &str, answers: &[&str], effect: &str) -> Advice {
        let answers = answers.iter().map(|answer| (*answer).to_owned()).collect();
        Advice { verb: verb.to_owned(), step: step.to_owned(), effect: effect.to_owned(), answers }
    }

    fn stuck() -> ExplainSagaResponse {
        ExplainSagaResponse {
            summary: Some(SagaSummary { saga_id: "r-1".to_owned(), ..SagaSummary::default() }),
            explanation: "completing: committed; needs attention\n  notify   attempt 3 failed: unimplemented\n"
                .to_owned(),
            advice: vec![
                advice("retry", "notify", &[], "calls it at once"),
                advice("resolve", "enroll", &["done", "refused"], "counts it as done or as refused"),
                advice("skip", "notify", &[], "leaves it undone for good"),
                advice("abandon", "", &[], "ends the saga as it stands"),
            ],
            ..ExplainSagaResponse::default()
        }
    }

    #[test]
    fn the_possible_commands_are_shown() {
        insta::assert_snapshot!(shown(&stuck(), 100), @"
        r-1  completing: committed; needs attention
          notify   attempt 3 failed: unimplemented

        Possible now (each as `matricula saga ...` with a --reason):
          retry r-1 notify
              calls it at once
          resolve r-1 enroll --done|--refused
              counts it as done or as refused
          skip r-1 notify
              leaves it undone for good
          abandon r-1
              ends the saga as it stands
        ");
        let answer = ExplainSagaResponse { advice: Vec::new(), ..stuck() };
        insta::assert_snapshot!(shown(&answer, 100), @"
        r-1  completing: committed; needs attention
          notify   attempt 3 failed: unimplemented

        No decision is needed.
        ");
    }

    #[test]
    fn an_unconfirmed_command_shows_its_effect() {
        insta::assert_snapshot!(preview(&stuck(), "skip", "notify", None), @"
        `skip notify` leaves it undone for good.
        Nothing was changed. Add --yes to carry it out.
        ");
        insta::assert_snapshot!(preview(&stuck(), "skip", "settle_courses", None), @"
        `skip settle_courses` would be refused in the current state of the saga:
        completing: committed; needs attention
          notify   attempt 3 failed: unimplemented
        Nothing was changed.
        ");
    }
}
