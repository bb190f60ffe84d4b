//! Counts over histories. Without them, a simulation in which nothing happens would look like a success.

use std::fmt;
use std::ops::AddAssign;

use matricula_engine::{CallStatus, Event, Intervention, StepIndex};

use crate::fact::Fact;
use crate::replica::{Entry, ProcessEvent};
use crate::witness::Seen;

macro_rules! tally {
    ($($(#[$doc:meta])* $field:ident),* $(,)?) => {
        /// Counts of one history, or of many.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Tally {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl AddAssign for Tally {
            fn add_assign(&mut self, other: Self) {
                $(self.$field += other.$field;)*
            }
        }

        impl Tally {
            /// Each count with its name.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field)),*].into_iter()
            }
        }
    };
}

tally! {
    /// Events of the queue.
    events,
    /// Sagas that became durable.
    sagas,
    /// Sagas that began with an earlier version of their definition.
    of_earlier_version,
    /// Sagas whose pivot succeeded.
    committed,
    /// Sagas that were refused.
    refused,
    /// Sagas that were cancelled.
    cancelled,
    /// Sagas whose deadline passed.
    timed_out,
    /// Abandoned sagas.
    abandoned,
    /// Sagas that did not finish.
    open,
    /// Calls that reached a service.
    calls,
    /// Effects that were done.
    done,
    /// Effects that were undone.
    undone,
    /// Sagas that waited in line.
    queued,
    /// Sagas whose turn came.
    claimed,
    /// Sagas that a cancel or an order took out of the line before their turn.
    out_of_order,
    /// Sagas that were adopted from a dead instance.
    adopted,
    /// Sagas that started their compensation while their pivot was called and not answered.
    withdrawn,
    /// Sagas without an adoption that reverted their compensation: their pivot had happened.
    turned_back,
    /// Sagas that were adopted while their pivot was being withdrawn.
    adopted_unsure,
    /// Sagas that an operator gave up while the withdrawal of their pivot was owed.
    given_up,
    /// Instances that were marked dead.
    marked,
    /// Owners that crashed.
    crashes,
    /// Owners that were stopped for a while.
    pauses,
    /// Owners that ended in order.
    stops,
    /// Times the store went away.
    store_crashes,
    /// Submissions that were rejected at a bound.
    rejected,
    /// Rows that the store refused.
    rows_refused,
    /// Breakers that opened.
    breakers_opened,
    /// Commands of operators that took effect, except cancels.
    obeyed,
}

impl Tally {
    /// Counts a fact. `seen` is its saga, after the fact.
    pub(crate) fn saga_fact(&mut self, fact: &Fact, seen: &Seen, pivot: StepIndex) {
        let pivot = &seen.state.steps()[pivot.get()];
        match fact {
            Fact::Appended { events, .. } => {
                for recorded in &**events {
                    match &recorded.event {
                        Event::CompensationStarted { .. } => {
                            self.withdrawn += u64::from(pivot.action.status == CallStatus::Trying);
                        }
                        Event::CompensationReverted { .. } => self.turned_back += u64::from(!seen.is_adopted),
                        Event::Intervened { intervention: Intervention::Abandon, .. } => {
                            self.given_up += u64::from(pivot.undo.status == CallStatus::Trying);
                        }
                        _ => {}
                    }
                }
            }
            Fact::Adopted { .. } => self.adopted_unsure += u64::from(pivot.undo.status == CallStatus::Trying),
            _ => {}
        }
    }

    pub(crate) fn fact(&mut self, fact: &Fact) {
        match fact {
            Fact::Done { .. } => self.done += 1,
            Fact::Undone { .. } => self.undone += 1,
            Fact::Admitted { first: None, .. } => self.queued += 1,
            Fact::Claimed { is_out_of_order: false, .. } => self.claimed += 1,
            Fact::Claimed { .. } => self.out_of_order += 1,
            Fact::Adopted { .. } => self.adopted += 1,
            Fact::Marked { .. } => self.marked += 1,
            Fact::Obeyed { .. } => self.obeyed += 1,
            Fact::Submitted { submitted, .. } => self.rejected += u64::from(submitted.entry != Entry::LetIn),
            Fact::RowRefused { .. } => self.rows_refused += 1,
            Fact::BreakerOpened => self.breakers_opened += 1,
            _ => {}
        }
    }

    pub(crate) fn disaster(&mut self, event: &ProcessEvent, healed: bool) {
        match event {
            ProcessEvent::Crash { .. } if !healed => self.crashes += 1,
            ProcessEvent::Pause { .. } if !healed => self.pauses += 1,
            ProcessEvent::Stop if !healed => self.stops += 1,
            _ => {}
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> = self.named().map(|(name, count)| format!("{name} {count}")).collect();
        f.write_str(&counts.join(", "))
    }
}
