//! The one saga of Matricula: a registration, as a table of steps and the calls behind them.
//!
//! | module | one job |
//! |---|---|
//! | [`saga`] | the table: step, service, action, what undoes it, kind |
//! | [`request`] | what a registration asks for, validated |
//! | `calls` | both directions of each step as operations on the wire, and each RPC with a batch of them |
//! | `answer` | an answer of a service: from the wire to the log, and back |
//! | [`view`] | a registration as its student sees it, of its state, or of what is read back from the log or the archive |

mod answer;
mod calls;
pub mod request;
pub mod saga;
pub mod view;

pub use calls::{Channels, Registrations};
pub use request::{RegistrationRequest, Roster};
pub use view::{Read, Receipt, RegistrationView, StoredRegistration};
