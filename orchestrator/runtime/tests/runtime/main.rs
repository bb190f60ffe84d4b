//! The runtime against simulated participants: flow, faults, crashes, replicas, on both databases.

mod behind;
mod crash;
mod faults;
mod flow;
mod line;
mod look;
mod mutants;
mod operators;
mod outages;
mod replicas;
mod run;
mod system;
mod world;
