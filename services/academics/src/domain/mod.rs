//! What is allowed and what follows from it. Pure: values in, values out; no SQL, no wire, no clock.
//!
//! ```text
//! Catalog + Student + ChangeSet --context--> rules --reasons--> Refused
//!                                               --none-----> Done: adds PENDING, drops marked
//! ```

pub mod catalog;
pub mod clash;
pub mod component;
pub mod context;
pub mod decide;
#[cfg(test)]
pub(crate) mod fixture;
pub mod rules;
pub mod student;
