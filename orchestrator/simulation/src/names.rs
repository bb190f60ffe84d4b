//! Small numbers as ids of the parts of a history: cheap to copy, and the same in every run of a seed. No id depends on
//! the order of events.

use std::fmt;

use matricula_core::SagaId;
use matricula_engine::{Direction, StepIndex};

/// Clients of one history. Each has one saga in the end.
pub const CLIENTS_MAX: u16 = 6;
/// Processes of one history.
pub const PROCESSES_MAX: u16 = 3;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $letter:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl From<$name> for usize {
            fn from(number: $name) -> Self {
                Self::from(number.0)
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
    /// A saga: it belongs to one copy of one try of one client.
    SagaNo(u16), "saga "
);
number!(
    /// One start of an orchestrator in one process: it has a lease, and once it is marked dead it never lives again.
    InstanceNo(u16), "instance "
);
number!(
    /// The place where an orchestrator runs; it starts again as another instance.
    ProcessNo(u8), "process "
);
number!(
    /// A client with one registration.
    ClientNo(u8), "client "
);
number!(
    /// An order of an operator.
    OrderNo(u16), "order "
);
number!(
    /// A student.
    StudentNo(u8), "student "
);
number!(
    /// A section with its seats.
    SectionNo(u8), "section "
);

impl SagaNo {
    /// The saga of the enrollments that the students have before the history begins.
    pub const BEFORE: Self = Self(u16::MAX);

    /// The saga that a try of a client, counted from 1, starts; the network may make a second copy of it.
    pub(crate) fn of(client: ClientNo, tries: u16, copy: u8) -> Self {
        Self(((tries - 1) * 2 + u16::from(copy)) * CLIENTS_MAX + u16::from(client.0))
    }

    /// The client that started it.
    pub(crate) fn client(self) -> ClientNo {
        ClientNo((self.0 % CLIENTS_MAX) as u8)
    }
}

impl InstanceNo {
    /// The owner of queued sagas.
    pub(crate) const NOBODY: Self = Self(u16::MAX);

    /// The nth instance of a process, counted from 0.
    pub(crate) fn of(process: ProcessNo, starts_before: u16) -> Self {
        Self(starts_before * PROCESSES_MAX + u16::from(process.0))
    }

    /// The process that it runs in.
    pub(crate) fn process(self) -> ProcessNo {
        ProcessNo((self.0 % PROCESSES_MAX) as u8)
    }
}

/// The core's name of a saga.
pub(crate) fn id_of(saga: SagaNo) -> SagaId {
    SagaId::from_u128(u128::from(saga.0))
}

/// The simulation's name of a saga.
pub(crate) fn number_of(id: SagaId) -> SagaNo {
    SagaNo(u16::try_from(id.as_u128()).expect("each saga of the simulation has a small number"))
}

/// The identity of a call: one direction of one step of one saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// One attempt of a direction, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Attempt {
    pub of: CallId,
    pub number: u32,
}
