//! The workload as the core sees it: the data that is kept with each saga in memory, and how one RPC with a batch of
//! calls is made.
//!
//! Promises: a timeout, a panic and a wrong number of answers become errors of the call.

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

/// The workload as the core's [`Workflow`].
pub(crate) struct Sagas<W>(pub Arc<W>);

/// The request and the trace of a saga in memory. The span of the saga ends when the core and all calls have dropped
/// this.
pub(crate) struct Carried<R> {
    /// The request.
    pub request: Arc<R>,
    /// The request as JSON, until it is stored.
    unstored: Mutex<Arc<str>>,
    /// The trace of the submission.
    pub submitted: TraceContext,
    driven: OnceLock<Driven>,
}

/// The span of a saga that this instance drives, and its trace context. A saga without a span has the context of its
/// submission.
struct Driven {
    span: Span,
    trace: TraceContext,
}

impl<R> Carried<R> {
    /// For a saga that this instance does not drive yet. `unstored` is empty if the request is already stored.
    pub(crate) fn new(request: R, unstored: Arc<str>, submitted: TraceContext) -> Arc<Self> {
        Arc::new(Self { request: Arc::new(request), unstored: unstored.into(), submitted, driven: OnceLock::new() })
    }

    /// For a stored saga; or why its request can't be read.
    pub(crate) fn stored(request: &str, submitted: TraceContext) -> Result<Arc<Self>, String>
    where
        R: DeserializeOwned,
    {
        let request = serde_json::from_str(request).map_err(|error| error.to_string())?;
        Ok(Self::new(request, Arc::default(), submitted))
    }

    /// The request as JSON; empty once it is stored.
    pub(crate) fn unstored(&self) -> Arc<str> {
        self.unstored.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins the span of the saga, which is stored now and driven by this instance.
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

    /// Notes the outcome in the span.
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

/// Makes an RPC. Each call whose trace is recorded gets a span.
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

/// Converts a call for the workload. Nothing large is copied.
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

/// The span of one attempt, if its trace is recorded. The call then carries the context of the span.
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
