//! The pure saga engine: no I/O, no clock, no randomness
