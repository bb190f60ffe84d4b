//! The guards that can be removed from a world, to show that the invariants detect each missing guard.

/// A guard that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Broken {
    /// The store commits writes of an instance that has been marked dead.
    StoreForgetsTheFence,
    /// The store appends whatever the sequence and the owner of the saga are.
    StoreForgetsTheSequence,
    /// The store answers before the rows are durable.
    StoreAnswersEarly,
    /// The store admits the same key twice.
    StoreForgetsTheKey,
    /// The store numbers sagas in another order than that of its commits.
    TicketsComeOutOfOrder,
    /// The store lets a saga begin at once while other sagas are queued.
    StoreAdmitsPastTheLine,
    /// The store admits sagas while the door is closed.
    StoreForgetsTheDoor,
    /// The store admits more sagas of a student than may be open.
    StoreForgetsTheQuota,
    /// A saga that was claimed is queued again when its owner ends before it has called anything.
    ClaimedReturnToTheLine,
    /// The barrier loses its answers.
    BarrierForgetsAnswers,
    /// The barrier records only effects. A refused action is decided again.
    BarrierForgetsRefusals,
    /// An undo that comes before its action leaves nothing behind.
    BarrierForgetsTombstones,
    /// An answer "not yet" is recorded as if it were final.
    BarrierRecordsNotYet,
    /// A seat is given whether one is free or not.
    SeatsAreNotCounted,
    /// The pivot makes one section official, and leaves the other sections pending.
    PivotDoesAPart,
    /// A commit counts as written before the store has answered it.
    CommitIsAnsweredEarly,
    /// Watchers receive outcomes before they are durable.
    OutcomesAreSentEarly,
    /// A step that was attempted and not answered is not undone.
    UnansweredStepsAreLeft,
    /// An error counts as a refusal.
    ErrorsAreRefusals,
    /// A call is made while the same call is in flight.
    CallsAreMadeTwice,
    /// No wake-up of the core ever comes.
    WakeUpsAreLost,
    /// Calls that the last owner of an adopted saga may have made beyond its log are not undone.
    AdoptionIsSilent,
    /// The service of the pivot confirms a withdrawal without checking whether the pivot has happened.
    PivotIsNotLookedAt,
    /// Adopted sagas are not driven on.
    AdoptedAreForgotten,
    /// An adoption that reported an error is not repeated, so its sagas are lost.
    ChosenAreForgotten,
    /// A commit that reported an error is not tried again.
    WritesAreGivenUp,
    /// After the pivot a cancel is still obeyed, by calling the undos.
    CompensatesAfterThePivot,
    /// The notification service has no barrier.
    NotificationsHaveNoBarrier,
    /// A skip is recorded as done, so that a saga without one of its compensations reads compensated.
    SkipsAreHidden,
    /// A part of a commit is written, and all of it counts as written.
    CommitsAreCutShort,
    /// A commit with an unknown result is not tried again, and blocks all later writes.
    CommitsAreNotTriedAgain,
    /// An append that the store refuses counts as written.
    RefusedAppendsAreForgotten,
    /// A submission is answered before its saga is durable.
    SubmissionsAreAcceptedAtOnce,
    /// The late answer of an earlier call of a step counts for the call in flight, in either direction.
    OldAnswersCount,
    /// The answers of an RPC are given to its calls in another order.
    AnswersAreMixedUp,
    /// An RPC that has ended keeps its slot of the destination.
    RpcSlotsAreKept,
    /// A breaker that has opened never lets a probe through.
    BreakerNeverProbes,
    /// An instance that had no lease for a while declares other instances dead at once.
    LeaseIsBelievedTooLong,
    /// The first RPC of an adopted saga is never made, and the core waits for its end.
    AdoptionsForgetTheirFirstCall,
    /// An instance ignores its shutdown.
    StopIsIgnored,
    /// More sagas are at work than there are slots.
    SlotsAreNotCounted,
    /// A call that an operator has decided is still made.
    WithdrawnCallsAreMade,
    /// A queued pivot is called after its saga was cancelled.
    CancelledPivotsAreMade,
    /// A pivot that is not in flight is called after the deadline of its saga.
    TimedOutPivotsAreMade,
    /// Another compensation leaves together with that of the pivot.
    UndosDoNotWait,
    /// A pivot that an operator has found not to have happened is not withdrawn at its service.
    FoundPivotsAreLeft,
    /// Only one saga at a time is at work, regardless of the number of slots.
    SlotsStayEmpty,
    /// Operators do not see the waits of a saga.
    CallsInFlightAreHidden,
    /// Submissions are let in beyond the bounds.
    QueuesHaveNoBound,
    /// Sagas are never flagged in the store.
    RefusedAreHidden,
    /// A fenced core still processes the later inputs of the same step.
    FencedGoOn,
    /// Calls that no client waits for leave at once.
    CallsDoNotGather,
    /// A commit is sent some seconds after it is due.
    CommitsAreHeldBack,
    /// A batch that a service rejects as invalid fails as a whole.
    HalvesAreLost,
    /// All commits of an instance have the same number.
    CommitsHaveOneNumber,
    /// An instance that shuts down waits for nothing.
    EndsAtOnce,
    /// Sagas are claimed in another order than that of their tickets.
    ClaimsAreUnsorted,
    /// The first of the sagas that were read ahead is lost.
    LineIsReadWithGaps,
    /// A slot that was reserved for a saga which another instance has claimed is never given back.
    MissedClaimsKeepTheirSlots,
    /// A claim that reported an error is not tried again.
    LostClaimsAreForgotten,
    /// A cancel of a saga that is queued waits for its turn.
    CancelsInLineWait,
    /// A submission begins at once while an earlier one is to be queued.
    QueuedBeginAhead,
    /// A claim ignores the bounds of other instances.
    OthersAreNotWaitedFor,
    /// An instance sets no bound on the claims of other instances.
    FrontsAreNotNoted,
}
