//! The simulation in the suite: many histories, each guard taken out once, and small models that are exhausted.

mod barrier;
mod guards;
mod histories;
mod lease;
mod rush;
