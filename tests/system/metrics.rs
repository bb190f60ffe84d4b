//! `/metrics` as Prometheus reads it.

use std::collections::BTreeMap;

use matricula_harness::{Metrics, System, is_settled, submission, submit};

use crate::campus::bundle;

#[tokio::test]
async fn every_metric_has_its_help_and_type() {
    let system = System::up();
    system.import(&bundle(&[("A", 1, "")], 2));
    let portal = system.channel("orchestrator").await;
    for student in ["S1", "S2"] {
        submit(&portal, submission(student, "k", &["A"], &[])).await;
    }
    while !is_settled(&portal).await {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let text = Metrics::text(&system.http_address("up")).await.expect("it answers");
    let form = "content-type: text/plain; version=0.0.4; charset=utf-8\r\n";
    assert!(text.to_lowercase().contains(form), "{}", &text[..text.len().min(500)]);

    let (mut helps, mut types) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        let kept = match (words.next(), words.next()) {
            (Some("#"), Some("HELP")) => &mut helps,
            (Some("#"), Some("TYPE")) => &mut types,
            _ => continue,
        };
        let name = words.next().unwrap_or_default();
        let before = kept.insert(name.to_owned(), words.next().unwrap_or_default().to_owned());
        assert!(before.is_none(), "{name} comes twice");
    }
    assert!(types.len() > 20, "{types:?}");
    assert_eq!(types.keys().collect::<Vec<_>>(), helps.keys().collect::<Vec<_>>());
    for (name, help) in &helps {
        assert!(help.len() > 10 && !help.ends_with('.'), "{name}: {help}");
        let is_counter = types[name] == "counter";
        assert_eq!(name.ends_with("_total"), is_counter, "{name} is a {}", types[name]);
    }
    // Every sample belongs to one of them.
    for line in text.lines().filter(|line| line.starts_with("matricula_")) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        assert!(helps.contains_key(name) || of_histogram.is_some_and(|name| helps.contains_key(name)), "{line}");
    }
}
