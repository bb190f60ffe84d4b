//! One RPC for a batch of calls, tried once.
//!
//! Promises: a timeout, a panic and a wrong number of answers are errors like others.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use matricula_core::Rpc;
use matricula_engine::{CallAnswer, CallError, Code, Direction};
use matricula_kit::telemetry::spans::{self, Attempt, AttemptOutcome};
use matricula_kit::time::UnixMs;
use tracing::Span;

use crate::workflow::Carried;
use crate::{Call, Workload};

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
