//! Messages between instances, as the database carries them.

use std::fmt::Write as _;

use matricula_core::SagaId;
use matricula_kit::database::{DbError, Notifications};

use super::SagaStore;

/// The channel of the database that the instances listen to.
pub(super) const CHANNEL: &str = "matricula_sagas";

/// One payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PeerMessage {
    /// Sagas of an instance have changed; none named: any may have.
    Changed { instance: String, sagas: Vec<SagaId> },
    /// A request waits for the owner of its saga.
    Asked,
    /// A request has been answered.
    Answered,
    /// An instance has ended in order: what it drove is to be adopted.
    Left,
    /// The outages that an instance has recorded have changed.
    Outages,
}

impl PeerMessage {
    /// Ids in one payload: PostgreSQL takes less than 8,000 bytes, an id has 36, and a space.
    pub(crate) const IDS_MAX: usize = 200;

    pub(super) fn to_payload(&self) -> String {
        match self {
            Self::Asked => "asked".to_owned(),
            Self::Answered => "answered".to_owned(),
            Self::Left => "left".to_owned(),
            Self::Outages => "outages".to_owned(),
            Self::Changed { instance, sagas } => {
                let mut payload = format!("moved {instance}");
                for saga in sagas {
                    // Writing to a string does not fail.
                    let _ = write!(payload, " {saga}");
                }
                payload
            }
        }
    }

    /// None for a message of another version.
    pub(crate) fn parse(payload: &str) -> Option<Self> {
        let mut words = payload.split_whitespace();
        match words.next()? {
            "asked" => Some(Self::Asked),
            "answered" => Some(Self::Answered),
            "left" => Some(Self::Left),
            "outages" => Some(Self::Outages),
            "moved" => {
                let instance = words.next()?.to_owned();
                let sagas = words.map(str::parse).collect::<Result<_, _>>().ok()?;
                Some(Self::Changed { instance, sagas })
            }
            _ => None,
        }
    }
}

impl SagaStore {
    /// Sends messages to all instances, at once.
    pub(crate) async fn send(&self, messages: &[PeerMessage]) -> Result<(), DbError> {
        let mut tx = self.database.begin().await?;
        tx.notify(CHANNEL, messages.iter().map(PeerMessage::to_payload).collect());
        tx.commit().await
    }

    /// Begins to listen to the messages of other instances; none where there can't be any.
    pub(crate) async fn listen(&self) -> Result<Option<Notifications>, DbError> {
        self.database.listen(CHANNEL).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: PeerMessage) {
        let payload = message.to_payload();
        assert!(payload.len() < 8_000, "PostgreSQL refuses a payload of {} bytes", payload.len());
        assert_eq!(PeerMessage::parse(&payload), Some(message));
    }

    #[test]
    fn messages_are_read_as_they_are_sent() {
        let instance = crate::new_saga_id().to_string();
        check(PeerMessage::Asked);
        check(PeerMessage::Answered);
        check(PeerMessage::Left);
        check(PeerMessage::Outages);
        check(PeerMessage::Changed { instance: instance.clone(), sagas: Vec::new() });
        let sagas = (0..PeerMessage::IDS_MAX).map(|_| crate::new_saga_id()).collect();
        check(PeerMessage::Changed { instance, sagas });
        assert_eq!(PeerMessage::parse("sung by the next version"), None);
    }
}
