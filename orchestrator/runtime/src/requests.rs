//! Requests between instances: asks the owner of a saga, and answers as the owner, through rows of the database.
//!
//! Promises: a request that was carried out and not answered, because its owner crashed, is carried
//! out again by the adopter, which answers alike (see the engine's `operator`). One whose asker has gone is swept.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use matricula_core::SagaId;
use matricula_engine::CallWait;
use matricula_kit::telemetry;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Workload;
use crate::command_request::{CommandError, CommandRequest};
use crate::driver::{Driver, LOOK_MAX};
use crate::peers::Signals;
use crate::store::{InstanceId, SagaStore, StoreError, StoredRequest};

/// Requests that one look takes.
const BATCH_MAX: i64 = 100;
/// A look though no message came: it may have been missed, or the saga is still being adopted.
const LOOK: Duration = Duration::from_secs(1);
/// How long one that can't be written down holds up the others; the next look tries it again.
const HOLD_UP_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done,
    Refused(String),
    /// Where a saga stands; none when it is not in the memory of its owner.
    Seen(Option<Vec<CallWait>>),
}

/// What an owner is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Wanted {
    Look(LookWanted),
    Command(CommandRequest),
}

/// An operator wants to see where a saga stands.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LookWanted {
    Look,
}

/// The requests of one instance to others.
pub(crate) struct Requests {
    pub store: SagaStore,
    pub signals: Signals,
}

impl Requests {
    /// Has the owner of a saga carry out a command, and waits for its answer.
    pub(crate) async fn command(
        &self,
        saga: SagaId,
        request: &CommandRequest,
        until: Instant,
    ) -> Result<(), CommandError> {
        match self.ask(saga, &Wanted::Command(request.clone()), until).await?.ok_or(CommandError::Unanswered)? {
            Answer::Done => Ok(()),
            Answer::Refused(message) => Err(CommandError::Refused(message)),
            Answer::Seen(_) => Err(CommandError::Unanswered),
        }
    }

    /// Asks the owner of a saga where it stands; none when it does not say.
    pub(crate) async fn look(&self, saga: SagaId, until: Instant) -> Option<Vec<CallWait>> {
        let asking = self.ask(saga, &Wanted::Look(LookWanted::Look), until);
        match tokio::time::timeout_at(until + LOOK, asking).await.ok()?.ok()?? {
            Answer::Seen(calls) => calls,
            // Of another version.
            Answer::Done | Answer::Refused(_) => None,
        }
    }

    async fn ask(&self, saga: SagaId, wanted: &Wanted, until: Instant) -> Result<Option<Answer>, CommandError> {
        let request = uuid::Uuid::now_v7().to_string();
        let wanted = serde_json::to_string(wanted).map_err(|error| CommandError::Refused(error.to_string()))?;
        self.store.ask(&request, saga, &wanted).await?;
        let answer = self.answer_of(&request, until).await;
        if !matches!(answer, Ok(Some(_))) {
            // Nobody waits for it any more. When this fails too, it is swept.
            let _ = self.store.withdraw(&request).await;
        }
        answer
    }

    async fn answer_of(&self, request: &str, until: Instant) -> Result<Option<Answer>, CommandError> {
        loop {
            // Before the look, so that an answer between the two wakes it.
            let mut answered = pin!(self.signals.answered.notified());
            answered.as_mut().enable();
            if let Some(text) = self.store.take_answer(request).await? {
                let answer = serde_json::from_str(&text);
                return answer.map(Some).map_err(|error| CommandError::Refused(format!("the owner's answer: {error}")));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            tokio::select! {
                () = answered => {}
                () = tokio::time::sleep_until(until.min(Instant::now() + LOOK)) => {}
            }
        }
    }
}

/// The owner's end: carries out what other instances ask of the sagas of this one.
pub(crate) struct Answers<W: Workload> {
    pub driver: Arc<Driver<W>>,
    pub instance: InstanceId,
    pub signals: Signals,
}

impl<W: Workload> Answers<W> {
    /// Answers until the shutdown.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), StoreError> {
        let answering = async {
            loop {
                if let Err(error) = self.answer_waiting().await {
                    tracing::warn!(
                        error = telemetry::chain(&error),
                        "requests of other instances could not be answered"
                    );
                }
                tokio::select! {
                    () = self.signals.asked.notified() => {}
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        };
        shutdown.run_until_cancelled(answering).await;
        Ok(())
    }

    async fn answer_waiting(&self) -> Result<(), StoreError> {
        let requests = self.driver.store.unanswered(&self.instance, BATCH_MAX).await?;
        let answers = join_all(requests.into_iter().map(|request| self.answer_one(request))).await;
        let answers: Vec<(String, String)> = answers.into_iter().flatten().collect();
        if !answers.is_empty() {
            self.driver.store.answer(&answers).await?;
        }
        Ok(())
    }

    /// None for a saga that is not in memory yet, or not any more, or whose log is not taken: the next look finds out.
    async fn answer_one(&self, request: StoredRequest) -> Option<(String, String)> {
        let answer = match serde_json::from_str::<Wanted>(&request.wanted) {
            Err(error) => Answer::Refused(format!("this request is of another version: {error}")),
            Ok(Wanted::Look(LookWanted::Look)) => {
                let seen = tokio::time::timeout(LOOK_MAX, self.driver.look(request.saga)).await.ok().flatten();
                Answer::Seen(seen.map(|seen| seen.waits))
            }
            Ok(Wanted::Command(command)) => {
                match self.driver.command(request.saga, command.clone(), Instant::now() + HOLD_UP_MAX).await {
                    Some(Ok(())) => Answer::Done,
                    Some(Err(error)) => Answer::Refused(error.to_string()),
                    None => match self.driver.command_to_finished(request.saga, command).await? {
                        Ok(()) => Answer::Done,
                        Err(error) => Answer::Refused(error.to_string()),
                    },
                }
            }
        };
        let text = serde_json::to_string(&answer).ok()?;
        Some((request.id, text))
    }
}
