//! The runtime against simulated participants: flow, faults, crashes, replicas, on both databases.

mod behind;
mod crash;
mod faults;
mod flow;
mod line;
mod mutants;
mod operators;
mod replicas;
mod run;
mod system;
mod world;
