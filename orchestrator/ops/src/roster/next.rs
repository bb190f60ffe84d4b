//! Decides what to do about a row of a roster, by the registrations that earlier imports submitted for it.
//!
//! | the last registration of the row that has not failed | for the same change | for another change |
//! |---|---|---|
//! | none | submit a new one, which may not drop anything | |
//! | under way | follow it | refuse until it has ended |
//! | committed | follow it | submit a new one, which may drop only sections of this row |
//!
//! So the same row does not take over a section again that its student has dropped, unless an import ended it before.

use matricula_engine::Outcome;
use matricula_registration::RegistrationRequest;
use matricula_runtime::SagaId;

/// A registration that an earlier import submitted for the row.
#[derive(Debug, Clone)]
pub(super) struct Earlier {
    pub id: SagaId,
    /// Its number among the registrations of the row.
    pub number: u32,
    /// None when it can't be read here.
    pub request: Option<RegistrationRequest>,
    pub standing: Standing,
}

/// The outcome of a registration, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Pending,
    Committed,
    /// It changed nothing.
    Failed,
}

/// The decision about a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Follow this registration: it is committed or under way.
    Follow(SagaId),
    /// Submit a registration of this number.
    Submit { number: u32 },
    /// Refuse the row until this registration has ended.
    Await(SagaId),
    /// Refuse the row.
    Refuse(String),
}

impl Standing {
    /// From the outcome as it is stored.
    pub(super) fn of(outcome: &str) -> Self {
        match outcome {
            known if known == Outcome::Committed.as_str() => Self::Committed,
            known if known == Outcome::Pending.as_str() => Self::Pending,
            _ => Self::Failed,
        }
    }
}

/// Decides about a row.
pub(super) fn next(wanted: &RegistrationRequest, earlier: &[Earlier]) -> Next {
    let number = earlier.iter().map(|one| one.number.saturating_add(1)).max().unwrap_or(0);
    let mut effective: Vec<(&Earlier, &RegistrationRequest)> = Vec::new();
    for one in earlier.iter().filter(|one| one.standing != Standing::Failed) {
        let Some(request) = &one.request else {
            let message = "of this row can't be read here: look at it with `matricula saga show`";
            return Next::Refuse(format!("registration {} {message}", one.id));
        };
        effective.push((one, request));
    }
    let last = effective.iter().max_by_key(|(one, _)| one.number);
    if let Some((last, request)) = last {
        if (&request.adds, &request.drops) == (&wanted.adds, &wanted.drops) {
            return Next::Follow(last.id);
        }
        if last.standing == Standing::Pending {
            return Next::Await(last.id);
        }
    }
    let brought = |section| effective.iter().any(|(_, request)| request.adds.contains(section));
    match wanted.drops.iter().find(|section| !brought(section)) {
        Some(section) => Next::Refuse(format!("no import has brought section {section} by this row, so none ends it")),
        None => Next::Submit { number },
    }
}

#[cfg(test)]
mod tests {
    use matricula_kit::id::StudentId;
    use matricula_kit::time::UnixMs;

    use super::*;

    /// `+A`, `-A` or `+B-A`.
    fn request(change: &str) -> RegistrationRequest {
        let (adds, drops) = change.split_once('-').unwrap_or((change, ""));
        let own = |id: &str| if id.is_empty() { Vec::new() } else { vec![id.to_owned()] };
        let (adds, drops) = (own(adds.trim_start_matches('+')), own(drops));
        let student = StudentId::stored("s1".to_owned());
        RegistrationRequest::try_new(student, adds, drops, Vec::new(), UnixMs(0)).expect("within the bounds")
    }

    /// `earlier` is registrations in order: `+A committed, -A failed`. The ids are their numbers.
    #[track_caller]
    fn check(earlier: &str, wanted: &str, expect: &Next) {
        let earlier = earlier.split(", ").filter(|one| !one.is_empty()).enumerate().map(|(number, one)| {
            let (change, standing) = one.split_once(' ').expect("a change and its outcome");
            let standing = match standing {
                "pending" => Standing::Pending,
                "committed" => Standing::Committed,
                _ => Standing::Failed,
            };
            let request = (change != "?").then(|| request(change));
            Earlier { id: id(number), number: number as u32, request, standing }
        });
        assert_eq!(next(&request(wanted), &earlier.collect::<Vec<_>>()), *expect, "{wanted}");
    }

    fn id(number: usize) -> SagaId {
        SagaId::from_u128(number as u128)
    }

    #[test]
    fn a_row_is_taken_over_once() {
        check("", "+A", &Next::Submit { number: 0 });
        check("+A pending", "+A", &Next::Follow(id(0)));
        check("+A committed", "+A", &Next::Follow(id(0)));
        check("+A failed", "+A", &Next::Submit { number: 1 });
        check("+A committed, -A failed", "+A", &Next::Follow(id(0)));
    }

    #[test]
    fn a_row_that_an_import_ended_is_taken_over_again() {
        check("+A committed, -A committed", "+A", &Next::Submit { number: 2 });
        check("+A committed, -A committed, +A failed", "+A", &Next::Submit { number: 3 });
        check("+A committed, -A pending", "+A", &Next::Await(id(1)));
    }

    #[test]
    fn a_row_that_names_another_section_moves_its_student() {
        check("+A committed", "+B-A", &Next::Submit { number: 1 });
        check("+A committed, +B-A committed", "+B-A", &Next::Follow(id(1)));
        check("+A committed, +B-A committed", "+A-B", &Next::Submit { number: 2 });
        check("+A committed", "+B", &Next::Submit { number: 1 });
    }

    #[test]
    fn an_import_ends_only_sections_of_the_same_row() {
        check("+A committed", "-A", &Next::Submit { number: 1 });
        check("+A committed, -A committed", "-A", &Next::Follow(id(1)));
        check("+A pending", "-A", &Next::Await(id(0)));
        let foreign = Next::Refuse("no import has brought section A by this row, so none ends it".to_owned());
        check("", "-A", &foreign);
        check("+A failed", "-A", &foreign);
        check("+B committed", "-A", &foreign);
        check("", "+B-A", &foreign);
    }

    #[test]
    fn an_unreadable_registration_refuses_its_row() {
        let message = "registration 00000000-0000-0000-0000-000000000000 of this row can't be read here: look at it with `matricula saga show`";
        check("? committed", "+A", &Next::Refuse(message.to_owned()));
        check("? failed", "+A", &Next::Submit { number: 1 });
    }

    #[test]
    fn every_outcome_has_a_standing() {
        let of = |outcome: Outcome| Standing::of(outcome.as_str());
        assert_eq!([Outcome::Pending, Outcome::Committed].map(of), [Standing::Pending, Standing::Committed]);
        assert_eq!([Outcome::Refused, Outcome::Cancelled, Outcome::TimedOut].map(of), [Standing::Failed; 3]);
    }
}
