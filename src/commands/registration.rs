//! `matricula registration`: shows registrations for people and as JSON. The door is in `door`.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use matricula_kit::answer::Reason;
use matricula_kit::money;
use matricula_proto::common::v1::{Money, Refusal, SeenSection};
use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use matricula_proto::registration::v1::{
    Door, GetRegistrationRequest, ListRegistrationsRequest, Outcome, Registration as Wire, WatchLineResponse,
};
use serde_json::{Value, json};

use crate::arguments::{Format, Registration};
use crate::clients::{MESSAGE_BYTES_MAX, answered, connect, read_pages, whole_id};
use crate::commands::door;
use crate::config::Config;
use crate::output::{self, enum_name, moment, moment_or_none, or_none, text};

/// Runs a subcommand of `registration`.
pub async fn run(config: &Config, command: Registration, format: Format) -> anyhow::Result<ExitCode> {
    let channel = connect(&config.client.orchestrator_url).await?;
    let client = RegistrationServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    match command {
        Registration::Show { id } => show(client, whole_id(&channel, &id).await?, format).await?,
        Registration::List { student, limit } => list(client, student, limit, format).await?,
        Registration::Open(decision) => door::set(channel, Door::Open, decision, format).await?,
        Registration::Pause(decision) => door::set(channel, Door::Paused, decision, format).await?,
        Registration::Close(decision) => door::set(channel, Door::Closed, decision, format).await?,
        Registration::Door { limit } => door::show(channel, limit, format).await?,
    }
    Ok(ExitCode::SUCCESS)
}

type Client = RegistrationServiceClient<tonic::transport::Channel>;

async fn show(mut client: Client, registration_id: String, format: Format) -> anyhow::Result<()> {
    let answer = answered(client.get_registration(GetRegistrationRequest { registration_id })).await?;
    let registration = answer.registration.unwrap_or_default();
    output::show(format, || shown(&registration), || to_json(&registration))
}

async fn list(mut client: Client, student: String, limit: u32, format: Format) -> anyhow::Result<()> {
    let page = async |page_size, page_token| {
        let request = ListRegistrationsRequest { student_id: student.clone(), page_size, page_token };
        let page = answered(client.list_registrations(request)).await?;
        Ok((page.registrations, page.next_page_token))
    };
    let (registrations, has_more) = read_pages(limit as usize, page).await?;
    output::show(format, || list_shown(&registrations), || registrations.iter().map(to_json).collect())?;
    if format == Format::Table && has_more {
        eprintln!("More registrations follow; raise --limit to see them.");
    }
    Ok(())
}

/// A list of registrations for people.
pub fn list_shown(registrations: &[Wire]) -> String {
    let rows = registrations.iter().map(|registration| {
        [
            registration.registration_id.clone(),
            match in_line(registration) {
                Some(in_line) => format!("{}: {in_line}", outcome_name(registration.outcome)),
                None => outcome_name(registration.outcome).to_owned(),
            },
            sections(&registration.adds),
            sections(&registration.drops),
            moment_or_none(registration.submitted_at.as_ref()),
            registration.reasons.iter().map(|refusal| reason_name(refusal.reason)).collect::<Vec<_>>().join(" "),
        ]
    });
    output::table(["registration", "outcome", "adds", "drops", "submitted", "reasons"], rows, &["submitted", "drops"])
}

/// The name of an outcome in the API.
pub fn outcome_name(outcome: i32) -> &'static str {
    enum_name(Outcome::try_from(outcome).unwrap_or_default().as_str_name(), "OUTCOME_")
}

/// The name of a reason in the API.
pub fn reason_name(reason: i32) -> &'static str {
    Reason::from_wire(reason).map_or("UNKNOWN_REASON", Reason::name)
}

/// An amount for people, as in messages to students.
pub fn amount(money: &Money) -> String {
    money::shown(&money.currency, money.minor_units)
}

/// A registration for people.
pub fn shown(registration: &Wire) -> String {
    let mut text = String::new();
    let outcome = outcome_name(registration.outcome);
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {name:<13} {value}");
    };
    line("student", registration.student_id.clone());
    if !registration.adds.is_empty() {
        line("adds", sections(&registration.adds));
    }
    if !registration.drops.is_empty() {
        line("drops", sections(&registration.drops));
    }
    if let Some(charged) = &registration.charged {
        line("charged", amount(charged));
    }
    line("submitted", moment_or_none(registration.submitted_at.as_ref()));
    line("decided", moment_or_none(registration.decided_at.as_ref()));
    line("key", registration.idempotency_key.clone());
    if let Some(in_line) = in_line(registration) {
        line("in line", in_line);
    }
    for refusal in &registration.reasons {
        text.push_str(&refusal_shown(refusal, &registration.student_id));
    }
    let mut head = format!("{outcome}  {}\n", registration.registration_id);
    if registration.needs_attention {
        let id = &registration.registration_id;
        let _ = writeln!(head, "  needs attention: staff can see why with `matricula saga explain {id}`");
    }
    head + &text
}

/// Its place in the line and the expected wait, as far as they are known; `None` when it does not wait in line.
pub fn in_line(registration: &Wire) -> Option<String> {
    let before = match registration.place_in_line? {
        0 => "next in line".to_owned(),
        ahead => format!("{ahead} before it"),
    };
    let place = match registration.ticket {
        Some(ticket) => format!("ticket {ticket}, {before}"),
        None => before,
    };
    let expected = registration.expected_wait.and_then(|wait| Duration::try_from(wait).ok());
    Some(match expected.map(|wait| wait.as_secs_f64()) {
        Some(seconds) if seconds < 10.0 => format!("{place}, about {seconds:.1} s"),
        Some(seconds) => format!("{place}, about {seconds:.0} s"),
        None => place,
    })
}

/// Updates the place of a registration in line from a newer state of the line.
pub fn move_in_line(registration: &mut Wire, line: &WatchLineResponse) {
    let places = registration.ticket.map(|ticket| ticket - line.now_serving).filter(|places| *places > 0);
    registration.place_in_line = places.map(|places| i32::try_from(places - 1).unwrap_or(i32::MAX));
    let rate = line.turns_per_second.filter(|rate| *rate > 0.0 && line.door() != Door::Paused);
    let work = line.work.and_then(|work| Duration::try_from(work).ok()).unwrap_or_default();
    let turns = places.zip(rate).and_then(|(places, rate)| Duration::try_from_secs_f64(places as f64 / rate).ok());
    registration.expected_wait = turns.and_then(|turns| (turns + work).try_into().ok());
}

fn refusal_shown(refusal: &Refusal, student: &str) -> String {
    let about = if refusal.section_id.is_empty() { String::new() } else { format!(" {}", refusal.section_id) };
    let mut text = format!("  {}{about}: {}\n", reason_name(refusal.reason), refusal.message);
    if !refusal.next_step.is_empty() {
        let _ = writeln!(text, "    next: {}", refusal.next_step);
    }
    if refusal.overridable {
        let section = match refusal.section_id.as_str() {
            "" => String::new(),
            section => format!(" --section {section}"),
        };
        let reason = reason_name(refusal.reason);
        text.push_str("    staff can grant an override:\n");
        let _ = writeln!(text, "      matricula override grant {student} {reason}{section} --reason \"WHY\"");
    }
    text
}

/// A registration for programs.
pub fn to_json(registration: &Wire) -> Value {
    let expected_wait = registration.expected_wait.and_then(|wait| Duration::try_from(wait).ok());
    json!({
        "registration_id": registration.registration_id,
        "idempotency_key": registration.idempotency_key,
        "student_id": registration.student_id,
        "adds": registration.adds,
        "drops": registration.drops,
        "outcome": outcome_name(registration.outcome),
        "reasons": registration.reasons.iter().map(refusal_to_json).collect::<Vec<_>>(),
        "charged": registration.charged.as_ref().map(|charged| json!({
            "currency": charged.currency, "minor_units": charged.minor_units,
        })),
        "submitted_at": moment(registration.submitted_at.as_ref()),
        "decided_at": moment(registration.decided_at.as_ref()),
        "needs_attention": registration.needs_attention,
        "ticket": registration.ticket,
        "place_in_line": registration.place_in_line,
        "expected_wait_ms": expected_wait.map(|wait| wait.as_millis() as u64),
    })
}

fn refusal_to_json(refusal: &Refusal) -> Value {
    json!({
        "reason": reason_name(refusal.reason),
        "section_id": text(&refusal.section_id),
        "conflicts_with": text(&refusal.conflicts_with),
        "message": refusal.message,
        "next_step": text(&refusal.next_step),
        "overridable": refusal.overridable,
        "section_version": (refusal.section_version > 0).then_some(refusal.section_version),
        "closed_at": moment(refusal.closed_at.as_ref()),
        "capacity": refusal.capacity,
        "capacity_set_at": moment(refusal.capacity_set_at.as_ref()),
        "seen": refusal.seen.as_ref().map(seen_to_json),
    })
}

fn seen_to_json(seen: &SeenSection) -> Value {
    json!({
        "version": seen.version,
        "free": seen.free,
        "capacity": seen.capacity,
        "changed_at": moment(seen.changed_at.as_ref()),
    })
}

fn sections(ids: &[String]) -> String {
    or_none(&ids.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use matricula_kit::time::UnixMs;

    fn refused() -> Wire {
        Wire {
            registration_id: "0198c5d0-0000-7000-8000-000000000001".to_owned(),
            idempotency_key: "k-1".to_owned(),
            student_id: "S000001".to_owned(),
            adds: vec!["C001-L1".to_owned(), "C001-B1".to_owned()],
            drops: vec!["C002-L1".to_owned()],
            outcome: Outcome::Refused.into(),
            reasons: vec![
                Refusal {
                    reason: Reason::ClosedSection.to_wire().into(),
                    section_id: "C001-L1".to_owned(),
                    message: "The last seat went at 09:00:04.".to_owned(),
                    next_step: "Choose C001-L2, which has free seats.".to_owned(),
                    overridable: true,
                    section_version: 17,
                    closed_at: Some(UnixMs(1_787_000_000_000).to_wire()),
                    capacity: Some(30),
                    capacity_set_at: Some(UnixMs(1_786_000_000_000).to_wire()),
                    seen: Some(SeenSection {
                        version: 16,
                        free: Some(1),
                        capacity: Some(30),
                        changed_at: Some(UnixMs(1_786_999_999_000).to_wire()),
                    }),
                    ..Refusal::default()
                },
                Refusal {
                    reason: Reason::Hold.to_wire().into(),
                    conflicts_with: "library".to_owned(),
                    message: "Unpaid library fine.".to_owned(),
                    ..Refusal::default()
                },
            ],
            charged: None,
            submitted_at: Some(UnixMs(1_787_000_000_123).to_wire()),
            decided_at: Some(UnixMs(1_787_000_000_150).to_wire()),
            needs_attention: true,
            ticket: Some(41),
            place_in_line: None,
            expected_wait: None,
        }
    }

    #[test]
    fn a_refusal_is_shown_with_every_reason_and_what_to_do() {
        insta::assert_snapshot!(shown(&refused()), @r#"
        REFUSED  0198c5d0-0000-7000-8000-000000000001
          needs attention: staff can see why with `matricula saga explain 0198c5d0-0000-7000-8000-000000000001`
          student       S000001
          adds          C001-L1 C001-B1
          drops         C002-L1
          submitted     2026-08-17T20:53:20.123Z
          decided       2026-08-17T20:53:20.150Z
          key           k-1
          CLOSED_SECTION C001-L1: The last seat went at 09:00:04.
            next: Choose C001-L2, which has free seats.
            staff can grant an override:
              matricula override grant S000001 CLOSED_SECTION --section C001-L1 --reason "WHY"
          HOLD: Unpaid library fine.
        "#);
    }

    #[test]
    fn programs_get_every_field() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&to_json(&refused())).expect("JSON"), @r#"
        {
          "adds": [
            "C001-L1",
            "C001-B1"
          ],
          "charged": null,
          "decided_at": "2026-08-17T20:53:20.150Z",
          "drops": [
            "C002-L1"
          ],
          "expected_wait_ms": null,
          "idempotency_key": "k-1",
          "needs_attention": true,
          "outcome": "REFUSED",
          "place_in_line": null,
          "reasons": [
            {
              "capacity": 30,
              "capacity_set_at": "2026-08-06T07:06:40.000Z",
              "closed_at": "2026-08-17T20:53:20.000Z",
              "conflicts_with": null,
              "message": "The last seat went at 09:00:04.",
              "next_step": "Choose C001-L2, which has free seats.",
              "overridable": true,
              "reason": "CLOSED_SECTION",
              "section_id": "C001-L1",
              "section_version": 17,
              "seen": {
                "capacity": 30,
                "changed_at": "2026-08-17T20:53:19.000Z",
                "free": 1,
                "version": 16
              }
            },
            {
              "capacity": null,
              "capacity_set_at": null,
              "closed_at": null,
              "conflicts_with": "library",
              "message": "Unpaid library fine.",
              "next_step": null,
              "overridable": false,
              "reason": "HOLD",
              "section_id": null,
              "section_version": null,
              "seen": null
            }
          ],
          "registration_id": "0198c5d0-0000-7000-8000-000000000001",
          "student_id": "S000001",
          "submitted_at": "2026-08-17T20:53:20.123Z",
          "ticket": 41
        }
        "#);
    }

    #[test]
    fn only_the_known_parts_of_a_place_in_line_are_shown() {
        let shown = |place_in_line, expected_ms: Option<u64>| {
            let expected_wait = expected_ms.and_then(|ms| Duration::from_millis(ms).try_into().ok());
            in_line(&Wire { ticket: Some(80), place_in_line, expected_wait, ..Wire::default() })
        };
        assert_eq!(shown(Some(41), Some(1_250)).as_deref(), Some("ticket 80, 41 before it, about 1.2 s"));
        assert_eq!(shown(Some(312), Some(40_100)).as_deref(), Some("ticket 80, 312 before it, about 40 s"));
        assert_eq!(shown(Some(0), None).as_deref(), Some("ticket 80, next in line"));
        assert_eq!(shown(None, Some(60)), None);
    }

    #[test]
    fn a_place_is_updated_from_the_line() {
        let mut registration = Wire { ticket: Some(80), place_in_line: Some(41), ..Wire::default() };
        let mut line = WatchLineResponse { now_serving: 60, turns_per_second: Some(10.0), ..Default::default() };
        line.work = Duration::from_millis(500).try_into().ok();
        move_in_line(&mut registration, &line);
        assert_eq!(in_line(&registration).as_deref(), Some("ticket 80, 19 before it, about 2.5 s"));
        line.set_door(Door::Paused);
        move_in_line(&mut registration, &line);
        assert_eq!(in_line(&registration).as_deref(), Some("ticket 80, 19 before it"));
        line.now_serving = 80;
        move_in_line(&mut registration, &line);
        assert_eq!(in_line(&registration), None);
    }

    /// The table, the refusal and the message use the same formatter.
    #[test]
    fn an_amount_is_shown_as_in_messages() {
        for (currency, minor_units, text) in [("JPY", 45_000, "JPY 45,000"), ("USD", -135_000, "USD -1,350.00")] {
            let money = Money { currency: currency.to_owned(), minor_units };
            assert_eq!(amount(&money), text);
            assert_eq!(matricula_kit::money::Money::from(money).to_string(), text);
        }
    }
}
