//! What an audit says: a verdict an invariant.

/// As many violations are spelled out, and all are counted: the first ones show what is wrong, a million would not.
pub const VIOLATIONS_SHOWN_MAX: usize = 20;

/// The verdicts, in the order of the invariants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// One an invariant.
    pub invariants: Vec<Verdict>,
    /// Registrations that a person must look at. They break no invariant, and are not done.
    pub needing_attention: u64,
}

impl Report {
    /// Whether every invariant holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.invariants.iter().all(Verdict::holds)
    }
}

/// What was found about one invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// 1 to 7.
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
