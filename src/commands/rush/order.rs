//! Judges first come, first served: which registrations were refused because a section was full, although they came
//! earlier.
//!
//! ```text
//! A is sent ── A is acknowledged ──(250 ms)── B is sent ── B gets a seat ── A is refused: the section is full
//!                                                          version 17       at version 17 or a later one
//! ```
//!
//! In this example B *overtakes* A. The versions of the section show which decision came first, so the comparison needs
//! no server clock. A registration A is excused if an earlier registration of its student was not settled when A was
//! sent, because A then waited for that one. A seat by an override overtakes no registration. A rejected call has
//! accepted nothing: after it, a click counts as sent when it is sent again.

use std::collections::HashMap;
use std::time::Duration;

use matricula_kit::time::UnixMs;
use matricula_proto::common::v1::Reason;
use matricula_proto::registration::v1::{Outcome, Registration};
use matricula_proto::seats::v1::SeatHold;
use serde::Serialize;

/// B counts as later than A if B was sent this long after A was acknowledged.
const LATER_THAN_ACKNOWLEDGED: Duration = Duration::from_millis(250);
/// The simpler count compares clicks only: B counts as later if its click came this long after A's click.
const LATER_THAN_CLICK: Duration = Duration::from_millis(200);
/// Number of examples in the report; all cases are counted.
const EXAMPLES_MAX: usize = 10;
/// The largest accepted error of a server's clock. A registration submitted more than this before the rush is not
/// judged.
const CLOCK_ERROR_MAX: Duration = Duration::from_secs(5);

/// A click as the judgement needs it. Durations count from the start of the run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Click {
    /// Student and idempotency key: clicks with the same pair are one registration.
    pub key: (String, String),
    /// Empty if there is no outcome.
    pub registration_id: String,
    /// When the click was sent first.
    pub sent: Duration,
    /// When the first call was sent that was not rejected: no earlier call can have been accepted.
    pub admitted: Duration,
    /// When the first call that accepted the click was answered; set only if the first call did not wait for the
    /// outcome.
    pub acknowledged: Option<Duration>,
    /// When it was decided, as the client saw it.
    pub ended: Option<Duration>,
    /// When it was submitted, by the server's clock.
    pub submitted_at: Option<UnixMs>,
    /// When it was decided, by the server's clock.
    pub decided_at: Option<UnixMs>,
    /// Whether all its adds are enrolled.
    pub is_enrolled: bool,
    /// The sections that were full, each with its version at the refusal; 0 if the version is unknown.
    pub full: Vec<(String, i64)>,
}

/// The judgement on a whole rush.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Order {
    /// Whether the client measured when a click was acknowledged; otherwise `submitted_at` is taken for that moment,
    /// which is earlier.
    pub acknowledged_is_measured: bool,
    /// Registrations that were refused because a section was full.
    pub refused_closed_section: u64,
    /// Those of them that at least one later registration overtook.
    pub overtaken: u64,
    /// The same, where an earlier registration of the same student was not settled.
    pub overtaken_excused: u64,
    /// The longest time from an acknowledgement to a click that overtook it; 0 if no registration was overtaken.
    pub overtaken_longest_ms: f64,
    /// Those that were overtaken by the longest time.
    pub overtaken_examples: Vec<Overtaken>,
    /// Refused registrations for whose section a click at least 0.2 s later got a seat, regardless of the order of
    /// decisions.
    pub overtaken_by_clicks: u64,
    /// Clicks whose registration had been submitted before the rush began: they are not judged.
    pub submitted_before: u64,
}

/// A registration that was overtaken, and the latest click that overtook it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overtaken {
    /// The student of the refused registration.
    pub student_id: String,
    /// Its idempotency key.
    pub key: String,
    /// The section that was full.
    pub section_id: String,
    /// When the refused click was sent, from the start of the run.
    pub sent_ms: f64,
    /// When it was acknowledged.
    pub acknowledged_ms: f64,
    /// The version of the section at the refusal; 0 if it is not known.
    pub refused_at_version: i64,
    /// The student who got the seat.
    pub by_student_id: String,
    /// The idempotency key of that registration.
    pub by_key: String,
    /// When it was sent.
    pub by_sent_ms: f64,
    /// The version of the section that the grant made; 0 if it is not known.
    pub granted_at_version: i64,
    /// How long after the acknowledgement the other registration was sent.
    pub overtaken_by_ms: f64,
}

impl Click {
    /// Adds the facts of a decided registration to the click.
    pub fn decided_as(self, registration: &Registration) -> Self {
        let full = registration.reasons.iter().filter(|refusal| refusal.reason() == Reason::ClosedSection);
        Self {
            registration_id: registration.registration_id.clone(),
            submitted_at: registration.submitted_at.as_ref().and_then(UnixMs::from_wire),
            decided_at: registration.decided_at.as_ref().and_then(UnixMs::from_wire),
            is_enrolled: registration.outcome() == Outcome::Enrolled,
            full: full.map(|refusal| (refusal.section_id.clone(), refusal.section_version)).collect(),
            ..self
        }
    }

    /// Merges another click of the same registration, and keeps the earlier times.
    fn merge(&mut self, other: Self) {
        let earliest = |one: Option<Duration>, two: Option<Duration>| one.into_iter().chain(two).min();
        let (sent, admitted) = (self.sent.min(other.sent), self.admitted.min(other.admitted));
        let acknowledged = earliest(self.acknowledged, other.acknowledged);
        let ended = earliest(self.ended, other.ended);
        if self.registration_id.is_empty() {
            *self = other;
        }
        (self.sent, self.admitted, self.acknowledged, self.ended) = (sent, admitted, acknowledged, ended);
    }
}

/// Judges the clicks of a run that began at `started` by the client's clock, with the grants of the seats' ledger.
pub fn judge(clicks: Vec<Click>, holds: &[SeatHold], started: UnixMs) -> Order {
    let is_measured = clicks.iter().any(|click| click.acknowledged.is_some());
    let clicks = registrations(clicks);
    let all = clicks.len();
    let clicks: Vec<Click> = clicks.into_iter().filter(|click| !is_from_before(click, started)).collect();
    let waited = waited_for_another(&clicks);
    let acknowledged = acknowledgements(&clicks, started);
    let grants = grants(&clicks, holds);
    let mut order = Order {
        acknowledged_is_measured: is_measured,
        submitted_before: (all - clicks.len()) as u64,
        ..Order::default()
    };
    let mut overtaken = Vec::new();
    for (index, click) in clicks.iter().enumerate().filter(|(_, click)| !click.full.is_empty()) {
        order.refused_closed_section += 1;
        let sections = || click.full.iter().filter_map(|full| Some((full, grants.get(full.0.as_str())?)));
        let is_later = |grants: &Grants| grants.last_click.is_some_and(|last| last >= click.sent + LATER_THAN_CLICK);
        order.overtaken_by_clicks += u64::from(sections().any(|(_, grants)| is_later(grants)));
        let Some(acknowledged) = acknowledged[index] else { continue };
        let latest = sections().filter_map(|(full, grants)| Some((full, grants.latest_before(click, full.1)?)));
        let Some((full, by)) = latest.max_by_key(|(_, by)| by.sent) else { continue };
        if by.sent <= acknowledged + LATER_THAN_ACKNOWLEDGED {
            continue;
        }
        if waited[index] {
            order.overtaken_excused += 1;
        } else {
            order.overtaken += 1;
            overtaken.push((by.sent - acknowledged, index, full, by));
        }
    }
    overtaken.sort_by_key(|(by_time, index, ..)| (std::cmp::Reverse(*by_time), *index));
    order.overtaken_longest_ms = overtaken.first().map_or(0.0, |(by_time, ..)| ms(*by_time));
    let examples = overtaken.into_iter().take(EXAMPLES_MAX);
    order.overtaken_examples = examples
        .map(|(by_time, index, full, by)| example(&clicks[index], full, (by, &clicks[by.click]), by_time))
        .collect();
    order
}

/// One entry for each registration, in the order in which they can have been accepted.
fn registrations(clicks: Vec<Click>) -> Vec<Click> {
    let mut known: HashMap<(String, String), usize> = HashMap::with_capacity(clicks.len());
    let mut merged: Vec<Click> = Vec::with_capacity(clicks.len());
    for click in clicks {
        match known.get(&click.key) {
            Some(index) => merged[*index].merge(click),
            None => {
                known.insert(click.key.clone(), merged.len());
                merged.push(click);
            }
        }
    }
    merged.sort_by_key(|click| click.admitted);
    merged
}

fn is_from_before(click: &Click, started: UnixMs) -> bool {
    click.submitted_at.is_some_and(|moment| moment.0 + millis(CLOCK_ERROR_MAX) < started.0)
}

/// Whether an earlier registration of the same student was not settled when the accepted call was sent. Clicks are
/// sorted by that time.
fn waited_for_another(clicks: &[Click]) -> Vec<bool> {
    let mut settled: HashMap<&str, Duration> = HashMap::new();
    let waited = clicks.iter().map(|click| {
        let ended = click.ended.unwrap_or(Duration::MAX);
        let before = settled.get(click.key.0.as_str()).copied();
        settled.insert(&click.key.0, before.map_or(ended, |before| before.max(ended)));
        before.is_some_and(|before| before > click.admitted)
    });
    waited.collect()
}

/// When each click was acknowledged: as measured, otherwise the time of submission by the server's clock.
fn acknowledgements(clicks: &[Click], started: UnixMs) -> Vec<Option<Duration>> {
    let ahead_ms = server_ahead_ms(clicks, started);
    let by_server = |click: &Click| {
        let since_start = click.submitted_at?.0 - started.0 - ahead_ms;
        let submitted = Duration::from_millis(u64::try_from(since_start).unwrap_or_default());
        Some(submitted.max(click.sent))
    };
    clicks.iter().map(|click| click.acknowledged.or_else(|| by_server(click))).collect()
}

/// The minimum by which the server's clock is ahead of the client's, as the clicks prove it: a registration is
/// submitted after its click is sent and before it has ended.
fn server_ahead_ms(clicks: &[Click], started: UnixMs) -> i64 {
    let submitted = |click: &Click| Some(click.submitted_at?.0 - started.0);
    let at_most = clicks.iter().filter_map(|click| Some(submitted(click)? - millis(click.sent))).min();
    // Milliseconds are rounded down on both sides.
    let at_least = clicks.iter().filter_map(|click| Some(submitted(click)? - millis(click.ended?) - 1)).max();
    0_i64.min(at_most.unwrap_or(0)).max(at_least.unwrap_or(0))
}

/// A grant of a seat in a section.
#[derive(Debug, Clone, Copy)]
struct Grant {
    click: usize,
    sent: Duration,
    version: i64,
    granted_at: i64,
}

/// The grants of one section.
#[derive(Debug)]
struct Grants {
    /// False if the version of some grant is unknown.
    by_version: Option<LatestUpTo>,
    by_time: LatestUpTo,
    /// The last click that is enrolled.
    last_click: Option<Duration>,
}

/// Sorted by a key; each entry has the grant with the latest click among those up to its key.
#[derive(Debug)]
struct LatestUpTo(Vec<(i64, Grant)>);

impl LatestUpTo {
    fn new(grants: &[Grant], key: impl Fn(&Grant) -> i64) -> Self {
        let mut sorted: Vec<(i64, Grant)> = grants.iter().map(|grant| (key(grant), *grant)).collect();
        sorted.sort_by_key(|(key, _)| *key);
        let mut latest: Option<Grant> = None;
        for (_, grant) in &mut sorted {
            *grant = latest.filter(|latest| latest.sent >= grant.sent).unwrap_or(*grant);
            latest = Some(*grant);
        }
        Self(sorted)
    }

    fn get(&self, key: i64) -> Option<Grant> {
        let count = self.0.partition_point(|(of, _)| *of <= key);
        count.checked_sub(1).map(|index| self.0[index].1)
    }
}

impl Grants {
    /// The grant with the latest click among those that were decided before the refusal.
    fn latest_before(&self, refused: &Click, version: i64) -> Option<Grant> {
        match &self.by_version {
            Some(grants) if version > 0 => grants.get(version),
            _ => self.by_time.get(refused.decided_at?.0),
        }
    }
}

/// The grants of the played registrations, by section, without seats by an override.
fn grants<'a>(clicks: &[Click], holds: &'a [SeatHold]) -> HashMap<&'a str, Grants> {
    let named = clicks.iter().enumerate().filter(|(_, click)| !click.registration_id.is_empty());
    let named: HashMap<&str, usize> = named.map(|(index, click)| (click.registration_id.as_str(), index)).collect();
    let mut sections: HashMap<&str, Vec<Grant>> = HashMap::new();
    for hold in holds.iter().filter(|hold| hold.override_id.is_empty()) {
        let Some(&click) = named.get(hold.registration_id.as_str()) else { continue };
        let granted_at = hold.granted_at.as_ref().and_then(UnixMs::from_wire).map_or(i64::MAX, |moment| moment.0);
        let grant = Grant { click, sent: clicks[click].admitted, version: hold.section_version, granted_at };
        sections.entry(&hold.section_id).or_default().push(grant);
    }
    let of_section = |grants: Vec<Grant>| {
        let has_versions = grants.iter().all(|grant| grant.version > 0);
        let enrolled = grants.iter().map(|grant| &clicks[grant.click]).filter(|click| click.is_enrolled);
        Grants {
            by_version: has_versions.then(|| LatestUpTo::new(&grants, |grant| grant.version)),
            by_time: LatestUpTo::new(&grants, |grant| grant.granted_at),
            last_click: enrolled.map(|click| click.sent).max(),
        }
    };
    sections.into_iter().map(|(section, grants)| (section, of_section(grants))).collect()
}

fn example(refused: &Click, full: &(String, i64), (grant, by): (Grant, &Click), by_time: Duration) -> Overtaken {
    Overtaken {
        student_id: refused.key.0.clone(),
        key: refused.key.1.clone(),
        section_id: full.0.clone(),
        sent_ms: ms(refused.sent),
        acknowledged_ms: ms(grant.sent.saturating_sub(by_time)),
        refused_at_version: full.1,
        by_student_id: by.key.0.clone(),
        by_key: by.key.1.clone(),
        by_sent_ms: ms(grant.sent),
        granted_at_version: grant.version,
        overtaken_by_ms: ms(by_time),
    }
}

fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1_000.0
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
