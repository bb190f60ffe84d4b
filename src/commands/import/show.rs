//! Shows the plan to people and programs.

use matricula_campus::Finding;
use serde_json::{Map, Value, json};

use super::plan::{Alarm, Changes, PartChanges, Plan};
use super::rows::Row;
use crate::output::{grouped, table};

/// Number of ids shown for each change; JSON contains all.
const SAMPLES: usize = 5;
/// Number of ids shown for changes that need --yes.
const SAMPLES_OF_ALARM: usize = 20;
/// Number of notes shown of each kind.
const NOTES: usize = 20;

/// One kind of the plan, as it is shown.
struct Kind {
    name: &'static str,
    /// The meaning of "closed" for this kind: `closed`, `removed`, `lifted`.
    closed: &'static str,
    added: Vec<String>,
    /// Ids with their differences.
    changed: Vec<(String, String)>,
    gone: Vec<String>,
    opened: Vec<String>,
    left_alone: usize,
}

/// The plan as a table, with samples below it.
pub fn shown(plan: &Plan) -> String {
    let kinds = kinds(plan);
    let rows = kinds.iter().map(|kind| {
        let count = |count: usize| if count == 0 { "-".to_owned() } else { grouped(count as u64) };
        let name = match kind.closed {
            "closed" => kind.name.to_owned(),
            other => format!("{} (closed: {other})", kind.name),
        };
        [
            name,
            count(kind.added.len()),
            count(kind.changed.len()),
            count(kind.gone.len()),
            count(kind.opened.len()),
            count(kind.left_alone),
        ]
    });
    let mut text = table(["plan", "added", "changed", "closed", "opened", "left alone"], rows, &[]);
    for kind in &kinds {
        let changed = kind.changed.iter().map(|(id, what)| match what.as_str() {
            "" => id.clone(),
            what => format!("{id} ({what})"),
        });
        let changed: Vec<String> = changed.collect();
        let lists =
            [("added", &kind.added), ("changed", &changed), (kind.closed, &kind.gone), ("opened", &kind.opened)];
        for (how, ids) in lists.into_iter().filter(|(_, ids)| !ids.is_empty()) {
            text.push_str(&format!("\n{} {how}: {}", kind.name, sample(ids, SAMPLES)));
        }
    }
    text
}

/// The plan as a document, with every id.
pub fn to_json(plan: &Plan) -> Value {
    let kinds = kinds(plan).into_iter().map(|kind| {
        let changed = kind.changed.into_iter().map(|(id, what)| json!({ "id": id, "what": what }));
        let document = json!({
            "added": kind.added,
            "changed": changed.collect::<Vec<_>>(),
            "closed": kind.gone,
            "opened": kind.opened,
            "left_alone": kind.left_alone,
        });
        (kind.name.replace(' ', "_"), document)
    });
    Value::Object(kinds.collect::<Map<String, Value>>())
}

/// The message of an import that needs --yes.
pub fn stopped(alarms: &[Alarm]) -> String {
    let lines = alarms.iter().map(|Alarm { what, how, ids, of }| {
        let percent = ids.len() * 100 / (*of).max(1);
        let (count, of) = (grouped(ids.len() as u64), grouped(*of as u64));
        format!("{count} of {of} {what} ({percent} %) would be {how}: {}", sample(ids, SAMPLES_OF_ALARM))
    });
    let lines: Vec<String> = lines.collect();
    format!(
        "{}\nNothing was imported. If these changes are intended, import again with --yes; `--output json` lists all of them.",
        lines.join("\n")
    )
}

/// The notes of the bundle's reader.
pub fn notes(notes: &[Finding]) -> String {
    let mut lines: Vec<String> = notes.iter().take(NOTES).map(|note| format!("note: {note}")).collect();
    if notes.len() > NOTES {
        lines.push(format!(
            "and {} more notes; `--output json` lists all of them",
            grouped((notes.len() - NOTES) as u64)
        ));
    }
    lines.join("\n")
}

fn sample(ids: &[String], max: usize) -> String {
    let mut text = ids.iter().take(max).cloned().collect::<Vec<_>>().join(", ");
    if ids.len() > max {
        text.push_str(&format!(" and {} more", grouped((ids.len() - max) as u64)));
    }
    text
}

fn kinds(plan: &Plan) -> Vec<Kind> {
    vec![
        rows("terms", "closed", &plan.terms),
        rows("courses", "closed", &plan.courses),
        rows("sections", "closed", &plan.sections),
        rows("seats", "closed", &plan.capacities),
        rows("students", "closed", &plan.students),
        parts("holds", "lifted", &plan.holds),
        parts("transcripts", "removed", &plan.transcripts),
        rows("rates", "removed", &plan.rates),
        rows("course fees", "removed", &plan.course_fees),
        rows("addresses", "removed", &plan.contacts),
    ]
}

fn rows<R: Row>(name: &'static str, closed: &'static str, changes: &Changes<R>) -> Kind {
    let ids = |rows: &[R]| rows.iter().map(|row| row.id().to_owned()).collect();
    let changed = changes.changed.iter().map(|(after, before)| (after.id().to_owned(), after.differences(before)));
    Kind {
        name,
        closed,
        added: ids(&changes.added),
        changed: changed.collect(),
        gone: ids(&changes.closed),
        opened: ids(&changes.opened),
        left_alone: changes.left_alone,
    }
}

fn parts(name: &'static str, closed: &'static str, changes: &PartChanges) -> Kind {
    Kind {
        name,
        closed,
        added: changes.added.clone(),
        changed: changes.changed.iter().map(|id| (id.clone(), "text".to_owned())).collect(),
        gone: changes.removed.clone(),
        opened: Vec::new(),
        left_alone: changes.left_alone,
    }
}
