//! Small numbers for what a history is made of: cheap to copy, and the same in every run of a seed.

use std::fmt;

use matricula_engine::{Direction, StepIndex};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $letter:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// As an index.
            pub fn get(self) -> usize {
                usize::from(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }
    };
}

number!(
    /// A saga, in the order in which submissions reached an owner: a larger one is younger.
    SagaNo(u16), "saga "
);
number!(
    /// One start of an owner: it has a lease, and once it is marked dead it never lives again.
    InstanceNo(u16), "instance "
);
number!(
    /// The place where an owner runs; it starts again as another instance.
    ProcessNo(u8), "process "
);
number!(
    /// Somebody who wants one registration.
    ClientNo(u8), "client "
);
number!(
    /// An order of an operator.
    OrderNo(u16), "order "
);
/// A student.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StudentNo(pub u8);

impl fmt::Display for StudentNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "student {}", self.0)
    }
}

number!(
    /// A section with its seats.
    SectionNo(u8), "section "
);

impl SagaNo {
    /// Registered what the students have before the history begins.
    pub const BEFORE: Self = Self(u16::MAX);
}

/// The identity of a call: one direction of one step of one saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallId {
    /// The saga.
    pub saga: SagaNo,
    /// The step.
    pub step: StepIndex,
    /// The direction.
    pub direction: Direction,
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} of step {} of {}", self.direction, self.step.0, self.saga)
    }
}
