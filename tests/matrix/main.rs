//! The fault matrix of the registration saga with the five real services, on both databases.

mod batches;
mod guards;
mod ledgers;
mod matrix;
mod services;
mod world;
