//! The portal over the whole orchestrator: real services, real databases, real gRPC.

#![allow(missing_docs, reason = "tests")]

mod availability;
mod operators;
mod registration;
mod replicas;
mod rosters;
mod sagas;
mod seen;
mod upgrade;
mod world;
