//! The bounds hold: an instance lets no submission in beyond a bound, and rejects none while there is room. A rejected
//! client is sent away for a tenth of a second at least and for ten seconds at most.

use std::time::Duration;

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::replica::{Entry, Submitted};

/// How long a rejected client is sent away.
const RETRY_AFTER: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(10);

pub(super) struct BoundsHold;

impl Invariant for BoundsHold {
    fn name(&self) -> &'static str {
        "the bounds hold"
    }

    fn see(&mut self, fact: &Fact, _world: &View<'_>) -> Held {
        let Fact::Submitted { instance, submitted } = fact else { return Ok(()) };
        let held = match submitted.entry {
            Entry::LetIn => let_in(submitted),
            Entry::QueueFull { retry_after } => queue_full(submitted).and_then(|()| hint(retry_after)),
            Entry::OverQuota { retry_after } => over_quota(submitted).and_then(|()| hint(retry_after)),
        };
        held.map_err(|what| format!("{} of {} at {instance}: {what}", submitted.saga, submitted.student))
    }
}

fn let_in(submitted: &Submitted) -> Held {
    let Submitted { open, open_of_student, in_memory, has_left, bounds, is_repeated, .. } = submitted;
    hold(*open <= bounds.admission_queue_max, || format!("{open} open of {}", bounds.admission_queue_max))?;
    // A saga that has left in the same step may have left before.
    hold(*in_memory < bounds.sagas_in_memory_max || *has_left, || {
        format!("let in with {in_memory} in memory of {}", bounds.sagas_in_memory_max)
    })?;
    if *is_repeated {
        return Ok(());
    }
    hold(*open_of_student <= bounds.subject_open_max, || {
        format!("{open_of_student} open of the student, of {}", bounds.subject_open_max)
    })?;
    hold(!is_too_fast(submitted), || format!("let in too soon after those of {:?} ms ago", submitted.earlier_ms))
}

fn queue_full(submitted: &Submitted) -> Held {
    let Submitted { open_most, in_memory_most, bounds, .. } = submitted;
    let is_full = *open_most >= bounds.admission_queue_max || *in_memory_most >= bounds.sagas_in_memory_max;
    hold(is_full, || format!("no room with {open_most} open and {in_memory_most} in memory at most"))
}

fn over_quota(submitted: &Submitted) -> Held {
    let Submitted { open_of_student_most, bounds, is_repeated, .. } = submitted;
    let is_over = *open_of_student_most >= bounds.subject_open_max || is_too_fast(submitted);
    hold(is_over || *is_repeated, || {
        format!("over a quota with {open_of_student_most} open, after those of {:?} ms ago", submitted.earlier_ms)
    })
}

/// Whether more were let in since some moment than a burst and one an interval since then.
fn is_too_fast(submitted: &Submitted) -> bool {
    let Submitted { earlier_ms, bounds, .. } = submitted;
    let (per_second, burst) = (i64::from(bounds.subject_per_second_max), i64::from(bounds.subject_burst_max));
    let since = (1..).zip(earlier_ms.iter().rev());
    since.into_iter().any(|(count, ago_ms)| (count - (burst - 1)) * 1_000 > ago_ms * per_second)
}

fn hint(retry_after: Duration) -> Held {
    hold(RETRY_AFTER.contains(&retry_after), || format!("rejected, and told to come back in {retry_after:?}"))
}
