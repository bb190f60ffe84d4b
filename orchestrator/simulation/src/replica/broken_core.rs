//! A core from which a guard is removed from the outside: this wrapper changes its inputs and outputs, so that the
//! shipped code needs no special case. Without a missing guard everything passes through unchanged.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use matricula_core::{
    Admission, AdmissionOutcome, AppendOutcome, Call, Change, Clearance, Commit, CommitAnswer, CommitNo, Core,
    CoreConfig, End, Input, Lane, LineState, Moment, Notice, Ready, Registered, Reply as CoreReply, Rpc, RpcNo, SagaId,
    SagaView, StoreAnswer, StoreRequest, Ticket, Workflow,
};
use matricula_engine::{
    CallAnswer, CallError, CallStatus, CallWait, Cause, Code, DecideError, Direction, Input as SagaInput,
    OperatorCommand, Outcome, Recorded, Resolution, StepIndex, Wait,
};

use super::bounds::DESTINATION_IN_FLIGHT_MAX;
use super::workflow::{Caller, Simulated};
use crate::broken::Broken;
use crate::clients::{Reply, Request};
use crate::names::{SagaNo, id_of, number_of};
use crate::store::SagaCommit;

/// RPCs that the core has not made have larger numbers than its own.
const UNKNOWN_TO_CORE: u64 = 1 << 40;

/// How long a commit is delayed.
const HELD_BACK: Duration = Duration::from_secs(2);

/// The result of a step.
#[derive(Default)]
pub(super) struct Done {
    pub ready: Ready<Simulated>,
    /// Replies that the core has not given.
    pub replies: Vec<(Caller, Reply)>,
    /// Outcomes that watchers receive before the core has published them.
    pub sent: Vec<(SagaNo, Outcome)>,
}

type SagaRpc = Rpc<Rc<Request>>;

pub(super) struct BrokenCore {
    core: Core<Simulated>,
    missing: Option<Broken>,
    memory: Memory,
}

/// The memory of the broken parts.
#[derive(Default)]
struct Memory {
    /// The last commit of each lane, and the lanes whose last commit has no answer.
    commits: BTreeMap<Lane, SagaCommit>,
    unanswered: Vec<Lane>,
    /// A claim has missed a saga: the slot was the only one.
    has_missed: bool,
    /// Cancels of queued sagas that wait for their turn.
    waiting: Vec<(SagaId, SagaInput, Caller)>,
    /// The calls of each RPC, and whether the core has received its end.
    sent: BTreeMap<u64, (SentCalls, bool)>,
    /// Indexes of calls that were left out of an RPC.
    left_out: BTreeMap<u64, Vec<usize>>,
    adopted: Vec<SagaId>,
    held_back: Vec<(Moment, SagaCommit)>,
    /// How many slots of each destination were never given back.
    kept: BTreeMap<&'static str, usize>,
    /// Calls that the saga does not need any more, and that are still made once that decision is persisted.
    withdrawn: Vec<(SagaId, StepIndex, Direction)>,
    /// Failing pivots that an operator has found not to have happened.
    found: Vec<(SagaId, StepIndex)>,
    made: u64,
    replies: Vec<(Caller, Reply)>,
}

type SentCalls = Arc<[Call<Rc<Request>>]>;

impl BrokenCore {
    pub(super) fn new(
        missing: Option<Broken>,
        workflow: Simulated,
        config: &CoreConfig,
        instance: String,
        seed: u64,
        registered: Registered,
    ) -> Self {
        let mut config = config.clone();
        if missing == Some(Broken::SlotsAreNotCounted) {
            config.in_flight_max *= 8;
        }
        if missing == Some(Broken::SlotsStayEmpty) {
            config.in_flight_max = 1;
        }
        if missing == Some(Broken::QueuesHaveNoBound) {
            config.admission_queue_max = usize::MAX;
        }
        let core = Core::new(workflow, &config, instance, seed, registered);
        Self { core, missing, memory: Memory::default() }
    }

    pub(super) fn core(&self) -> &Core<Simulated> {
        &self.core
    }

    /// The operators' view of a saga.
    pub(super) fn look(&self, now: Moment, saga: SagaId) -> Option<SagaView> {
        let mut view = self.core.look(now, saga)?;
        if self.missing == Some(Broken::CallsInFlightAreHidden) {
            view.waits.iter_mut().for_each(|wait| wait.wait = Wait::Record);
        }
        Some(view)
    }

    pub(super) fn step(&mut self, now: Moment, inputs: Vec<Input<Simulated>>) -> Done {
        let Some(missing) = self.missing else {
            return Done { ready: self.core.step(now, inputs), ..Done::default() };
        };
        let is_stopped = inputs.iter().any(|input| matches!(input, Input::Stopped));
        let mut changed = self.early_answers(missing);
        for input in inputs {
            self.input(missing, now, input, &mut changed);
        }
        if missing == Broken::FencedGoOn {
            changed.sort_by_key(is_fence);
        }
        let mut ready = self.core.step(now, changed);
        self.memory.hold_back(missing, now, &mut ready);
        let mut sent = Vec::new();
        loop {
            let again = self.output(missing, now, &mut ready, &mut sent);
            if again.is_empty() {
                break;
            }
            let more = self.core.step(now, again);
            add(&mut ready, more);
        }
        self.memory.unanswered.extend(ready.commits.iter().map(|commit| commit.number.lane));
        if missing == Broken::CommitIsAnsweredEarly && !self.memory.unanswered.is_empty() {
            ready.wake_at = Some(now);
        }
        if missing == Broken::EndsAtOnce && is_stopped {
            ready.end = ready.end.or(Some(End::InOrder));
        }
        if missing == Broken::WakeUpsAreLost {
            ready.wake_at = None;
        }
        Done { ready, replies: std::mem::take(&mut self.memory.replies), sent }
    }

    /// The answers of commits that the store has not given.
    fn early_answers(&mut self, missing: Broken) -> Vec<Input<Simulated>> {
        let lanes = std::mem::take(&mut self.memory.unanswered);
        if missing != Broken::CommitIsAnsweredEarly {
            return Vec::new();
        }
        let commits = lanes.iter().filter_map(|lane| self.memory.commits.get(lane));
        commits.map(|commit| Input::CommitEnded { number: commit.number, answer: all_written(commit) }).collect()
    }

    fn input(&mut self, missing: Broken, now: Moment, input: Input<Simulated>, changed: &mut Vec<Input<Simulated>>) {
        let memory = &mut self.memory;
        let input = match input {
            Input::Stopped if missing == Broken::StopIsIgnored => return,
            Input::LimitSet { .. } if matches!(missing, Broken::RpcSlotsAreKept | Broken::BreakerNeverProbes) => return,
            Input::Submitted { submission, caller } => {
                if missing == Broken::SubmissionsAreAcceptedAtOnce {
                    memory.replies.push((caller, Reply::Accepted { saga: caller.saga }));
                }
                Input::Submitted { submission, caller }
            }
            Input::Commanded { saga, command, caller } => {
                let command = self.commanded(missing, now, saga, command);
                Input::Commanded { saga, command, caller }
            }
            Input::CommandedInLine { saga, command, caller } if missing == Broken::CancelsInLineWait => {
                memory.waiting.push((saga.id, command, caller));
                return;
            }
            Input::CommitEnded { number, answer } if missing == Broken::CommitsHaveOneNumber => {
                let number = memory.commits.get(&number.lane).map_or(number, |commit| commit.number);
                Input::CommitEnded { number, answer }
            }
            Input::CommitEnded { number, answer } => {
                Input::CommitEnded { number, answer: memory.commit_ended(missing, number, answer) }
            }
            Input::RpcEnded { number, answer } => {
                let (number, answer) = memory.rpc_ended(missing, number, answer);
                changed.push(Input::RpcEnded { number, answer });
                changed.extend(memory.keep_slot(missing, self.core.workflow(), number));
                return;
            }
            Input::StoreAnswered { request, answer } => {
                let answer = memory.store_answered(missing, &request, answer);
                Input::StoreAnswered { request, answer }
            }
            input => input,
        };
        changed.push(input);
    }

    fn commanded(&mut self, missing: Broken, now: Moment, saga: SagaId, command: SagaInput) -> SagaInput {
        if missing == Broken::CancelledPivotsAreMade && matches!(command, SagaInput::Cancel { .. }) {
            self.remember_pivot(now, saga);
        }
        let SagaInput::Operator { command, by, reason, command_id } = command else { return command };
        if missing == Broken::FoundPivotsAreLeft
            && matches!(command, OperatorCommand::Resolve { answer: Resolution::Refused { .. }, .. })
            && let Some(view) = self.core.look(now, saga)
        {
            let definition = self.core.workflow().shape.definitions.of(&view.state);
            let pivot = definition.pivot();
            let is_failing = view.state.trying(definition).any(|(step, _, call)| step == pivot && call.attempts > 0);
            self.memory.found.extend(is_failing.then_some((saga, pivot)));
        }
        let step = match &command {
            OperatorCommand::Skip { step } | OperatorCommand::Resolve { step, .. } => Some(step),
            OperatorCommand::Retry { .. } | OperatorCommand::Abandon => None,
        };
        if missing == Broken::WithdrawnCallsAreMade
            && let Some(view) = self.core.look(now, saga)
        {
            let definition = self.core.workflow().shape.definitions.of(&view.state);
            let trying = view
                .state
                .trying(definition)
                .filter(|(index, ..)| step == Some(&definition.step(*index).name.to_owned()));
            self.memory.withdrawn.extend(trying.map(|(index, direction, _)| (saga, index, direction)));
        }
        let command = match command {
            OperatorCommand::Skip { step } if missing == Broken::SkipsAreHidden => {
                OperatorCommand::Resolve { step, answer: Resolution::Done }
            }
            command => command,
        };
        SagaInput::Operator { command, by, reason, command_id }
    }

    /// Notes the pivot of a saga, if its call is queued.
    fn remember_pivot(&mut self, now: Moment, saga: SagaId) {
        let Some(view) = self.core.look(now, saga) else { return };
        let definition = self.core.workflow().shape.definitions.of(&view.state);
        let pivot = definition.pivot();
        let is_it = |wait: &CallWait| {
            let has_not_left = matches!(wait.wait, Wait::Queue { .. } | Wait::Breaker { .. } | Wait::Limit { .. });
            wait.step == definition.step(pivot).name && wait.direction == Direction::Forward && has_not_left
        };
        if view.waits.iter().any(is_it) {
            self.memory.withdrawn.push((saga, pivot, Direction::Forward));
        }
    }

    /// Changes the outputs of the core; returns inputs that follow from the change at once.
    fn output(
        &mut self,
        missing: Broken,
        now: Moment,
        ready: &mut Ready<Simulated>,
        sent: &mut Vec<(SagaNo, Outcome)>,
    ) -> Vec<Input<Simulated>> {
        let mut again = Vec::new();
        match missing {
            Broken::OutcomesAreSentEarly => sent.extend(ready.commits.iter().flat_map(|commit| outcomes(commit))),
            Broken::QueuedBeginAhead => self.begin_ahead(now, ready),
            Broken::CancelsInLineWait => again.extend(self.memory.turn_of_cancels(ready)),
            Broken::LeaseIsBelievedTooLong => {
                for request in &mut ready.store {
                    if let StoreRequest::Look { may_mark } = request {
                        *may_mark = true;
                    }
                }
            }
            Broken::BreakerNeverProbes => again.extend(ready.notices.drain(..).filter_map(|notice| match notice {
                Notice::BreakerOpened { destination, .. } => Some(Input::LimitSet { destination, in_flight_max: 0 }),
                _ => None,
            })),
            Broken::RefusedAreHidden => ready.store.retain(|request| !matches!(request, StoreRequest::Flag { .. })),
            Broken::CompensatesAfterThePivot => self.compensate_after_the_pivot(now, ready),
            Broken::WithdrawnCallsAreMade | Broken::CancelledPivotsAreMade => self.make_withdrawn(now, ready),
            Broken::TimedOutPivotsAreMade | Broken::UndosDoNotWait => self.call_beside_withdrawals(missing, ready),
            _ => {}
        }
        self.memory.commits_sent(missing, &mut ready.commits);
        self.memory.rpcs_sent(missing, &mut ready.rpcs, &mut again);
        again
    }

    /// The last of several submissions that are to be queued begins at once.
    fn begin_ahead(&self, now: Moment, ready: &mut Ready<Simulated>) {
        let workflow = self.core.workflow();
        for sent in &mut ready.commits {
            let queued = sent.admissions.iter().filter(|admission| admission.first.is_none()).count();
            if queued > 1 {
                *sent = changed(sent, |commit| {
                    let now_ms = self.core.now_ms(now);
                    let Some(last) = commit.admissions.last_mut() else { return };
                    let applies = workflow.applies(&last.request);
                    last.first = Some(Recorded::first(now_ms, workflow.definitions().current().admit(applies, now_ms)));
                });
            }
        }
    }

    /// A saga that can't be cancelled any more still has its first step undone.
    fn compensate_after_the_pivot(&mut self, now: Moment, ready: &mut Ready<Simulated>) {
        let is_too_late = |reply: &CoreReply| matches!(reply, CoreReply::Refused(DecideError::TooLateToCancel { .. }));
        let late: Vec<SagaNo> =
            ready.replies.iter().filter(|(_, reply)| is_too_late(reply)).map(|(caller, _)| caller.saga).collect();
        for saga in late {
            let call = self.call(now, id_of(saga), StepIndex(0), Direction::Compensation);
            ready.rpcs.extend(call);
        }
    }

    /// A call that the saga does not need any more is made once that decision is persisted.
    fn make_withdrawn(&mut self, now: Moment, ready: &mut Ready<Simulated>) {
        let done = ready.replies.iter().filter(|(_, reply)| matches!(reply, CoreReply::Done(_)));
        let done: Vec<SagaNo> = done.map(|(caller, _)| caller.saga).collect();
        let is_done = |saga: SagaId| done.contains(&number_of(saga));
        let (made, left) =
            std::mem::take(&mut self.memory.withdrawn).into_iter().partition(|(saga, ..)| is_done(*saga));
        self.memory.withdrawn = left;
        let made: Vec<(SagaId, StepIndex, Direction)> = made;
        for (saga, step, direction) in made {
            ready.rpcs.extend(self.call(now, saga, step, direction));
        }
    }

    /// An RPC that the core has not made.
    fn call(&mut self, now: Moment, saga: SagaId, step: StepIndex, direction: Direction) -> Option<SagaRpc> {
        let state = self.core.look(now, saga)?.state;
        let call = Call {
            saga,
            step,
            step_name: "",
            direction,
            attempt: 1,
            request: self.memory.request(saga)?,
            state,
            clearance: Clearance::AheadOfLog,
            owner_alive_at_ms: 0,
        };
        self.rpc(call)
    }

    /// With each compensation of a pivot another call of its saga leaves: the pivot, if the deadline has passed and no
    /// call of it is under way, or the compensation of the first step.
    fn call_beside_withdrawals(&mut self, missing: Broken, ready: &mut Ready<Simulated>) {
        let definitions = &self.core.workflow().shape.definitions;
        let is_withdrawal = |call: &&Call<Rc<Request>>| {
            call.direction == Direction::Compensation && call.step == definitions.of(&call.state).pivot()
        };
        let beside = |call: &Call<Rc<Request>>| {
            let (step, direction) = match missing {
                Broken::TimedOutPivotsAreMade => (call.step, Direction::Forward),
                _ => (StepIndex(0), Direction::Compensation),
            };
            let is_made = match missing {
                Broken::TimedOutPivotsAreMade => {
                    let is_late = matches!(call.state.cause(), Some(Cause::DeadlinePassed));
                    is_late && action_of(call) == CallStatus::Trying && !self.memory.is_under_way(call.saga, step)
                }
                _ => call.step != step,
            };
            is_made.then(|| Call { step, direction, attempt: 1, ..call.clone() })
        };
        let calls = ready.rpcs.iter().flat_map(|rpc| rpc.calls.iter());
        let beside: Vec<_> = calls.filter(is_withdrawal).filter_map(beside).collect();
        for call in beside {
            ready.rpcs.extend(self.rpc(call));
        }
    }

    fn rpc(&mut self, call: Call<Rc<Request>>) -> Option<SagaRpc> {
        let line = self.core.workflow().shape.definitions.of(&call.state).step(call.step);
        let (direction, call) = (call.direction, Call { step_name: line.name, ..call });
        self.memory.made += 1;
        let number = RpcNo(2 * UNKNOWN_TO_CORE + self.memory.made);
        Some(Rpc { number, destination: line.destination, name: line.rpc(direction)?, calls: [call].into() })
    }
}

impl Memory {
    /// Whether a call of the action of this step has left and has no end.
    fn is_under_way(&self, saga: SagaId, step: StepIndex) -> bool {
        let is_it =
            |call: &Call<Rc<Request>>| (call.saga, call.step, call.direction) == (saga, step, Direction::Forward);
        self.sent.values().any(|(calls, has_ended)| !has_ended && calls.iter().any(is_it))
    }

    fn request(&self, saga: SagaId) -> Option<Rc<Request>> {
        let mut calls = self.sent.values().flat_map(|(calls, _)| calls.iter());
        calls.find(|call| call.saga == saga).map(|call| call.request.clone())
    }

    fn commit_ended(&mut self, missing: Broken, number: CommitNo, answer: CommitAnswer) -> CommitAnswer {
        let last = self.commits.get(&number.lane);
        let Some(commit) = last.filter(|commit| commit.number == number) else { return answer };
        match (missing, answer) {
            (Broken::OthersAreNotWaitedFor, CommitAnswer::Written { admissions, claimed, appends, line }) => {
                let line = line.map(|line| LineState { claims_to_ms: None, ..line });
                CommitAnswer::Written { admissions, claimed, appends, line }
            }
            (Broken::WritesAreGivenUp, CommitAnswer::Failed) => nothing_written(commit),
            (Broken::LostClaimsAreForgotten, CommitAnswer::Failed)
                if commit.claim.is_some() && commit.admissions.is_empty() && commit.appends.is_empty() =>
            {
                nothing_written(commit)
            }
            (Broken::MissedClaimsKeepTheirSlots, answer) => {
                if let CommitAnswer::Written { claimed, .. } = &answer {
                    self.has_missed |= claimed.contains(&false);
                }
                answer
            }
            (Broken::RefusedAppendsAreForgotten, CommitAnswer::Refused { .. })
                if commit.admissions.is_empty() && commit.claim.is_none() && commit.appends.len() == 1 =>
            {
                all_written(commit)
            }
            (Broken::CommitsAreCutShort, CommitAnswer::Written { .. }) => all_written(commit),
            (_, answer) => answer,
        }
    }

    /// Commits are sent two seconds late.
    fn hold_back(&mut self, missing: Broken, now: Moment, ready: &mut Ready<Simulated>) {
        if missing != Broken::CommitsAreHeldBack {
            return;
        }
        self.held_back.extend(ready.commits.drain(..).map(|commit| (now + HELD_BACK, commit)));
        let due = self.held_back.extract_if(.., |(until, _)| *until <= now);
        ready.commits = due.map(|(_, commit)| commit).collect();
        let wake_at = self.held_back.iter().map(|(until, _)| *until).min();
        ready.wake_at = ready.wake_at.into_iter().chain(wake_at).min();
    }

    fn commits_sent(&mut self, missing: Broken, commits: &mut Vec<SagaCommit>) {
        for sent in std::mem::take(commits) {
            let before = self.commits.insert(sent.number.lane, sent.clone());
            let is_again = before.is_some_and(|before| before.number == sent.number);
            commits.extend(match missing {
                Broken::CommitsAreNotTriedAgain if is_again => None,
                Broken::CommitsHaveOneNumber => Some(changed(&sent, |commit| commit.number.number = 1)),
                Broken::CommitsAreCutShort if sent.admissions.len() + sent.appends.len() > 1 => {
                    Some(changed(&sent, |commit| drop(commit.appends.pop())))
                }
                Broken::ClaimsAreUnsorted => Some(changed(&sent, |commit| {
                    commit.claim.iter_mut().for_each(|claim| claim.turns.reverse());
                })),
                Broken::FrontsAreNotNoted => Some(changed(&sent, |commit| commit.others_claim_to_ms = None)),
                _ => Some(sent),
            });
        }
    }

    /// Cancels whose saga has entered.
    fn turn_of_cancels(&mut self, ready: &Ready<Simulated>) -> Vec<Input<Simulated>> {
        let entered = |id: SagaId| {
            ready.changes.iter().any(|change| matches!(change, Change::Entered { saga, .. } if *saga == id))
        };
        let due = self.waiting.extract_if(.., |(saga, ..)| entered(*saga));
        due.map(|(saga, command, caller)| Input::Commanded { saga, command, caller }).collect()
    }

    /// Whose end it is, and how it ended.
    fn rpc_ended(
        &mut self,
        missing: Broken,
        number: RpcNo,
        answer: Result<Vec<CallAnswer>, CallError>,
    ) -> (RpcNo, Result<Vec<CallAnswer>, CallError>) {
        let Some((calls, has_ended)) = self.sent.get_mut(&number.0) else { return (number, answer) };
        let (calls, had_ended) = (calls.clone(), std::mem::replace(has_ended, true));
        match (missing, answer) {
            (Broken::HalvesAreLost, Err(error)) if error.code == Code::InvalidArgument => {
                (number, Err(CallError::new(Code::Internal, error.to_string(), None)))
            }
            (Broken::AnswersAreMixedUp, Ok(mut answers)) => {
                answers.reverse();
                (number, Ok(answers))
            }
            (Broken::ErrorsAreRefusals, answer) => {
                let answers = answer.unwrap_or_else(|error| vec![CallAnswer::Unknown(error); calls.len()]);
                (number, Ok(answers.into_iter().zip(&*calls).map(refused).collect()))
            }
            (
                Broken::UnansweredStepsAreLeft | Broken::AdoptionIsSilent | Broken::FoundPivotsAreLeft,
                Ok(mut answers),
            ) => {
                for place in self.left_out.get(&number.0).into_iter().flatten() {
                    answers.insert(*place, CallAnswer::Done(String::new()));
                }
                (number, Ok(answers))
            }
            (Broken::OldAnswersCount, answer) if had_ended => {
                let is_of_same = |of: &SentCalls| {
                    of.len() == calls.len() && of.iter().zip(&*calls).all(|(a, b)| (a.saga, a.step) == (b.saga, b.step))
                };
                let current = self.sent.iter_mut().find(|(_, (of, has_ended))| !*has_ended && is_of_same(of));
                match current {
                    Some((current, (_, has_ended))) => {
                        *has_ended = true;
                        (RpcNo(*current), answer)
                    }
                    None => (number, answer),
                }
            }
            (_, answer) => (number, answer),
        }
    }

    /// A slot of a destination that is not given back.
    fn keep_slot(&mut self, missing: Broken, workflow: &Simulated, number: RpcNo) -> Option<Input<Simulated>> {
        let (calls, _) = self.sent.get(&number.0).filter(|_| missing == Broken::RpcSlotsAreKept)?;
        let first = calls.first()?;
        let destination = workflow.shape.definitions.destination(&first.state, first.step);
        let kept = self.kept.entry(destination).or_default();
        *kept = (*kept + 1).min(DESTINATION_IN_FLIGHT_MAX);
        Some(Input::LimitSet { destination, in_flight_max: DESTINATION_IN_FLIGHT_MAX - *kept })
    }

    fn store_answered(
        &mut self,
        missing: Broken,
        request: &StoreRequest,
        answer: StoreAnswer<Rc<Request>>,
    ) -> StoreAnswer<Rc<Request>> {
        match answer {
            StoreAnswer::Line { state, mut sagas } if missing == Broken::LineIsReadWithGaps => {
                if sagas.len() > 1 {
                    sagas.remove(0);
                }
                StoreAnswer::Line { state, sagas }
            }
            StoreAnswer::Line { state, sagas } if missing == Broken::OthersAreNotWaitedFor => {
                StoreAnswer::Line { state: LineState { claims_to_ms: None, ..state }, sagas }
            }
            StoreAnswer::Line { .. } if self.has_missed => StoreAnswer::Failed,
            StoreAnswer::Adopted(_) if missing == Broken::AdoptedAreForgotten => StoreAnswer::Adopted(Vec::new()),
            StoreAnswer::Failed
                if missing == Broken::ChosenAreForgotten && matches!(request, StoreRequest::Adopt { .. }) =>
            {
                StoreAnswer::Adopted(Vec::new())
            }
            StoreAnswer::Adopted(stored) => {
                self.adopted.extend(stored.iter().map(|stored| stored.row.id));
                StoreAnswer::Adopted(stored)
            }
            answer => answer,
        }
    }

    fn rpcs_sent(&mut self, missing: Broken, rpcs: &mut Vec<SagaRpc>, again: &mut Vec<Input<Simulated>>) {
        for rpc in &*rpcs {
            self.sent.entry(rpc.number.0).or_insert_with(|| (rpc.calls.clone(), false));
        }
        match missing {
            Broken::CallsAreMadeTwice => {
                let twice = rpcs.iter().filter(|rpc| rpc.number.0 < UNKNOWN_TO_CORE).map(|rpc| Rpc {
                    number: RpcNo(rpc.number.0 + UNKNOWN_TO_CORE),
                    destination: rpc.destination,
                    name: rpc.name,
                    calls: rpc.calls.clone(),
                });
                let twice: Vec<SagaRpc> = twice.collect();
                rpcs.extend(twice);
            }
            Broken::AdoptionsForgetTheirFirstCall => {
                let is_first = |rpc: &SagaRpc| rpc.calls.iter().any(|call| self.adopted.contains(&call.saga));
                if let Some(place) = rpcs.iter().position(is_first) {
                    rpcs.remove(place);
                    self.adopted.clear();
                }
            }
            Broken::UnansweredStepsAreLeft => {
                self.leave_out(rpcs, again, |call| action_of(call) == CallStatus::Trying);
            }
            Broken::AdoptionIsSilent => {
                let adopted = self.adopted.clone();
                self.leave_out(rpcs, again, |call| {
                    adopted.contains(&call.saga) && action_of(call) == CallStatus::NotStarted
                });
            }
            Broken::FoundPivotsAreLeft => {
                let found = self.found.clone();
                self.leave_out(rpcs, again, |call| found.contains(&(call.saga, call.step)));
            }
            _ => {}
        }
    }

    /// Leaves compensations out; they count as done.
    fn leave_out(
        &mut self,
        rpcs: &mut Vec<SagaRpc>,
        again: &mut Vec<Input<Simulated>>,
        is_left_out: impl Fn(&Call<Rc<Request>>) -> bool,
    ) {
        let is_left = |call: &Call<Rc<Request>>| call.direction == Direction::Compensation && is_left_out(call);
        for mut rpc in std::mem::take(rpcs) {
            let places: Vec<usize> = (0..rpc.calls.len()).filter(|place| is_left(&rpc.calls[*place])).collect();
            if places.len() == rpc.calls.len() {
                let answers = places.iter().map(|_| CallAnswer::Done(String::new())).collect();
                again.push(Input::RpcEnded { number: rpc.number, answer: Ok(answers) });
                continue;
            }
            if !places.is_empty() {
                rpc.calls = rpc.calls.iter().filter(|call| !is_left(call)).cloned().collect();
                self.left_out.insert(rpc.number.0, places);
            }
            rpcs.push(rpc);
        }
    }
}

/// The status of the action of a call's step.
fn action_of(call: &Call<Rc<Request>>) -> CallStatus {
    call.state.steps()[call.step.get()].action.status
}

/// Whether it is an answer that fences the core.
pub(super) fn is_fence(input: &Input<Simulated>) -> bool {
    matches!(
        input,
        Input::CommitEnded { answer: CommitAnswer::Fenced, .. }
            | Input::StoreAnswered { answer: StoreAnswer::Fenced, .. }
    )
}

fn all_written(commit: &Commit<Rc<Request>>) -> CommitAnswer {
    let ticket = Ticket::default();
    let admitted = |admission: &Admission<Rc<Request>>| match admission.first {
        Some(_) => AdmissionOutcome::Begun { ticket },
        None => AdmissionOutcome::Queued { ticket },
    };
    CommitAnswer::Written {
        admissions: commit.admissions.iter().map(admitted).collect(),
        claimed: commit.claim.iter().flat_map(|claim| &claim.turns).map(|_| true).collect(),
        appends: vec![AppendOutcome::Appended; commit.appends.len()],
        line: None,
    }
}

fn nothing_written(commit: &Commit<Rc<Request>>) -> CommitAnswer {
    CommitAnswer::Written {
        admissions: Vec::new(),
        claimed: commit.claim.iter().flat_map(|claim| &claim.turns).map(|_| false).collect(),
        appends: vec![AppendOutcome::Conflict; commit.appends.len()],
        line: None,
    }
}

/// The same commit with changes.
fn changed(commit: &SagaCommit, change: impl FnOnce(&mut Commit<Rc<Request>>)) -> SagaCommit {
    let mut changed = Commit::clone(commit);
    change(&mut changed);
    changed.into()
}

fn refused((answer, call): (CallAnswer, &Call<Rc<Request>>)) -> CallAnswer {
    match answer {
        CallAnswer::Unknown(error) if call.direction == Direction::Forward => CallAnswer::Refused(error.to_string()),
        answer => answer,
    }
}

/// The outcomes that a commit writes.
fn outcomes(commit: &Commit<Rc<Request>>) -> impl Iterator<Item = (SagaNo, Outcome)> {
    let all = [Outcome::Committed, Outcome::Refused, Outcome::Cancelled, Outcome::TimedOut];
    commit.appends.iter().filter_map(move |append| {
        let outcome = all.into_iter().find(|outcome| outcome.as_str() == append.summary.outcome)?;
        Some((number_of(append.saga), outcome))
    })
}

fn add(ready: &mut Ready<Simulated>, more: Ready<Simulated>) {
    let Ready { commits, rpcs, store, replies, changes, notices, wake_at, end } = more;
    ready.commits.extend(commits);
    ready.rpcs.extend(rpcs);
    ready.store.extend(store);
    ready.replies.extend(replies);
    ready.changes.extend(changes);
    ready.notices.extend(notices);
    (ready.wake_at, ready.end) = (wake_at, end);
}
