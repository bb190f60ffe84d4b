//! Reads the registrations that callers ask for: all that wait, at once.
//!
//! After an outage thousands ask again with the key that they had, each every few seconds. A read for each would keep
//! all of them waiting for a connection until they give up and come again, long after their registrations are decided.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use matricula_kit::database::DbError;
use matricula_kit::id::SagaId;
use matricula_kit::status;
use matricula_kit::tasks::Tasks;
use matricula_runtime::SagaRow;
use tokio::sync::{Mutex, mpsc, oneshot};
use tonic::{Code, Status};

use super::RETRY_UNAVAILABLE;
use crate::shutting_down;

/// Registrations that one read asks for: with their logs some megabytes.
const BATCH_MAX: usize = 500;
/// A read that takes longer is given up: a half-open connection would be waited for for ever.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

type Found = Result<Option<SagaRow>, Status>;

struct Asked {
    id: SagaId,
    reply: oneshot::Sender<Found>,
}

/// The handle by which callers ask. The reader ends with the last one.
pub(super) struct Lookup {
    asked: mpsc::Sender<Asked>,
}

impl Lookup {
    /// Starts a reader. `read` gets ids without repetition.
    pub(super) fn start<F>(read: impl Fn(Vec<String>) -> F + Send + Sync + 'static, tasks: &Tasks) -> Self
    where
        F: Future<Output = Result<Vec<SagaRow>, DbError>> + Send + 'static,
    {
        let (asked, waiting) = mpsc::channel(BATCH_MAX);
        // Kept over a failure: those who were being read for are told to ask again, and the others are read for.
        let (read, waiting) = (Arc::new(read), Arc::new(Mutex::new(waiting)));
        tasks.restarted("lookup", move || {
            let (read, waiting) = (read.clone(), waiting.clone());
            async move { run(|ids| read(ids), &mut *waiting.lock().await).await }
        });
        Self { asked }
    }

    /// The registration as stored; none when there is none.
    pub(super) async fn get(&self, id: &SagaId) -> Found {
        let (reply, found) = oneshot::channel();
        let asked = Asked { id: id.clone(), reply };
        self.asked.send(asked).await.map_err(|_| shutting_down())?;
        found.await.map_err(|_| shutting_down())?
    }
}

async fn run<F>(read: impl Fn(Vec<String>) -> F, waiting: &mut mpsc::Receiver<Asked>)
where
    F: Future<Output = Result<Vec<SagaRow>, DbError>>,
{
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        batch.retain(|asked| !asked.reply.is_closed());
        let mut ids: Vec<String> = batch.iter().map(|asked| asked.id.as_str().to_owned()).collect();
        ids.sort_unstable();
        ids.dedup();
        match tokio::time::timeout(READ_TIMEOUT, read(ids)).await {
            Ok(Ok(rows)) => {
                let rows: HashMap<&str, &SagaRow> = rows.iter().map(|row| (row.id.as_str(), row)).collect();
                answer(&mut batch, |id| Ok(rows.get(id.as_str()).map(|row| (*row).clone())));
            }
            Ok(Err(error)) => {
                let status = Status::from(error);
                answer(&mut batch, |_| Err(status.clone()));
            }
            Err(_) => answer(&mut batch, |_| Err(unanswered())),
        }
    }
}

fn answer(batch: &mut Vec<Asked>, found: impl Fn(&SagaId) -> Found) {
    for asked in batch.drain(..) {
        let found = found(&asked.id);
        // Whoever went away meanwhile needs no answer.
        let _ = asked.reply.send(found);
    }
}

fn unanswered() -> Status {
    status::retry(Code::Unavailable, "DATABASE_UNAVAILABLE", "the database does not answer", RETRY_UNAVAILABLE)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use matricula_kit::telemetry::TraceContext;
    use matricula_kit::time::UnixMs;
    use tokio::sync::Semaphore;

    use super::*;

    fn row(id: &str) -> SagaRow {
        SagaRow {
            id: SagaId::stored(id.to_owned()),
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

    /// A lookup that knows the ids that begin with "known", keeps the sizes of its reads, and reads when it may.
    fn lookup(may: Arc<Semaphore>) -> (Arc<Lookup>, Arc<Mutex<Vec<usize>>>) {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let kept = sizes.clone();
        let read = move |ids: Vec<String>| {
            kept.lock().expect("no panic").push(ids.len());
            let may = may.clone();
            async move {
                may.acquire().await.expect("open").forget();
                if ids.iter().any(|id| id == "broken") {
                    return Err(DbError::corrupt("broken"));
                }
                Ok(ids.iter().filter(|id| id.starts_with("known")).map(|id| row(id)).collect())
            }
        };
        let lookup = Lookup::start(read, &Tasks::new("test"));
        (Arc::new(lookup), sizes)
    }

    async fn found(lookup: &Lookup, id: &str) -> Result<bool, Code> {
        let found = lookup.get(&SagaId::stored(id.to_owned())).await;
        found.map(|row| row.is_some()).map_err(|status| status.code())
    }

    #[tokio::test]
    async fn all_who_wait_are_read_at_once() {
        let may = Arc::new(Semaphore::new(0));
        let (lookup, sizes) = lookup(may.clone());
        let mut asking = tokio::task::JoinSet::new();
        for number in 0..400 {
            let lookup = lookup.clone();
            // Each is asked for twice, as by somebody who clicks again.
            asking.spawn(async move { found(&lookup, &format!("known-{}", number / 2)).await });
            if number == 0 {
                // The first is being read: all others wait.
                while sizes.lock().expect("no panic").is_empty() {
                    tokio::task::yield_now().await;
                }
            }
        }
        tokio::task::yield_now().await;
        may.add_permits(1_000);
        let answers = asking.join_all().await;
        assert!(answers.iter().all(|answer| *answer == Ok(true)), "{answers:?}");
        let sizes = sizes.lock().expect("no panic").clone();
        assert!(sizes.len() <= 3 && sizes.iter().sum::<usize>() <= 202, "{sizes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_panics_ends_no_other() {
        let tasks = Tasks::new("test");
        let read = |ids: Vec<String>| async move {
            assert!(!ids.iter().any(|id| id == "poison"), "a poisoned row");
            Ok(ids.iter().map(|id| row(id)).collect())
        };
        let lookup = Lookup::start(read, &tasks);
        for _ in 0..3 {
            assert_eq!(found(&lookup, "poison").await, Err(Code::Unavailable), "asked again later");
            assert_eq!(found(&lookup, "known").await, Ok(true));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_gets_its_own_answer() {
        let may = Arc::new(Semaphore::new(2));
        let (lookup, _) = lookup(may.clone());
        assert_eq!(found(&lookup, "known").await, Ok(true));
        assert_eq!(found(&lookup, "unknown").await, Ok(false));
        // No answer within the timeout; then the next read is made.
        assert_eq!(found(&lookup, "known").await, Err(Code::Unavailable));
        may.add_permits(2);
        assert_eq!(found(&lookup, "broken").await, Err(Code::Internal));
        assert_eq!(found(&lookup, "known").await, Ok(true));
    }
}
