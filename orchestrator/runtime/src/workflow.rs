//! The workload as the core sees it: what is kept with each saga in memory, and how a batch of its calls is made, once.
//!
//! Promises: a timeout, a panic and a wrong number of answers are errors like others.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use matricula_core::{Rpc, SagaId, Workflow};
use matricula_engine::{CallAnswer, CallError, Code, Definitions, Direction, Step};
use matricula_kit::telemetry::TraceContext;
use matricula_kit::telemetry::spans::{self, Attempt, AttemptOutcome};
use matricula_kit::time::UnixMs;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tracing::Span;

use crate::{Call, Workload};

/// A workload, as far as the core knows it.
pub(crate) struct Sagas<W>(pub Arc<W>);

/// The request and the trace of a saga while it is in memory. Its span ends when the last call and the core have
/// dropped this.
pub(crate) struct Carried<R> {
    /// The request.
    pub request: Arc<R>,
    /// The request as JSON, until it is stored.
    unstored: Mutex<Arc<str>>,
    /// The trace of the submission.
    pub submitted: TraceContext,
    driven: OnceLock<Driven>,
}

/// The span of a saga that is driven here, and its context; of the submission, when the saga has no span.
struct Driven {
    span: Span,
    trace: TraceContext,
}

impl<R> Carried<R> {
    /// Of a saga that is not driven here yet; `unstored` is empty when it is stored already.
    pub(crate) fn new(request: R, unstored: Arc<str>, submitted: TraceContext) -> Arc<Self> {
        Arc::new(Self { request: Arc::new(request), unstored: unstored.into(), submitted, driven: OnceLock::new() })
    }

    /// Of a saga that is stored; or why its request can't be read.
    pub(crate) fn stored(request: &str, submitted: TraceContext) -> Result<Arc<Self>, String>
    where
        R: DeserializeOwned,
    {
        let request = serde_json::from_str(request).map_err(|error| error.to_string())?;
        Ok(Self::new(request, Arc::default(), submitted))
    }

    /// The request as JSON, as long as it is not stored.
    pub(crate) fn unstored(&self) -> Arc<str> {
        self.unstored.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins the span of the saga: it is stored, and driven here from now on.
    pub(crate) fn begin(&self, definition: &str, saga: SagaId) {
        *self.unstored.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
        self.driven.get_or_init(|| {
            if !self.submitted.is_wanted() {
                return Driven { span: Span::none(), trace: self.submitted.clone() };
            }
            let span = spans::saga(definition, &saga.to_string(), &self.submitted);
            let trace = match span.is_disabled() {
                true => self.submitted.clone(),
                false => TraceContext::of_span(&span, &self.submitted),
            };
            Driven { span, trace }
        });
    }

    /// The trace that calls belong to.
    pub(crate) fn trace(&self) -> &TraceContext {
        self.driven.get().map_or(&self.submitted, |driven| &driven.trace)
    }

    /// The saga has an outcome.
    pub(crate) fn decided(&self, outcome: &'static str) {
        if let Some(driven) = self.driven.get() {
            spans::decided(&driven.span, outcome);
        }
    }
}

impl<W: Workload> Workflow for Sagas<W> {
    type Request = Arc<Carried<W::Request>>;
    type Caller = oneshot::Sender<matricula_core::Reply>;

    fn definitions(&self) -> &Definitions {
        self.0.definitions()
    }

    fn applies(&self, carried: &Self::Request) -> Vec<&'static str> {
        self.0.applies(&carried.request)
    }

    fn is_waited_for(&self, step: &Step, carried: &Self::Request) -> bool {
        self.0.is_waited_for(step, &carried.request)
    }
}

/// Makes an RPC, with a span for each of its calls whose trace is recorded.
pub(crate) async fn call<W: Workload>(
    workload: &W,
    rpc: Rpc<Arc<Carried<W::Request>>>,
    timeout: Duration,
) -> Result<Vec<CallAnswer>, CallError> {
    let mut calls: Vec<Call<W::Request>> = rpc.calls.iter().map(to_call).collect();
    let spans: Vec<Span> = calls.iter_mut().map(|call| attempt_span(workload, &rpc, call)).collect();
    let answer = call_once(workload, &rpc, &calls, timeout).await;
    for (place, span) in spans.iter().enumerate().filter(|(_, span)| !span.is_disabled()) {
        spans::answered(
            span,
            match &answer {
                Ok(answers) => outcome(&answers[place]),
                Err(error) => unknown(error),
            },
        );
    }
    answer
}

/// A call as the workload gets it. Nothing large is copied.
fn to_call<R>(call: &matricula_core::Call<Arc<Carried<R>>>) -> Call<R> {
    Call {
        saga: call.saga,
        step: call.step,
        step_name: call.step_name,
        direction: call.direction,
        attempt: call.attempt,
        request: call.request.request.clone(),
        state: call.state.clone(),
        trace: call.request.trace().clone(),
        owner_alive_at: UnixMs(call.owner_alive_at_ms),
    }
}

async fn call_once<W: Workload, R>(
    workload: &W,
    rpc: &Rpc<R>,
    calls: &[Call<W::Request>],
    timeout: Duration,
) -> Result<Vec<CallAnswer>, CallError> {
    let &Rpc { destination, name, .. } = rpc;
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

/// The span of one attempt, when its trace is recorded. The call carries its context on.
fn attempt_span<W: Workload, R>(workload: &W, rpc: &Rpc<R>, call: &mut Call<W::Request>) -> Span {
    if !call.trace.is_wanted() {
        return Span::none();
    }
    let direction = match call.direction {
        Direction::Forward => spans::Direction::Forward,
        Direction::Compensation => spans::Direction::Compensation,
    };
    let saga = call.saga.to_string();
    let attempt = Attempt { saga: &saga, step: call.step_name, direction, number: call.attempt };
    let span = spans::call(&workload.peer(rpc.destination), rpc.name, attempt, &call.trace);
    call.trace = call.trace.for_call(&span);
    span
}

fn outcome(answer: &CallAnswer) -> AttemptOutcome<'_> {
    match answer {
        CallAnswer::Done(_) => AttemptOutcome::Done,
        CallAnswer::Refused(_) => AttemptOutcome::Refused,
        CallAnswer::Unknown(error) => unknown(error),
    }
}

fn unknown(error: &CallError) -> AttemptOutcome<'_> {
    AttemptOutcome::Unknown((error.code as i32).into(), &error.message)
}
