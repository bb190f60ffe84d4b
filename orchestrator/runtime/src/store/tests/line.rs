//! The line: tickets, turns, quota and door, with several instances on one database.

use matricula_core::{Claim, Door, DoorState, LineState, Turn};
use matricula_kit::database::Args;
use matricula_kit::testing::BACKENDS;
use tokio::task::JoinSet;

use super::super::entry::entry_text;
use super::*;

type Admission = matricula_core::Admission<Arc<Carried<()>>>;

/// A submission with a reserved slot.
fn begins(subject: &str, key: &str) -> Admission {
    let NewSaga { id, subject, idempotency_key, fingerprint, request, trace, admitted, .. } =
        saga(subject, key, "same");
    let request = Carried::new((), request.as_str().into(), trace);
    Admission { id, subject, key: idempotency_key, fingerprint, is_by_staff: false, request, first: Some(admitted) }
}

/// A submission without a slot.
fn waits(subject: &str, key: &str) -> Admission {
    Admission { first: None, ..begins(subject, key) }
}

fn commit(admissions: Vec<Admission>, claim: Option<Claim>) -> Commit<Arc<Carried<()>>> {
    Commit {
        number: CommitNo { lane: Lane::Log, number: 1 },
        admissions,
        claim,
        appends: Vec::new(),
        others_claim_to_ms: None,
    }
}

fn claim(after: u64, turns: &[(SagaId, Ticket)], is_out_of_order: bool) -> Claim {
    let first = saga("", "", "").admitted;
    let turn =
        |&(saga, ticket): &(_, _)| Turn { saga, ticket, first: first.clone(), accepted_at_ms: 0, is_out_of_order };
    Claim { after: Ticket(after), turns: turns.iter().map(turn).collect() }
}

/// Several instances of one database; on a file only the last one lives.
struct Line {
    fixture: Fixture,
    others: Vec<InstanceId>,
    subject_open_max: usize,
}

impl Line {
    async fn new(backend: Backend) -> Self {
        let fixture = Fixture::new(backend).await;
        let mut others = Vec::new();
        if backend == Backend::Postgres {
            for _ in 0..2 {
                let other = InstanceId::generate();
                fixture.store.register(&other, LONG_MS).await.unwrap();
                others.push(other);
            }
        }
        Self { fixture, others, subject_open_max: 20 }
    }

    /// One of the instances; on a file always the same.
    fn instance(&self, number: usize) -> &InstanceId {
        match self.others.get(number.wrapping_sub(1)) {
            Some(other) => other,
            None => &self.fixture.instance,
        }
    }

    async fn write(&self, number: usize, commit: &Commit<Arc<Carried<()>>>) -> Written {
        self.try_write(number, commit).await.unwrap()
    }

    async fn try_write(&self, number: usize, commit: &Commit<Arc<Carried<()>>>) -> Result<Written, StoreError> {
        let instance = self.instance(number);
        let as_of = WriteAs { instance, definition: ("one", 1), subject_open_max: self.subject_open_max };
        self.fixture.store.write(as_of, commit).await
    }

    async fn admit(&self, number: usize, admissions: Vec<Admission>) -> Vec<AdmissionOutcome> {
        self.write(number, &commit(admissions, None)).await.admissions
    }

    async fn claim(&self, number: usize, claim: Claim) -> Vec<bool> {
        self.write(number, &commit(Vec::new(), Some(claim))).await.claimed
    }

    async fn read(&self, after: u64) -> (LineState, Vec<(SagaId, Ticket)>) {
        self.read_some(after, 1_000).await
    }

    async fn read_some(&self, after: u64, limit: usize) -> (LineState, Vec<(SagaId, Ticket)>) {
        let (store, instance) = (&self.fixture.store, &self.fixture.instance);
        let (state, rows) = store.read_line::<()>(instance, Ticket(after), limit).await.unwrap();
        (state, rows.into_iter().map(|row| (row.id, row.ticket)).collect())
    }

    async fn served_and_last(&self) -> (u64, u64) {
        let (state, _) = self.read(0).await;
        (state.served.0, state.last.0)
    }

    async fn row(&self, id: SagaId) -> SagaRow {
        self.fixture.store.get(id).await.unwrap().unwrap()
    }
}

fn begun(ticket: u64) -> AdmissionOutcome {
    AdmissionOutcome::Begun { ticket: Ticket(ticket) }
}

fn queued(ticket: u64) -> AdmissionOutcome {
    AdmissionOutcome::Queued { ticket: Ticket(ticket) }
}

/// No instance can drive the first saga in line. It leaves the line, so that positions stay right.
#[tokio::test]
async fn a_row_without_a_readable_id_leaves_the_line_and_needs_attention() {
    for backend in BACKENDS {
        let line = Line::new(backend).await;
        line.admit(0, vec![waits("a", "1"), waits("b", "1"), waits("c", "1")]).await;
        let database = &line.fixture.store.database;
        let poison = "UPDATE sagas SET saga_id = 'nobody' WHERE ticket = 1";
        let mut tx = database.write().await.unwrap();
        tx.execute(poison, Args::new()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(line.served_and_last().await, (0, 3), "{backend:?}: before anybody has read it");
        // As many sagas as the limit; with fewer, the line would seem to end there.
        let (state, rows) = line.read_some(0, 2).await;
        assert_eq!(rows.iter().map(|(_, ticket)| ticket.0).collect::<Vec<_>>(), [2, 3], "{backend:?}");
        assert_eq!(state.served.0, 1, "{backend:?}: read the first time by the line above");
        assert_eq!(line.claim(0, claim(1, &rows[..1], false)).await, [true], "{backend:?}");
        assert_eq!(line.served_and_last().await, (2, 3), "{backend:?}: the line goes on");
        let left = "SELECT phase, owner, needs_attention, finished FROM sagas WHERE saga_id = 'nobody'";
        let left = database.fetch(left, Args::new()).await.unwrap();
        let (phase, owner) = (left[0].text("phase").unwrap(), left[0].id("owner").unwrap());
        let (attention, finished) = (left[0].int("needs_attention").unwrap(), left[0].int("finished").unwrap());
        assert_eq!((phase.as_str(), owner.as_str(), attention, finished), ("running", "", 1, 0), "{backend:?}");
    }
}

/// Another instance has claimed it, and this one has adopted it, but has no answer yet. The saga began as the other
/// one begins sagas, with its time and maybe with another version: a claim of this one has missed, also when it is
/// repeated.
#[tokio::test]
async fn a_saga_that_was_adopted_is_not_taken_for_claimed() {
    let line = Line::new(Backend::Postgres).await;
    let admission = begins("b", "1");
    let id = admission.id;
    line.admit(0, vec![waits("a", "1"), Admission { first: None, ..begins("c", "1") }]).await;
    assert_eq!(line.admit(0, vec![admission]).await, [queued(3)]);
    let (_, rows) = line.read(0).await;
    assert_eq!(line.claim(1, claim(0, &rows, false)).await, [true; 3]);
    assert_eq!(line.claim(1, claim(0, &rows, false)).await, [true; 3], "the same commit again");
    let store = &line.fixture.store;
    let adopted = "UPDATE sagas SET owner = $1 WHERE owner = $2";
    let args = Args::new().id(line.instance(0).as_str()).id(line.instance(1).as_str());
    assert_eq!(store.execute(adopted, args).await.unwrap(), 3);
    let mut mine = claim(0, &rows, false);
    mine.turns.iter_mut().for_each(|turn| turn.first.at_ms += 1);
    assert_eq!(line.claim(0, mine).await, [false; 3]);
    assert_eq!(
        line.admit(0, vec![Admission { id, ..begins("b", "1") }]).await,
        [queued(3)],
        "it was accepted as queued"
    );
}

#[tokio::test]
async fn a_saga_begins_at_once_only_while_the_line_is_empty() {
    for backend in BACKENDS {
        let line = Line::new(backend).await;
        assert_eq!(line.served_and_last().await, (0, 0), "{backend:?}");
        let mixed = vec![begins("z", "1"), begins("a", "1"), waits("m", "1"), waits("b", "1")];
        let ids: Vec<SagaId> = mixed.iter().map(|admission| admission.id).collect();
        let outcomes = line.admit(0, mixed).await;
        assert_eq!(outcomes, [begun(1), begun(2), queued(3), queued(4)], "{backend:?}: in the order of arrival");
        assert_eq!(line.served_and_last().await, (2, 4), "{backend:?}");
        // Another instance has free slots, and has not read the line.
        assert_eq!(line.admit(1, vec![begins("c", "1")]).await, [queued(5)], "{backend:?}");
        let row = line.row(ids[2]).await;
        assert_eq!((row.phase.as_str(), row.owner.as_str(), row.ticket, row.sequence), ("queued", "", Ticket(3), 0));
        assert!(row.is_queued && row.log.is_err() && !row.owner_alive, "{backend:?}");
        assert_eq!(line.fixture.log(ids[0]).await, [1], "{backend:?}");

        let (state, rows) = line.read(2).await;
        assert_eq!(rows.iter().map(|(_, ticket)| ticket.0).collect::<Vec<_>>(), [3, 4, 5], "{backend:?}");
        assert_eq!(line.claim(0, claim(state.served.0, &rows, false)).await, [true; 3], "{backend:?}");
        assert_eq!(line.served_and_last().await, (5, 5), "{backend:?}");
        let row = line.row(ids[2]).await;
        assert_eq!((row.phase.as_str(), row.sequence, row.is_queued), ("running", 1, false), "{backend:?}");
        assert_eq!(line.fixture.log(ids[2]).await, [1], "{backend:?}");
        assert_eq!(line.admit(1, vec![begins("d", "1")]).await, [begun(6)], "{backend:?}: the line is empty");
    }
}

#[tokio::test]
async fn a_queued_saga_is_read_as_it_would_begin() {
    for backend in BACKENDS {
        let line = Line::new(backend).await;
        let new = waits("ada", "1");
        line.admit(0, vec![new.clone()]).await;
        let begin = |_: &str, at: UnixMs| Ok(Recorded::first(at.0, definition().admit(["do"], at.0)));
        let store = line.fixture.store.clone().with_first_events(Arc::new(begin));
        let row = store.get(new.id).await.unwrap().unwrap();
        let log = row.log.unwrap();
        assert_eq!((log.len(), log[0].at_ms), (1, row.created_at.0), "{backend:?}");
        let unfinished = SagaFilter { unfinished: true, limit: 10, ..SagaFilter::default() };
        let in_line = SagaFilter { phases: vec!["queued"], limit: 10, ..SagaFilter::default() };
        for filter in [unfinished, in_line] {
            let ids: Vec<SagaId> = store.list(filter).await.unwrap().iter().map(|row| row.id).collect();
            assert_eq!(ids, [new.id], "{backend:?}");
        }
        assert!(store.unfinished(None, 10).await.unwrap().is_empty(), "{backend:?}: it has not begun");

        // A reader of the next release would begin it with another version.
        let begin = |_: &str, at: UnixMs| Ok(Recorded::first(at.0, definition_of(2).admit(["do"], at.0)));
        let upgraded = line.fixture.store.clone().with_first_events(Arc::new(begin));
        let row = upgraded.get(new.id).await.unwrap().unwrap();
        assert_eq!((row.definition.as_str(), row.version), ("one", 2), "{backend:?}");
        assert_eq!(row.log.unwrap()[0].event.definition(), Some(("one", 2)), "{backend:?}");
    }
}

#[tokio::test]
async fn claims_follow_each_other() {
    for backend in BACKENDS {
        let line = Line::new(backend).await;
        line.admit(0, (0..10).map(|key| waits(&format!("s{key}"), "1")).collect()).await;
        let (state, rows) = line.read(0).await;
        let (first, second) = (claim(state.served.0, &rows[..4], false), claim(state.served.0, &rows[..6], false));
        assert_eq!(line.claim(0, first.clone()).await, [true; 4], "{backend:?}");
        let again = line.claim(1, second).await;
        let is_same = line.instance(1) == line.instance(0);
        assert_eq!(again[..4], [is_same; 4], "{backend:?}");
        assert_eq!(again[4..], [false; 2], "{backend:?}: another one had claimed since it was read");
        // The answer to the first was lost.
        assert_eq!(line.claim(0, first).await, [true; 4], "{backend:?}");
        assert_eq!(line.served_and_last().await, (4, 10), "{backend:?}");
        assert_eq!(line.claim(1, claim(4, &rows[4..], false)).await, [true; 6], "{backend:?}");
        assert_eq!(line.served_and_last().await, (10, 10), "{backend:?}");
    }
}

#[tokio::test]
async fn a_claim_out_of_order_delays_no_other() {
    for backend in BACKENDS {
        let line = Line::new(backend).await;
        line.admit(0, (0..4).map(|key| waits(&format!("s{key}"), "1")).collect()).await;
        let (_, rows) = line.read(0).await;
        let cancel = claim(77, &rows[2..3], true);
        assert_eq!(line.claim(1, cancel.clone()).await, [true], "{backend:?}");
        assert_eq!(line.claim(1, cancel).await, [true], "{backend:?}: again");
        assert_eq!(line.served_and_last().await, (0, 4), "{backend:?}");
        assert_eq!(line.claim(0, claim(0, &rows[..2], false)).await, [true; 2], "{backend:?}");
        assert_eq!(line.served_and_last().await, (3, 4), "{backend:?}: the third had its turn before");
        assert_eq!(line.claim(0, claim(0, &rows[3..], true)).await, [true], "{backend:?}");
        assert_eq!(line.served_and_last().await, (4, 4), "{backend:?}: nobody is left");
    }
}

#[tokio::test]
async fn the_same_commit_again_is_answered_alike() {
    for backend in BACKENDS {
        let line = Line::new(backend).await;
        line.admit(0, vec![begins("old", "1")]).await;
        let admissions = vec![begins("a", "1"), begins("b", "1"), waits("c", "1"), begins("old", "1"), waits("c", "1")];
        let commit = commit(admissions, None);
        let first = line.write(0, &commit).await;
        assert_eq!(first.admissions[..3], [begun(2), begun(3), queued(4)], "{backend:?}");
        let existing = |id| AdmissionOutcome::Existing { id, same_request: true };
        assert!(matches!(first.admissions[3], AdmissionOutcome::Existing { .. }), "{backend:?}");
        assert_eq!(first.admissions[4], existing(commit.admissions[2].id), "{backend:?}: the first counts");
        let again = line.write(0, &commit).await;
        assert_eq!(first, again, "{backend:?}");
        assert_eq!(line.fixture.log(commit.admissions[0].id).await, [1], "{backend:?}");
        // Meanwhile its turn has come. A repeat still gets the answer that it was queued.
        let (state, rows) = line.read(3).await;
        line.claim(1, claim(state.served.0, &rows, false)).await;
        let again = line.write(0, &commit).await;
        assert_eq!(again.admissions[..3], [begun(2), begun(3), queued(4)], "{backend:?}");
        assert_eq!(line.served_and_last().await, (4, 4), "{backend:?}");
    }
}

#[tokio::test]
async fn nothing_of_a_fenced_commit_is_written() {
    for backend in BACKENDS {
        let line = Line::new(backend).await;
        line.admit(0, vec![waits("a", "1")]).await;
        let (_, rows) = line.read(0).await;
        line.fixture.store.release(line.instance(0)).await.unwrap();
        let new = begins("b", "1");
        let outcome = line.try_write(0, &commit(vec![new.clone()], Some(claim(0, &rows, false)))).await;
        assert!(matches!(outcome, Err(StoreError::Fenced)), "{backend:?}: {outcome:?}");
        assert!(line.fixture.store.get(new.id).await.unwrap().is_none(), "{backend:?}");
        assert!(line.row(rows[0].0).await.is_queued, "{backend:?}");
        assert_eq!(line.served_and_last().await, (0, 1), "{backend:?}");
    }
}

#[tokio::test]
async fn the_quota_bounds_the_open_sagas_of_a_subject() {
    for backend in BACKENDS {
        let line = Line { subject_open_max: 3, ..Line::new(backend).await };
        let first = vec![begins("ada", "1"), begins("ada", "2")];
        line.admit(0, first.clone()).await;
        let more = vec![
            // Repeats do not count for the quota.
            begins("ada", "1"),
            begins("ada", "2"),
            waits("ada", "3"),
            waits("bob", "1"),
            waits("ada", "4"),
        ];
        let outcomes = line.admit(1, more).await;
        let existing = |id| AdmissionOutcome::Existing { id, same_request: true };
        assert_eq!(outcomes[..2], [existing(first[0].id), existing(first[1].id)], "{backend:?}");
        // The tickets of rejected submissions belong to no saga.
        assert_eq!(outcomes[2..], [queued(5), queued(6), AdmissionOutcome::OverQuota], "{backend:?}");
        assert_eq!(line.admit(1, vec![begins("ada", "1")]).await, [existing(first[0].id)], "{backend:?}");
        // One has its outcome.
        let done = [super::Append { ..finished(first[0].id, 2) }];
        super::write(&line.fixture.store, line.instance(0), &[], &done).await.unwrap();
        assert_eq!(line.admit(1, vec![begins("ada", "4")]).await, [queued(7)], "{backend:?}");
    }
}

#[tokio::test]
async fn the_door_is_for_all_and_its_changes_stay() {
    for backend in BACKENDS {
        let line = Line::new(backend).await;
        let store = &line.fixture.store;
        let door = |state, sentence: &str| Door { state, sentence: sentence.to_owned() };
        let old = begins("old", "1");
        line.admit(0, vec![old.clone()]).await;
        store.set_door(&door(DoorState::Paused, "soon"), "grace", "a fault").await.unwrap();
        assert_eq!(line.admit(1, vec![begins("a", "1")]).await, [queued(2)], "{backend:?}: it is accepted");
        let (state, rows) = line.read(1).await;
        assert_eq!(state.door, door(DoorState::Paused, "soon"), "{backend:?}");
        assert_eq!(line.claim(0, claim(1, &rows, false)).await, [false], "{backend:?}: no turn comes");
        assert_eq!(line.claim(0, claim(1, &rows, true)).await, [true], "{backend:?}: it is cancelled");

        store.set_door(&door(DoorState::Closed, "Until August."), "grace", "it is over").await.unwrap();
        let closed = AdmissionOutcome::Closed { sentence: "Until August.".to_owned() };
        let existing = AdmissionOutcome::Existing { id: old.id, same_request: true };
        assert_eq!(line.admit(1, vec![begins("b", "1"), begins("old", "1")]).await, [closed, existing], "{backend:?}");
        store.set_door(&door(DoorState::Open, ""), "ada", "again").await.unwrap();
        assert_eq!(line.admit(1, vec![begins("b", "1")]).await, [begun(3)], "{backend:?}");
        let changes = store.door_changes(2).await.unwrap();
        let by: Vec<(&str, &str)> = changes.iter().map(|it| (it.set_by.as_str(), it.reason.as_str())).collect();
        assert_eq!(by, [("ada", "again"), ("grace", "it is over")], "{backend:?}");
    }
}

#[tokio::test]
async fn staff_submit_past_the_door_and_the_quota() {
    for backend in BACKENDS {
        let line = Line { subject_open_max: 1, ..Line::new(backend).await };
        let store = &line.fixture.store;
        let by_staff = |key| Admission { is_by_staff: true, ..begins("ada", key) };
        line.admit(0, vec![begins("ada", "1")]).await;
        assert_eq!(
            line.admit(0, vec![begins("ada", "2"), by_staff("3")]).await,
            [AdmissionOutcome::OverQuota, begun(3)]
        );
        for (state, ticket) in [(DoorState::Closed, 4), (DoorState::Paused, 5)] {
            store.set_door(&Door { state, sentence: String::new() }, "grace", "a fault").await.unwrap();
            assert_eq!(line.admit(1, vec![by_staff(state_key(state))]).await, [begun(ticket)], "{backend:?} {state:?}");
        }
        assert_eq!(line.admit(0, vec![begins("bob", "1")]).await, [queued(6)], "{backend:?}");
        assert_eq!(line.admit(0, vec![by_staff("7")]).await, [queued(7)], "{backend:?}: not past the line");
    }
}

fn state_key(state: DoorState) -> &'static str {
    if state == DoorState::Closed { "closed" } else { "paused" }
}

#[tokio::test]
async fn queued_sagas_are_not_adopted() {
    for backend in BACKENDS {
        let line = Line::new(backend).await;
        line.admit(0, vec![begins("a", "1"), waits("b", "1")]).await;
        let heir = InstanceId::generate();
        line.fixture.store.register(&heir, LONG_MS).await.unwrap();
        line.fixture.store.release(line.instance(0)).await.unwrap();
        let adoptable = line.fixture.store.adoptable(&[("one", 1)], 10).await.unwrap();
        assert_eq!(adoptable.len(), 1, "{backend:?}");
        let (_, rows) = line.read(0).await;
        assert!(line.fixture.store.adopt(&heir, &[rows[0].0]).await.unwrap().is_empty(), "{backend:?}");
        assert_eq!(line.fixture.store.flag_unknown(&[("other", 1)]).await.unwrap(), 1, "{backend:?}");
    }
}

#[tokio::test]
async fn the_sweep_keeps_the_rows_in_use() {
    for backend in BACKENDS {
        let line = Line::new(backend).await;
        for key in ["1", "2", "3"] {
            line.admit(0, vec![begins("a", key)]).await;
        }
        line.admit(0, ["4", "5", "6"].map(|key| waits("a", key)).into()).await;
        assert_eq!(line.served_and_last().await, (3, 6), "{backend:?}");
        for served in [3, 4] {
            let (_, rows) = line.read(served).await;
            assert_eq!(line.claim(0, claim(served, &rows[..1], false)).await, [true], "{backend:?}");
        }
        line.fixture.store.sweep_line().await.unwrap();
        assert_eq!(line.served_and_last().await, (5, 6), "{backend:?}");
        let rows = line.fixture.test.database.fetch("SELECT ticket FROM line_turns", Args::new()).await.unwrap();
        assert_eq!(rows.len(), 1, "{backend:?}");
        assert_eq!(line.admit(0, vec![begins("a", "7")]).await, [queued(7)], "{backend:?}");
    }
}

/// Tickets in the order of commits: what another connection reads has no gap that is filled later.
#[tokio::test]
async fn tickets_are_in_the_order_of_commits() {
    let line = Arc::new(Line::new(Backend::Postgres).await);
    let mut writing = JoinSet::new();
    for number in 0..3 {
        let line = line.clone();
        writing.spawn(async move {
            for round in 0..20 {
                let admissions = (0..7).map(|key| waits(&format!("{number} {round} {key}"), "1")).collect();
                line.admit(number, admissions).await;
            }
        });
    }
    let (mut seen, mut all) = (0, Vec::new());
    loop {
        let is_over = writing.is_empty();
        let (_, rows) = line.read(seen).await;
        all.extend(rows.iter().map(|(_, ticket)| ticket.0));
        seen = all.last().copied().unwrap_or_default();
        if is_over {
            break;
        }
        while let Some(ended) = writing.try_join_next() {
            ended.unwrap();
        }
        tokio::task::yield_now().await;
    }
    let (_, rows) = line.read(0).await;
    assert_eq!(all, rows.iter().map(|(_, ticket)| ticket.0).collect::<Vec<_>>(), "none came in behind a reader");
    assert_eq!(all.len(), 3 * 20 * 7);
}

#[tokio::test]
async fn instances_that_claim_at_once_share_the_line_in_its_order() {
    let line = Arc::new(Line::new(Backend::Postgres).await);
    line.admit(0, (0..300).map(|key| waits(&format!("s{key}"), "1")).collect()).await;
    let mut claiming = JoinSet::new();
    for number in 0..3 {
        let line = line.clone();
        claiming.spawn(async move {
            let mut taken = Vec::new();
            loop {
                let (state, _) = line.read(0).await;
                let (_, rows) = line.read(state.served.0).await;
                if rows.is_empty() {
                    return taken;
                }
                let next = &rows[..rows.len().min(7)];
                let claimed = line.claim(number, claim(state.served.0, next, false)).await;
                assert!(claimed.iter().all(|it| *it == claimed[0]), "all or none: {claimed:?}");
                taken.extend(next.iter().zip(claimed).filter(|(_, is_mine)| *is_mine).map(|(turn, _)| turn.1.0));
            }
        });
    }
    let mut all: Vec<u64> = Vec::new();
    while let Some(taken) = claiming.join_next().await {
        let taken = taken.unwrap();
        assert!(taken.is_sorted(), "{taken:?}");
        all.extend(taken);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=300).collect::<Vec<u64>>(), "each had one turn");
}

/// A commit is one message: no other statement comes between its parts, and it holds no lock after its answer.
#[tokio::test]
async fn no_lock_waits_for_a_client() {
    let line = Line::new(Backend::Postgres).await;
    let new = begins("a", "1");
    let commit = commit(vec![new.clone()], None);
    {
        // The client stops right after it has sent the message.
        let mut writing = Box::pin(line.write(0, &commit));
        while line.fixture.store.get(new.id).await.unwrap().is_none() {
            let step = tokio::time::timeout(std::time::Duration::from_millis(1), &mut writing).await;
            if step.is_ok() {
                break;
            }
        }
    }
    let others = line.admit(1, vec![begins("b", "1")]);
    let others = tokio::time::timeout(std::time::Duration::from_secs(3), others).await.expect("nothing is locked");
    assert_eq!(others, [begun(2)]);
}

/// A database of the build before, with running sagas.
#[tokio::test]
async fn sagas_from_before_the_line_go_on() {
    const BEFORE: i64 = 12;
    for backend in BACKENDS {
        let test = empty_database(backend).await;
        let before = MIGRATIONS.iter().filter(|migration| migration.version <= BEFORE).cloned().collect();
        test.database.migrate_with_ids_as_text(&Schema::plain(&Migrator::with_migrations(before), &[])).await.unwrap();
        let (old, dead) = (crate::new_saga_id(), InstanceId::generate());
        let mut tx = test.database.begin().await.unwrap();
        let instance = "INSERT INTO instances (instance_id, started_at, lease_until, dead) VALUES ($1, 0, 0, 1)";
        tx.execute(instance, Args::new().id(dead.as_str())).await.unwrap();
        let row = "INSERT INTO sagas (saga_id, definition, version, subject, idempotency_key, fingerprint, request, \
             traceparent, tracestate, created_at, owner, sequence, phase, outcome, needs_attention, finished, updated_at) \
             VALUES ($1, 'one', 1, 'ada', 'k', 'same', '{}', '', '', 1, $2, 1, 'running', 'pending', 0, 0, 1)";
        tx.execute(row, Args::new().id(old.to_string()).id(dead.as_str())).await.unwrap();
        let event = entry_text(old, std::slice::from_ref(&saga("", "", "").admitted), false).unwrap();
        let log = "INSERT INTO saga_events (saga_id, sequence, at, event) VALUES ($1, 1, 1, $2)";
        tx.execute(log, Args::new().id(old.to_string()).text(event)).await.unwrap();
        tx.commit().await.unwrap();

        let store = SagaStore::open(test.database.clone()).await.unwrap();
        let instance = InstanceId::generate();
        store.register(&instance, LONG_MS).await.unwrap();
        assert_eq!(store.adoptable(&[("one", 1)], 10).await.unwrap(), [old], "{backend:?}");
        let adopted = store.adopt(&instance, &[old]).await.unwrap();
        assert_eq!((adopted[0].ticket, adopted[0].is_queued), (Ticket(0), false), "{backend:?}");
        let (admitted, appended) =
            write(&store, &instance, &[saga("ada", "k", "same")], &[events(old, 2, 2)]).await.unwrap();
        assert_eq!(admitted, [AdmissionOutcome::Existing { id: old, same_request: true }], "{backend:?}");
        assert_eq!(appended, [AppendOutcome::Appended], "{backend:?}");
    }
}

/// On a file there is no other instance.
#[tokio::test]
async fn an_instance_reads_the_bound_of_the_others() {
    let line = Line::new(Backend::Postgres).await;
    let bound = async |number: usize| {
        let read = line.fixture.store.read_line::<()>(line.instance(number), Ticket(0), 0).await.unwrap();
        read.0.claims_to_ms
    };
    let note_in = async |commit_number, number: usize, claims_to_ms| {
        let (lane, others_claim_to_ms) = (Lane::Log, Some(claims_to_ms));
        let number_of = CommitNo { lane, number: commit_number };
        line.write(number, &Commit { number: number_of, others_claim_to_ms, ..commit(Vec::new(), None) }).await;
    };
    let note = async |number: usize, claims_to_ms| note_in(1, number, claims_to_ms).await;
    assert_eq!(bound(0).await, None);
    note(1, 1_250).await;
    note(2, 1_300).await;
    assert_eq!([bound(0).await, bound(1).await, bound(2).await], [Some(1_250), Some(1_300), Some(1_250)]);
    note(1, i64::MAX).await;
    assert_eq!(bound(0).await, Some(1_250), "the same commit again changes nothing");
    note_in(2, 1, i64::MAX).await;
    assert_eq!(bound(0).await, Some(1_300));
    let absent = Claim { turns: claim(0, &[(SagaId::from_u128(7), Ticket(7))], false).turns, after: Ticket(0) };
    let missed = Commit { others_claim_to_ms: Some(7), ..commit(Vec::new(), Some(absent)) };
    let missed = Commit { number: CommitNo { lane: Lane::Log, number: 3 }, ..missed };
    assert_eq!(line.write(1, &missed).await.claimed, [false]);
    assert_eq!(bound(0).await, Some(1_300), "a claim that has missed has nothing at work");
    line.fixture.store.sweep_line().await.unwrap();
    assert_eq!([bound(0).await, bound(1).await], [Some(1_300), Some(1_300)], "the sweep leaves what counts");
    let accepted = line.write(0, &commit(vec![waits("S1", "a")], None)).await;
    assert_eq!(accepted.line.unwrap().claims_to_ms, Some(1_300), "acceptance reads it, too");
    // Makes the bound of the second instance a second old.
    line.fixture.store.execute("UPDATE line_front SET noted_at = noted_at - 1000", Args::new()).await.unwrap();
    assert_eq!(bound(0).await, None, "an instance that has ended or was stopped is not waited for");
}

/// The served ticket stays at a saga that can't be claimed, even while later sagas are claimed.
#[tokio::test]
async fn a_claim_checks_the_bound_of_the_others_again() {
    let line = Line::new(Backend::Postgres).await;
    line.admit(0, (0..3).map(|key| waits(&format!("s{key}"), "1")).collect()).await;
    let later = "UPDATE sagas SET created_at = created_at + 1000 WHERE ticket = 3";
    line.fixture.store.execute(later, Args::new()).await.unwrap();
    let (_, rows) = line.read(0).await;
    let accepted_at = line.row(rows[1].0).await.created_at.0;
    // The first stays in line.
    let claims = |number, of: &[(SagaId, Ticket)]| {
        let Claim { after, mut turns } = claim(0, of, false);
        turns
            .iter_mut()
            .for_each(|turn| turn.accepted_at_ms = accepted_at + if turn.ticket.0 == 3 { 1_000 } else { 0 });
        Commit {
            number: CommitNo { lane: Lane::Log, number },
            others_claim_to_ms: Some(accepted_at + 250),
            ..commit(Vec::new(), Some(Claim { after, turns }))
        }
    };
    assert_eq!(line.write(1, &claims(1, &rows[1..2])).await.claimed, [true]);
    assert_eq!(line.served_and_last().await, (0, 3), "the served ticket does not say so");
    let ahead = claims(1, &rows[2..]);
    assert_eq!(line.write(2, &ahead).await.claimed, [false], "it was accepted a second later");
    let both = claims(2, &[rows[2], rows[0]]);
    assert_eq!(line.write(2, &both).await.claimed, [false; 2], "all of a claim or nothing");
    // Makes the bound of the first instance a second old.
    line.fixture.store.execute("UPDATE line_front SET noted_at = noted_at - 1000", Args::new()).await.unwrap();
    assert_eq!(line.write(2, &ahead).await.claimed, [true]);
}
