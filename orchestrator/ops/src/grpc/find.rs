//! Finds a saga by the beginning of its id, as a person types it.
//!
//! Ids are UUIDs of the same form, so the ids with a prefix lie between two UUIDs: the prefix filled up with `0`, and
//! with `f`. That is a range of the primary key, so the number of sagas does not matter.

use matricula_kit::id::check_id;
use matricula_kit::rpc::FieldError;
use matricula_kit::status;
use matricula_proto::ops::v1 as ops;
use matricula_runtime::SagaId;
use tonic::{Code, Status};

use crate::Orchestrator;

/// Shorter prefixes fit nearly every saga.
const PREFIX_CHARS_MIN: usize = 4;
/// Candidates in the answer to an ambiguous prefix.
const SHOWN_MAX: usize = 5;
/// Candidates that are counted: a larger number does not help a person.
const COUNTED_MAX: usize = 1_000;
/// Where a UUID has its hyphens, counted in digits before them, and how many digits it has.
const HYPHENS_AFTER: [usize; 4] = [8, 12, 16, 20];
const DIGITS: usize = 32;

/// The one saga with the prefix.
pub(super) async fn saga(
    runtime: &Orchestrator,
    request: ops::FindSagaRequest,
) -> Result<ops::FindSagaResponse, Status> {
    let prefix = request.id_prefix;
    let (first, last) = bounds(&prefix)?;
    // A candidate more than is counted shows whether there are more.
    let found = runtime.store().ids_between(&first, &last, COUNTED_MAX as i64 + 1).await?;
    match found.as_slice() {
        [] => Err(status::not_found("saga", &prefix)),
        [one] => Ok(ops::FindSagaResponse { saga_id: one.to_string() }),
        several => Err(status::error(Code::FailedPrecondition, "AMBIGUOUS_ID", ambiguous(&prefix, several))),
    }
}

/// The first and the last id with a prefix. A text that is no beginning of a UUID is taken as a whole id.
fn bounds(prefix: &str) -> Result<(String, String), FieldError> {
    check_id(prefix).map_err(|problem| FieldError::new("id_prefix", problem.to_string()))?;
    if prefix.len() < PREFIX_CHARS_MIN {
        let problem = format!("must have at least {PREFIX_CHARS_MIN} characters, got {}", prefix.len());
        return Err(FieldError::new("id_prefix", problem));
    }
    Ok(match digits(prefix) {
        Some(digits) => (hyphenated(&format!("{digits:0<DIGITS$}")), hyphenated(&format!("{digits:f<DIGITS$}"))),
        None => (prefix.to_owned(), prefix.to_owned()),
    })
}

/// The beginning of an id as ids are written: in lower case, with hyphens. A text that is no beginning of a UUID stays
/// as it is.
pub fn beginning(typed: &str) -> String {
    digits(typed).map_or_else(|| typed.to_owned(), |digits| hyphenated(&digits))
}

/// The digits of a beginning of a UUID, with or without hyphens.
fn digits(prefix: &str) -> Option<String> {
    let digits: String = prefix.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    (digits.len() <= DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(digits)
}

fn hyphenated(digits: &str) -> String {
    let mut uuid = String::with_capacity(DIGITS + HYPHENS_AFTER.len());
    for (index, next) in digits.chars().enumerate() {
        if HYPHENS_AFTER.contains(&index) {
            uuid.push('-');
        }
        uuid.push(next);
    }
    uuid
}

fn ambiguous(prefix: &str, found: &[SagaId]) -> String {
    let count = if found.len() > COUNTED_MAX { format!("more than {COUNTED_MAX}") } else { found.len().to_string() };
    let shown: Vec<String> = found.iter().take(SHOWN_MAX).map(SagaId::to_string).collect();
    let more = if found.len() > SHOWN_MAX { ", ..." } else { "" };
    format!("{count} sagas have an id that begins with {prefix}: {}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_written_as_ids_are() {
        for (typed, expected) in
            [("01A203947E", "01a20394-7e"), ("01a20394-7e", "01a20394-7e"), ("01a2", "01a2"), ("x1", "x1")]
        {
            assert_eq!(beginning(typed), expected);
        }
    }

    #[test]
    fn a_prefix_is_a_range_of_ids() {
        let range = |prefix| bounds(prefix).expect("a prefix");
        let cases = [
            ("01a2", "01a20000-0000-0000-0000-000000000000", "01a2ffff-ffff-ffff-ffff-ffffffffffff"),
            ("01A20394-7e", "01a20394-7e00-0000-0000-000000000000", "01a20394-7eff-ffff-ffff-ffffffffffff"),
            ("01a203947e", "01a20394-7e00-0000-0000-000000000000", "01a20394-7eff-ffff-ffff-ffffffffffff"),
            ("01a20394-", "01a20394-0000-0000-0000-000000000000", "01a20394-ffff-ffff-ffff-ffffffffffff"),
            (
                "01a20394-7ebb-7176-8acb-23285aac80e3",
                "01a20394-7ebb-7176-8acb-23285aac80e3",
                "01a20394-7ebb-7176-8acb-23285aac80e3",
            ),
            ("nobody", "nobody", "nobody"),
        ];
        for (prefix, first, last) in cases {
            assert_eq!(range(prefix), (first.to_owned(), last.to_owned()), "{prefix}");
        }
        for refused in ["", "01a", "01a2 ", "01a2%", &"0".repeat(65)] {
            assert_eq!(bounds(refused).expect_err("refused").field, "id_prefix", "{refused:?}");
        }
    }

    #[test]
    fn an_ambiguous_prefix_is_answered_with_five_of_its_ids() {
        let ids = |count: usize| (0..count).map(|id| SagaId::from_u128(id as u128)).collect::<Vec<_>>();
        let shown = |ids: std::ops::Range<u8>| -> Vec<String> {
            ids.map(|id| format!("00000000-0000-0000-0000-{id:012}")).collect()
        };
        let two = format!("2 sagas have an id that begins with 0000: {}", shown(0..2).join(", "));
        assert_eq!(ambiguous("0000", &ids(2)), two);
        let six = format!("6 sagas have an id that begins with 0000: {}, ...", shown(0..5).join(", "));
        assert_eq!(ambiguous("0000", &ids(6)), six);
        assert!(ambiguous("0000", &ids(1_001)).starts_with("more than 1000 sagas"));
    }
}
