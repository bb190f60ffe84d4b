//! Turns follow tickets, over all instances. Later acceptances have larger tickets. A claim takes the queued saga with
//! the smallest ticket, unless that one is cancelled. No saga begins at once while an older one is queued. A claim
//! skips a saga only if the store has refused its claim. No claim contains a saga twice.

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::SagaNo;

#[derive(Default)]
pub(super) struct TurnsFollowTickets {
    last: u64,
    /// In the order in which they were accepted.
    queued: Vec<(u64, SagaNo)>,
    /// Sagas whose claim the store has refused.
    refused: Vec<SagaNo>,
}

impl Invariant for TurnsFollowTickets {
    fn see(&mut self, fact: &Fact, _world: &View<'_>) -> Held {
        match fact {
            Fact::Admitted { saga, ticket, first, .. } => {
                let last = std::mem::replace(&mut self.last, *ticket);
                hold(last < *ticket, || format!("{saga} is accepted with ticket {ticket} after ticket {last}"))?;
                if first.is_none() {
                    self.queued.push((*ticket, *saga));
                    return Ok(());
                }
                let older = self.queued.first();
                hold(older.is_none(), || format!("{saga} begins with ticket {ticket}, and {older:?} is queued"))
            }
            Fact::Claimed { saga, ticket, is_out_of_order, .. } => {
                let is_it = |queued: &(u64, SagaNo)| *queued == (*ticket, *saga);
                let Some(place) = self.queued.iter().position(is_it) else {
                    return Err(format!("{saga} with ticket {ticket} leaves the line, and is not in it"));
                };
                self.queued.remove(place);
                let is_passed_over = |(_, older): &&(u64, SagaNo)| self.refused.contains(older);
                let older = self.queued[..place].iter().find(|older| !is_passed_over(older));
                hold(older.is_none() || *is_out_of_order, || {
                    format!("the turn of {saga} with ticket {ticket} comes before that of {older:?}")
                })
            }
            Fact::RowRefused { saga, .. } => {
                self.refused.push(*saga);
                Ok(())
            }
            Fact::CommitSent { instance, turns, .. } => {
                let mut once = turns.clone();
                once.sort_unstable();
                once.dedup();
                hold(once.len() == turns.len(), || format!("{instance} claims a saga twice: {turns:?}"))
            }
            _ => Ok(()),
        }
    }
}
