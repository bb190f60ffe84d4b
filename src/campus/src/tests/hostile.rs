//! Reading files with random contents ends with a bundle or with problems.

use std::fs;

use proptest::prelude::*;

use super::{FILES, campus};
use crate::{File, read, registrations};

const HEADER: &str = "arrivalMs,idempotencyKey,studentSourcedId,addClassSourcedIds,dropClassSourcedIds\n";

fn check(file: &str, bytes: &[u8]) {
    let dir = campus(&[]);
    fs::write(dir.path().join(file), bytes).unwrap();
    let _ = read(dir.path());
    if let Ok(clicks) = registrations(dir.path()) {
        assert!(clicks.count() <= bytes.len() + 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes(file in 0..File::ALL.len(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check(File::ALL[file].name(), &bytes);
    }

    #[test]
    fn any_bytes_after_a_header(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check("registrations.csv", &[HEADER.as_bytes(), &bytes].concat());
    }

    #[test]
    fn a_proper_file_with_a_part_replaced(
        file in 0..FILES.len(),
        at in 0.0..1.0f64,
        cut in 0..20usize,
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b','), Just(b'\n'), Just(b'\r')], 0..20),
    ) {
        let (file, text) = FILES[file];
        let from = (text.len() as f64 * at) as usize;
        let to = (from + cut).min(text.len());
        check(file, &[&text.as_bytes()[..from], &bytes, &text.as_bytes()[to..]].concat());
    }

    #[test]
    fn any_rule(rule in "[C12:()AB\" and or+-]{0,60}", meetings in "[MTWX 0-9:;-]{0,30}", credits in "[0-9.+-]{0,8}") {
        let courses = format!("sourcedId,title,metadata.prerequisites,metadata.credits\nC1,One,\"{}\",{credits}\n", rule.replace('"', "\"\""));
        check("courses.csv", courses.as_bytes());
        let classes = format!("sourcedId,title,courseSourcedId,termSourcedIds,metadata.meetings\nA,A,C1,T1,{meetings}\n");
        check("classes.csv", classes.as_bytes());
    }
}
