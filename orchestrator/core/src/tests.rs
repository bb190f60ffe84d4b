//! Tests of the whole core, step by step: this shell delays every output until the test carries it out.

use std::time::Duration;

use matricula_engine::{
    CallAnswer, CallError, Code, Definition, Definitions, Direction, Input as SagaInput, Kind, LeaveReason, Outcome,
    Recorded, RetryPolicy, Row, Step,
};

use crate::*;

mod line;

const MS: Duration = Duration::from_millis(1);
/// The database's clock when the tests begin.
const DATABASE_MS: i64 = 1_000_000;

/// Reserve, hold, commit, notify.
struct Table(Definitions);

impl Table {
    fn new() -> Self {
        Self::beginning_with(Vec::new())
    }

    /// The same, with a check that is called together with the first step.
    fn with_check() -> Self {
        Self::beginning_with(vec![step(1, "check", "gamma", "Check", Some("Forget"), Kind::Compensatable)])
    }

    /// The same, with a pivot that can be withdrawn.
    fn with_withdrawable_pivot() -> Self {
        let mut steps = Self::new().0.current().steps().to_vec();
        steps.iter_mut().filter(|step| step.kind == Kind::Pivot).for_each(|step| step.undo = Some("Withdraw"));
        let table = Definition::try_new("order", 1, 600_000, steps).and_then(Definition::with_withdrawable_pivot);
        Self(table.expect("a sound table").into())
    }

    fn beginning_with(mut steps: Vec<Step>) -> Self {
        use Kind::{Compensatable, Finalizer, Pivot, Retriable};
        steps.extend([
            step(1, "reserve", "alpha", "Reserve", Some("Remove"), Compensatable),
            step(2, "hold", "beta", "Hold", Some("Release"), Compensatable),
            step(3, "commit", "alpha", "Commit", None, Pivot),
            step(4, "settle", "beta", "Settle", None, Retriable),
            step(4, "notify", "gamma", "Notify", None, Finalizer),
        ]);
        Self(Definition::try_new("order", 1, 600_000, steps).expect("a sound table").into())
    }
}

fn step(
    stage: u8,
    name: &'static str,
    destination: &'static str,
    action: &'static str,
    undo: Option<&'static str>,
    kind: Kind,
) -> Step {
    let retry = RetryPolicy::try_new(50, 2_000, 10_000, 30).expect("a policy");
    Step { name, stage, destination, action, undo, kind, retry }
}

impl Workflow for Table {
    type Request = &'static str;
    type Caller = u32;

    fn definitions(&self) -> &Definitions {
        &self.0
    }

    fn applies(&self, _: &&'static str) -> Vec<&'static str> {
        self.0.current().steps().iter().map(|step| step.name).collect()
    }

    fn is_waited_for(&self, step: &Step, _: &&'static str) -> bool {
        step.kind != Kind::Finalizer
    }
}

fn id(number: u128) -> SagaId {
    SagaId::from_u128(number)
}

fn submitted(number: u32) -> Input<Table> {
    let submission = Submission {
        id: id(u128::from(number)),
        subject: format!("student {number}"),
        key: "key".to_owned(),
        fingerprint: "same".to_owned(),
        is_by_staff: false,
        request: "request",
    };
    Input::Submitted { submission, caller: number }
}

fn cancel() -> SagaInput {
    SagaInput::Cancel { by: "me".to_owned(), reason: String::new() }
}

/// A core, its time, and its outputs that have no answer yet.
struct Shell {
    core: Core<Table>,
    now: Moment,
    commits: Vec<std::sync::Arc<Commit<&'static str>>>,
    /// The line in the database.
    line: LineState,
    rpcs: Vec<Rpc<&'static str>>,
    /// Except reads of the line.
    store: Vec<StoreRequest>,
    reads: Vec<StoreRequest>,
    replies: Vec<(u32, Reply)>,
    changes: Vec<Change<&'static str>>,
    notices: Vec<Notice>,
    wake_at: Option<Moment>,
    end: Option<End>,
}

impl Shell {
    fn new() -> Self {
        Self::with(&CoreConfig::default())
    }

    fn with(config: &CoreConfig) -> Self {
        Self::of(Table::new(), config)
    }

    fn of(table: Table, config: &CoreConfig) -> Self {
        let (sent_at, answered_at) = (Moment::ZERO, Moment::ZERO);
        let registered = Registered { sent_at, answered_at, database_now_ms: DATABASE_MS };
        let core = Core::new(table, config, "me".to_owned(), 7, registered);
        let mut shell = Self {
            core,
            now: Moment::ZERO,
            commits: Vec::new(),
            line: LineState::default(),
            rpcs: Vec::new(),
            store: Vec::new(),
            reads: Vec::new(),
            replies: Vec::new(),
            changes: Vec::new(),
            notices: Vec::new(),
            wake_at: None,
            end: None,
        };
        shell.step([]);
        shell.read([]);
        shell
    }

    fn step(&mut self, inputs: impl IntoIterator<Item = Input<Table>>) {
        let ready = self.core.step(self.now, inputs);
        self.commits.extend(ready.commits);
        self.rpcs.extend(ready.rpcs);
        let is_read = |request: &StoreRequest| matches!(request, StoreRequest::ReadLine { .. });
        let (reads, others): (Vec<_>, Vec<_>) = ready.store.into_iter().partition(is_read);
        self.reads.extend(reads);
        self.store.extend(others);
        self.replies.extend(ready.replies);
        self.changes.extend(ready.changes);
        self.notices.extend(ready.notices);
        self.wake_at = ready.wake_at;
        self.end = ready.end;
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.step([]);
    }

    /// Steps until a commit is sent; returns how long that took.
    fn until_commit(&mut self) -> Duration {
        let since = self.now;
        while self.commits.is_empty() {
            let wake_at = self.wake_at.expect("something is due");
            self.wait(wake_at - self.now);
        }
        self.now - since
    }

    fn submit(&mut self, number: u32) {
        self.step([submitted(number)]);
    }

    /// The only unanswered commit.
    #[track_caller]
    fn commit(&mut self) -> std::sync::Arc<Commit<&'static str>> {
        assert_eq!(self.commits.len(), 1, "commits");
        self.commits.remove(0)
    }

    /// Answers a commit: all rows are written.
    fn write(&mut self, commit: &Commit<&'static str>) {
        let answer = self.written(commit);
        self.answer_commit(commit, answer);
    }

    /// The answer of the database that has written all rows of a commit.
    fn written(&mut self, commit: &Commit<&'static str>) -> CommitAnswer {
        let has_line = self.line.last > self.line.served;
        let mut admitted = |admission: &Admission<&'static str>| {
            let ticket = Ticket(self.line.last.0 + 1);
            self.line.last = ticket;
            let begins = admission.first.is_some() && !has_line && self.line.door.state == DoorState::Open;
            if begins {
                self.line.served = ticket;
            }
            if begins { AdmissionOutcome::Begun { ticket } } else { AdmissionOutcome::Queued { ticket } }
        };
        let admissions = commit.admissions.iter().map(&mut admitted).collect();
        let turns = commit.claim.iter().flat_map(|claim| &claim.turns);
        for turn in turns.clone().filter(|turn| !turn.is_out_of_order) {
            self.line.served = turn.ticket;
        }
        CommitAnswer::Written {
            admissions,
            claimed: turns.map(|_| true).collect(),
            appends: vec![AppendOutcome::Appended; commit.appends.len()],
            line: Some(self.line.clone()),
        }
    }

    /// The answer of the database that has written all appends of a commit except some.
    fn appended(&mut self, commit: &Commit<&'static str>, appends: Vec<AppendOutcome>) {
        let (admissions, claimed) = (Vec::new(), Vec::new());
        self.answer_commit(commit, CommitAnswer::Written { admissions, claimed, appends, line: None });
    }

    /// Answers the only read of the line with sagas of these tickets.
    #[track_caller]
    fn read(&mut self, tickets: impl IntoIterator<Item = u64>) {
        assert_eq!(self.reads.len(), 1, "reads of the line");
        let request = self.reads.remove(0);
        let (state, sagas) = (self.line.clone(), tickets.into_iter().map(queued).collect());
        self.step([Input::StoreAnswered { request, answer: StoreAnswer::Line { state, sagas } }]);
    }

    fn answer_commit(&mut self, commit: &Commit<&'static str>, answer: CommitAnswer) {
        self.step([Input::CommitEnded { number: commit.number, answer }]);
    }

    /// Answers commits until no more come.
    fn write_all(&mut self) {
        while let Some(commit) = self.commits.pop() {
            self.write(&commit);
        }
    }

    /// The only unanswered RPC of this name.
    #[track_caller]
    fn rpc(&mut self, name: &str) -> Rpc<&'static str> {
        let at = self
            .rpcs
            .iter()
            .position(|rpc| rpc.name == name)
            .unwrap_or_else(|| panic!("no {name}: {:?}", self.names()));
        self.rpcs.remove(at)
    }

    fn names(&self) -> Vec<&'static str> {
        self.rpcs.iter().map(|rpc| rpc.name).collect()
    }

    fn done(&mut self, name: &str) -> Rpc<&'static str> {
        let rpc = self.rpc(name);
        let answers = rpc.calls.iter().map(|_| CallAnswer::Done(String::new())).collect();
        self.step([Input::RpcEnded { number: rpc.number, answer: Ok(answers) }]);
        rpc
    }

    fn answer_store(&mut self, request: StoreRequest, answer: StoreAnswer<&'static str>) {
        self.store.retain(|asked| *asked != request);
        self.step([Input::StoreAnswered { request, answer }]);
    }

    /// Lets the core adopt these sagas of other instances.
    fn adopt<const N: usize>(&mut self, sagas: [u128; N]) {
        self.answer_store(StoreRequest::Look { may_mark: true }, StoreAnswer::Looked);
        let (chosen, limit) = (sagas.map(id).to_vec(), CoreConfig::default().adoption_chunk);
        self.answer_store(StoreRequest::Choose { limit }, StoreAnswer::Chosen(chosen.clone()));
        let adopted = sagas.map(|saga| stored(saga, "order")).into_iter().collect();
        self.answer_store(StoreRequest::Adopt { sagas: chosen }, StoreAnswer::Adopted(adopted));
    }

    fn outcomes(&self) -> Vec<Outcome> {
        let states = self.changes.iter().filter_map(|change| match change {
            Change::Advanced { state, .. } => Some(state.outcome()),
            Change::Entered { .. } | Change::HandedOver { .. } => None,
        });
        states.collect()
    }
}

/// A queued saga, whose ticket is its number.
fn queued(number: u64) -> QueuedSaga<&'static str> {
    QueuedSaga { id: id(u128::from(number)), ticket: Ticket(number), accepted_at_ms: 0, request: Ok("request") }
}

fn kinds(replies: &[(u32, Reply)]) -> Vec<(u32, &'static str)> {
    let kind = |reply: &Reply| match reply {
        Reply::Accepted(accepted) if accepted.is_queued => "queued",
        Reply::Accepted(_) => "accepted",
        Reply::Existing { .. } => "existing",
        Reply::QueueFull { .. } => "full",
        Reply::OverQuota { .. } => "quota",
        Reply::Closed { .. } => "closed",
        Reply::Unstorable(_) => "unstorable",
        Reply::ShuttingDown => "shutting down",
        Reply::Done(_) => "done",
        Reply::Refused(_) => "refused",
        Reply::NotHere => "not here",
    };
    replies.iter().map(|(caller, reply)| (*caller, kind(reply))).collect()
}

#[test]
fn a_registration_is_accepted_when_it_is_persisted_and_then_runs() {
    let mut shell = Shell::new();
    shell.submit(1);
    assert!(shell.replies.is_empty() && shell.rpcs.is_empty(), "nothing is persisted yet");
    let commit = shell.commit();
    shell.write(&commit);
    assert_eq!(kinds(&shell.replies), [(1, "accepted")]);
    for name in ["Reserve", "Hold"] {
        let rpc = shell.done(name);
        assert_eq!(rpc.calls[0].clearance, Clearance::AheadOfLog, "{name} can be undone");
    }
    assert!(shell.names().is_empty(), "the pivot can't be asked about, and waits for the log");
    let commit = shell.commit();
    assert_eq!(commit.appends[0].events.len(), 2, "both answers go in one append");
    shell.write(&commit);
    let pivot = shell.done("Commit");
    assert!(matches!(pivot.calls[0].clearance, Clearance::Persisted(_)));
    assert!(shell.names().is_empty(), "the outcome is not persisted yet");
    assert_eq!(shell.outcomes(), [Outcome::Pending]);
    let commit = shell.commit();
    shell.write(&commit);
    assert_eq!(shell.outcomes().last(), Some(&Outcome::Committed));
    shell.done("Settle");
    assert!(shell.names().is_empty(), "nobody waits for the notification: it gathers");
    shell.wait(50 * MS);
    shell.done("Notify");
    shell.write_all();
    assert_eq!(shell.core.in_memory(), 0);
    assert!(matches!(shell.notices.last(), Some(Notice::Finished { .. })));
}

#[test]
fn a_commit_without_an_answer_is_tried_again_and_settles_once() {
    let mut shell = Shell::new();
    shell.submit(1);
    let first = shell.commit();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        shell.answer_commit(&first, CommitAnswer::Failed);
        assert!(shell.commits.is_empty(), "not at once");
        shell.submit(2);
        pauses.push(shell.until_commit());
        let again = shell.commit();
        assert_eq!(again.number, first.number);
        assert_eq!(again.admissions.len(), 1, "what comes meanwhile waits");
    }
    assert!(pauses[0] <= 20 * MS && pauses[7] >= 500 * MS && pauses[7] <= 1_000 * MS, "{pauses:?}");
    shell.write(&first);
    let mut replies = kinds(&shell.replies);
    assert_eq!(replies.pop(), Some((1, "accepted")));
    assert_eq!(replies, [(2, "full")], "no other is to wait for more than a second");
    shell.commits.clear();
    shell.write(&first);
    assert_eq!(shell.core.in_memory(), 1, "an answer that comes twice counts once");
}

#[test]
fn a_row_that_the_database_refuses_delays_no_other_row() {
    let mut shell = Shell::new();
    shell.submit(0);
    let busy = shell.commit();
    (1..=5).for_each(|number| shell.submit(number));
    shell.write(&busy);
    let all = shell.commit();
    assert_eq!(all.admissions.len(), 5);
    let is_poisoned = |commit: &Commit<&str>| commit.admissions.iter().any(|admission| admission.id == id(3));
    let mut open = Some(all);
    while let Some(commit) = open.take() {
        if is_poisoned(&commit) {
            shell.answer_commit(&commit, CommitAnswer::Refused { problem: "no".to_owned() });
        } else {
            shell.write(&commit);
        }
        open = shell.commits.pop();
    }
    let mut replies = kinds(&shell.replies);
    replies.sort_unstable();
    let expected =
        [(0, "accepted"), (1, "accepted"), (2, "accepted"), (3, "unstorable"), (4, "accepted"), (5, "accepted")];
    assert_eq!(replies, expected);
    let is_shown = |notice: &Notice| matches!(notice, Notice::AdmissionRefused { saga, .. } if *saga == id(3));
    assert!(shell.notices.iter().any(is_shown), "people see it in the log");
}

/// Runs sagas to the point where the log of each has an append.
fn with_appends(count: u32) -> (Shell, std::sync::Arc<Commit<&'static str>>) {
    let mut shell = Shell::new();
    (0..count).for_each(|number| shell.submit(number));
    shell.write_all();
    let cancelled =
        |number: u32| Input::Commanded { saga: id(u128::from(number)), command: cancel(), caller: 100 + number };
    shell.replies.clear();
    // The first append is in flight alone, and the others gather.
    shell.step((0..count).map(cancelled));
    let commit = shell.commit();
    (shell, commit)
}

#[test]
fn a_log_that_is_refused_is_tried_again_by_itself() {
    let (mut shell, all) = with_appends(4);
    assert_eq!(all.appends.len(), 4);
    let mut open = Some(all);
    let refuses = |commit: &Commit<&str>| commit.appends.iter().any(|append| append.saga == id(2));
    while let Some(commit) = open.take() {
        if refuses(&commit) {
            shell.answer_commit(&commit, CommitAnswer::Refused { problem: "no".to_owned() });
        } else {
            shell.write(&commit);
        }
        open = shell.commits.pop();
    }
    let mut done: Vec<u32> = shell.replies.iter().map(|(caller, _)| *caller).collect();
    done.sort_unstable();
    assert_eq!(done, [100, 101, 103]);
    assert!(shell.store.contains(&StoreRequest::Flag { sagas: vec![id(2)] }));
    assert_eq!(shell.notices.iter().filter(|notice| matches!(notice, Notice::AppendRefused { .. })).count(), 1);
    shell.wait(Duration::from_secs(5));
    let again = shell.commits.pop().expect("it is tried again");
    shell.answer_commit(&again, CommitAnswer::Refused { problem: "no".to_owned() });
    assert_eq!(
        shell.notices.iter().filter(|notice| matches!(notice, Notice::AppendRefused { .. })).count(),
        1,
        "known"
    );
    shell.wait(Duration::from_secs(5));
    let again = shell.commits.pop().expect("and again");
    shell.write(&again);
    assert_eq!(shell.replies.last().map(|(caller, _)| *caller), Some(102));
}

#[test]
fn a_saga_with_another_owner_is_left_to_it() {
    let (mut shell, commit) = with_appends(2);
    let appends = vec![AppendOutcome::Conflict, AppendOutcome::Appended];
    shell.appended(&commit, appends);
    assert_eq!(kinds(&shell.replies), [(100, "not here"), (101, "done")]);
    assert!(shell.changes.iter().any(|change| matches!(change, Change::HandedOver { saga } if *saga == id(0))));
    assert_eq!(shell.core.in_memory(), 1);
}

#[test]
fn a_saga_that_leaves_memory_leaves_no_queued_call() {
    let mut shell = Shell::new();
    shell.step([Input::LimitSet { destination: "beta", in_flight_max: 0 }]);
    shell.submit(1);
    shell.write_all();
    shell.done("Reserve");
    shell.until_commit();
    let commit = shell.commit();
    let appends = vec![AppendOutcome::Conflict];
    shell.appended(&commit, appends);
    assert_eq!(shell.core.in_memory(), 0);
    shell.step([Input::LimitSet { destination: "beta", in_flight_max: 3 }]);
    assert!(shell.names().is_empty(), "its new owner calls: {:?}", shell.names());
}

/// The service of the pivot is away when the cancel comes. When it is back it gets the withdrawal, and not before it
/// the pivot, which would then have happened.
#[test]
fn a_queued_pivot_is_not_called_after_a_cancel() {
    for has_happened in [false, true] {
        let mut shell = Shell::of(Table::with_withdrawable_pivot(), &CoreConfig::default());
        shell.submit(1);
        shell.write_all();
        shell.done("Reserve");
        shell.step([Input::LimitSet { destination: "alpha", in_flight_max: 0 }]);
        shell.done("Hold");
        shell.step([Input::Commanded { saga: id(1), command: cancel(), caller: 7 }]);
        assert!(!kinds(&shell.replies).contains(&(7, "done")), "the turn is not persisted");
        shell.write_all();
        assert!(kinds(&shell.replies).contains(&(7, "done")));
        shell.step([Input::LimitSet { destination: "alpha", in_flight_max: 3 }]);
        assert_eq!(shell.names(), ["Withdraw"], "nothing else is undone before it is answered");
        if has_happened {
            let number = shell.rpc("Withdraw").number;
            let refused = CallAnswer::Refused("it has happened".to_owned());
            shell.step([Input::RpcEnded { number, answer: Ok(vec![refused]) }]);
            shell.done("Commit");
            shell.write_all();
            assert_eq!(shell.outcomes().last(), Some(&Outcome::Committed));
        } else {
            shell.done("Withdraw");
            shell.write_all();
            assert_eq!(shell.outcomes().last(), Some(&Outcome::Pending), "the seat is not given back yet");
            shell.done("Release");
            shell.write_all();
            shell.done("Remove");
            shell.write_all();
            assert_eq!(shell.outcomes().last(), Some(&Outcome::Cancelled));
        }
    }
}

#[test]
fn conflicts_again_and_again_count_as_refused() {
    let (mut shell, commit) = with_appends(1);
    for _ in 0..20 {
        shell.answer_commit(&commit, CommitAnswer::Conflict);
        shell.until_commit();
        shell.commits.clear();
    }
    assert!(shell.store.iter().all(|request| !matches!(request, StoreRequest::Flag { .. })));
    shell.answer_commit(&commit, CommitAnswer::Conflict);
    assert!(shell.store.iter().any(|request| matches!(request, StoreRequest::Flag { .. })));
}

/// A saga of an instance that has ended.
fn stored(number: u128, definition: &str) -> StoredSaga<&'static str> {
    let table = Table::new();
    let admitted = table.0.current().admit(table.applies(&"request"), DATABASE_MS);
    let log = Ok(vec![Recorded::first(DATABASE_MS, admitted)]);
    let row = Row { id: id(number), definition: definition.to_owned(), version: 1, log };
    StoredSaga { row, request: Ok("request") }
}

#[test]
fn an_adoption_without_an_answer_is_repeated() {
    let mut shell = Shell::new();
    let look = StoreRequest::Look { may_mark: true };
    assert_eq!(shell.store, std::slice::from_ref(&look), "an instance looks when it starts");
    shell.answer_store(look.clone(), StoreAnswer::Looked);
    let choose = StoreRequest::Choose { limit: 500 };
    assert_eq!(shell.store, std::slice::from_ref(&choose));
    shell.answer_store(choose.clone(), StoreAnswer::Chosen(vec![id(1), id(2)]));
    let adopt = StoreRequest::Adopt { sagas: vec![id(1), id(2)] };
    assert_eq!(shell.store, std::slice::from_ref(&adopt));
    shell.answer_store(adopt.clone(), StoreAnswer::Failed);
    assert_eq!(shell.store, [], "after a pause");
    shell.step([Input::PeerLeft]);
    assert_eq!(shell.store, std::slice::from_ref(&look), "an instance that ends in order is looked at without a pause");
    shell.answer_store(look, StoreAnswer::Looked);
    assert_eq!(shell.store, std::slice::from_ref(&adopt), "what was chosen comes first");
    shell.answer_store(adopt, StoreAnswer::Adopted(vec![stored(1, "order"), stored(2, "another")]));
    assert_eq!(shell.core.in_memory(), 1);
    let left = |notice: &Notice| matches!(notice, Notice::LeftAlone { saga, reason: LeaveReason::UnknownDefinition { .. } } if *saga == id(2));
    assert!(shell.notices.iter().any(left));
    assert!(shell.store.contains(&StoreRequest::Flag { sagas: vec![id(2)] }));
    assert!(shell.store.contains(&choose), "the next chunk");
    let flag = StoreRequest::Flag { sagas: vec![id(2)] };
    shell.answer_store(flag.clone(), StoreAnswer::Failed);
    assert!(!shell.store.contains(&flag), "after a pause");
    shell.now += Duration::from_secs(2);
    shell.step([]);
    assert!(shell.store.contains(&flag), "a saga that is left alone is marked in the end");
    // The log may lack calls of the last owner. The event that says so is written first.
    shell.until_commit();
    let commit = shell.commit();
    let log: Vec<&str> = commit.appends[0].events.iter().map(|recorded| recorded.event.name()).collect();
    assert_eq!(log, ["adopted"]);
}

#[test]
fn sagas_are_adopted_only_while_there_is_room() {
    let mut shell = Shell::with(&CoreConfig { in_flight_max: 1, adoption_chunk: 2, ..CoreConfig::default() });
    shell.answer_store(StoreRequest::Look { may_mark: true }, StoreAnswer::Looked);
    shell.answer_store(StoreRequest::Choose { limit: 2 }, StoreAnswer::Chosen(vec![id(1), id(2)]));
    let adopt = StoreRequest::Adopt { sagas: vec![id(1), id(2)] };
    shell.answer_store(adopt, StoreAnswer::Adopted(vec![stored(1, "order"), stored(2, "order")]));
    assert_eq!((shell.core.in_memory(), shell.core.adopted_waiting()), (2, 1));
    assert_eq!(shell.store, [], "the rest is left to other instances");
    shell.step([Input::Commanded { saga: id(2), command: cancel(), caller: 9 }]);
    assert!(shell.store.contains(&StoreRequest::Choose { limit: 2 }), "the line of adopted sagas is empty");
}

#[test]
fn a_fenced_instance_does_nothing_any_more() {
    let (mut shell, commit) = with_appends(2);
    shell.rpcs.clear();
    shell.answer_commit(&commit, CommitAnswer::Fenced);
    assert_eq!(shell.end, Some(End::Fenced));
    shell.submit(9);
    shell.write(&commit);
    shell.wait(Duration::from_secs(60));
    assert_eq!(shell.end, Some(End::Fenced));
    assert!(shell.rpcs.is_empty() && shell.commits.is_empty() && shell.replies.is_empty());
    let mut shell = Shell::new();
    shell.answer_store(StoreRequest::Renew { sent_at: shell.now }, StoreAnswer::Fenced);
    assert_eq!(shell.end, Some(End::Fenced));
}

#[test]
fn a_stop_waits_for_calls_in_flight_and_begins_nothing() {
    let mut shell = Shell::new();
    shell.submit(1);
    shell.write_all();
    shell.step([Input::Stopped]);
    assert_eq!(shell.end, None, "a call is in flight");
    shell.submit(2);
    assert_eq!(kinds(&shell.replies), [(1, "accepted"), (2, "shutting down")]);
    shell.done("Reserve");
    assert!(shell.names().is_empty(), "the next step is another instance's");
    assert_eq!(shell.end, None, "the answer is not persisted");
    let commit = shell.commit();
    shell.write(&commit);
    assert_eq!(shell.end, Some(End::InOrder));
}

#[test]
fn a_stop_does_not_wait_for_a_log_that_cant_be_written() {
    let mut shell = Shell::new();
    shell.submit(1);
    let commit = shell.commit();
    shell.step([Input::Stopped]);
    assert_eq!(shell.end, None);
    shell.answer_commit(&commit, CommitAnswer::Failed);
    assert_eq!(shell.end, Some(End::InOrder));
}

#[test]
fn a_stop_does_not_give_up_a_commit_for_the_answer_of_another() {
    let mut shell = Shell::new();
    shell.submit(1);
    let before = shell.commit();
    shell.write(&before);
    shell.submit(2);
    let commit = shell.commit();
    shell.step([Input::Stopped]);
    shell.answer_commit(&before, CommitAnswer::Failed);
    shell.write(&commit);
    assert_eq!(kinds(&shell.replies), [(1, "accepted"), (2, "accepted")]);
}

#[test]
fn a_call_that_failed_is_made_again_when_it_is_time() {
    let mut shell = Shell::new();
    shell.submit(1);
    shell.write_all();
    let rpc = shell.rpc("Reserve");
    let error = CallError::new(Code::Unavailable, "away", None);
    shell.step([Input::RpcEnded { number: rpc.number, answer: Err(error.clone()) }]);
    shell.step([Input::RpcEnded { number: rpc.number, answer: Err(error) }]);
    assert!(shell.names().is_empty());
    let mut waited = Duration::ZERO;
    while shell.names().is_empty() && waited < Duration::from_secs(1) {
        let wake_at = shell.wake_at.expect("a retry");
        waited += wake_at - shell.now;
        shell.wait(wake_at - shell.now);
        shell.write_all();
    }
    assert_eq!(shell.rpc("Reserve").calls[0].attempt, 2, "an answer that comes twice counts once");
}

#[test]
fn a_database_clock_that_is_set_back_delays_no_retry() {
    let mut shell = Shell::new();
    shell.submit(1);
    shell.write_all();
    let rpc = shell.rpc("Reserve");
    let error = CallError::new(Code::Unavailable, "away", None);
    shell.step([Input::RpcEnded { number: rpc.number, answer: Err(error) }]);
    let (request, hour_ms) = (StoreRequest::Renew { sent_at: shell.now }, 3_600_000);
    shell.answer_store(request, StoreAnswer::Renewed { database_now_ms: DATABASE_MS - hour_ms });
    let mut waited = Duration::ZERO;
    while shell.names().is_empty() && waited < Duration::from_secs(1) {
        let wake_at = shell.wake_at.expect("a retry");
        waited += wake_at - shell.now;
        shell.wait(wake_at - shell.now);
        shell.write_all();
    }
    assert_eq!(shell.rpc("Reserve").calls[0].attempt, 2);
}

#[test]
fn operators_see_the_waits_of_a_saga() {
    use matricula_engine::Wait;
    let mut shell = Shell::with(&CoreConfig { in_flight_max: 1, ..CoreConfig::default() });
    shell.submit(1);
    shell.write_all();
    shell.adopt([2]);
    let waits = |shell: &Shell, number| {
        let view = shell.core.look(shell.now, id(number)).expect("it is here");
        view.waits.into_iter().map(|wait| (wait.step, wait.direction, wait.wait)).collect::<Vec<_>>()
    };
    let called = Wait::Call { since_ms: DATABASE_MS, until_ms: DATABASE_MS + 5_000 };
    assert_eq!(waits(&shell, 1), [("reserve".to_owned(), Direction::Forward, called)]);
    assert_eq!(waits(&shell, 2), [("reserve".to_owned(), Direction::Forward, Wait::Turn { ahead: Some(0) })]);
    assert!(shell.core.look(shell.now, id(3)).is_none());
    let waiting = shell.core.waiting();
    assert_eq!(waiting["alpha"], SagasWaiting { direct: 1, indirect: 0, oldest: Some(id(1)) });
    shell.step([Input::LimitSet { destination: "beta", in_flight_max: 0 }]);
    shell.done("Reserve");
    shell.write_all();
    assert_eq!(
        waits(&shell, 1),
        [("hold".to_owned(), Direction::Forward, Wait::Limit { since_ms: DATABASE_MS, ahead: 0 })]
    );
}

#[test]
fn a_state_that_was_read_is_the_one_that_is_driven() {
    // The logs that the tests above build fold.
    let table = Table::new();
    let log = stored(1, "order").row.log.expect("it can be read");
    assert!(table.0.replay(&log).is_ok());
}

#[test]
fn fractions_are_spread_and_repeat() {
    let count = 10_000;
    let mut tenths = [0; 10];
    for number in 0..count {
        let fraction = crate::fraction(7, number, 3);
        assert_eq!(fraction, crate::fraction(7, number, 3));
        tenths[(fraction * 10.0) as usize] += 1;
    }
    assert!(tenths.iter().all(|tenth| (900..=1_100).contains(tenth)), "{tenths:?}");
    assert_ne!(crate::mix(1, 2, 3), crate::mix(1, 3, 2));
}
