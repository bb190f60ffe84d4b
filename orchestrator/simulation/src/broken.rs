//! The guards that can be taken out of a world, to show that the invariants find what each of them is for.

/// A guard that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Broken {
    /// The store commits what an instance writes that has been marked dead.
    StoreForgetsTheFence,
    /// The store appends whatever the sequence and the owner of the saga are.
    StoreForgetsTheSequence,
    /// The store answers before what it answers is durable.
    StoreAnswersEarly,
    /// The store admits the same key twice.
    StoreForgetsTheKey,
    /// The barrier does not know what it has answered.
    BarrierForgetsAnswers,
    /// The barrier knows what was done, and not what was refused: it is decided again.
    BarrierForgetsRefusals,
    /// An undo that comes before its action leaves nothing behind.
    BarrierForgetsTombstones,
    /// An answer "not yet" is recorded as if it were final.
    BarrierRecordsNotYet,
    /// A seat is given whether one is free or not.
    SeatsAreNotCounted,
    /// The pivot makes one section official, and leaves the others pending.
    PivotDoesAPart,
    /// Effects are acted on before the events that decided them are durable.
    OwnerActsBeforeDurable,
    /// Outcomes are told before they are durable.
    OwnerTellsBeforeDurable,
    /// A step that was attempted and not answered is not undone.
    OwnerLeavesUnansweredSteps,
    /// An error counts as a refusal.
    OwnerTurnsOnErrors,
    /// A call is made though the same call is under way.
    OwnerCallsTwice,
    /// No timer is ever set.
    OwnerForgetsTimers,
    /// What an adopted saga's last owner may have called beyond its log is not undone.
    OwnerAdoptsSilently,
    /// Who is to make sure that a pivot never happens says that it does, and has not looked.
    PivotIsNotLookedAt,
    /// Adopted sagas are not driven on.
    OwnerForgetsAdopted,
    /// What an adoption that reported an error has taken is not asked for again.
    OwnerForgetsWhatItChose,
    /// A commit that reported an error is not tried again.
    OwnerGivesUpWrites,
    /// After the pivot a cancel is still obeyed, by calling the undos.
    OwnerUndoesAfterThePivot,
    /// The notification service has no barrier.
    NotificationsHaveNoBarrier,
    /// What an operator skips is written down as done, so that a saga with an undo left out reads compensated.
    OwnerHidesSkips,
}

impl Broken {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::StoreForgetsTheFence,
        Self::StoreForgetsTheSequence,
        Self::StoreAnswersEarly,
        Self::StoreForgetsTheKey,
        Self::BarrierForgetsAnswers,
        Self::BarrierForgetsRefusals,
        Self::BarrierForgetsTombstones,
        Self::BarrierRecordsNotYet,
        Self::SeatsAreNotCounted,
        Self::PivotDoesAPart,
        Self::OwnerActsBeforeDurable,
        Self::OwnerTellsBeforeDurable,
        Self::OwnerLeavesUnansweredSteps,
        Self::OwnerTurnsOnErrors,
        Self::OwnerCallsTwice,
        Self::OwnerForgetsTimers,
        Self::OwnerAdoptsSilently,
        Self::PivotIsNotLookedAt,
        Self::OwnerForgetsAdopted,
        Self::OwnerForgetsWhatItChose,
        Self::OwnerGivesUpWrites,
        Self::OwnerUndoesAfterThePivot,
        Self::NotificationsHaveNoBarrier,
        Self::OwnerHidesSkips,
    ];
}
