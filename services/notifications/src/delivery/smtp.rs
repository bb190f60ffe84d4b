//! Sends messages by e-mail. The message's id is made of the registration's, so that a mail that came twice is known.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::{Error, PoolConfig};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Message as Mail, Tokio1Executor};

use super::DELIVERIES_MAX;
use super::config::ConfigError;
use super::mail_server;
use super::sink::Sink;
use crate::domain::retry::Failure;
use crate::store::Claimed;

type Transport = AsyncSmtpTransport<Tokio1Executor>;

/// One command of the dialogue; a whole delivery has its own, longer limit.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
/// Replies about this mail (no such mailbox, refused content). Others that say "for good", such as a wrong password,
/// are about the connection: every mail would meet them.
const REJECTIONS: std::ops::RangeInclusive<u16> = 550..=554;

/// A mail server and the sender's address.
pub struct SmtpSink {
    transport: Transport,
    from: Mailbox,
}

impl SmtpSink {
    /// Checks URL and sender without touching the network.
    pub fn try_validate(url: &str, from: &str) -> Result<(), ConfigError> {
        mail_server::transport(url).map_err(|problem| ConfigError::new("notifications.sink.url", problem))?;
        sender(from).map(drop)
    }

    /// Makes the sink. Connections are made when there is something to send.
    pub fn try_new(url: &str, from: &str) -> Result<Self, ConfigError> {
        let builder =
            mail_server::transport(url).map_err(|problem| ConfigError::new("notifications.sink.url", problem))?;
        let pool = PoolConfig::new().max_size(DELIVERIES_MAX as u32);
        let transport = builder.timeout(Some(COMMAND_TIMEOUT)).pool_config(pool).build();
        Ok(Self { transport, from: sender(from)? })
    }

    fn mail(&self, claimed: &Claimed) -> Result<Mail, Failure> {
        let contact = claimed.contact.as_ref().ok_or(Failure::NoContact)?;
        let address: Address = contact.email.parse().map_err(|_| Failure::NoContact)?;
        let name = Some(contact.name.clone()).filter(|name| !name.is_empty());
        let message = &claimed.message;
        let id = format!("<{}@{}>", message.registration, self.from.email.domain());
        let recorded_at = Duration::from_millis(message.recorded_at.0.max(0).unsigned_abs());
        Mail::builder()
            .from(self.from.clone())
            .to(Mailbox::new(name, address))
            .subject(message.subject.clone())
            .message_id(Some(id))
            .date(SystemTime::UNIX_EPOCH + recorded_at)
            .header(ContentType::TEXT_PLAIN)
            .body(message.body.clone())
            .map_err(|error| Failure::Rejected(Box::new(error)))
    }
}

#[async_trait]
impl Sink for SmtpSink {
    fn name(&self) -> &'static str {
        "smtp"
    }

    async fn deliver(&self, claimed: &Claimed) -> Result<(), Failure> {
        let mail = self.mail(claimed)?;
        match self.transport.send(mail).await {
            Ok(_) => Ok(()),
            Err(error) if is_rejection(&error) => Err(Failure::Rejected(Box::new(error))),
            Err(error) => Err(Failure::Unavailable(Box::new(error))),
        }
    }
}

fn is_rejection(error: &Error) -> bool {
    error.status().is_some_and(|code| REJECTIONS.contains(&u16::from(code)))
}

fn sender(from: &str) -> Result<Mailbox, ConfigError> {
    from.parse().map_err(|error| ConfigError::new("notifications.sink.from", error))
}
