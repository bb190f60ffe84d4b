//! Enrollment records
