//! Removes each guard once: the simulation must detect it; otherwise it would detect no fault of that kind. And checks
//! that each invariant alone detects some missing guard.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::ValueEnum as _;
use matricula_simulation::Broken::{self, *};
use matricula_simulation::{Budget, Simulation, campaign};

/// The rarest faults need a few hundred histories.
const HISTORIES: u64 = 10_000;
/// For a very slow machine; almost every guard needs less than a second.
const TIME: Duration = Duration::from_secs(60);

/// A guard, and the invariants that detect alone that it is missing.
const SEEN_BY: [(Broken, &[&str]); 64] = [
    (StoreForgetsTheFence, &["a fenced instance is silent"]),
    (StoreForgetsTheSequence, &["the log folds"]),
    (StoreAnswersEarly, &["durable first", "nothing forgotten", "one outcome"]),
    (StoreForgetsTheKey, &["nobody twice"]),
    (TicketsComeOutOfOrder, &["turns follow tickets", "the line moves"]),
    (StoreAdmitsPastTheLine, &["turns follow tickets"]),
    (StoreForgetsTheDoor, &["the door holds"]),
    (StoreForgetsTheQuota, &["the bounds hold"]),
    (ClaimedReturnToTheLine, &["never back in line"]),
    (BarrierForgetsAnswers, &["effects once", "each notified once", "one truth", "nothing left behind"]),
    (BarrierForgetsRefusals, &["nothing left behind", "no seat without right", "one truth"]),
    (BarrierForgetsTombstones, &["nothing left behind", "no seat without right", "one truth"]),
    (BarrierRecordsNotYet, &["nothing forgotten"]),
    (SeatsAreNotCounted, &["no seat without right"]),
    (PivotDoesAPart, &["all or nothing", "one truth"]),
    (
        CommitIsAnsweredEarly,
        &["one commit at a time", "the queued are nobody's", "durable first", "nothing forgotten", "one outcome"],
    ),
    (OutcomesAreSentEarly, &["one outcome"]),
    (UnansweredStepsAreLeft, &["nothing left behind", "all or nothing", "one truth", "answers are true"]),
    (ErrorsAreRefusals, &["no way back", "answers are true"]),
    (CallsAreMadeTwice, &["one call at a time"]),
    (WakeUpsAreLost, &["nothing forgotten"]),
    (AdoptionIsSilent, &["nothing left behind", "one truth", "answers are true"]),
    (PivotIsNotLookedAt, &["no way back", "nothing left behind"]),
    (AdoptedAreForgotten, &["nothing forgotten"]),
    (ChosenAreForgotten, &["nothing forgotten"]),
    (WritesAreGivenUp, &["nothing forgotten"]),
    (CompensatesAfterThePivot, &["no way back", "one truth"]),
    (NotificationsHaveNoBarrier, &["effects once", "each notified once"]),
    (SkipsAreHidden, &["manual decisions are recorded"]),
    (CommitsAreCutShort, &["durable first", "nothing forgotten"]),
    (CommitsAreNotTriedAgain, &["nothing forgotten"]),
    (RefusedAppendsAreForgotten, &["durable first", "nothing forgotten"]),
    (SubmissionsAreAcceptedAtOnce, &["nothing forgotten"]),
    (OldAnswersCount, &["answers are true"]),
    (AnswersAreMixedUp, &["answers are true"]),
    (RpcSlotsAreKept, &["nothing forgotten"]),
    (BreakerNeverProbes, &["nothing forgotten"]),
    (LeaseIsBelievedTooLong, &["the living are not ended"]),
    (AdoptionsForgetTheirFirstCall, &["nothing forgotten"]),
    (StopIsIgnored, &["the stopping begin nothing"]),
    (SlotsAreNotCounted, &["turns"]),
    (WithdrawnCallsAreMade, &["a decided call is not made"]),
    (CancelledPivotsAreMade, &["a decided call is not made"]),
    (TimedOutPivotsAreMade, &["a decided call is not made"]),
    (UndosDoNotWait, &["no way back"]),
    (FoundPivotsAreLeft, &["nothing left behind"]),
    (SlotsStayEmpty, &["the line moves"]),
    (CallsInFlightAreHidden, &["a view is true"]),
    (QueuesHaveNoBound, &["the bounds hold"]),
    (RefusedAreHidden, &["the refused are shown"]),
    (FencedGoOn, &["a fenced core does nothing more"]),
    (CallsDoNotGather, &["calls gather"]),
    (CommitsAreHeldBack, &["decisions are written"]),
    (HalvesAreLost, &["halves are sent"]),
    (CommitsHaveOneNumber, &["one commit at a time"]),
    (EndsAtOnce, &["an end in order"]),
    (ClaimsAreUnsorted, &["turns follow tickets"]),
    (LineIsReadWithGaps, &["turns follow tickets"]),
    (MissedClaimsKeepTheirSlots, &["the line moves"]),
    (LostClaimsAreForgotten, &["nothing forgotten"]),
    (CancelsInLineWait, &["cancels do not wait"]),
    (QueuedBeginAhead, &["turns follow tickets"]),
    (OthersAreNotWaitedFor, &["claims stay near"]),
    (FrontsAreNotNoted, &["claims stay near"]),
];

/// Runs worlds without the guard until an invariant is violated, and returns its name.
#[track_caller]
fn find(what: &str, simulation: impl Fn() -> Simulation + Sync) -> &'static str {
    let budget = Budget { first_seed: 1, histories: HISTORIES, time: TIME };
    let campaign = campaign::run(&simulation, budget, |_| {});
    let Some(violation) = campaign.failed.and_then(|report| report.violation) else {
        panic!("{what} is not found in {} histories", campaign.histories);
    };
    println!("{what}: after {} histories: {}: {}", campaign.histories, violation.invariant, violation.what);
    violation.invariant
}

#[test]
fn every_missing_guard_is_detected() {
    for guard in Broken::value_variants() {
        find(&format!("{guard:?}"), || Simulation::without(*guard));
    }
}

#[test]
fn every_invariant_detects_a_missing_guard() {
    assert_eq!(SEEN_BY.map(|(guard, _)| guard), Broken::value_variants(), "each guard once");
    for (guard, invariants) in SEEN_BY {
        for invariant in invariants {
            find(&format!("{guard:?}"), || Simulation::without(guard).watching(invariant));
        }
    }
    let seen: BTreeSet<&str> = SEEN_BY.iter().flat_map(|(_, invariants)| invariants.iter().copied()).collect();
    assert_eq!(seen, Simulation::invariants().into_iter().collect(), "each invariant has a guard that it misses");
}
