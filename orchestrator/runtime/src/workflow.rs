//! The workload as the core sees it, and what this shell keeps with each saga: its request, its trace and its span.

use std::sync::{Arc, OnceLock};

use matricula_core::{SagaId, Workflow};
use matricula_engine::{Definition, Step};
use matricula_kit::telemetry::{TraceContext, spans};
use tokio::sync::oneshot;
use tracing::Span;

use crate::Workload;

/// A workload, as far as the core knows it.
pub(crate) struct Sagas<W>(pub Arc<W>);

/// The request and the trace of a saga while it is in memory. Its span ends when the last call and the core have
/// dropped this.
pub(crate) struct Carried<R> {
    /// The request.
    pub request: Arc<R>,
    /// The trace of the submission.
    submitted: TraceContext,
    driven: OnceLock<Driven>,
}

/// The span of a saga that is driven here, and its context; of the submission, when the saga has no span.
struct Driven {
    span: Span,
    trace: TraceContext,
}

impl<R> Carried<R> {
    /// Of a saga that is not driven here yet.
    pub(crate) fn new(request: R, submitted: TraceContext) -> Arc<Self> {
        Arc::new(Self { request: Arc::new(request), submitted, driven: OnceLock::new() })
    }

    /// Begins the span of the saga: it is driven here from now on.
    pub(crate) fn begin(&self, definition: &str, saga: SagaId) {
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

    /// The trace of the submission.
    pub(crate) fn submitted(&self) -> &TraceContext {
        &self.submitted
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

    fn definition(&self) -> &Definition {
        self.0.definition()
    }

    fn applies(&self, carried: &Self::Request) -> Vec<&'static str> {
        self.0.applies(&carried.request)
    }

    fn is_waited_for(&self, step: &Step, carried: &Self::Request) -> bool {
        self.0.is_waited_for(step, &carried.request)
    }
}
