//! Academics: what students may take, and what is on their record.

pub mod domain;
