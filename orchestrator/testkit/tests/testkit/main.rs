//! The kit on sagas of several shapes: all hold with participants that keep the contract, and none without.

mod guards;
mod matrix;
mod shapes;
