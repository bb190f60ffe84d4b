//! The rules of seats, over values: who may have a seat, what a release gives back, what a change of capacity means.
//!
//! | invariant | held by |
//! |---|---|
//! | a section's `taken` is the number of its holds that are not released | [`World::decide`] changes both together |
//! | a grant finds a free seat, or names the override that let it in | [`Section::admits`] |
//! | `closed_at` is set exactly while no seat is free | [`Section::touch`] |
//! | a capacity of staff stays until the bundle says another number | [`Section::set_by_staff`] |
//! | `version` grows by one with every operation that changes the section, also within one batch | [`Section::touch`] |

mod command;
mod section;
#[cfg(test)]
mod tests;
mod world;

pub use command::{Command, Wanted};
pub use section::Section;
pub use world::{Hold, HoldKey, RowState, World};
