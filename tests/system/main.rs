//! The whole system through the real binary: real processes, real sockets, real databases.

mod campus;
mod kills;
mod python;
mod registrations;
mod rush;
mod seats;
mod traces;
