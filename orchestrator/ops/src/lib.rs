//! The API for operators
