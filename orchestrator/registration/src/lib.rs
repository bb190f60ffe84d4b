//! The one saga of Matricula: a registration, as a table of steps and the calls behind them.
//!
//! | module | one job |
//! |---|---|
//! | [`saga`] | the table: step, service, action, what undoes it, kind |
//! | [`request`] | what a registration asks for, validated |
//! | [`roster`] | a registration that an import makes: its mark and its key |
//! | `calls` | both directions of each step as operations on the wire |
//! | [`participants`] | the five services, each RPC with a batch |
//! | `answer` | an answer of a service: from the wire to the log, and back |
//! | [`seen`] | what has become of a section since the student saw it |
//! | [`view`] | a registration as its student sees it |
//! | [`stored`] | a registration as it is read back from the log |
//! | [`receipt`] | what stays of it when its log is in the archive |

mod answer;
mod calls;
pub mod participants;
pub mod receipt;
pub mod request;
pub mod roster;
pub mod saga;
pub mod seen;
pub mod stored;
pub mod view;

pub use participants::{Channels, Registrations};
pub use receipt::Receipt;
pub use request::RegistrationRequest;
pub use roster::Roster;
pub use seen::SeenVersion;
pub use stored::StoredRegistration;
pub use view::RegistrationView;
