//! Shows rosters to people and programs: the plan, and the refused changes.

use serde_json::{Value, json};

use super::plan::{Change, Note, RosterPlan};
use super::send::Outcome;
use crate::commands::import::plan::Alarm;
use crate::output::grouped;

/// Maximum number of lines of one kind; JSON contains all.
const LINES: usize = 20;

impl RosterPlan {
    /// The summary of the plan in a line, and the rows that can't be taken over.
    pub fn shown(&self) -> String {
        let count = |count: usize| grouped(count as u64);
        let moved = self.add.iter().filter(|change| change.ended.is_some()).count();
        let mut text = format!(
            "rosters: {} added, {} moved, {} ended, {} left alone, {} conflicts, {} unchanged",
            count(self.add.len() - moved),
            count(moved),
            count(self.end.len()),
            count(self.left_alone.len()),
            count(self.conflicts.len()),
            count(self.unchanged)
        );
        for (what, notes) in [("left alone", &self.left_alone), ("conflict", &self.conflicts)] {
            let line =
                |note: &Note| format!("roster, {what}: enrollments.csv:{}: {}: {}", note.line, note.row, note.message);
            text.push_str(&lines(notes.iter().map(line)));
        }
        text
    }

    /// The plan as a document.
    pub fn to_json(&self) -> Value {
        let changes = |changes: &[Change]| changes.iter().map(Change::shown).collect::<Vec<_>>();
        let notes = |notes: &[Note]| {
            let note = |note: &Note| json!({ "row": note.row, "line": note.line, "why": note.message });
            notes.iter().map(note).collect::<Vec<_>>()
        };
        json!({
            "added": changes(&self.add),
            "ended": changes(&self.end),
            "left_alone": notes(&self.left_alone),
            "conflicts": notes(&self.conflicts),
            "unchanged": self.unchanged,
        })
    }

    /// Set if the import would end more enrollments than it may end without --yes.
    pub fn alarm(&self) -> Option<Alarm> {
        let moved = self.add.iter().filter(|change| change.ended.is_some());
        let ids: Vec<String> = self.end.iter().chain(moved).map(Change::shown).collect();
        Alarm::raised("enrollments of rosters", "ended", ids, self.taken_over)
    }
}

impl Outcome {
    /// The summary of the outcome, and the refused changes.
    pub fn shown(&self) -> String {
        let Self { added, ended, refused } = self;
        let (added, ended) = (grouped(*added as u64), grouped(*ended as u64));
        let mut text = format!("rosters: {added} taken over, {ended} ended, {} refused", grouped(refused.len() as u64));
        let line = |(change, why): &(Change, String)| format!("roster, refused: {}: {why}", change.shown());
        text.push_str(&lines(refused.iter().map(line)));
        text
    }

    /// The outcome as a document.
    pub fn to_json(&self) -> Value {
        let refused = self.refused.iter().map(|(change, why)| json!({ "row": change.shown(), "why": why }));
        json!({ "taken_over": self.added, "ended": self.ended, "refused": refused.collect::<Vec<_>>() })
    }
}

/// Each on its own line, limited to the size of a screen.
fn lines(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(LINES);
    let mut text: String = all.take(LINES).map(|line| format!("\n{line}")).collect();
    if more > 0 {
        text.push_str(&format!("\nand {} more; `--output json` lists all of them", grouped(more as u64)));
    }
    text
}
