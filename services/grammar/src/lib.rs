//! The texts that bundles and the contract have for requirements, meetings and grades: read here, and nowhere else.
//!
//! A crate of its own, because a bundle is read without any service, and the academic service knows no bundles.

pub mod grade;
pub mod meetings;
pub mod requirement;

pub use grade::{Grade, InvalidGrade, Letter};
pub use meetings::{InvalidMeetings, Meetings, Span};
pub use requirement::{InvalidRequirement, Requirement};
