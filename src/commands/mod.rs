//! The commands that talk to a running system, one a file.

pub mod archive;
pub mod audit;
pub mod campus;
pub mod config;
pub mod database;
pub mod door;
pub mod hold;
pub mod import;
pub mod overrides;
pub mod register;
pub mod registration;
pub mod rush;
pub mod saga;
pub mod sections;
pub mod student;
