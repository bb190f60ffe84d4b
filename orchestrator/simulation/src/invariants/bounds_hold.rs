//! The bounds hold: an instance accepts no submission beyond a bound, and rejects none while there is room. No student
//! has more sagas without an outcome than the quota, over all instances. The retry hint of a rejection is between 0.1
//! and 10 seconds.

use std::time::Duration;

use matricula_engine::Outcome;

use super::{Held, View, hold};
use crate::fact::Fact;
use crate::names::{InstanceNo, SagaNo};
use crate::replica::{Entry, Submitted};
use crate::witness::Seen;

/// The range of retry hints.
const RETRY_AFTER: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(10);

/// While a submission has waited for this time to be written, no other one is accepted.
const DURABLE_MAX_MS: i64 = 1_000;

pub(super) fn see(fact: &Fact, world: &View<'_>) -> Held {
    let (instance, submitted) = match fact {
        Fact::Admitted { saga, instance, .. } => return quota(*saga, *instance, world),
        Fact::Submitted { instance, submitted } => (instance, submitted),
        _ => return Ok(()),
    };
    let held = match submitted.entry {
        Entry::LetIn => let_in(submitted),
        Entry::QueueFull { retry_after } => queue_full(submitted).and_then(|()| hint(retry_after)),
        Entry::OverQuota { retry_after } => over_quota(submitted).and_then(|()| hint(retry_after)),
    };
    held.map_err(|what| format!("{} of {} at {instance}: {what}", submitted.saga, submitted.student))
}

/// The number of sagas of one student without an outcome, over all instances.
fn quota(saga: SagaNo, instance: InstanceNo, world: &View<'_>) -> Held {
    let student = world.request(saga).student;
    let is_open = |(other, seen): &(SagaNo, &Seen)| {
        seen.state.outcome() == Outcome::Pending && world.request(*other).student == student
    };
    let (open, open_max) = (world.witness.sagas().filter(is_open).count(), world.witness.life(instance).open_max);
    hold(open <= open_max, || format!("{saga} at {instance}: {open} open of {student}, of {open_max}"))
}

fn let_in(submitted: &Submitted) -> Held {
    let Submitted { in_line, in_memory, is_alone, bounds, .. } = submitted;
    let is_full = *in_line >= bounds.admission_queue_max as u64 || *in_memory >= bounds.sagas_in_memory_max;
    hold(!is_full || !is_alone, || format!("let in with {in_line} in line and {in_memory} in memory"))?;
    hold(!is_too_fast(submitted), || format!("let in too soon after those of {:?} ms ago", submitted.earlier_ms))
}

fn queue_full(submitted: &Submitted) -> Held {
    let Submitted { in_line, in_memory, unanswered, unanswered_ms, is_alone, bounds, .. } = submitted;
    // Submissions that are to be queued count too.
    let is_full = in_line + *unanswered as u64 >= bounds.admission_queue_max as u64
        || *in_memory >= bounds.sagas_in_memory_max
        || *unanswered_ms >= DURABLE_MAX_MS;
    hold(is_full || !is_alone, || {
        format!("no room with {in_line} in line, {in_memory} in memory at most, and {unanswered_ms} ms of waiting")
    })
}

fn over_quota(submitted: &Submitted) -> Held {
    hold(is_too_fast(submitted) || !submitted.is_alone, || {
        format!("too fast after those of {:?} ms ago", submitted.earlier_ms)
    })
}

/// Whether in some period more submissions were accepted than a burst and one for each interval.
fn is_too_fast(submitted: &Submitted) -> bool {
    let Submitted { earlier_ms, bounds, .. } = submitted;
    let (per_second, burst) = (i64::from(bounds.subject_per_second_max), i64::from(bounds.subject_burst_max));
    let since = (1..).zip(earlier_ms.iter().rev());
    since.into_iter().any(|(count, ago_ms)| (count - (burst - 1)) * 1_000 > ago_ms * per_second)
}

fn hint(retry_after: Duration) -> Held {
    hold(RETRY_AFTER.contains(&retry_after), || format!("rejected, and asked to come back in {retry_after:?}"))
}
