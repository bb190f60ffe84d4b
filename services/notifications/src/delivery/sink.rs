//! What a sink is, and the one that only logs.

use async_trait::async_trait;

use crate::domain::retry::Failure;
use crate::store::Claimed;

/// Takes messages to where students see them.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Name in metrics and logs.
    fn name(&self) -> &'static str;

    /// Delivers one message. Once it returns `Ok`, the message is not delivered again, unless the process dies at once.
    async fn deliver(&self, message: &Claimed) -> Result<(), Failure>;
}

/// Writes subjects to the log, at debug level. For trying things out; the messages are in the database all the same.
pub struct LogSink;

#[async_trait]
impl Sink for LogSink {
    fn name(&self) -> &'static str {
        "log"
    }

    async fn deliver(&self, claimed: &Claimed) -> Result<(), Failure> {
        let message = &claimed.message;
        tracing::debug!(
            student = message.student.as_str(),
            saga = message.registration.as_str(),
            subject = message.subject,
            "a message to a student"
        );
        Ok(())
    }
}
