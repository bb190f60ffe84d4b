//! `OUTSIDE_APPOINTMENT`: students register within their enrollment appointment.

use matricula_kit::answer::{Reason, Refusal};

use super::moment;
use crate::domain::case::Case;

pub(super) fn outside_appointment(case: &Case<'_>) -> Vec<Refusal> {
    let (profile, at) = (&case.student.profile, case.change.submitted_at);
    let refusal = match (profile.appointment_start, profile.appointment_end) {
        (Some(start), _) if at < start => Refusal::whole(
            Reason::OutsideAppointment,
            format!("Your enrollment appointment begins on {}.", moment(start)),
            "Register again when your appointment has begun.",
        ),
        (_, Some(end)) if at > end => Refusal::whole(
            Reason::OutsideAppointment,
            format!("Your enrollment appointment ended on {}.", moment(end)),
            "Ask the registrar for another appointment.",
        ),
        _ => return Vec::new(),
    };
    if case.permits_whole(Reason::OutsideAppointment) { Vec::new() } else { vec![refusal] }
}
