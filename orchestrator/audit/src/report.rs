//! What an audit says: a verdict an invariant.

/// As many violations are spelled out, and all are counted: the first ones show what is wrong, a million would not.
pub const VIOLATIONS_SHOWN_MAX: usize = 20;

/// As many registrations that were decided manually are named, and all are counted.
pub const MANUAL_SHOWN_MAX: usize = 20;

/// The verdicts, in the order of the invariants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// One an invariant.
    pub invariants: Vec<Verdict>,
    /// Registrations that a person must look at. They break no invariant, and are not done.
    pub needing_attention: u64,
    /// What the verdicts leave out.
    pub manual: ManualDecisions,
}

/// Registrations of which an operator skipped, resolved or abandoned something: a person said so, with a reason that
/// `saga show` has. What they left in the services is neither a violation nor proven to be in order.
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
        // Ids are made in the order of time.
        named.sort_unstable();
        named.truncate(MANUAL_SHOWN_MAX);
        Self { registration_ids: named.into_iter().map(str::to_owned).collect(), count: ids.len() as u64 }
    }
}

impl Report {
    /// Whether every invariant holds, for all but the registrations that were decided manually.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.invariants.iter().all(Verdict::holds)
    }
}

/// What was found about one invariant.
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

    /// Whether nothing broke it.
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
