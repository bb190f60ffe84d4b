//! Reads registrations for many callers at once: those that wait at the same moment share a read.
//!
//! After an outage thousands of clients send their key again, each every few seconds. With a read for each of them, all
//! would wait for a connection until they give up and come again, long after their registrations are decided.
//!
//! ```text
//! queries ──► waiting ──up to BATCH_MAX──► a read, READS_MAX at a time ──► an answer for each
//!               ▲  a registration that is being read waits for the next read
//! ```
//!
//! Promises: a read that is slow, or hangs, delays only the callers of its registrations. An answer is read after its
//! query came. Every read ends.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use matricula_kit::database::DbError;
use matricula_kit::tasks::Tasks;
use matricula_runtime::{SagaId, SagaRow};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};
use tonic::Status;

use crate::{shutting_down, unavailable};

/// Registrations of one read: with their logs some megabytes.
const BATCH_MAX: usize = 500;
/// Reads at the same time. A few slow reads delay no other registration, and connections are left for all other
/// readers.
const READS_MAX: usize = 3;
/// Queries that wait for a read. Beyond it callers wait in the channel.
const WAITING_MAX: usize = 4 * BATCH_MAX;
/// A read that takes longer has failed: on a half-open connection it would never end.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

type Found = Result<Option<SagaRow>, Status>;

struct PendingQuery {
    id: SagaId,
    reply: oneshot::Sender<Found>,
}

/// The handle of callers. The reader ends with the last one.
pub(super) struct Lookup {
    queries: mpsc::Sender<PendingQuery>,
}

impl Lookup {
    /// Starts a reader. `read` gets ids without repetition.
    pub(super) fn start<F>(read: impl Fn(Vec<SagaId>) -> F + Send + Sync + 'static, tasks: &Tasks) -> Self
    where
        F: Future<Output = Result<Vec<SagaRow>, DbError>> + Send + 'static,
    {
        let (queries, waiting) = mpsc::channel(BATCH_MAX);
        // The channel outlives a failed reader: the callers of its reads get an error, the others the next reader.
        let (read, waiting) = (Arc::new(read), Arc::new(Mutex::new(waiting)));
        tasks.restarted("lookup", move || {
            let (read, waiting) = (read.clone(), waiting.clone());
            async move { Reader::new(|ids| read(ids)).run(&mut *waiting.lock().await).await }
        });
        Self { queries }
    }

    /// The registration as it is stored, if it exists.
    pub(super) async fn get(&self, id: SagaId) -> Found {
        let (reply, found) = oneshot::channel();
        self.queries.send(PendingQuery { id, reply }).await.map_err(|_| shutting_down())?;
        found.await.map_err(|_| shutting_down())?
    }
}

struct Reader<R> {
    read: R,
    /// In order of arrival.
    waiting: VecDeque<PendingQuery>,
    reads: JoinSet<Result<Vec<SagaRow>, Status>>,
    /// The queries of each read.
    reading: HashMap<Id, Vec<PendingQuery>>,
}

impl<R, F> Reader<R>
where
    R: Fn(Vec<SagaId>) -> F,
    F: Future<Output = Result<Vec<SagaRow>, DbError>> + Send + 'static,
{
    fn new(read: R) -> Self {
        Self { read, waiting: VecDeque::new(), reads: JoinSet::new(), reading: HashMap::new() }
    }

    async fn run(mut self, queries: &mut mpsc::Receiver<PendingQuery>) {
        loop {
            self.start_reads();
            tokio::select! {
                next = queries.recv(), if self.waiting.len() < WAITING_MAX => {
                    let Some(next) = next else { return };
                    self.waiting.push_back(next);
                    // Queries that have arrived already go with it.
                    while self.waiting.len() < WAITING_MAX {
                        let Ok(next) = queries.try_recv() else { break };
                        self.waiting.push_back(next);
                    }
                }
                Some(ended) = self.reads.join_next_with_id() => self.answer(ended),
            }
        }
    }

    /// Starts reads of the waiting queries, up to `READS_MAX`.
    fn start_reads(&mut self) {
        while self.reads.len() < READS_MAX {
            let batch = self.next_batch();
            if batch.is_empty() {
                return;
            }
            let mut ids: Vec<SagaId> = batch.iter().map(|query| query.id).collect();
            ids.sort_unstable();
            ids.dedup();
            let read = tokio::time::timeout(READ_TIMEOUT, (self.read)(ids));
            let read = async move { read.await.map_or_else(|_| Err(unanswered()), |rows| rows.map_err(Status::from)) };
            let started = self.reads.spawn(read);
            self.reading.insert(started.id(), batch);
        }
    }

    /// Takes the waiting queries, except those for a registration that is being read: that read may have begun before
    /// the query came, and a second read of it could delay the other queries of its batch.
    fn next_batch(&mut self) -> Vec<PendingQuery> {
        let mut batch = Vec::new();
        if self.waiting.is_empty() {
            return batch;
        }
        let busy: HashSet<SagaId> = self.reading.values().flatten().map(|query| query.id).collect();
        let mut left = VecDeque::new();
        for query in self.waiting.drain(..).filter(|query| !query.reply.is_closed()) {
            match batch.len() < BATCH_MAX && !busy.contains(&query.id) {
                true => batch.push(query),
                false => left.push_back(query),
            }
        }
        self.waiting = left;
        batch
    }

    fn answer(&mut self, ended: Result<(Id, Result<Vec<SagaRow>, Status>), JoinError>) {
        let (id, rows) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(%error, "a read of registrations panicked");
                (error.id(), Err(unanswered()))
            }
        };
        let rows: Result<HashMap<SagaId, SagaRow>, Status> =
            rows.map(|rows| rows.into_iter().map(|row| (row.id, row)).collect());
        for query in self.reading.remove(&id).unwrap_or_default() {
            let found = rows.as_ref().map(|rows| rows.get(&query.id).cloned()).map_err(Status::clone);
            // A caller that went away meanwhile needs no answer.
            let _ = query.reply.send(found);
        }
    }
}

fn unanswered() -> Status {
    unavailable("DATABASE_UNAVAILABLE", "the database does not answer")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use matricula_kit::telemetry::TraceContext;
    use matricula_kit::time::UnixMs;
    use tokio::sync::Semaphore;
    use tonic::Code;

    use super::*;

    /// The upper half of an id's bits is how the reads of a test handle it.
    const KNOWN: u128 = 1;
    const UNKNOWN: u128 = 2;
    const BROKEN: u128 = 3;
    const SLOW: u128 = 4;
    const POISON: u128 = 5;

    fn id(kind: u128, number: usize) -> SagaId {
        SagaId::from_u128(kind << 64 | number as u128)
    }

    fn is(kind: u128) -> impl Fn(&SagaId) -> bool {
        move |id| id.as_u128() >> 64 == kind
    }

    fn row(id: SagaId) -> SagaRow {
        SagaRow {
            id,
            ticket: matricula_runtime::Ticket::default(),
            is_queued: false,
            subject: "S1".to_owned(),
            idempotency_key: "k".to_owned(),
            definition: String::new(),
            version: 1,
            request: String::new(),
            trace: TraceContext::default(),
            created_at: UnixMs(0),
            updated_at: UnixMs(0),
            owner: String::new(),
            owner_alive: true,
            phase: String::new(),
            needs_attention: false,
            sequence: 0,
            log: Ok(Vec::new()),
            archived: None,
        }
    }

    /// A lookup that finds the ids of `KNOWN`, records the sizes of its reads, and needs a permit for each.
    fn lookup(may: Arc<Semaphore>) -> (Arc<Lookup>, Arc<Mutex<Vec<usize>>>) {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let kept = sizes.clone();
        let read = move |ids: Vec<SagaId>| {
            kept.lock().expect("no panic").push(ids.len());
            let may = may.clone();
            async move {
                may.acquire().await.expect("open").forget();
                if ids.iter().any(is(BROKEN)) {
                    return Err(DbError::corrupt("broken"));
                }
                Ok(ids.into_iter().filter(is(KNOWN)).map(row).collect())
            }
        };
        let lookup = Lookup::start(read, &Tasks::new("test"));
        (Arc::new(lookup), sizes)
    }

    async fn found(lookup: &Lookup, id: SagaId) -> Result<bool, Code> {
        let found = lookup.get(id).await;
        found.map(|row| row.is_some()).map_err(|status| status.code())
    }

    #[tokio::test]
    async fn waiting_queries_share_a_read() {
        let may = Arc::new(Semaphore::new(0));
        let (lookup, sizes) = lookup(may.clone());
        let mut asking = tokio::task::JoinSet::new();
        for number in 0..400 {
            let lookup = lookup.clone();
            // Each registration has two queries, as of a student who clicks again.
            asking.spawn(async move { found(&lookup, id(KNOWN, number / 2)).await });
            if number < READS_MAX * 2 && number % 2 == 0 {
                // Reads of the first ones are under way: all other queries wait.
                while sizes.lock().expect("no panic").len() <= number / 2 {
                    tokio::task::yield_now().await;
                }
            }
        }
        tokio::task::yield_now().await;
        may.add_permits(1_000);
        let answers = asking.join_all().await;
        assert!(answers.iter().all(|answer| *answer == Ok(true)), "{answers:?}");
        let sizes = sizes.lock().expect("no panic").clone();
        // The second queries for the first ones are read after these.
        assert!(sizes.len() <= 2 * READS_MAX + 1 && sizes.iter().sum::<usize>() <= 200 + READS_MAX, "{sizes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_query_gets_its_own_answer() {
        let may = Arc::new(Semaphore::new(2));
        let (lookup, _) = lookup(may.clone());
        assert_eq!(found(&lookup, id(KNOWN, 0)).await, Ok(true));
        assert_eq!(found(&lookup, id(UNKNOWN, 0)).await, Ok(false));
        // No answer within the timeout; then the next read is made.
        assert_eq!(found(&lookup, id(KNOWN, 0)).await, Err(Code::Unavailable));
        may.add_permits(2);
        assert_eq!(found(&lookup, id(BROKEN, 0)).await, Err(Code::Internal));
        assert_eq!(found(&lookup, id(KNOWN, 0)).await, Ok(true));
    }

    /// The ids of each read that has begun.
    type Reads = Arc<Mutex<Vec<Vec<SagaId>>>>;

    /// A lookup whose reads of ids of `SLOW` never end, and those of `POISON` panic.
    fn hanging() -> (Arc<Lookup>, Reads) {
        let reads = Reads::default();
        let kept = reads.clone();
        let read = move |ids: Vec<SagaId>| {
            kept.lock().expect("no panic").push(ids.clone());
            async move {
                if ids.iter().any(is(SLOW)) {
                    std::future::pending::<()>().await;
                }
                assert!(!ids.iter().any(is(POISON)), "a read panics");
                Ok(ids.into_iter().map(row).collect())
            }
        };
        (Arc::new(Lookup::start(read, &Tasks::new("test"))), reads)
    }

    /// Any number of queries for a slow registration take one read at a time, and the other reads go on at once.
    #[tokio::test(start_paused = true)]
    async fn a_read_that_hangs_delays_only_its_own_queries() {
        let (lookup, reads) = hanging();
        let began = tokio::time::Instant::now();
        let mut slow = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let asking = lookup.clone();
            slow.spawn(async move { found(&asking, id(SLOW, 0)).await });
            tokio::task::yield_now().await;
            assert_eq!(found(&lookup, id(KNOWN, 0)).await, Ok(true));
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody has waited for the read that hangs");
        assert_eq!(reads.lock().expect("no panic").iter().filter(|ids| ids[..] == [id(SLOW, 0)]).count(), 1);
        // It ends all the same, and so does the one read for the queries that came meanwhile.
        assert!(slow.join_all().await.iter().all(|answer| *answer == Err(Code::Unavailable)));
        assert!(began.elapsed() < 3 * READ_TIMEOUT, "{:?}", began.elapsed());
        assert_eq!(found(&lookup, id(KNOWN, 0)).await, Ok(true));
    }

    #[tokio::test(start_paused = true)]
    async fn the_reader_goes_on_after_all_its_reads_have_hung() {
        let (lookup, _) = hanging();
        let mut slow = tokio::task::JoinSet::new();
        for number in 0..READS_MAX {
            let asking = lookup.clone();
            slow.spawn(async move { found(&asking, id(SLOW, number)).await });
            tokio::task::yield_now().await;
        }
        let began = tokio::time::Instant::now();
        assert_eq!(found(&lookup, id(KNOWN, 0)).await, Ok(true));
        assert!(began.elapsed() <= READ_TIMEOUT, "{:?}", began.elapsed());
        assert!(slow.join_all().await.iter().all(|answer| *answer == Err(Code::Unavailable)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_panics_ends_no_other() {
        let (lookup, _) = hanging();
        assert_eq!(found(&lookup, id(POISON, 0)).await, Err(Code::Unavailable));
        assert_eq!(found(&lookup, id(KNOWN, 0)).await, Ok(true));
    }
}
