//! Appends messages to a file, one JSON object a line, each line written as a whole and flushed.
//! Not synced, one by one: a loss of power may take the last lines, though they count as delivered.

use std::path::Path;

use async_trait::async_trait;
use matricula_kit::named::NamedValue as _;
use serde::Serialize;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Mutex;

use super::config::ConfigError;
use super::sink::Sink;
use crate::domain::retry::Failure;
use crate::store::Claimed;

/// The file, open for as long as the process runs: a tool that rotates it has to copy and truncate.
pub struct FileSink {
    state: Mutex<State>,
}

struct State {
    file: File,
    /// A line may have been written in part; the next one begins on a line of its own.
    is_torn: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    registration_id: &'a str,
    student_id: &'a str,
    email: Option<&'a str>,
    name: Option<&'a str>,
    outcome: &'static str,
    subject: &'a str,
    body: &'a str,
    recorded_at: String,
}

impl FileSink {
    /// Opens the file, and creates it with its folder when it is not there.
    pub fn try_open(path: &Path) -> Result<Self, ConfigError> {
        let problem = |error| ConfigError::new("notifications.sink.path", format!("{}: {error}", path.display()));
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(problem)?;
        }
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path).map_err(problem)?;
        Ok(Self { state: Mutex::new(State { file: File::from_std(file), is_torn: false }) })
    }
}

#[async_trait]
impl Sink for FileSink {
    fn name(&self) -> &'static str {
        "file"
    }

    async fn deliver(&self, claimed: &Claimed) -> Result<(), Failure> {
        let message = &claimed.message;
        let line = Line {
            registration_id: message.registration.as_str(),
            student_id: message.student.as_str(),
            email: claimed.contact.as_ref().map(|contact| contact.email.as_str()),
            name: claimed.contact.as_ref().map(|contact| contact.name.as_str()),
            outcome: message.outcome.name(),
            subject: &message.subject,
            body: &message.body,
            recorded_at: message.recorded_at.to_string(),
        };
        let mut line = serde_json::to_string(&line).map_err(|error| Failure::Rejected(Box::new(error)))?;
        line.push('\n');
        let mut state = self.state.lock().await;
        if state.is_torn {
            line.insert(0, '\n');
        }
        // Set first: a delivery that is given up in the middle leaves it so.
        state.is_torn = true;
        state.file.write_all(line.as_bytes()).await.map_err(|error| Failure::Unavailable(Box::new(error)))?;
        state.file.flush().await.map_err(|error| Failure::Unavailable(Box::new(error)))?;
        state.is_torn = false;
        Ok(())
    }
}
