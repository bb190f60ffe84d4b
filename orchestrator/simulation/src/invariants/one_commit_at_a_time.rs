//! One commit at a time: an instance sends no commit while another one of the same lane has no answer. No append is
//! empty. Two commits have different numbers.

use matricula_core::{CommitNo, Lane};

use super::{Held, Invariant, View, hold};
use crate::draws::TransactionKind;
use crate::fact::Fact;
use crate::names::InstanceNo;

#[derive(Default)]
pub(super) struct OneCommitAtATime {
    under_way: Vec<(InstanceNo, Lane)>,
    last: Vec<(InstanceNo, CommitNo, TransactionKind)>,
}

impl Invariant for OneCommitAtATime {
    fn see(&mut self, fact: &Fact, _world: &View<'_>) -> Held {
        match fact {
            Fact::CommitSent { instance, number, kind, empty, .. } => {
                hold(empty.is_none(), || format!("{instance} appends nothing to the log of {empty:?}"))?;
                let under_way = (*instance, number.lane);
                hold(!self.under_way.contains(&under_way), || {
                    format!("{instance} sends two commits at the same time")
                })?;
                self.under_way.push(under_way);
                let is_before = |by: &InstanceNo, before: &CommitNo| (*by, before.lane) == under_way;
                let last = self
                    .last
                    .iter()
                    .find(|(by, before, _)| is_before(by, before))
                    .map(|(_, number, kind)| (*number, *kind));
                hold(last.is_none_or(|(before, of)| before != *number || of == *kind), || {
                    format!("{instance} has two commits with the number {number:?}: {last:?} and {kind:?}")
                })?;
                self.last.retain(|(by, before, _)| !is_before(by, before));
                self.last.push((*instance, *number, *kind));
            }
            Fact::CommitEnded { instance, lane } => self.under_way.retain(|other| *other != (*instance, *lane)),
            Fact::Ended { instance } => self.under_way.retain(|(other, _)| other != instance),
            _ => {}
        }
        Ok(())
    }
}
