//! Seats: capacity, holds and the feed of changes
