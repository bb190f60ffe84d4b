//! The request of a registration: a change set of adds and drops, the seats that its student saw, and the import that
//! submits it.
//!
//! Promises: each registration of a roster's row has a key of its own, numbered from 0, and no portal can send such a
//! key.

use matricula_kit::answer::SeenSeats;
use matricula_kit::id::{RosterRowId, SectionId, StudentId};
use matricula_kit::rpc::{FieldError, distinct_ids, each, required_id};
use matricula_kit::telemetry::TraceContext;
use matricula_kit::time::{self, TimeZone, UnixMs};
use matricula_proto::registration::v1 as wire;
use matricula_runtime::{SagaId, Submission};
use serde::{Deserialize, Serialize};

/// Sections in one registration, adds and drops together.
pub const SECTIONS_MAX: usize = 20;

/// The beginning of each key of a registration that an import submits. The keys of portals are printable ASCII, so they
/// have no middle dot, and neither has the id of a row.
pub const ROSTER_KEY_PREFIX: &str = "import·";
/// Separates the parts of such a key.
const SEPARATOR: char = '·';

/// A change set of one student: the input of the saga's steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationRequest {
    /// The student.
    pub student: StudentId,
    /// Sections to add.
    pub adds: Vec<SectionId>,
    /// Sections to drop.
    pub drops: Vec<SectionId>,
    /// The sections whose seats the student saw.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<SeenVersion>,
    /// When it was accepted. It decides appointments, deadlines and refunds.
    pub submitted_at: UnixMs,
    /// The time zone of the moments in a refusal; none: UTC. It is stored, so that every replica shows the student the
    /// same text at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// The import that submits it; `None`: its student registers. No portal can set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roster: Option<Roster>,
}

/// A section as the student saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenVersion {
    /// The section.
    pub section: SectionId,
    /// Its version, as the client sent it.
    pub version: i64,
    /// The seats of that version; `None` where no replica could confirm them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seats: Option<SeenSeats>,
}

/// The part of an import that a registration carries out: it takes over a row of a roster, or ends the enrollment that
/// an earlier import took over from that row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// The row that is taken over or ended.
    pub row: RosterRowId,
    /// Whether the rates are charged; otherwise zero is charged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub charge: bool,
}

impl RegistrationRequest {
    /// Takes a change set from the wire, and checks the bounds: 1 to 20 sections, none twice, also not once to add and
    /// once to drop.
    pub fn try_new(
        student: StudentId,
        adds: Vec<String>,
        drops: Vec<String>,
        seen: Vec<wire::SeenVersion>,
        submitted_at: UnixMs,
    ) -> Result<Self, FieldError> {
        let adds = distinct_ids("adds", adds, SECTIONS_MAX, SectionId::try_new)?;
        let drops = distinct_ids("drops", drops, SECTIONS_MAX, SectionId::try_new)?;
        if adds.is_empty() && drops.is_empty() {
            return Err(FieldError::new("adds", "name at least one section to add or to drop"));
        }
        if adds.len() + drops.len() > SECTIONS_MAX {
            let problem = format!("at most {SECTIONS_MAX} sections in all, got {}", adds.len() + drops.len());
            return Err(FieldError::new("drops", problem));
        }
        if let Some(both) = drops.iter().find(|drop| adds.contains(drop)) {
            return Err(FieldError::new("drops", format!("{both} is also among the adds")));
        }
        let seen = each("seen_versions", seen, 0..=SECTIONS_MAX, |wire::SeenVersion { section_id, version }| {
            let section = required_id("section_id", section_id, SectionId::try_new)?;
            Ok(SeenVersion { section, version, seats: None })
        })?;
        Ok(Self { student, adds, drops, seen, submitted_at, time_zone: None, roster: None })
    }

    /// The same request, submitted by an import.
    #[must_use]
    pub fn of_roster(self, roster: Roster) -> Self {
        Self { roster: Some(roster), ..self }
    }

    /// The same request with the seats of each version that the student saw. `held` has them if this replica has shown
    /// the version. Their moments are shown in `zone`.
    pub fn confirmed(mut self, held: impl Fn(&SectionId, i64) -> Option<SeenSeats>, zone: &TimeZone) -> Self {
        for seen in &mut self.seen {
            seen.seats = held(&seen.section, seen.version);
        }
        // Most requests have no moment to show, and are stored without a zone.
        if self.seen.iter().any(|seen| seen.seats.is_some()) && *zone != TimeZone::UTC {
            self.time_zone = zone.iana_name().map(str::to_owned);
        }
        self
    }

    /// The request as it is submitted to an orchestrator.
    pub fn submission(self, id: SagaId, idempotency_key: String, trace: TraceContext) -> Submission<Self> {
        let (subject, fingerprint) = (self.student.as_str().to_owned(), self.fingerprint());
        let is_by_staff = self.roster.is_some();
        Submission { id, subject, idempotency_key, fingerprint, is_by_staff, request: self, trace }
    }

    /// The time zone of the moments that the student reads.
    pub fn zone(&self) -> TimeZone {
        let zone = self.time_zone.as_deref().map(time::zone);
        zone.and_then(Result::ok).unwrap_or(TimeZone::UTC)
    }

    /// The change set in one canonical form, which is equal for two requests that are the same. The order of sections,
    /// the versions that were seen and the moment make no difference.
    pub fn fingerprint(&self) -> String {
        let sorted = |ids: &[SectionId]| {
            let mut ids: Vec<&str> = ids.iter().map(SectionId::as_str).collect();
            ids.sort_unstable();
            ids.join(" ")
        };
        format!("+{} -{}", sorted(&self.adds), sorted(&self.drops))
    }
}

/// The key of a row's registration of this number.
pub fn roster_key(row: &RosterRowId, number: u32) -> String {
    format!("{ROSTER_KEY_PREFIX}{row}{SEPARATOR}{number}")
}

/// The row and the number of a key; `None` for a key of a portal.
pub fn parse_roster_key(key: &str) -> Option<(RosterRowId, u32)> {
    let (row, number) = key.strip_prefix(ROSTER_KEY_PREFIX)?.rsplit_once(SEPARATOR)?;
    Some((RosterRowId::try_new(row).ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(adds: &[&str], drops: &[&str], expect: Result<&str, &str>) {
        let own = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        let request =
            RegistrationRequest::try_new(StudentId::stored("s1".into()), own(adds), own(drops), Vec::new(), UnixMs(0));
        let got = request.map(|request| request.fingerprint()).map_err(|problem| problem.to_string());
        assert_eq!(got.as_deref().map_err(String::as_str), expect);
    }

    #[test]
    fn a_request_from_before_rosters_is_read_and_written_alike() {
        let stored = r#"{"student":"s1","adds":["A"],"drops":[],"submitted_at":0}"#;
        let request: RegistrationRequest = serde_json::from_str(stored).expect("it is readable");
        assert_eq!(request.roster, None);
        assert_eq!(serde_json::to_string(&request).expect("it is writable"), stored);
    }

    #[test]
    fn the_import_of_a_request_is_stored() {
        let stored = r#"{"student":"s1","adds":["A"],"drops":[],"submitted_at":0,"roster":{"row":"E1"}}"#;
        let request: RegistrationRequest = serde_json::from_str(stored).expect("it is readable");
        let row = RosterRowId::try_new("E1").expect("an id");
        assert_eq!(request.roster, Some(Roster { row, charge: false }));
        assert_eq!(serde_json::to_string(&request).expect("it is writable"), stored);
    }

    #[test]
    fn bounds_and_canonical_form() {
        check(&["B", "A"], &[], Ok("+A B -"));
        check(&["A"], &["C", "B"], Ok("+A -B C"));
        check(&[], &[], Err("adds: name at least one section to add or to drop"));
        check(&["A", "A"], &[], Err("adds[1]: A is named twice"));
        check(&["A"], &["A"], Err("drops: A is also among the adds"));
        let bounds = "must be 1-128 printable ASCII characters without spaces, quotes, commas and |";
        check(&[""], &[], Err(&format!("adds[0]: {bounds}, got an empty value")));
        let ids: Vec<String> = (0..11).map(|id| id.to_string()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let others: Vec<String> = (20..31).map(|id| id.to_string()).collect();
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        check(&ids, &others, Err("drops: at most 20 sections in all, got 22"));
    }

    #[test]
    fn the_zone_is_stored_only_with_a_moment_to_show() {
        let confirmed = |name: &str, is_known: bool| {
            let seen = vec![wire::SeenVersion { section_id: "A".to_owned(), version: 7 }];
            let student = StudentId::stored("s1".into());
            let request = RegistrationRequest::try_new(student, vec!["A".into()], vec![], seen, UnixMs(0));
            let seats = is_known.then_some(SeenSeats { free: 2, capacity: 3, changed_at: UnixMs(0) });
            let request =
                request.expect("within the bounds").confirmed(|_, _| seats, &time::zone(name).expect("a zone"));
            let stored = serde_json::to_string(&request).expect("it is stored");
            let read: RegistrationRequest = serde_json::from_str(&stored).expect("it is read");
            assert_eq!(stored.contains("time_zone"), read.time_zone.is_some());
            (read.time_zone.clone(), read.zone())
        };
        let new_york = time::zone("America/New_York").expect("a zone");
        assert_eq!(confirmed("America/New_York", true), (Some("America/New_York".to_owned()), new_york));
        assert_eq!(confirmed("America/New_York", false), (None, TimeZone::UTC));
        assert_eq!(confirmed("UTC", true), (None, TimeZone::UTC));
    }

    #[test]
    fn keys_are_read_as_they_are_written() {
        for row in ["E1", "urn:uuid:4f1d", "a/b#7", "1"] {
            let row = RosterRowId::try_new(row).expect("an id");
            assert_eq!(parse_roster_key(&roster_key(&row, 12)), Some((row, 12)));
        }
        for foreign in ["", "import-E1-0", "import·E1", "import·E1·x", "import··0", "E1·0"] {
            assert_eq!(parse_roster_key(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn no_portal_can_send_such_a_key() {
        assert!(!ROSTER_KEY_PREFIX.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    }
}
