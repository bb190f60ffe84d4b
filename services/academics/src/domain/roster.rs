//! How a row of a roster gets past a full section: by an override that the import grants, and that only its registration
//! can use. Whether the section is full is known to the seat service alone, so that the override is always recorded.

use matricula_kit::answer::{Done, Reason};
use matricula_kit::id::{OverrideId, SagaId, StudentId};
use matricula_kit::source::Source;
use matricula_kit::time::UnixMs;

use super::student::Override;

/// Who grants the override.
pub const GRANTED_BY: &str = "import";
/// And why.
const JUSTIFICATION: &str = "A roster that was imported has the student in this section.";

/// Grants an override for each added section for which staff have granted none, and names it there.
pub fn admit(student: &StudentId, registration: &SagaId, submitted_at: UnixMs, done: &mut Done) -> Vec<Override> {
    let mut granted = Vec::new();
    for (index, added) in done.added.iter_mut().enumerate() {
        if added.closed_section_override.is_some() {
            continue;
        }
        // The same again is the same override; ids of registrations grow with time, as those of overrides do.
        let id = OverrideId::stored(format!("{registration}:{index}"));
        added.closed_section_override = Some(id.clone());
        granted.push(Override {
            id,
            student: student.clone(),
            section: Some(added.section.clone()),
            reason: Reason::ClosedSection,
            granted_by: GRANTED_BY.to_owned(),
            justification: JUSTIFICATION.to_owned(),
            granted_at: submitted_at,
            // No later registration of the student can use it.
            valid_until: Some(submitted_at),
            source: Source::Bundle,
        });
    }
    granted
}
