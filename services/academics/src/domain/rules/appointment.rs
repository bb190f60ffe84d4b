//! `OUTSIDE_APPOINTMENT`: students register within their enrollment appointment.

use matricula_kit::answer::{Reason, Refusal};
use matricula_kit::time::shown;

use crate::domain::context::RuleContext;

pub(super) fn outside_appointment(context: &RuleContext<'_>) -> Vec<Refusal> {
    let zone = &context.at.zone;
    let (profile, at) = (&context.student.profile, context.change.submitted_at);
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
    if context.permits_whole(Reason::OutsideAppointment) { Vec::new() } else { vec![refusal] }
}
