//! The result of an audit: one verdict for each invariant.

/// The most violations that are listed; all are counted. The first ones are enough to see the fault.
pub const VIOLATIONS_SHOWN_MAX: usize = 20;

/// The most manually decided registrations that are listed; all are counted.
pub const MANUAL_SHOWN_MAX: usize = 20;

/// The verdicts, in the order of the invariants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// One for each invariant.
    pub invariants: Vec<Verdict>,
    /// Registrations that need an operator. They violate no invariant, and are not finished.
    pub needing_attention: u64,
    /// Registrations that the verdicts leave out.
    pub manual: ManualDecisions,
}

/// Registrations about which an operator decided something: a step skipped or resolved, the saga abandoned. `saga show`
/// has the reasons. Their entries in the services are neither a violation nor proven to be right.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManualDecisions {
    /// The oldest of them.
    pub registration_ids: Vec<String>,
    /// All of them.
    pub count: u64,
}

impl ManualDecisions {
    pub(crate) fn of(ids: &[&str]) -> Self {
        let mut named = ids.to_vec();
        // Ids are ordered by the time of their creation.
        named.sort_unstable();
        named.truncate(MANUAL_SHOWN_MAX);
        Self { registration_ids: named.into_iter().map(str::to_owned).collect(), count: ids.len() as u64 }
    }
}

impl Report {
    /// Whether every invariant holds, for all registrations except the manually decided ones.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.invariants.iter().all(Verdict::holds)
    }
}

/// The result for one invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// 1 to 8.
    pub number: u8,
    /// Its name.
    pub title: &'static str,
    /// How many facts were checked.
    pub checked: u64,
    /// The first violations, a sentence each.
    pub violations: Vec<String>,
    /// All violations.
    pub violations_count: u64,
}

impl Verdict {
    pub(crate) fn new(number: u8, title: &'static str) -> Self {
        Self { number, title, checked: 0, violations: Vec::new(), violations_count: 0 }
    }

    /// Whether it has no violation.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.violations_count == 0
    }

    /// Checks one fact.
    pub(crate) fn require(&mut self, holds: bool, violation: impl FnOnce() -> String) {
        self.checked += 1;
        if holds {
            return;
        }
        self.violations_count += 1;
        if self.violations.len() < VIOLATIONS_SHOWN_MAX {
            self.violations.push(violation());
        }
    }
}
