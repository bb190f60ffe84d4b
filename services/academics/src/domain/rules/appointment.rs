//! `OUTSIDE_APPOINTMENT`: students register within their enrollment appointment.

use matricula_kit::answer::{Reason, Refusal};
use matricula_kit::time::shown;

use crate::domain::case::Case;

pub(super) fn outside_appointment(case: &Case<'_>) -> Vec<Refusal> {
    let zone = &case.context.zone;
    let (profile, at) = (&case.student.profile, case.change.submitted_at);
    let refusal = match (profile.appointment_start, profile.appointment_end) {
        (Some(start), _) if at < start => Refusal::whole(
            Reason::OutsideAppointment,
            format!("Your enrollment appointment begins on {}.", shown(start, zone)),
            "Register again when your appointment has begun.",
        ),
        (_, Some(end)) if at > end => Refusal::whole(
            Reason::OutsideAppointment,
            format!("Your enrollment appointment ended on {}.", shown(end, zone)),
            "Ask the registrar for another appointment.",
        ),
        _ => return Vec::new(),
    };
    if case.permits_whole(Reason::OutsideAppointment) { Vec::new() } else { vec![refusal] }
}
