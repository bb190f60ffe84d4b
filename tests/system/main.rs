//! The whole system through the real binary: real processes, real sockets, real databases.

mod bench;
mod broken_network;
mod chaos;
mod commands;
mod databases;
mod edges;
mod ending;
mod growth;
mod hostile;
mod imports;
mod kills;
mod line;
mod load;
mod metrics;
mod operators;
mod poisoned;
mod pooled;
mod python;
mod registrations;
mod replicas;
mod rush;
mod seats;
mod seen;
mod traces;
mod upgrade;

use matricula_harness::campus;
