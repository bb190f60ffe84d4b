//! The state machine: takes inputs in their order, asks the engine what follows from each, and gathers what is to be
//! done.
//!
//! A saga is decided one input after the other. On shutdown nothing new begins: calls that wait are dropped, what is in
//! flight may end and is written, and whatever is left is called again by the instance that adopts the saga.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use matricula_engine::{
    CallAnswer, CallState, DecideError, Definition, Definitions, Direction, Effect, FoldError, Input as SagaInput,
    Jitter, LeaveReason, Phase, Recorded, SagaState, StepIndex, decide,
};

use crate::admission::{Bounds, Rejection, Repeats, Room, when_decided};
use crate::destination::{Answered, DestinationStatus, Destinations};
use crate::lease::{Adoption, ClockReading, Lease};
use crate::line::{Line, LineView};
use crate::log::{
    Advance, Claimant, CommitProof, CommitQueue, Due, Entrant, Persisted, Settled, UNWRITTEN_MAX, UnpersistedLog,
    Waiting,
};
use crate::ready::{
    Accepted, Admission, Admitted, AppendOutcome, Call, Change, Clearance, CommitAnswer, CommitNo, End, Input, Lane,
    Notice, QueuedSaga, Ready, Registered, Reply, StoreAnswer, StoreRequest, StoredSaga, Submission, Summary, Turn,
};
use crate::slots::Slots;
use crate::{CoreConfig, Moment, SagaId, Workflow, mix};

/// Longest sleep of a saga's timer: a deadline that looks far because the clock was set back costs no more than this. A
/// wake too many does no harm.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// A saga in memory.
pub(crate) struct Saga<W: Workflow> {
    request: W::Request,
    pub state: Arc<SagaState>,
    /// Calls that are under way or wait for their service.
    pub calling: Vec<(StepIndex, Direction)>,
    /// Its entry in the timers.
    wake_at: Option<Moment>,
    log: UnpersistedLog<W::Caller>,
    /// It comes from another instance, and nothing was decided about it here.
    is_to_be_adopted: bool,
}

/// One orchestrator.
pub struct Core<W: Workflow> {
    pub(crate) workflow: W,
    instance: String,
    seed: u64,
    config: CoreConfig,
    pub(crate) sagas: HashMap<SagaId, Saga<W>>,
    /// When sagas are to be woken. Not by the database's clock: when that is set back, no saga may wait for the
    /// difference.
    timers: BTreeSet<(Moment, SagaId)>,
    bounds: Bounds,
    repeats: Repeats,
    line: Line<W::Request>,
    pub(crate) slots: Slots,
    /// Submissions that are to be queued and are not answered: none that comes later may begin before them.
    queueing: usize,
    pub(crate) destinations: Destinations<W::Request>,
    /// Admissions while there is a line.
    acceptance: CommitQueue<W::Request, W::Caller>,
    /// Everything else that is written.
    commits: CommitQueue<W::Request, W::Caller>,
    /// When sagas are to be written whose events nothing waits for, in that order.
    flushes: VecDeque<(Moment, SagaId)>,
    pub(crate) lease: Lease,
    adoption: Adoption,
    /// Sagas that are left alone and whose mark was not written; each heartbeat tries again.
    unflagged: Vec<SagaId>,
    is_stopping: bool,
    end: Option<End>,
    /// The moment of the step.
    clock: ClockReading,
    ready: Ready<W>,
}

impl<W: Workflow> Core<W> {
    /// An orchestrator whose instance was registered. The lease is as old as the question: the answer may have waited in a
    /// process that was stopped. `seed` spreads retries; each instance has another one.
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

    /// Takes in what has happened, in its order, and whatever is due by now; returns all that is to be done. A step
    /// without inputs only looks at what is due. After an end nothing is done any more.
    pub fn step(&mut self, now: Moment, inputs: impl IntoIterator<Item = Input<W>>) -> Ready<W> {
        self.clock = self.lease.clock(now);
        for input in inputs {
            if self.end.is_none() {
                self.take(input);
            }
        }
        if self.end.is_none() {
            self.do_what_is_due();
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

    /// Sagas whose first event is on its way to the database: they are in memory soon.
    pub fn about_to_begin(&self) -> usize {
        self.slots.reserved()
    }

    /// Sagas that had their turn and hold no slot while they wait for a service that is away, or for another saga.
    pub fn parked(&self) -> usize {
        self.slots.parked()
    }

    /// Admissions and appends that wait for the next commit.
    pub fn writes_waiting(&self) -> usize {
        self.commits.waiting() + self.acceptance.waiting()
    }

    /// The waiting line, as far as it is known here.
    pub fn line(&self, now: Moment) -> LineView {
        self.line.view(self.slots.work(), now)
    }

    /// How many are in line, as far as it is known here.
    pub fn in_line(&self) -> u64 {
        self.line.waiting()
    }

    /// How each destination stands.
    pub fn destinations(&self, now: Moment) -> Vec<DestinationStatus> {
        self.destinations.statuses(self.lease.clock(now))
    }

    /// What the sagas do.
    pub fn workflow(&self) -> &W {
        &self.workflow
    }

    /// The definition that new sagas begin with.
    fn current(&self) -> &Definition {
        self.workflow.definitions().current()
    }

    fn take(&mut self, input: Input<W>) {
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

    fn do_what_is_due(&mut self) {
        if self.is_stopping {
            self.commits.take_refused().into_iter().for_each(|saga| self.give_away(saga));
        } else {
            self.wake_sagas();
            self.fill_slots();
            self.ask_for_sagas();
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

    /// The process is to end.
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
        let room = Room { line: &self.line, coming: self.queueing as u64, in_memory, unwritten_since };
        let limited = (!is_by_staff).then_some(subject.as_str());
        match self.bounds.enter(limited, &room, now) {
            Ok(()) => {}
            Err(Rejection::QueueFull { retry_after }) => return self.reply(caller, Reply::QueueFull { retry_after }),
            Err(Rejection::OverQuota { retry_after }) => {
                return self.reply(caller, Reply::OverQuota { retry_after, subject, key, fingerprint });
            }
        }
        // An event that does not fold must not be persisted: nobody could ever drive the saga.
        let (first, state) = match self.first_event(&request) {
            Ok(begins) => begins,
            Err(error) => return self.reply(caller, Reply::Unstorable(error.to_string())),
        };
        let has_line = !self.line.is_empty();
        let begins = self.line.lets_through(is_by_staff) && self.queueing == 0 && self.slots.free(now) > 0;
        if begins {
            self.slots.reserve(id);
        } else {
            self.queueing += 1;
        }
        let admission =
            Admission { id, subject, key, fingerprint, is_by_staff, request, first: begins.then_some(first) };
        let entrant = Entrant { state: begins.then_some(state), caller, came_at: now };
        if has_line { &mut self.acceptance } else { &mut self.commits }.admit(admission, entrant);
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
            self.line.seen(line, self.clock.now);
        }
        let mut begun = Vec::new();
        for ((admission, entrant), outcome) in
            settled.commit.admissions.iter().zip(settled.entrants).zip(settled.admissions)
        {
            begun.extend(self.admitted(proof, admission, entrant, outcome));
        }
        if let Some(claim) = settled.commit.claim.as_ref().filter(|_| !settled.claimed.is_empty()) {
            begun.extend(self.claimed(proof, &claim.turns, settled.claimants, &settled.claimed, settled.claim_problem));
        }
        for (append, outcome) in settled.commit.appends.iter().zip(settled.appends) {
            match outcome {
                AppendOutcome::Appended => self.appended(proof, append.saga, append.summary),
                AppendOutcome::Conflict => {
                    self.ready.notices.push(Notice::LostOwnership { saga: append.saga });
                    self.give_away(append.saga);
                }
            }
        }
        self.ready.store.extend(settled.refused.map(|saga| StoreRequest::Flag { sagas: vec![saga] }));
        // While the process ends, no saga begins: another instance adopts it.
        if !self.is_stopping {
            begun.into_iter().for_each(|saga| self.decide(saga, SagaInput::Resume, None));
        }
    }

    /// A submission was answered by the database. The saga that begins now.
    fn admitted(
        &mut self,
        proof: &CommitProof,
        admission: &Admission<W::Request>,
        entrant: Entrant<W::Caller>,
        outcome: Result<Admitted, String>,
    ) -> Option<SagaId> {
        let (id, Entrant { state, caller, came_at }, now) = (admission.id, entrant, self.clock.now);
        // An earlier try was written and not answered. Its saga was claimed, and its owner has ended.
        let is_adopted = self.sagas.contains_key(&id);
        // It may have been read from the line before this answer came, and be claimed by now.
        let keeps_slot = state.is_some() && !self.commits.is_claiming(id);
        self.queueing -= usize::from(state.is_none());
        if let Ok(Admitted::Begun { .. } | Admitted::Queued { .. }) = outcome {
            self.slots.accepted(now.saturating_sub(came_at), now);
            self.repeats.accepted(&admission.subject, &admission.key, &admission.fingerprint, id);
        }
        let accepted = |ticket, is_queued| Reply::Accepted(proof.persisted(Accepted { id, ticket, is_queued }));
        let reply = match outcome {
            Ok(Admitted::Begun { ticket }) => {
                self.reply(caller, accepted(ticket, false));
                if is_adopted {
                    return None;
                }
                let state = proof.persisted(state?);
                self.slots.begin(id, now);
                self.enter(id, admission.request.clone(), &state, false);
                return Some(id);
            }
            Ok(Admitted::Queued { ticket }) => accepted(ticket, true),
            Ok(Admitted::Existing { id, same_request }) => Reply::Existing { id, same_request },
            Ok(Admitted::OverQuota) => Reply::OverQuota {
                retry_after: when_decided(&self.line, now),
                subject: admission.subject.clone(),
                key: admission.key.clone(),
                fingerprint: admission.fingerprint.clone(),
            },
            Ok(Admitted::Closed { sentence }) => Reply::Closed { sentence },
            Err(problem) => Reply::Unstorable(problem),
        };
        if keeps_slot && !is_adopted {
            self.slots.release(id);
        }
        self.reply(caller, reply);
        None
    }

    // The line.

    /// Claims the sagas whose turn it is, as many as may begin.
    fn claim(&mut self) {
        let Some((after, sagas)) = self.line.claim(self.may_begin(), self.clock.now) else { return };
        // A cancel has taken some out of the line before their turn.
        let queued = sagas.into_iter().filter(|saga| !self.sagas.contains_key(&saga.id)).collect::<Vec<_>>();
        if queued.is_empty() {
            return self.line.claim_ended(Vec::new(), false, self.clock.now);
        }
        let turns: Vec<_> = queued.into_iter().map(|saga| self.turn(saga, None)).collect();
        self.commits.claim(after, turns.into_iter());
    }

    /// How many sagas may be taken out of the line.
    fn may_begin(&self) -> usize {
        let memory = self.config.sagas_in_memory_max.saturating_sub(self.sagas.len() + self.slots.reserved());
        self.slots.free(self.clock.now).min(memory)
    }

    /// A queued saga on its way out of the line, by its turn or by a command.
    fn turn(
        &mut self,
        queued: QueuedSaga<W::Request>,
        command: Option<(SagaInput, W::Caller)>,
    ) -> (Turn, Claimant<W::Request, W::Caller>) {
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
                // As if it had all steps, so that its log folds.
                let applies: Vec<_> = self.current().steps().iter().map(|step| step.name).collect();
                let admitted = self.current().admit(applies, now_ms);
                let first = Recorded::first(now_ms, admitted);
                (first, Err(LeaveReason::Unreadable(problem)))
            }
        };
        (Turn { saga, ticket, first, accepted_at_ms, is_out_of_order }, Claimant { saga: saga_of, command })
    }

    /// A claim was answered by the database. The sagas that begin now.
    fn claimed(
        &mut self,
        proof: &CommitProof,
        turns: &[Turn],
        claimants: Vec<Claimant<W::Request, W::Caller>>,
        claimed: &[bool],
        problem: Option<String>,
    ) -> Vec<SagaId> {
        let (mut begun, mut missed) = (Vec::new(), Vec::new());
        let has_claimed = turns.iter().zip(claimed).any(|(turn, is_mine)| *is_mine && !turn.is_out_of_order);
        for ((turn, claimant), &is_mine) in turns.iter().zip(claimants).zip(claimed) {
            let (id, Claimant { saga, command }) = (turn.saga, claimant);
            match saga {
                // A command has taken it out of the line here, just before its turn.
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
        let (turn, claimant) = self.turn(queued, Some((command, caller)));
        self.commits.claim_out_of_order(turn, claimant);
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

    fn ask_for_sagas(&mut self) {
        // No more is adopted than will soon have a slot: the rest is left to other instances, and out of memory.
        let has_room =
            self.slots.waiting() < self.config.in_flight_max && self.sagas.len() < self.config.sagas_in_memory_max;
        self.ready.store.extend(self.adoption.ask(&self.lease, has_room, self.clock.now));
    }

    fn store_answered(&mut self, request: StoreRequest, answer: StoreAnswer<W::Request>) {
        match (request, answer) {
            (_, StoreAnswer::Fenced) => self.end = Some(End::Fenced),
            (StoreRequest::Renew { asked_at }, StoreAnswer::Renewed { database_now_ms }) => {
                self.lease.renewed(database_now_ms, asked_at, self.clock.now);
                self.clock = self.lease.clock(self.clock.now);
            }
            (StoreRequest::Flag { sagas }, StoreAnswer::Failed) => {
                // A saga in memory gets its mark from its own log.
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

    /// Sorts adopted sagas into those that can be driven on and those that are left alone.
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

    fn give_away(&mut self, saga: SagaId) {
        self.ready.changes.push(Change::HandedOver { saga });
        self.forget(saga);
    }

    fn forget(&mut self, id: SagaId) {
        let Some(saga) = self.sagas.remove(&id) else { return };
        if let Some(at) = saga.wake_at {
            self.timers.remove(&(at, id));
        }
        self.slots.release(id);
        // A call that still waits for its service is none of a saga that has ended or is driven elsewhere. Mostly there is
        // no such call; after a skipped compensation there may be.
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

    /// Sends the calls that may leave. Sagas whose calls wait for a service that is away give their slots to others.
    fn send_calls(&mut self) {
        self.ready.rpcs = self.destinations.send(self.clock, &mut self.ready.notices);
        for call in self.ready.rpcs.iter().flat_map(|rpc| rpc.calls.iter()) {
            // Of steps that are called together, one may wait on.
            if !is_waiting_on(self.workflow.definitions(), &self.sagas, &self.destinations, call.saga) {
                self.slots.unpark(call.saga);
            }
        }
        for saga in self.destinations.left_waiting(self.clock.now) {
            self.slots.park(saga);
        }
    }

    fn fill_slots(&mut self) {
        while let Some(saga) = self.slots.next_turn(self.clock.now) {
            self.decide(saga, SagaInput::Resume, None);
        }
        self.claim();
        self.ready.store.extend(self.line.ask(self.may_begin(), self.clock.now));
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
        // Until the next attempt leaves, the slot is free for others: the service is away, or another saga is waited for.
        match answer {
            CallAnswer::Unknown(_) => self.slots.park(saga),
            _ if is_waiting_on(self.workflow.definitions(), &self.sagas, &self.destinations, saga) => {}
            _ => self.slots.unpark(saga),
        }
        // Both moments come from one reading of one clock, so that they are as far apart as the call has taken.
        let started_at_ms = self.clock.ms_at(started_at);
        self.decide(saga, SagaInput::Answered { step, direction, attempt, started_at_ms, answer }, None);
    }

    fn commanded(&mut self, saga: SagaId, command: SagaInput, caller: W::Caller) {
        if !self.sagas.contains_key(&saga) {
            return self.reply(caller, Reply::NotHere);
        }
        // A cancel of a saga that waits for its turn starts the compensation before anything is called. It does not
        // wait for a slot: for a moment there are more sagas at work, which costs less than the steps that are now not
        // taken. Of an adopted saga, the calls that are due leave first, and are undone.
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
            // Before anything else is decided: what its last owner did may be missing from its log.
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
        let is_turned = !was_compensating && saga.state.phase() == Phase::Compensating;
        let due = saga.log.decided(decision.events, decision.effects, caller, &saga.state);
        if is_by_operator || is_turned {
            self.withdraw_calls(id);
        }
        self.set_timer(id, decision.wake_at_ms);
        self.act(id, decision.ahead, Clearance::AheadOfLog);
        self.follow(id, due);
    }

    fn set_timer(&mut self, id: SagaId, wake_at_ms: Option<i64>) {
        let sleep_until = self.clock.now + SLEEP_MAX;
        let wake_at = wake_at_ms.map(|at_ms| self.clock.moment_of(at_ms).min(sleep_until));
        let Some(saga) = self.sagas.get_mut(&id) else { return };
        // An earlier wake does: it finds out when the next is due.
        if saga.wake_at.zip(wake_at).is_some_and(|(set, wanted)| set <= wanted) {
            return;
        }
        if let Some(at) = std::mem::replace(&mut saga.wake_at, wake_at) {
            self.timers.remove(&(at, id));
        }
        self.timers.extend(wake_at.map(|at| (at, id)));
    }

    /// Does what is due of a saga's log.
    fn follow(&mut self, id: SagaId, due: Due<W::Caller>) {
        match due {
            Due::Now(waiting) => self.done_waiting(id, waiting),
            Due::Write => self.write(id),
            Due::Later if self.is_stopping => self.write(id),
            Due::Later => self.flushes.push_back((self.clock.now + UNWRITTEN_MAX, id)),
            Due::Nothing => {}
        }
    }

    /// Hands what a saga has decided to the next commit, unless an append of it is under way.
    fn write(&mut self, id: SagaId) {
        let append = self.sagas.get_mut(&id).and_then(|saga| saga.log.send(id, &saga.state));
        if let Some(append) = append {
            self.commits.append(append);
        }
    }

    fn appended(&mut self, proof: &CommitProof, id: SagaId, after: Summary) {
        let Some(saga) = self.sagas.get_mut(&id) else { return };
        let Some(advance) = saga.log.appended(proof, &saga.state) else { return };
        let Advance { waiting, state, before, due } = advance;
        let request = saga.request.clone();
        self.ready.changes.push(Change::Advanced { saga: id, request, state, before, after });
        self.done_waiting(id, waiting);
        self.follow(id, due);
    }

    fn done_waiting(&mut self, id: SagaId, waiting: Persisted<Waiting<W::Caller>>) {
        let done = waiting.unit();
        let Waiting { effects, callers } = waiting.into_inner();
        for caller in callers {
            self.ready.replies.push((caller, Reply::Done(done)));
        }
        self.act(id, effects, Clearance::Persisted(done));
    }

    fn act(&mut self, id: SagaId, effects: Vec<Effect>, clearance: Clearance) {
        for effect in effects {
            match effect {
                Effect::Call { step, direction, attempt } => self.call(id, (step, direction), attempt, clearance),
                Effect::Decided(_) => self.slots.decided(id, self.clock.now),
                Effect::Finished => {
                    self.ready.notices.push(Notice::Finished { saga: id });
                    self.forget(id);
                }
            }
        }
    }

    fn call(&mut self, id: SagaId, (step, direction): (StepIndex, Direction), attempt: u32, clearance: Clearance) {
        let Some(saga) = self.sagas.get_mut(&id) else { return };
        // A call that waited for the log may have been made by a later decision, and be over by now; or an operator has
        // abandoned the saga.
        let definition = self.workflow.definitions().of(&saga.state);
        let mut trying = saga.state.trying(definition);
        let is_it = |(of, way, call): (_, _, &CallState)| (of, way, call.attempts + 1) == (step, direction, attempt);
        if !trying.any(is_it) || self.is_stopping || saga.calling.contains(&(step, direction)) {
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

    /// Takes back the calls that wait for their service and that the saga does not wait for any more. The service would
    /// get them when it is back. After an operator's decision it would do a second time, or after all, what somebody has
    /// done by hand. After a cancel it would do what is then undone, and a pivot before it is withdrawn.
    fn withdraw_calls(&mut self, id: SagaId) {
        let Some(saga) = self.sagas.get_mut(&id) else { return };
        let (state, destinations) = (&saga.state, &mut self.destinations);
        let definition = self.workflow.definitions().of(state);
        // A call that has left is under way until it ends: if it becomes due again meanwhile, it is not made twice.
        saga.calling.retain(|&call| {
            let is_due = state.trying(definition).any(|(step, direction, _)| (step, direction) == call);
            is_due || !destinations.withdraw(id, call.0, call.1)
        });
    }
}

/// The answer to a command for a saga that is finished, which is in no core: a command that has taken effect is
/// answered so, and every other comes too late.
pub fn answer_finished(
    definitions: &Definitions,
    state: &SagaState,
    command: SagaInput,
    now_ms: i64,
) -> Result<(), DecideError> {
    decide(definitions.of(state), state, command, now_ms, Jitter(0)).map(|_| ())
}

/// Whether a call of a saga waits for a service that is away.
fn is_waiting_on<W: Workflow>(
    definitions: &Definitions,
    sagas: &HashMap<SagaId, Saga<W>>,
    destinations: &Destinations<W::Request>,
    id: SagaId,
) -> bool {
    let is_away = |saga: &Saga<W>, step| destinations.is_away(definitions.destination(&saga.state, step));
    sagas.get(&id).is_some_and(|saga| saga.calling.iter().any(|(step, _)| is_away(saga, *step)))
}

/// The jitter of a decision: of one saga at one place of its log.
fn jitter(seed: u64, saga: SagaId, sequence: u64) -> Jitter {
    let bits = saga.as_u128();
    let saga = (bits ^ (bits >> 64)) as u64;
    Jitter((mix(seed, saga, sequence) >> 32) as u32)
}
