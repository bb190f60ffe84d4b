//! One RPC for a batch of calls, to its end: an answer a call, whatever happens.
//!
//! Promises: a timeout, a panic and a wrong number of answers are errors like others; an operation that the service
//! finds invalid spoils no other, because a batch that is refused for one is sent again in halves.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use matricula_engine::{CallAnswer, CallError, Code};

use crate::{Call, Workload};

/// One RPC of one service.
#[derive(Clone, Copy)]
pub(crate) struct Rpc {
    pub destination: &'static str,
    pub name: &'static str,
    pub timeout: Duration,
}

impl Rpc {
    /// Answers in the order of the calls; and the error, when no part of the batch was answered. Who finds an operation invalid
    /// has answered.
    pub(crate) async fn call<W: Workload>(
        self,
        workload: &W,
        calls: &[Call<W::Request>],
    ) -> (Vec<CallAnswer>, Option<CallError>) {
        let mut answers = Vec::with_capacity(calls.len());
        let (mut answered, mut failed) = (false, None);
        // The first part is at the end, so that answers come in order.
        let mut parts = vec![calls];
        while let Some(part) = parts.pop() {
            match self.call_once(workload, part).await {
                Ok(of_part) => {
                    answered = true;
                    answers.extend(of_part);
                }
                Err(error) if error.code == Code::InvalidArgument && part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(error) => {
                    answers.extend(std::iter::repeat_n(CallAnswer::Unknown(error.clone()), part.len()));
                    answered |= error.code == Code::InvalidArgument;
                    failed = Some(error);
                }
            }
        }
        (answers, failed.filter(|_| !answered))
    }

    async fn call_once<W: Workload>(
        self,
        workload: &W,
        calls: &[Call<W::Request>],
    ) -> Result<Vec<CallAnswer>, CallError> {
        let Self { destination, name, timeout } = self;
        let started = Instant::now();
        let calling = AssertUnwindSafe(workload.call(destination, name, calls)).catch_unwind();
        let outcome = tokio::time::timeout(timeout, calling).await;
        metrics::histogram!("matricula_call_seconds", "destination" => destination, "rpc" => name)
            .record(started.elapsed());
        metrics::histogram!("matricula_call_operations", "destination" => destination, "rpc" => name)
            .record(calls.len() as f64);
        match outcome {
            Ok(Ok(Ok(answers))) if answers.len() != calls.len() => {
                let message = format!("{destination} gave {} answers to {} operations", answers.len(), calls.len());
                Err(CallError::new(Code::Internal, message, None))
            }
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => {
                tracing::error!(destination, rpc = name, "a call panicked");
                Err(CallError::new(Code::Internal, format!("the call of {name} panicked"), None))
            }
            Err(_) => {
                let message = format!("no answer from {destination} within {} ms", timeout.as_millis());
                Err(CallError::new(Code::DeadlineExceeded, message, None))
            }
        }
    }
}
