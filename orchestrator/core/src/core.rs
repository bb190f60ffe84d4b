//! The state machine of an instance. It processes inputs in their order, lets the engine decide each one, and gathers
//! the outputs of the step in a [`Ready`].
//!
//! On shutdown nothing new begins. Calls in queues are dropped. RPCs and commits in flight may end, and their results
//! are written. The instance that adopts a saga makes the remaining calls again.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use matricula_engine::{
    CallAnswer, CallState, DecideError, Definition, Definitions, Direction, Effect, FoldError, Input as SagaInput,
    Jitter, LeaveReason, Phase, Recorded, SagaState, StepIndex, decide,
};

use crate::admission::{Bounds, Load, Rejection, Repeats, when_decided};
use crate::destination::{Answered, DestinationStatus, Destinations};
use crate::lease::{Adoption, ClockReading, Lease};
use crate::line::{Line, LineView};
use crate::log::{
    Advance, CommitProof, CommitQueue, Deferred, Due, PendingAdmission, PendingTurn, Persisted, Settled, UNWRITTEN_MAX,
    UnpersistedLog,
};
use crate::ready::{
    Accepted, Admission, AdmissionOutcome, AppendOutcome, Call, Change, Clearance, CommitAnswer, CommitNo, End, Input,
    Lane, Notice, QueuedSaga, Ready, Registered, Reply, StoreAnswer, StoreRequest, StoredSaga, Submission, Summary,
    Turn,
};
use crate::slots::Slots;
use crate::{CoreConfig, Moment, SagaId, Workflow, mix};

/// Longest sleep of a saga's timer. If the database's clock is set back, a deadline looks too far away; this bounds the
/// delay. A superfluous wake does no harm.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// A saga in memory.
pub(crate) struct Saga<W: Workflow> {
    request: W::Request,
    pub state: Arc<SagaState>,
    /// Calls that are in flight or in the queue of their service.
    pub calling: Vec<(StepIndex, Direction)>,
    /// Its entry in the timers.
    wake_at: Option<Moment>,
    log: UnpersistedLog<W::Caller>,
    /// It comes from another instance, and its first decision here is still to come.
    is_to_be_adopted: bool,
}

/// One orchestrator.
pub struct Core<W: Workflow> {
    pub(crate) workflow: W,
    instance: String,
    seed: u64,
    config: CoreConfig,
    pub(crate) sagas: HashMap<SagaId, Saga<W>>,
    /// When sagas wake, by the monotonic clock: if the database's clock is set back, no saga may wait for the
    /// difference.
    timers: BTreeSet<(Moment, SagaId)>,
    bounds: Bounds,
    repeats: Repeats,
    line: Line<W::Request>,
    pub(crate) slots: Slots,
    /// Unanswered submissions that are to be queued. While there are any, no later submission may begin at once.
    queueing: usize,
    pub(crate) destinations: Destinations<W::Request>,
    /// Admissions while there is a line.
    acceptance: CommitQueue<W::Request, W::Caller>,
    /// Everything else that is written.
    commits: CommitQueue<W::Request, W::Caller>,
    /// Sagas whose events nothing waits for, with the moment when these are written; the earliest comes first.
    flushes: VecDeque<(Moment, SagaId)>,
    pub(crate) lease: Lease,
    adoption: Adoption,
    /// Sagas that are left alone and could not be flagged; each heartbeat tries again.
    unflagged: Vec<SagaId>,
    is_stopping: bool,
    end: Option<End>,
    /// The time of the current step.
    clock: ClockReading,
    ready: Ready<W>,
}

impl<W: Workflow> Core<W> {
    /// An orchestrator whose instance is registered. The lease counts from when the statement was sent, because the
    /// answer may have waited in a suspended process. `seed` spreads retries; each instance has another one.
    pub fn new(workflow: W, config: &CoreConfig, instance: String, seed: u64, registered: Registered) -> Self {
        let (lease, now) = (Lease::new(config, registered), registered.answered_at);
        Self {
            bounds: Bounds::new(config, seed),
            repeats: Repeats::default(),
            line: Line::new(config, now),
            slots: Slots::new(config),
            queueing: 0,
            destinations: Destinations::new(workflow.definitions(), config),
            workflow,
            instance,
            seed,
            config: config.clone(),
            sagas: HashMap::new(),
            timers: BTreeSet::new(),
            acceptance: CommitQueue::new(Lane::Acceptance, seed),
            commits: CommitQueue::new(Lane::Log, seed),
            flushes: VecDeque::new(),
            clock: lease.clock(now),
            adoption: Adoption::new(config, seed, now),
            lease,
            unflagged: Vec::new(),
            is_stopping: false,
            end: None,
            ready: Ready::default(),
        }
    }

    /// Processes the inputs in their order, then everything that is due at `now`. Returns the outputs. After an end,
    /// a step does nothing.
    pub fn step(&mut self, now: Moment, inputs: impl IntoIterator<Item = Input<W>>) -> Ready<W> {
        self.clock = self.lease.clock(now);
        for input in inputs {
            if self.end.is_none() {
                self.handle(input);
            }
        }
        if self.end.is_none() {
            self.run_due();
        }
        self.ready.end = self.end;
        std::mem::take(&mut self.ready)
    }

    /// The time by the database's clock.
    pub fn now_ms(&self, now: Moment) -> i64 {
        self.lease.clock(now).now_ms
    }

    /// Sagas in memory.
    pub fn in_memory(&self) -> usize {
        self.sagas.len()
    }

    /// Adopted sagas that wait for a slot.
    pub fn adopted_waiting(&self) -> usize {
        self.slots.waiting()
    }

    /// Sagas whose first event is in a commit that is not answered.
    pub fn about_to_begin(&self) -> usize {
        self.slots.reserved()
    }

    /// Sagas that have begun and hold no slot while they wait for a service that is away, or for another saga.
    pub fn parked(&self) -> usize {
        self.slots.parked()
    }

    /// Admissions and appends that wait for the next commit.
    pub fn writes_waiting(&self) -> usize {
        self.commits.waiting() + self.acceptance.waiting()
    }

    /// The waiting line, as of the last answer of the database.
    pub fn line(&self, now: Moment) -> LineView {
        self.line.view(self.slots.mean_work(), now)
    }

    /// How many sagas are in line, as of the last answer of the database.
    pub fn in_line(&self) -> u64 {
        self.line.waiting()
    }

    /// The status of each destination.
    pub fn destinations(&self, now: Moment) -> Vec<DestinationStatus> {
        self.destinations.statuses(self.lease.clock(now))
    }

    /// The workflow of the sagas.
    pub fn workflow(&self) -> &W {
        &self.workflow
    }

    /// The definition that new sagas begin with.
    fn current(&self) -> &Definition {
        self.workflow.definitions().current()
    }

    fn handle(&mut self, input: Input<W>) {
        match input {
            Input::Submitted { submission, caller } => self.submitted(submission, caller),
            Input::Commanded { saga, command, caller } => self.commanded(saga, command, caller),
            Input::CommandedInLine { saga, command, caller } => self.commanded_in_line(saga, command, caller),
            Input::CommitEnded { number, answer } => self.commit_ended(number, answer),
            Input::RpcEnded { number, answer } => {
                let answered = self.destinations.ended(number, answer, self.clock.now, &mut self.ready.notices);
                answered.into_iter().for_each(|answered| self.answered(answered));
            }
            Input::StoreAnswered { request, answer } => self.store_answered(request, answer),
            Input::LimitSet { destination, in_flight_max } => self.destinations.set_limit(destination, in_flight_max),
            Input::PeerLeft => self.adoption.wake(),
            Input::LineBegun => self.line.wake(self.clock.now),
            Input::Stopped => self.stop(),
        }
    }

    fn run_due(&mut self) {
        if self.is_stopping {
            self.commits.take_refused().into_iter().for_each(|saga| self.hand_over(saga));
        } else {
            self.wake_sagas();
            self.fill_slots();
            self.request_adoption();
        }
        while let Some((_, saga)) = self.flushes.pop_front_if(|(at, _)| *at <= self.clock.now) {
            self.write(saga);
        }
        if let Some(renewal) = self.lease.renew(self.clock.now) {
            self.ready.store.push(renewal);
            if !self.unflagged.is_empty() {
                self.ready.store.push(StoreRequest::Flag { sagas: std::mem::take(&mut self.unflagged) });
            }
        }
        self.send_calls();
        self.commits.note((!self.line.is_empty()).then(|| self.slots.others_claim_to_ms()));
        let queues = [&mut self.acceptance, &mut self.commits];
        self.ready.commits = queues.into_iter().filter_map(|queue| queue.next(self.clock.now)).collect();
        let is_idle = self.acceptance.is_idle() && self.commits.is_idle();
        if self.is_stopping && is_idle && self.destinations.in_flight() == 0 {
            self.end = Some(End::InOrder);
        }
        self.ready.wake_at = self.wake_at();
    }

    fn wake_at(&self) -> Option<Moment> {
        let timer = self.timers.first().filter(|_| !self.is_stopping).map(|(at, _)| *at);
        let adoption = self.adoption.wake_at().filter(|_| !self.is_stopping);
        let line = self.line.wake_at().filter(|_| !self.is_stopping);
        let commits = [self.acceptance.wake_at(), self.commits.wake_at()];
        let others = [
            self.flushes.front().map(|(at, _)| *at),
            self.destinations.wake_at(self.clock.now),
            Some(self.lease.wake_at()),
        ];
        others.into_iter().chain([timer, adoption, line]).chain(commits).flatten().min()
    }

    fn stop(&mut self) {
        self.is_stopping = true;
        self.destinations.close();
        for (_, saga) in std::mem::take(&mut self.flushes) {
            self.write(saga);
        }
    }

    // Sagas that come and go.

    fn submitted(&mut self, submission: Submission<W::Request>, caller: W::Caller) {
        if self.is_stopping {
            return self.reply(caller, Reply::ShuttingDown);
        }
        let Submission { id, subject, key, fingerprint, is_by_staff, request } = submission;
        if let Some((id, same_request)) = self.repeats.find(&subject, &key, &fingerprint) {
            return self.reply(caller, Reply::Existing { id, same_request });
        }
        let now = self.clock.now;
        let in_memory = self.sagas.len() + self.slots.reserved();
        let unwritten_since = self.acceptance.unwritten_since().into_iter().chain(self.commits.unwritten_since()).min();
        if let Some(since) = unwritten_since {
            self.slots.unwritten(now.saturating_sub(since), now);
        }
        let load = Load { line: &self.line, coming: self.queueing as u64, in_memory, unwritten_since };
        let limited = (!is_by_staff).then_some(subject.as_str());
        match self.bounds.check(limited, &load, now) {
            Ok(()) => {}
            Err(Rejection::QueueFull { retry_after }) => return self.reply(caller, Reply::QueueFull { retry_after }),
            Err(Rejection::OverQuota { retry_after }) => {
                return self.reply(caller, Reply::OverQuota { retry_after, subject, key, fingerprint });
            }
        }
        // An event that does not fold must not be persisted: no instance could ever drive the saga.
        let (first, state) = match self.first_event(&request) {
            Ok(begins) => begins,
            Err(error) => return self.reply(caller, Reply::Unstorable(error.to_string())),
        };
        let has_line = !self.line.is_empty();
        let begins = self.line.may_begin_at_once(is_by_staff) && self.queueing == 0 && self.slots.free(now) > 0;
        if begins {
            self.slots.reserve(id);
        } else {
            self.queueing += 1;
        }
        let admission =
            Admission { id, subject, key, fingerprint, is_by_staff, request, first: begins.then_some(first) };
        let pending = PendingAdmission { state: begins.then_some(state), caller, arrived_at: now };
        if has_line { &mut self.acceptance } else { &mut self.commits }.admit(admission, pending);
    }

    /// The first event of a saga that begins now, and its state after it.
    fn first_event(&self, request: &W::Request) -> Result<(Recorded, Arc<SagaState>), FoldError> {
        let now_ms = self.clock.now_ms;
        let first = Recorded::first(now_ms, self.current().admit(self.workflow.applies(request), now_ms));
        let state = SagaState::replay(self.current(), [&first])?;
        Ok((first, Arc::new(state)))
    }

    fn commit_ended(&mut self, number: CommitNo, answer: CommitAnswer) {
        if answer == CommitAnswer::Fenced {
            self.end = Some(End::Fenced);
            return;
        }
        let queue = match number.lane {
            Lane::Acceptance => &mut self.acceptance,
            Lane::Log => &mut self.commits,
        };
        if !queue.awaits(number) {
            return;
        }
        match queue.ended(answer, self.clock.now, &mut self.ready.notices) {
            Some(settled) => self.settled(settled),
            None if self.is_stopping => queue.give_up(),
            None => {}
        }
    }

    fn settled(&mut self, settled: Settled<W::Request, W::Caller>) {
        let proof = &settled.proof;
        if let Some(line) = settled.line {
            self.line.update(line, self.clock.now);
        }
        let mut begun = Vec::new();
        for ((admission, pending), outcome) in
            settled.commit.admissions.iter().zip(settled.pending_admissions).zip(settled.admissions)
        {
            begun.extend(self.admitted(proof, admission, pending, outcome));
        }
        if let Some(claim) = settled.commit.claim.as_ref().filter(|_| !settled.claimed.is_empty()) {
            begun.extend(self.claimed(
                proof,
                &claim.turns,
                settled.pending_turns,
                &settled.claimed,
                settled.claim_problem,
            ));
        }
        for (append, outcome) in settled.commit.appends.iter().zip(settled.appends) {
            match outcome {
                AppendOutcome::Appended => self.appended(proof, append.saga, append.summary),
                AppendOutcome::Conflict => {
                    self.ready.notices.push(Notice::LostOwnership { saga: append.saga });
                    self.hand_over(append.saga);
                }
            }
        }
        self.ready.store.extend(settled.refused.map(|saga| StoreRequest::Flag { sagas: vec![saga] }));
        // During a shutdown no saga begins: another instance adopts it.
        if !self.is_stopping {
            begun.into_iter().for_each(|saga| self.decide(saga, SagaInput::Resume, None));
        }
    }

    /// Replies to a submission that the database has answered. Returns the saga if it begins now.
    fn admitted(
        &mut self,
        proof: &CommitProof,
        admission: &Admission<W::Request>,
        pending: PendingAdmission<W::Caller>,
        outcome: Result<AdmissionOutcome, String>,
    ) -> Option<SagaId> {
        let (id, PendingAdmission { state, caller, arrived_at }, now) = (admission.id, pending, self.clock.now);
        // An earlier try of the commit was written, but its answer was lost. Another instance claimed the saga and
        // ended, and this instance has adopted it.
        let is_adopted = self.sagas.contains_key(&id);
        // The saga may have been read from the line before this answer came. Then its claim uses the slot.
        let keeps_slot = state.is_some() && !self.commits.is_claiming(id);
        self.queueing -= usize::from(state.is_none());
        if let Ok(AdmissionOutcome::Begun { .. } | AdmissionOutcome::Queued { .. }) = outcome {
            self.slots.accepted(now.saturating_sub(arrived_at), now);
            self.repeats.accepted(&admission.subject, &admission.key, &admission.fingerprint, id);
        }
        let accepted = |ticket, is_queued| Reply::Accepted(proof.persisted(Accepted { id, ticket, is_queued }));
        let reply = match outcome {
            Ok(AdmissionOutcome::Begun { ticket }) => {
                self.reply(caller, accepted(ticket, false));
                if is_adopted {
                    return None;
                }
                let state = proof.persisted(state?);
                self.slots.begin(id, now);
                self.enter(id, admission.request.clone(), &state, false);
                return Some(id);
            }
            Ok(AdmissionOutcome::Queued { ticket }) => accepted(ticket, true),
            Ok(AdmissionOutcome::Existing { id, same_request }) => Reply::Existing { id, same_request },
            Ok(AdmissionOutcome::OverQuota) => Reply::OverQuota {
                retry_after: when_decided(&self.line, now),
                subject: admission.subject.clone(),
                key: admission.key.clone(),
                fingerprint: admission.fingerprint.clone(),
            },
            Ok(AdmissionOutcome::Closed { sentence }) => Reply::Closed { sentence },
            Err(problem) => Reply::Unstorable(problem),
        };
        if keeps_slot && !is_adopted {
            self.slots.release(id);
        }
        self.reply(caller, reply);
        None
    }

    // The line.

    /// Claims the next sagas in line, as many as may begin.
    fn claim(&mut self) {
        let Some((after, sagas)) = self.line.claim(self.may_begin(), self.clock.now) else { return };
        // Commands may have taken some of them out of the line before their turn.
        let queued = sagas.into_iter().filter(|saga| !self.sagas.contains_key(&saga.id)).collect::<Vec<_>>();
        if queued.is_empty() {
            return self.line.claim_ended(Vec::new(), false, self.clock.now);
        }
        let turns: Vec<_> = queued.into_iter().map(|saga| self.turn(saga, None)).collect();
        self.commits.claim(after, turns.into_iter());
    }

    /// How many sagas may be claimed now.
    fn may_begin(&self) -> usize {
        let memory = self.config.sagas_in_memory_max.saturating_sub(self.sagas.len() + self.slots.reserved());
        self.slots.free(self.clock.now).min(memory)
    }

    /// Builds the claim of a queued saga, by its turn or by a command, and reserves its slot.
    fn turn(
        &mut self,
        queued: QueuedSaga<W::Request>,
        command: Option<(SagaInput, W::Caller)>,
    ) -> (Turn, PendingTurn<W::Request, W::Caller>) {
        let QueuedSaga { id: saga, ticket, accepted_at_ms, request } = queued;
        let is_out_of_order = command.is_some();
        if is_out_of_order {
            self.slots.reserve(saga);
        } else {
            self.slots.claim(saga, accepted_at_ms);
        }
        let begins = request.map_err(|problem| format!("request: {problem}")).and_then(|request| {
            let (first, state) = self.first_event(&request).map_err(|error| error.to_string())?;
            Ok((first, (request, state)))
        });
        let (first, saga_of) = match begins {
            Ok((first, saga)) => (first, Ok(saga)),
            Err(problem) => {
                let now_ms = self.clock.now_ms;
                // The request can't be read. The event names all steps, so that the log folds.
                let applies: Vec<_> = self.current().steps().iter().map(|step| step.name).collect();
                let admitted = self.current().admit(applies, now_ms);
                let first = Recorded::first(now_ms, admitted);
                (first, Err(LeaveReason::Unreadable(problem)))
            }
        };
        (Turn { saga, ticket, first, accepted_at_ms, is_out_of_order }, PendingTurn { saga: saga_of, command })
    }

    /// Processes the answer to a claim. Returns the sagas that begin now.
    fn claimed(
        &mut self,
        proof: &CommitProof,
        turns: &[Turn],
        pending_turns: Vec<PendingTurn<W::Request, W::Caller>>,
        claimed: &[bool],
        problem: Option<String>,
    ) -> Vec<SagaId> {
        let (mut begun, mut missed) = (Vec::new(), Vec::new());
        let has_claimed = turns.iter().zip(claimed).any(|(turn, is_mine)| *is_mine && !turn.is_out_of_order);
        for ((turn, pending), &is_mine) in turns.iter().zip(pending_turns).zip(claimed) {
            let (id, PendingTurn { saga, command }) = (turn.saga, pending);
            match saga {
                // A command has taken it out of the line at this instance, just before its turn.
                _ if self.sagas.contains_key(&id) => {}
                Ok((request, state)) if is_mine => {
                    self.slots.begin(id, self.clock.now);
                    self.enter(id, request, &proof.persisted(state), false);
                    begun.push(id);
                }
                Err(reason) if is_mine => {
                    self.slots.release(id);
                    self.ready.notices.push(Notice::LeftAlone { saga: id, reason });
                    self.ready.store.push(StoreRequest::Flag { sagas: vec![id] });
                }
                saga => {
                    self.slots.release(id);
                    if !turn.is_out_of_order {
                        let request = saga.map(|(request, _)| request).map_err(|reason| reason.to_string());
                        let Turn { ticket, accepted_at_ms, .. } = *turn;
                        missed.push(QueuedSaga { id, ticket, accepted_at_ms, request });
                    }
                }
            }
            if let Some((command, caller)) = command {
                self.commanded(id, command, caller);
            }
        }
        let is_in_order = turns.iter().any(|turn| !turn.is_out_of_order);
        let now = self.clock.now;
        match problem {
            Some(problem) => {
                let set_aside = if is_in_order { self.line.claim_refused(missed, now) } else { None };
                self.ready.notices.push(match set_aside {
                    Some(saga) => Notice::TurnRefused { saga, problem },
                    None => Notice::ClaimRefused { sagas: turns.len(), problem },
                });
            }
            None if is_in_order => self.line.claim_ended(missed, has_claimed, now),
            None => {}
        }
        begun
    }

    fn commanded_in_line(&mut self, queued: QueuedSaga<W::Request>, command: SagaInput, caller: W::Caller) {
        if self.is_stopping || self.sagas.contains_key(&queued.id) {
            return self.commanded(queued.id, command, caller);
        }
        let (turn, pending) = self.turn(queued, Some((command, caller)));
        self.commits.claim_out_of_order(turn, pending);
    }

    // Sagas in memory.

    fn enter(&mut self, id: SagaId, request: W::Request, state: &Persisted<Arc<SagaState>>, is_to_be_adopted: bool) {
        let entered = Change::Entered { saga: id, request: request.clone(), state: state.clone() };
        self.ready.changes.push(entered);
        let state = Arc::clone(state);
        let log = UnpersistedLog::new(&state);
        let (calling, wake_at) = (Vec::new(), None);
        self.sagas.insert(id, Saga { request, state, calling, wake_at, log, is_to_be_adopted });
    }

    fn request_adoption(&mut self) {
        // No more sagas are adopted than will soon have a slot. Other instances adopt the rest, and it costs no memory
        // here.
        let has_room =
            self.slots.waiting() < self.config.in_flight_max && self.sagas.len() < self.config.sagas_in_memory_max;
        self.ready.store.extend(self.adoption.next_request(&self.lease, has_room, self.clock.now));
    }

    fn store_answered(&mut self, request: StoreRequest, answer: StoreAnswer<W::Request>) {
        match (request, answer) {
            (_, StoreAnswer::Fenced) => self.end = Some(End::Fenced),
            (StoreRequest::Renew { sent_at }, StoreAnswer::Renewed { database_now_ms }) => {
                self.lease.renewed(database_now_ms, sent_at, self.clock.now);
                self.clock = self.lease.clock(self.clock.now);
            }
            (StoreRequest::Flag { sagas }, StoreAnswer::Failed) => {
                // For a saga in memory, its own log sets the flag.
                self.unflagged.extend(sagas.into_iter().filter(|saga| !self.sagas.contains_key(saga)));
            }
            (StoreRequest::Renew { .. } | StoreRequest::Flag { .. }, _) => {}
            (StoreRequest::ReadLine { after, limit }, StoreAnswer::Line { state, sagas }) => {
                self.line.read(after, limit, state, sagas, self.clock.now);
            }
            (StoreRequest::ReadLine { .. }, _) => self.line.read_failed(self.clock.now),
            (_, answer) => {
                let stored = self.adoption.answered(answer, &self.lease, self.clock.now);
                if !self.is_stopping && !stored.is_empty() {
                    self.adopt(stored);
                }
            }
        }
    }

    /// Takes adopted sagas into memory. Those that can't be driven are flagged and left alone.
    fn adopt(&mut self, stored: Vec<StoredSaga<W::Request>>) {
        let proof = CommitProof::of_read_rows();
        let (mut adopted, mut left) = (0, Vec::new());
        for StoredSaga { mut row, request } in stored {
            if let Err(problem) = &request {
                row.log = Err(format!("request: {problem}"));
            }
            let saga = row.id;
            match (row.resume(self.workflow.definitions()), request) {
                (Ok(state), Ok(request)) if !self.sagas.contains_key(&saga) => {
                    self.slots.adopted(saga);
                    self.enter(saga, request, &proof.persisted(Arc::new(state)), true);
                    adopted += 1;
                }
                (Err(reason), _) => {
                    self.ready.notices.push(Notice::LeftAlone { saga, reason });
                    left.push(saga);
                }
                _ => {}
            }
        }
        if adopted > 0 {
            self.ready.notices.push(Notice::Adopted { sagas: adopted });
        }
        if !left.is_empty() {
            self.ready.store.push(StoreRequest::Flag { sagas: left });
        }
        self.fill_slots();
    }

    fn hand_over(&mut self, saga: SagaId) {
        self.ready.changes.push(Change::HandedOver { saga });
        self.drop_saga(saga);
    }

    fn drop_saga(&mut self, id: SagaId) {
        let Some(saga) = self.sagas.remove(&id) else { return };
        if let Some(at) = saga.wake_at {
            self.timers.remove(&(at, id));
        }
        self.slots.release(id);
        // No call may leave for a saga that has ended or is driven elsewhere. Usually none is queued any more; after a
        // skipped compensation there may be one.
        for (step, direction) in saga.calling {
            self.destinations.withdraw(id, step, direction);
        }
        for caller in saga.log.into_callers() {
            self.ready.replies.push((caller, Reply::NotHere));
        }
    }

    fn reply(&mut self, caller: W::Caller, reply: Reply) {
        self.ready.replies.push((caller, reply));
    }

    // What happens to a saga.

    /// Sends the calls that may leave. Sagas whose calls wait for a service that is away give up their slots.
    fn send_calls(&mut self) {
        self.ready.rpcs = self.destinations.send(self.clock, &mut self.ready.notices);
        for call in self.ready.rpcs.iter().flat_map(|rpc| rpc.calls.iter()) {
            // Another step of the same stage may still wait for a service that is away.
            if !is_waiting_on(self.workflow.definitions(), &self.sagas, &self.destinations, call.saga) {
                self.slots.unpark(call.saga);
            }
        }
        for saga in self.destinations.sagas_of_newly_away(self.clock.now) {
            self.slots.park(saga);
        }
    }

    fn fill_slots(&mut self) {
        while let Some(saga) = self.slots.next_turn(self.clock.now) {
            self.decide(saga, SagaInput::Resume, None);
        }
        self.claim();
        self.ready.store.extend(self.line.next_read(self.may_begin(), self.clock.now));
    }

    fn wake_sagas(&mut self) {
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= self.clock.now) {
            self.timers.remove(&(at, id));
            if let Some(saga) = self.sagas.get_mut(&id) {
                saga.wake_at = None;
                self.decide(id, SagaInput::Wake, None);
            }
        }
    }

    fn answered(&mut self, answered: Answered) {
        let Answered { saga, step, direction, attempt, started_at, answer } = answered;
        if let Some(saga) = self.sagas.get_mut(&saga) {
            saga.calling.retain(|calling| *calling != (step, direction));
        }
        // After an error the saga gives up its slot until the next attempt leaves: the service is away, or the saga
        // waits for another saga.
        match answer {
            CallAnswer::Unknown(_) => self.slots.park(saga),
            _ if is_waiting_on(self.workflow.definitions(), &self.sagas, &self.destinations, saga) => {}
            _ => self.slots.unpark(saga),
        }
        // One clock reading for both times, so that their difference is the duration of the call.
        let started_at_ms = self.clock.ms_at(started_at);
        self.decide(saga, SagaInput::Answered { step, direction, attempt, started_at_ms, answer }, None);
    }

    fn commanded(&mut self, saga: SagaId, command: SagaInput, caller: W::Caller) {
        if !self.sagas.contains_key(&saga) {
            return self.reply(caller, Reply::NotHere);
        }
        // The cancel of an adopted saga that waits for a slot takes effect at once, even if this exceeds the limit for
        // a moment: undoing now costs less than the steps that are not taken. The calls that are due leave first, and
        // are undone.
        let is_cancel = matches!(command, SagaInput::Cancel { .. });
        let was_waiting = is_cancel && self.slots.begin_early(saga);
        self.decide(saga, command, Some(caller));
        if was_waiting {
            self.decide(saga, SagaInput::Resume, None);
        }
    }

    fn decide(&mut self, id: SagaId, input: SagaInput, caller: Option<W::Caller>) {
        let Some(saga) = self.sagas.get_mut(&id) else { return };
        if std::mem::take(&mut saga.is_to_be_adopted) {
            // This must be the first decision: the calls of the last owner may be missing from the log.
            let input = SagaInput::Adopt { by: self.instance.clone() };
            self.decide(id, input, None);
        }
        let Some(saga) = self.sagas.get_mut(&id) else { return };
        let is_by_operator = matches!(input, SagaInput::Operator { .. });
        let was_compensating = saga.state.phase() == Phase::Compensating;
        let jitter = jitter(self.seed, id, saga.state.sequence());
        let definition = self.workflow.definitions().of(&saga.state);
        let decision = match decide(definition, &saga.state, input, self.clock.now_ms, jitter) {
            Ok(decision) => decision,
            Err(error) => {
                match caller {
                    Some(caller) => self.ready.replies.push((caller, Reply::Refused(error))),
                    None => self.ready.notices.push(Notice::Ignored { saga: id, error }),
                }
                return;
            }
        };
        saga.state = Arc::new(decision.state);
        let starts_compensating = !was_compensating && saga.state.phase() == Phase::Compensating;
        let due = saga.log.decided(decision.events, decision.effects, caller, &saga.state);
        if is_by_operator || starts_compensating {
            self.withdraw_calls(id);
        }
        self.set_timer(id, decision.wake_at_ms);
        self.run_effects(id, decision.ahead, Clearance::AheadOfLog);
        self.follow(id, due);
    }

    fn set_timer(&mut self, id: SagaId, wake_at_ms: Option<i64>) {
        let sleep_until = self.clock.now + SLEEP_MAX;
        let wake_at = wake_at_ms.map(|at_ms| self.clock.moment_of(at_ms).min(sleep_until));
        let Some(saga) = self.sagas.get_mut(&id) else { return };
        // A timer that is already set earlier suffices: that wake sets the next one.
        if saga.wake_at.zip(wake_at).is_some_and(|(set, wanted)| set <= wanted) {
            return;
        }
        if let Some(at) = std::mem::replace(&mut saga.wake_at, wake_at) {
            self.timers.remove(&(at, id));
        }
        self.timers.extend(wake_at.map(|at| (at, id)));
    }

    /// Carries out what a decision or an append makes due for a saga's log.
    fn follow(&mut self, id: SagaId, due: Due<W::Caller>) {
        match due {
            Due::Now(deferred) => self.run_deferred(id, deferred),
            Due::Write => self.write(id),
            Due::Later if self.is_stopping => self.write(id),
            Due::Later => self.flushes.push_back((self.clock.now + UNWRITTEN_MAX, id)),
            Due::Nothing => {}
        }
    }

    /// Adds a saga's unpersisted events to the next commit, unless an append of the saga is in flight.
    fn write(&mut self, id: SagaId) {
        let append = self.sagas.get_mut(&id).and_then(|saga| saga.log.send(id, &saga.state));
        if let Some(append) = append {
            self.commits.append(append);
        }
    }

    fn appended(&mut self, proof: &CommitProof, id: SagaId, after: Summary) {
        let Some(saga) = self.sagas.get_mut(&id) else { return };
        let Some(advance) = saga.log.appended(proof, &saga.state) else { return };
        let Advance { deferred, state, before, due } = advance;
        let request = saga.request.clone();
        self.ready.changes.push(Change::Advanced { saga: id, request, state, before, after });
        self.run_deferred(id, deferred);
        self.follow(id, due);
    }

    fn run_deferred(&mut self, id: SagaId, deferred: Persisted<Deferred<W::Caller>>) {
        let done = deferred.unit();
        let Deferred { effects, callers } = deferred.into_inner();
        for caller in callers {
            self.ready.replies.push((caller, Reply::Done(done)));
        }
        self.run_effects(id, effects, Clearance::Persisted(done));
    }

    fn run_effects(&mut self, id: SagaId, effects: Vec<Effect>, clearance: Clearance) {
        for effect in effects {
            match effect {
                Effect::Call { step, direction, attempt } => self.call(id, (step, direction), attempt, clearance),
                Effect::Decided(_) => self.slots.decided(id, self.clock.now),
                Effect::Finished => {
                    self.ready.notices.push(Notice::Finished { saga: id });
                    self.drop_saga(id);
                }
            }
        }
    }

    fn call(&mut self, id: SagaId, (step, direction): (StepIndex, Direction), attempt: u32, clearance: Clearance) {
        let Some(saga) = self.sagas.get_mut(&id) else { return };
        // While the call waited for the log, a later decision may have made it obsolete, or an operator may have
        // abandoned the saga.
        let definition = self.workflow.definitions().of(&saga.state);
        let mut trying = saga.state.trying(definition);
        let is_this_call =
            |(of, way, call): (_, _, &CallState)| (of, way, call.attempts + 1) == (step, direction, attempt);
        if !trying.any(is_this_call) || self.is_stopping || saga.calling.contains(&(step, direction)) {
            return;
        }
        let spec = definition.step(step);
        let Some(rpc) = spec.rpc(direction) else { return };
        saga.calling.push((step, direction));
        let may_gather = direction == Direction::Forward && !self.workflow.is_waited_for(spec, &saga.request);
        let call = Call {
            saga: id,
            step,
            step_name: spec.name,
            direction,
            attempt,
            request: saga.request.clone(),
            state: saga.state.clone(),
            clearance,
            owner_alive_at_ms: self.lease.alive_at_ms(),
        };
        self.destinations.queue(spec.destination, call, rpc, may_gather, self.clock.now);
        if self.destinations.is_away(spec.destination) {
            self.slots.park(id);
        }
    }

    /// Removes queued calls that the saga does not need any more; otherwise the service would execute them when it is
    /// back. After an operator's decision it would repeat what a person has done manually. After a cancel it would do
    /// what is then undone, or commit the pivot before the withdrawal.
    fn withdraw_calls(&mut self, id: SagaId) {
        let Some(saga) = self.sagas.get_mut(&id) else { return };
        let (state, destinations) = (&saga.state, &mut self.destinations);
        let definition = self.workflow.definitions().of(state);
        // A call that has left stays in `calling` until it ends, so that it is not made twice if it becomes due again.
        saga.calling.retain(|&call| {
            let is_due = state.trying(definition).any(|(step, direction, _)| (step, direction) == call);
            is_due || !destinations.withdraw(id, call.0, call.1)
        });
    }
}

/// The answer to a command for a finished saga, which is in no core. A command that had already taken effect succeeds;
/// every other one comes too late.
pub fn answer_finished(
    definitions: &Definitions,
    state: &SagaState,
    command: SagaInput,
    now_ms: i64,
) -> Result<(), DecideError> {
    decide(definitions.of(state), state, command, now_ms, Jitter(0)).map(|_| ())
}

/// Whether any call of a saga waits for a service that is away.
fn is_waiting_on<W: Workflow>(
    definitions: &Definitions,
    sagas: &HashMap<SagaId, Saga<W>>,
    destinations: &Destinations<W::Request>,
    id: SagaId,
) -> bool {
    let is_away = |saga: &Saga<W>, step| destinations.is_away(definitions.destination(&saga.state, step));
    sagas.get(&id).is_some_and(|saga| saga.calling.iter().any(|(step, _)| is_away(saga, *step)))
}

/// The jitter of a decision. It depends on the saga and on the position in its log.
fn jitter(seed: u64, saga: SagaId, sequence: u64) -> Jitter {
    let bits = saga.as_u128();
    let saga = (bits ^ (bits >> 64)) as u64;
    Jitter((mix(seed, saga, sequence) >> 32) as u32)
}
