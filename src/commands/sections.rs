//! `matricula sections`: sections with their free seats, and the capacity of a section.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::process::ExitCode;

use matricula_proto::catalog::v1::catalog_service_client::CatalogServiceClient;
use matricula_proto::catalog::v1::{
    Availability, Freshness, ListSectionsRequest, Section, WatchAvailabilityRequest, WatchAvailabilityResponse,
};
use matricula_proto::seats::v1::SetCapacityRequest;
use matricula_proto::seats::v1::seat_service_client::SeatServiceClient;
use serde_json::{Value, json};

use crate::arguments::{Format, Sections};
use crate::clients::{self, MESSAGE_BYTES_MAX, answered, connect};
use crate::config::Config;
use crate::output::{self, NONE, moment, moment_or_none, or_none};

/// Sections that are shown when no ids are given.
const SHOWN_DEFAULT: i32 = 100;
/// The most ids that the service accepts in a request.
const IDS_MAX: usize = 1_000;

/// Runs a subcommand of `sections`.
pub async fn run(config: &Config, command: Sections, format: Format) -> anyhow::Result<ExitCode> {
    match command {
        Sections::Show { ids } => return show(config, ids, format).await,
        Sections::Watch { ids } => watch(config, ids, format).await?,
        Sections::SetCapacity { id, capacity } => set_capacity(config, id, capacity, format).await?,
    }
    Ok(ExitCode::SUCCESS)
}

type Client = CatalogServiceClient<tonic::transport::Channel>;

async fn catalog(config: &Config) -> anyhow::Result<Client> {
    let channel = connect(&config.client.orchestrator_url).await?;
    Ok(CatalogServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

async fn show(config: &Config, ids: Vec<String>, format: Format) -> anyhow::Result<ExitCode> {
    let mut client = catalog(config).await?;
    let mut sections: Vec<Section> = Vec::new();
    let (mut freshness, mut more) = (None, false);
    let chunks: Vec<Vec<String>> =
        if ids.is_empty() { vec![Vec::new()] } else { ids.chunks(IDS_MAX).map(<[_]>::to_vec).collect() };
    for section_ids in chunks {
        let page_size = if section_ids.is_empty() { SHOWN_DEFAULT } else { section_ids.len() as i32 };
        let request = ListSectionsRequest { page_size, section_ids, ..ListSectionsRequest::default() };
        let page = answered(client.list_sections(request)).await?;
        sections.extend(page.sections);
        let of_page = page.freshness.unwrap_or_default();
        freshness = Some(freshness.map_or(of_page, |before| oldest(before, of_page)));
        more = !page.next_page_token.is_empty();
    }
    let freshness = freshness.unwrap_or_default();
    let document = || {
        json!({
            "sections": sections.iter().map(section_to_json).collect::<Vec<_>>(),
            "freshness": freshness_to_json(&freshness),
        })
    };
    output::show(format, || format!("{}\n\n{}", sections_shown(&sections), freshness_shown(&freshness)), document)?;
    if ids.is_empty() && more {
        eprintln!("More sections exist; give the ids of the sections to show.");
    }
    let known: BTreeSet<&str> = sections.iter().map(|section| section.section_id.as_str()).collect();
    let unknown: Vec<&str> = ids.iter().map(String::as_str).filter(|id| !known.contains(id)).collect();
    if unknown.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("Unknown section ids: {}", unknown.join(", "));
    Ok(ExitCode::FAILURE)
}

/// Prints every change until interrupted.
async fn watch(config: &Config, section_ids: Vec<String>, format: Format) -> anyhow::Result<()> {
    let client = catalog(config).await?;
    let was_live = Cell::new(None);
    let open = async || {
        was_live.set(None);
        client.clone().watch_availability(WatchAvailabilityRequest { section_ids: section_ids.clone() }).await
    };
    clients::watch(open, |message| print_change(&message, format, &was_live)).await
}

fn print_change(message: &WatchAvailabilityResponse, format: Format, was_live: &Cell<Option<bool>>) {
    let freshness = message.freshness.unwrap_or_default();
    if format == Format::Json {
        // One document per line, because the stream has no end.
        let sections: Vec<Value> = message.sections.iter().map(availability_to_json).collect();
        output::print(json!({
            "sections": sections,
            "unknown_section_ids": message.unknown_section_ids,
            "snapshot_complete": message.snapshot_complete,
            "freshness": freshness_to_json(&freshness),
        }));
        return;
    }
    for section in &message.sections {
        output::print(format_args!(
            "{}  {:<16} {:>5} of {} free, version {}",
            moment_or_none(section.changed_at.as_ref()),
            section.section_id,
            section.free,
            section.capacity,
            section.version
        ));
    }
    for id in &message.unknown_section_ids {
        output::print(format_args!("{NONE:<24}  {id:<16} does not exist, or was removed"));
    }
    // The state is incomplete: more of it follows, and then the time up to which it is complete.
    if freshness.live && freshness.as_of.is_none() {
        return;
    }
    if was_live.replace(Some(freshness.live)) != Some(freshness.live) {
        eprintln!("{}", freshness_shown(&freshness));
    }
}

async fn set_capacity(config: &Config, id: String, capacity: i32, format: Format) -> anyhow::Result<()> {
    let channel = connect(&config.orchestrator.seats_url).await?;
    let request = SetCapacityRequest { section_id: id, capacity };
    let answer = answered(SeatServiceClient::new(channel).set_capacity(request)).await?;
    let section = answer.section.unwrap_or_default();
    match format {
        Format::Table => {
            let (id, taken, capacity) = (&section.section_id, section.taken, section.capacity);
            output::print(format_args!("{id}: {taken} of {capacity} seats taken"));
            if taken > capacity {
                let excess = taken - capacity + 1;
                eprintln!("Students keep their seats; no further seat is granted until {excess} seats are given back.");
            }
        }
        Format::Json => output::json(&json!({
            "section_id": section.section_id,
            "capacity": section.capacity,
            "capacity_source": output::source_to_json(section.capacity_source()),
            "taken": section.taken,
            "version": section.version,
            "changed_at": moment(section.changed_at.as_ref()),
        }))?,
    }
    Ok(())
}

fn sections_shown(sections: &[Section]) -> String {
    let rows = sections.iter().map(|section| {
        let number = |of: fn(&Availability) -> i64| match &section.availability {
            _ if section.cancelled => "cancelled".to_owned(),
            Some(availability) => of(availability).to_string(),
            None => "unknown".to_owned(),
        };
        let credits = section.credits_hundredths;
        let version = section.availability.as_ref().map_or(NONE.to_owned(), |seen| seen.version.to_string());
        [
            section.section_id.clone(),
            section.course_code.clone(),
            or_none(if section.title.is_empty() { &section.course_title } else { &section.title }),
            format!("{}.{:02}", credits / 100, credits % 100),
            or_none(&section.component),
            or_none(&section.meetings),
            number(|availability| availability.free.into()),
            number(|availability| availability.capacity.into()),
            section.availability.as_ref().map_or(NONE.to_owned(), |seen| output::source(seen.capacity_source())),
            version,
            moment_or_none(section.availability.as_ref().and_then(|seen| seen.changed_at.as_ref())),
        ]
    });
    output::table(
        ["section", "course", "title", "credits", "part", "meets", "free", "seats", "set by", "version", "changed"],
        rows,
        &["changed", "credits", "part", "set by", "course", "title", "meets"],
    )
}

/// The time up to which two answers together are complete: that of the older answer, and unknown if it is unknown for
/// one of them.
fn oldest(one: Freshness, other: Freshness) -> Freshness {
    let moment = |of: Option<prost_types::Timestamp>| of.map(|moment| (moment.seconds, moment.nanos));
    let as_of = if moment(one.as_of) <= moment(other.as_of) { one.as_of } else { other.as_of };
    Freshness { as_of, live: one.live && other.live }
}

/// How up to date the shown seats are.
fn freshness_shown(freshness: &Freshness) -> String {
    match (moment(freshness.as_of.as_ref()), freshness.live) {
        (Some(as_of), true) => format!("All changes before {as_of} are included; the seat feed is live."),
        (Some(as_of), false) => {
            format!(
                "The seat feed is NOT live: seats may have been taken since {as_of}. Registrations are still decided correctly."
            )
        }
        (None, _) => "The seat feed has not delivered anything yet: the number of free seats is unknown.".to_owned(),
    }
}

fn freshness_to_json(freshness: &Freshness) -> Value {
    json!({ "as_of": moment(freshness.as_of.as_ref()), "live": freshness.live })
}

fn section_to_json(section: &Section) -> Value {
    json!({
        "section_id": section.section_id,
        "course_id": section.course_id,
        "course_code": section.course_code,
        "course_title": section.course_title,
        "title": section.title,
        "credits_hundredths": section.credits_hundredths,
        "component": section.component,
        "meetings": section.meetings,
        "cancelled": section.cancelled,
        "availability": section.availability.as_ref().map(availability_to_json),
    })
}

fn availability_to_json(availability: &Availability) -> Value {
    json!({
        "section_id": availability.section_id,
        "capacity": availability.capacity,
        "free": availability.free,
        "capacity_source": output::source_to_json(availability.capacity_source()),
        "version": availability.version,
        "changed_at": moment(availability.changed_at.as_ref()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use matricula_kit::time::UnixMs;
    use matricula_proto::common::v1::Source;

    fn section(id: &str, free: Option<i32>) -> Section {
        Section {
            section_id: id.to_owned(),
            course_id: "c1".to_owned(),
            course_code: "CS101".to_owned(),
            course_title: "Programming".to_owned(),
            credits_hundredths: 350,
            component: "1/L".to_owned(),
            meetings: "MW 08:00-08:50".to_owned(),
            availability: free.map(|free| Availability {
                section_id: id.to_owned(),
                capacity: 30,
                free,
                version: 9,
                changed_at: Some(UnixMs(1_787_000_000_000).to_wire()),
                capacity_source: Source::Bundle.into(),
            }),
            ..Section::default()
        }
    }

    #[test]
    fn unknown_values_are_marked_unknown() {
        let sections = [
            section("C001-L1", Some(3)),
            section("C001-L2", None),
            Section { cancelled: true, ..section("C001-L3", Some(30)) },
        ];
        insta::assert_snapshot!(sections_shown(&sections), @"
         section   course   title         credits   part   meets            free        seats       set by   version   changed
        ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
         C001-L1   CS101    Programming   3.50      1/L    MW 08:00-08:50   3           30          bundle   9         2026-08-17T20:53:20.000Z
         C001-L2   CS101    Programming   3.50      1/L    MW 08:00-08:50   unknown     unknown     -        -         -
         C001-L3   CS101    Programming   3.50      1/L    MW 08:00-08:50   cancelled   cancelled   bundle   9         2026-08-17T20:53:20.000Z
        ");
    }

    #[test]
    fn several_answers_together_are_as_old_as_the_oldest() {
        let freshness = |ms: Option<i64>, live| Freshness { as_of: ms.map(|ms| UnixMs(ms).to_wire()), live };
        let (old, new, none) = (freshness(Some(1_001), true), freshness(Some(2_000), false), freshness(None, true));
        assert_eq!(oldest(old, new), freshness(Some(1_001), false));
        assert_eq!(oldest(new, old), freshness(Some(1_001), false));
        assert_eq!([oldest(none, old), oldest(old, none)], [none, none]);
    }

    #[test]
    fn freshness_is_shown() {
        let as_of = Some(UnixMs(1_787_000_000_000).to_wire());
        let shown = |as_of, live| freshness_shown(&Freshness { as_of, live });
        insta::assert_snapshot!([shown(as_of, true), shown(as_of, false), shown(None, false)].join("\n"), @"
        All changes before 2026-08-17T20:53:20.000Z are included; the seat feed is live.
        The seat feed is NOT live: seats may have been taken since 2026-08-17T20:53:20.000Z. Registrations are still decided correctly.
        The seat feed has not delivered anything yet: the number of free seats is unknown.
        ");
    }
}
