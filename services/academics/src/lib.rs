//! Academic records and the rules of registration
