//! What the board promises.
