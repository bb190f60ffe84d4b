//! 6: every finished registration has exactly one notification, which has its outcome and goes to its student. No
//! notification has an outcome that is not decided.

use std::collections::HashMap;

use matricula_proto::notifications::v1::NotifiedOutcome;
use matricula_proto::registration::v1::Outcome;

use crate::report::Verdict;
use crate::world::World;

pub fn prove(world: &World<'_>) -> Verdict {
    let mut verdict = Verdict::new(6, "each notified once");
    let mut notified: HashMap<&str, u32> = HashMap::with_capacity(world.ledgers.notifications.len());
    for notification in &world.ledgers.notifications {
        let id = notification.registration_id.as_str();
        *notified.entry(id).or_default() += 1;
        let Some(registration) = world.registration(id) else {
            verdict.require(false, || format!("notification of registration {id}: no saga or receipt of it exists"));
            continue;
        };
        verdict.require(registration.student_id == notification.student_id, || {
            format!(
                "registration {id} is of student {}, but its notification is to {}",
                registration.student_id, notification.student_id
            )
        });
        verdict.require(says(registration.outcome(), notification.outcome()), || {
            let (is, said) = (registration.outcome().as_str_name(), notification.outcome().as_str_name());
            format!("registration {id}: the notification says {said}, but the outcome is {is}")
        });
    }
    for registration in world.all_settled() {
        let id = registration.registration_id.as_str();
        let count = notified.get(id).copied().unwrap_or_default();
        verdict.require(count > 0, || format!("registration {id}: it has no notification"));
    }
    for (id, count) in notified {
        verdict.require(count == 1, || format!("registration {id}: it has {count} notifications"));
    }
    verdict
}

fn says(outcome: Outcome, notified: NotifiedOutcome) -> bool {
    matches!(
        (outcome, notified),
        (Outcome::Enrolled, NotifiedOutcome::Enrolled)
            | (Outcome::Refused, NotifiedOutcome::Refused)
            | (Outcome::Cancelled, NotifiedOutcome::Cancelled)
            // The instance that exported the record can't read it. Invariant 7 lists it for a human.
            | (Outcome::Unspecified, _)
    )
}
