//! Batches on the wire: bounds, field errors, and the operations of a request as domain operations.

use matricula_proto::common::v1 as wire;

use crate::id::{InvalidId, SagaId, StepName};
use crate::participant::{Key, Leg, Operation};
use crate::telemetry::TraceContext;

/// Most operations in one request; the contract's bound for every mutating RPC.
pub const OPERATIONS_MAX: usize = 1_000;

/// A field of a request that is out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// Path of the field, such as `operations[3].student_id`.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl FieldError {
    /// A problem with one field.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// The same problem, seen from the message that holds the field.
    pub fn within(mut self, outer: &str) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }
}

/// Takes an id from the wire, or says which field is wrong.
pub fn required_id<T>(
    field: &str,
    text: String,
    try_new: impl FnOnce(String) -> Result<T, InvalidId>,
) -> Result<T, FieldError> {
    try_new(text).map_err(|problem| FieldError::new(field, problem.to_string()))
}

/// Takes a list of ids from the wire, at most `max` and none twice.
pub fn distinct_ids<T: PartialEq + std::fmt::Display>(
    field: &str,
    texts: Vec<String>,
    max: usize,
    try_new: impl Fn(String) -> Result<T, InvalidId>,
) -> Result<Vec<T>, FieldError> {
    if texts.len() > max {
        return Err(FieldError::new(field, format!("at most {max}, got {}", texts.len())));
    }
    let mut ids: Vec<T> = Vec::with_capacity(texts.len());
    for (index, text) in texts.into_iter().enumerate() {
        let id = required_id(&format!("{field}[{index}]"), text, &try_new)?;
        if ids.contains(&id) {
            return Err(FieldError::new(format!("{field}[{index}]"), format!("{id} is named twice")));
        }
        ids.push(id);
    }
    Ok(ids)
}

/// The size of a page from the wire: 0 means 100, and 1,000 is the most.
pub fn page_size(asked: i32) -> Result<i64, FieldError> {
    match asked {
        0 => Ok(100),
        1..=1_000 => Ok(i64::from(asked)),
        _ => Err(FieldError::new("page_size", format!("must be 0 (for 100) to 1000, got {asked}"))),
    }
}

/// Turns the operations of a request into domain operations, naming the one that is out of bounds.
pub fn operations<W, C>(
    wire: Vec<W>,
    convert: impl Fn(W) -> Result<Operation<C>, FieldError>,
) -> Result<Vec<Operation<C>>, FieldError> {
    if wire.len() > OPERATIONS_MAX {
        return Err(FieldError::new("operations", format!("at most {OPERATIONS_MAX}, got {}", wire.len())));
    }
    wire.into_iter()
        .enumerate()
        .map(|(index, operation)| convert(operation).map_err(|problem| problem.within(&format!("operations[{index}]"))))
        .collect()
}

/// A saga's operation: its key and trace context from the wire, with the command that the service made of the rest.
pub fn saga_operation<C>(wire: Option<wire::Operation>, leg: Leg, command: C) -> Result<Operation<C>, FieldError> {
    let wire = wire.ok_or_else(|| FieldError::new("operation", "is required"))?;
    let saga = required_id("operation.saga_id", wire.saga_id, SagaId::try_new)?;
    let step = required_id("operation.step", wire.step, StepName::try_new)?;
    let trace = TraceContext { traceparent: wire.traceparent, tracestate: wire.tracestate };
    Ok(Operation { key: Some(Key { saga, step }), leg, trace, command })
}

/// The answers of a request on the wire, in its order.
pub fn results(answers: Vec<crate::answer::Answer>) -> Vec<wire::OperationResult> {
    answers.into_iter().map(Into::into).collect()
}
