//! A command about a saga as clients, operators and other instances give it, and why it was not carried out.

use std::time::Duration;

use matricula_engine::{Input, OperatorCommand};
use matricula_kit::database::DbError;
use serde::{Deserialize, Serialize};

/// How long an answer may take: a takeover by another instance is within it.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(12);

/// A command about a saga, with its author.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRequest {
    /// The command.
    #[serde(rename = "verb")]
    pub command: RequestedCommand,
    /// The student or operator.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
    /// Id of this command, by which one is known that comes again because its answer was lost. None: a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// A cancel, or an operator's command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestedCommand {
    /// Start its compensation.
    Cancel,
    /// A decision of an operator.
    #[serde(rename = "steer")]
    Operator(OperatorCommand),
}

impl CommandRequest {
    pub(crate) fn into_input(self) -> Input {
        let Self { command, by, reason, id } = self;
        match command {
            RequestedCommand::Cancel => Input::Cancel { by, reason },
            RequestedCommand::Operator(command) => Input::Operator { command, by, reason, command_id: id },
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Replicas of other versions read and write the same JSON.
    #[test]
    fn requests_between_replicas_keep_their_form() {
        let request = CommandRequest {
            command: RequestedCommand::Operator(OperatorCommand::Retry { step: None }),
            by: "ada".to_owned(),
            reason: "now".to_owned(),
            id: Some("one".to_owned()),
        };
        let text = r#"{"verb":{"steer":{"verb":"retry","step":null}},"by":"ada","reason":"now","id":"one"}"#;
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
        assert_eq!(serde_json::from_str::<CommandRequest>(text).unwrap(), request);
    }
}
