//! What has become of a section since the student saw it: a refusal gives no false hope, and says what happened.
//!
//! Promises: what a section held when it was seen comes from what the seat service told the portal's API, and is stored
//! with the request: every replica tells the same, also after a restart. Where that is not known, or does not fit the
//! decision, less is said.

use matricula_kit::answer::{Seen, SeenSeats};
use matricula_kit::id::SectionId;
use matricula_kit::time::{TimeZone, UnixMs, shown};
use matricula_proto::common::v1::{Reason, Refusal};
use serde::{Deserialize, Serialize};

/// A section as the student saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenVersion {
    /// The section.
    pub section: SectionId,
    /// Its version, as the client named it.
    pub version: i64,
    /// What that version held; `None` where nobody could confirm it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seats: Option<SeenSeats>,
}

/// The refusal with the version of its section that the student saw, and what has happened since, in the time zone of
/// the campus.
pub(crate) fn told(mut refusal: Refusal, seen: &[SeenVersion], zone: impl FnOnce() -> TimeZone) -> Refusal {
    if !matches!(refusal.reason(), Reason::ClosedSection | Reason::SectionCancelled) {
        return refusal;
    }
    let Some(seen) = seen.iter().find(|seen| seen.section.as_str() == refusal.section_id) else { return refusal };
    refusal.seen = Some(Seen { version: seen.version, seats: seen.seats }.into());
    // A student who saw no free seat has not been given false hope.
    let Some(seats) = seen.seats.filter(|seats| seats.free > 0) else { return refusal };
    let zone = zone();
    let saw = saw(&seen.section, seen.version, seats, &zone);
    match refusal.reason() {
        // It is not known here when it was cancelled: it may have been before.
        Reason::SectionCancelled => refusal.message = format!("{} {saw}.", refusal.message),
        _ => {
            if let Some(since) = since(&refusal, seen.version, &zone) {
                refusal.message = format!("{saw}; {since}.");
            }
        }
    }
    refusal
}

fn saw(section: &SectionId, version: i64, seats: SeenSeats, zone: &TimeZone) -> String {
    let (free, changed_at) = (seats.free, shown(seats.changed_at, zone));
    let seats = if free == 1 { "seat" } else { "seats" };
    format!("Section {section} had {free} free {seats} when you saw it (version {version}, of {changed_at})")
}

/// How the section was closed after that version; `None` where that is not told, or the versions contradict it.
fn since(refusal: &Refusal, seen: i64, zone: &TimeZone) -> Option<String> {
    let decided = Some(refusal.section_version).filter(|decided| *decided != 0 && *decided > seen)?;
    let moment = |moment: &Option<_>| moment.as_ref().and_then(UnixMs::from_wire);
    let closed = match (moment(&refusal.closed_at), refusal.capacity, moment(&refusal.capacity_set_at)) {
        (_, Some(0), Some(set)) => format!("its capacity was set to 0 at {}", shown(set, zone)),
        (Some(closed), Some(capacity), Some(set)) if closed == set => {
            format!("its capacity was set to {capacity} at {}, which left none free", shown(set, zone))
        }
        // Without a capacity it is not known what closed it.
        (Some(closed), Some(1..), Some(_)) => format!("the last one went at {}", shown(closed, zone)),
        _ => return None,
    };
    Some(format!("{closed}, and it was at version {decided} when you were refused"))
}

#[cfg(test)]
mod tests {
    use matricula_kit::answer::{Reason, Refusal};
    use matricula_kit::time::zone;

    use super::{SectionId, Seen, SeenSeats, SeenVersion, UnixMs, told};

    const SEEN_AT: UnixMs = UnixMs(1_787_000_003_000);
    const CLOSED_AT: UnixMs = UnixMs(1_787_000_004_000);
    const SERVICE: &str = "What the service says.";

    fn section(name: &str) -> SectionId {
        SectionId::try_new(name).expect("a good id")
    }

    /// Closed in version 19, which a seat closed, of a section that was made long before.
    fn closed() -> Refusal {
        Refusal {
            section_version: Some(19),
            closed_at: Some(CLOSED_AT),
            capacity: Some(30),
            capacity_set_at: Some(UnixMs(1_786_000_000_000)),
            ..Refusal::section(Reason::ClosedSection, &section("A"), SERVICE, "Next.")
        }
    }

    fn seen(free: i32) -> SeenVersion {
        let seats = Some(SeenSeats { free, capacity: 30, changed_at: SEEN_AT });
        SeenVersion { section: section("A"), version: 17, seats }
    }

    /// What the student is told, given what was seen.
    #[track_caller]
    fn check(refusal: Refusal, seen: SeenVersion, is_shown: bool, message: &str) {
        let seen_versions = [SeenVersion { section: section("B"), ..self::seen(5) }, seen.clone()];
        let told = told(refusal.into(), &seen_versions, || zone("Asia/Tokyo").expect("a zone"));
        let expected = Seen { version: seen.version, seats: seen.seats };
        assert_eq!((told.seen, told.message.as_str()), (is_shown.then(|| expected.into()), message));
    }

    #[test]
    fn what_closed_it_is_told_with_both_moments_and_versions() {
        let saw = "Section A had 2 free seats when you saw it (version 17, of 2026-08-18 05:53:23 JST)";
        let end = "and it was at version 19 when you were refused.";
        check(closed(), seen(2), true, &format!("{saw}; the last one went at 2026-08-18 05:53:24 JST, {end}"));
        let one = saw.replace("2 free seats", "1 free seat");
        check(closed(), seen(1), true, &format!("{one}; the last one went at 2026-08-18 05:53:24 JST, {end}"));
        let frozen = Refusal { capacity: Some(0), capacity_set_at: Some(CLOSED_AT), ..closed() };
        check(frozen, seen(2), true, &format!("{saw}; its capacity was set to 0 at 2026-08-18 05:53:24 JST, {end}"));
        // The last seat went, and then it was frozen: the later one is why nobody gets in.
        let later = Refusal { capacity: Some(0), capacity_set_at: Some(CLOSED_AT.plus_ms(1_000)), ..closed() };
        check(later, seen(2), true, &format!("{saw}; its capacity was set to 0 at 2026-08-18 05:53:25 JST, {end}"));
        let lowered = Refusal { capacity: Some(28), capacity_set_at: Some(CLOSED_AT), ..closed() };
        let by_capacity = "its capacity was set to 28 at 2026-08-18 05:53:24 JST, which left none free";
        check(lowered, seen(2), true, &format!("{saw}; {by_capacity}, {end}"));
        let cancelled = Refusal::section(Reason::SectionCancelled, &section("A"), "A was cancelled.", "Next.");
        check(cancelled, seen(2), true, &format!("A was cancelled. {saw}."));
    }

    #[test]
    fn less_is_said_where_less_is_known() {
        // Nobody could confirm the version.
        check(closed(), SeenVersion { seats: None, ..seen(0) }, true, SERVICE);
        // No seat was free when it was seen.
        check(closed(), seen(0), true, SERVICE);
        // The versions contradict each other: a database was restored.
        check(closed(), SeenVersion { version: 19, ..seen(2) }, true, SERVICE);
        check(Refusal { section_version: None, ..closed() }, seen(2), true, SERVICE);
        // An earlier version of the seat service has answered.
        check(Refusal { capacity: None, capacity_set_at: None, ..closed() }, seen(2), true, SERVICE);
        check(Refusal { capacity_set_at: None, ..closed() }, seen(2), true, SERVICE);
        // Another section was seen, or the reason is none of the seats.
        check(closed(), SeenVersion { section: section("C"), ..seen(2) }, false, SERVICE);
        check(Refusal { reason: Reason::TimeConflict, ..closed() }, seen(2), false, SERVICE);
    }
}
