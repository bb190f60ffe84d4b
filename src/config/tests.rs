//! What is wrong is told: all of it, by its name.

use super::*;

#[test]
fn passwords_are_masked() {
    assert_eq!(masked("postgres://me:s3cret@db/seats"), "postgres://me:********@db/seats");
    assert_eq!(masked("postgres://me@db/seats"), "postgres://me@db/seats");
    assert_eq!(masked("sqlite:a.db"), "sqlite:a.db");
}

#[test]
fn a_setting_that_cannot_be_read_is_named() {
    let flag = |name: &str, value: &str| [(name.to_owned(), value.to_owned())];
    let told = |flags: &[(String, String)]| Config::load(None, flags).expect_err("it is wrong").to_string();
    let listen = told(&flag("seats.listen", "nowhere"));
    assert!(listen.ends_with("\n  seats.listen: invalid socket address syntax (set by a flag)"), "{listen}");
    let unknown = told(&flag("seats.lissten", "127.0.0.1:1"));
    assert!(unknown.contains("lissten"), "{unknown}");
}

#[test]
fn what_cannot_be_read_hides_nothing() {
    let flag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let flags = [
        flag("seats.listen", "nowhere"),
        flag("limits.connections_max", "many"),
        flag("limits.stall_ms", "0"),
        flag("fees.database_url", "mysql://x"),
    ];
    let problems = Config::load(None, &flags).expect_err("four settings are wrong").to_string();
    assert_eq!(
        problems,
        "error: the configuration can't be used\n  \
         limits.connections_max: invalid type: found string \"many\", expected usize (set by a flag)\n  \
         seats.listen: invalid socket address syntax (set by a flag)\n  \
         fees.database_url: must begin with sqlite: or postgres://\n  \
         limits.stall_ms: must be 100 to 600000"
    );
}

#[test]
fn every_problem_is_told() {
    let flag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let flags = [
        flag("seats.database_url", "mysql://x"),
        flag("orchestrator.fees_url", "nowhere"),
        flag("client.orchestrator_url", "http://a:50050, http://b:50050, c"),
        flag("orchestrator.runtime.lease_ttl_ms", "1"),
        flag("orchestrator.read_database_url", "sqlite:x"),
    ];
    let problems = Config::load(None, &flags).expect_err("five settings are wrong").to_string();
    assert_eq!(
        problems,
        "error: the configuration can't be used\n  \
         seats.database_url: must begin with sqlite: or postgres://\n  \
         orchestrator.fees_url: \"nowhere\" is no URL such as http://127.0.0.1:50051\n  \
         client.orchestrator_url: \"c\" is no URL such as http://127.0.0.1:50051\n  \
         orchestrator.runtime.lease_ttl_ms: must be 500 to 60000\n  \
         orchestrator.read_database_url: must begin with postgres://"
    );
}

/// An empty ratio is not set, so that a standard variable can say it.
#[test]
fn a_sample_ratio_may_be_left_empty() {
    let ratio = |value: &str| {
        let flags = [("telemetry.trace_sample_ratio".to_owned(), value.to_owned())];
        Config::load(None, &flags)
            .map(|config| config.telemetry.trace_sample_ratio)
            .map_err(|problems| problems.to_string())
    };
    assert_eq!(ratio("\"\""), Ok(None));
    assert_eq!(ratio("0.5"), Ok(Some(0.5)));
    assert_eq!(ratio("1"), Ok(Some(1.0)));
    assert!(ratio("2").expect_err("out of range").contains("telemetry.trace_sample_ratio: must be 0 to 1"));
    assert!(ratio("half").expect_err("no number").contains("telemetry.trace_sample_ratio"));
    assert_eq!(Config::default().shown()["telemetry.trace_sample_ratio"], "");
}
