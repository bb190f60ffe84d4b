//! The one saga of Matricula: a registration, as a table of steps and the calls behind them.
//!
//! | module | one job |
//! |---|---|
//! | [`saga`] | the table: for each step its versions, its stage, its kind, its action and undo, and when it applies |
//! | `calls` | the RPCs of the services, and the operation of each call |
//! | `workload` | the saga as an orchestrator drives it |
//! | [`request`] | the change set of a registration, validated |
//! | `answer` | the answer of a service: from the wire to the log, and back |
//! | [`view`] | a registration as its student sees it, from its state, its log or its receipt |

mod answer;
mod calls;
pub mod request;
pub mod saga;
pub mod view;
mod workload;

pub use calls::Channels;
pub use request::{RegistrationRequest, Roster};
pub use view::{Read, Receipt, RegistrationView, StoredRegistration};
pub use workload::Registrations;
