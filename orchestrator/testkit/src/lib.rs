//! The fault matrix: the faults that every saga must survive, for any definition and any participants.
//!
//! ```text
//! Shape (definition, steps that apply) --cases::*--> Case, Case, Case ...      faults, and the outcome that must follow
//!                                                        |
//! World (participants) <---- calls ---- driver <---------+     engine's decide over a log in memory, one saga a case
//!    |                                    |
//!    +---- effects that stand ----------> check ----> Report   exact effect counts, answers, outcome, reasons
//! ```
//!
//! | module | one job |
//! |---|---|
//! | [`cases`] | makes the cases of a shape |
//! | `case` | a case: its faults, its name, the outcome that it must have |
//! | `world` | the interface of the participants of a test |
//! | [`mutants`] | worlds without a guard, to show that a matrix fails |
//! | [`simulated`] | participants in memory that keep the contract |
//! | `driver` | runs one saga with the faults of one case |
//! | `check` | reports broken promises |
//!
//! Promises: the same shape makes the same cases in the same order; a case has no randomness and no clock of its own; a
//! failure names its case, and the case can be run alone ([`CASE`]).

mod case;
pub mod cases;
mod check;
mod driver;
pub mod mutants;
mod shape;
pub mod simulated;
mod world;

pub use case::{Again, Case, Crash, Fault, Moment, OperatorDecision};
pub use check::{Broken, CASE, Report, run_matrix};
pub use driver::{Run, run};
pub use shape::Shape;
pub use world::{Call, Effects, World};
