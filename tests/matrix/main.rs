//! The fault matrix over the registration saga and the five real services, on both databases.

mod batches;
mod guards;
mod ledgers;
mod matrix;
mod services;
mod world;
