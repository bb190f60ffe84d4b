//! What a client or an operator wants of a saga, and why it was not done.

use std::time::Duration;

use matricula_engine::{Input, Verb};
use matricula_kit::database::DbError;
use serde::{Deserialize, Serialize};

/// How long an answer may take: a takeover by another instance is within it.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(12);

/// What somebody wants of a saga.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What it is.
    pub verb: OrderVerb,
    /// The student or operator.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
    /// Id of this command: with the same id it may come again because its answer was lost. None: a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// A cancel, or an operator's verb.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderVerb {
    /// Turn it round.
    Cancel,
    /// Steer it.
    Steer(Verb),
}

impl Order {
    pub(crate) fn into_input(self) -> Input {
        let Self { verb, by, reason, id } = self;
        match verb {
            OrderVerb::Cancel => Input::Cancel { by, reason },
            OrderVerb::Steer(verb) => Input::Steer { verb, by, reason, command: id },
        }
    }
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no such saga.
    #[error("there is no such saga")]
    NotFound,
    /// It would be unsafe, or there is nothing to do; the message says what can be done instead.
    #[error("{0}")]
    Refused(String),
    /// Its record can't be read here, so it is left alone.
    #[error("the saga can't be read here and is left alone: {0}")]
    LeftAlone(String),
    /// No instance that drives it has answered in time. Whether it is carried out is not known; it may be sent again.
    #[error("no instance that drives the saga has answered within {} s", ANSWER_WAIT.as_secs())]
    Unanswered,
    /// The database.
    #[error("the saga store")]
    Database(#[from] DbError),
}
