//! What every service of Matricula is made of, and nothing of any domain.
//!
//! | module | one job |
//! |---|---|
//! | [`connect`] | channels to other processes |
//! | [`database`] | SQLite and PostgreSQL behind one set of statements |
//! | [`participant`] | the write path: batch, barrier, domain, one commit |
//! | [`pages`] | tables page by page, and the export of a ledger |
//! | [`role`] | what a service's `start` returns, and how it is made |
//! | [`answer`] | the words in which participants answer the orchestrator |
//! | [`imports`] | how what a campus says comes in: staged, then applied at once |
//! | [`id`], [`time`] | ids and moments as types |
//! | [`money`] | amounts and currencies, in domains, on the wire and for people |
//! | [`source`] | whether staff or a bundle has set a value |
//! | [`enrollment`] | where an enrollment stands, for the two services that record it |
//! | [`named`] | values of a fixed set, which are stored by their names |
//! | [`secret`] | hides passwords in what is shown |
//! | [`rpc`], [`status`] | requests on the wire, and errors as `tonic::Status` |
//! | [`serve`] | gRPC and HTTP servers with health, reflection, metrics and graceful shutdown |
//! | [`shutdown`] | one deadline for the whole end of a process |
//! | [`tasks`] | long-lived tasks, watched: a dead one is never silent |
//! | [`telemetry`] | logs, spans and W3C trace context |
//! | [`metrics`] | what metrics are called and what they say |
//! | `methods` | the RPCs of the contract |
//! | `testing` | throw-away databases for tests |

pub mod answer;
pub mod connect;
pub mod database;
pub mod enrollment;
pub mod id;
pub mod imports;
mod methods;
pub mod metrics;
pub mod money;
pub mod named;
pub mod pages;
pub mod participant;
pub mod role;
pub mod rpc;
pub mod secret;
pub mod serve;
pub mod shutdown;
pub mod source;
pub mod status;
pub mod tasks;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
