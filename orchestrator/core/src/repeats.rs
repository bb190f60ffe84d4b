//! Repeats: what was accepted through this instance lately, by subject and key. A second click is answered from memory,
//! and costs neither a token nor a statement, however long the line is.
//!
//! What is known here is true for ever: a key belongs to one saga. What is not known here, the database knows.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::SagaId;

/// Keys that are remembered, about 8 MB: people click again within seconds, and this many are accepted in at least five.
const KEYS_MAX: usize = 32_768;

/// The latest keys.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    known: HashMap<Arc<str>, Known>,
    /// The oldest first.
    order: VecDeque<Arc<str>>,
}

#[derive(Debug)]
struct Known {
    id: SagaId,
    fingerprint: String,
}

impl Repeats {
    /// The saga of a key, and whether it asked for the same.
    pub(crate) fn find(&self, subject: &str, key: &str, fingerprint: &str) -> Option<(SagaId, bool)> {
        let known = self.known.get(joined(subject, key).as_str())?;
        Some((known.id, known.fingerprint == fingerprint))
    }

    /// A key was accepted, durably.
    pub(crate) fn accepted(&mut self, subject: &str, key: &str, fingerprint: &str, id: SagaId) {
        let joined: Arc<str> = joined(subject, key).into();
        if self.known.insert(joined.clone(), Known { id, fingerprint: fingerprint.to_owned() }).is_none() {
            self.order.push_back(joined);
        }
        if self.order.len() > KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// Neither a subject nor a key has a line break.
fn joined(subject: &str, key: &str) -> String {
    format!("{subject}\n{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_keys_are_known() {
        let mut repeats = Repeats::default();
        let id = SagaId::from_u128;
        repeats.accepted("ada", "k", "A", id(1));
        assert_eq!(repeats.find("ada", "k", "A"), Some((id(1), true)));
        assert_eq!(repeats.find("ada", "k", "B"), Some((id(1), false)));
        assert_eq!(repeats.find("bob", "k", "A"), None);
        repeats.accepted("ada", "k", "A", id(1));
        for number in 0..KEYS_MAX as u128 {
            repeats.accepted("bob", &number.to_string(), "A", id(number));
        }
        assert_eq!(repeats.find("ada", "k", "A"), None, "the oldest is forgotten");
        assert_eq!(repeats.find("bob", "0", "A"), Some((id(0), true)));
        assert_eq!((repeats.known.len(), repeats.order.len()), (KEYS_MAX, KEYS_MAX));
    }
}
