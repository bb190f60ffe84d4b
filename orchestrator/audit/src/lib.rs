//! Proves the invariants over the ledgers of all services
