//! The weather: the chance of each small fault, and how long messages take.
//!
//! Each history draws its own weather, and leaves out about half of the faults: a history with all faults at once makes
//! little progress, and one kind of fault would hide the effects of another.

use crate::draws::Draw;

/// Chances are in 1,024ths.
#[derive(Debug, Clone, Default)]
pub(crate) struct Weather {
    /// A message between two parties is lost.
    pub lost: u32,
    /// It comes twice.
    pub twice: u32,
    /// It is late.
    pub late: u32,
    /// How late at most, in milliseconds.
    pub late_ms: u32,
    /// How long it takes otherwise, at most, in milliseconds.
    pub usual_ms: u32,
    /// A call is answered with an error and not done.
    pub error_before: u32,
    /// A call is done and answered with an error.
    pub error_after: u32,
    /// An action that may refuse does.
    pub refused: u32,
    /// An action can't be decided yet.
    pub not_yet: u32,
    /// A transaction is not executed.
    pub store_error_before: u32,
    /// A transaction is committed and reported as failed.
    pub store_error_after: u32,
    /// The instance notices a failure of the store only by its timeout.
    pub store_hangs: u32,
    /// A transaction loses to another one.
    pub store_conflicts: u32,
    /// A row is refused for a while.
    pub row_refused: u32,
    /// How long the store takes at most, in milliseconds.
    pub store_ms: u32,
    /// A process crashes at one of the places where it matters: after a call has left, an answer or a commit has come.
    pub crash_at_point: u32,
    /// A client submits again although it has its answer.
    pub asked_again: u32,
}

impl Weather {
    /// Nothing goes wrong.
    pub(crate) fn calm() -> Self {
        Self { late_ms: 1, usual_ms: 4, store_ms: 3, ..Self::default() }
    }

    pub(crate) fn draw(draw: &mut Draw) -> Self {
        let mut some = |below: u32| if draw.chance(512) { draw.below(below) } else { 0 };
        Self {
            lost: some(250),
            twice: some(250),
            late: some(300),
            late_ms: 1 + some(30_000),
            usual_ms: 1 + some(60),
            error_before: some(250),
            error_after: some(250),
            refused: some(120),
            not_yet: some(150),
            store_error_before: some(150),
            store_error_after: some(150),
            store_hangs: some(512),
            store_ms: 1 + some(40),
            crash_at_point: some(24),
            asked_again: some(300),
            store_conflicts: some(60),
            row_refused: some(24),
        }
    }
}
