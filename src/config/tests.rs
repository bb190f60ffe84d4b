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
        flag("client.orchestrator_url", "http://a:7450, http://b:7450, c"),
        flag("orchestrator.runtime.lease_ttl_ms", "1"),
        flag("orchestrator.read_database_url", "sqlite:x"),
    ];
    let problems = Config::load(None, &flags).expect_err("five settings are wrong").to_string();
    assert_eq!(
        problems,
        "error: the configuration can't be used\n  \
         seats.database_url: must begin with sqlite: or postgres://\n  \
         orchestrator.fees_url: \"nowhere\" is no URL such as http://127.0.0.1:7451\n  \
         client.orchestrator_url: \"c\" is no URL such as http://127.0.0.1:7451\n  \
         orchestrator.runtime.lease_ttl_ms: must be 500 to 60000\n  \
         orchestrator.read_database_url: must begin with postgres://"
    );
}

#[test]
fn no_default_port_is_one_of_which_systems_take_local_ports() {
    // Linux: net.ipv4.ip_local_port_range; macOS: net.inet.ip.portrange.first and .last.
    let local_ports = [32_768..=60_999, 49_152..=65_535];
    let defaults = Config::default().shown();
    let ports: Vec<u16> = defaults.values().filter_map(|value| value.rsplit_once(':')?.1.parse().ok()).collect();
    assert_eq!(ports.len(), 18, "two ports of each role, five URLs of services and one of the orchestrator: {ports:?}");
    for port in ports {
        assert!(!local_ports.iter().any(|range| range.contains(&port)), "{port}");
        assert!(port > 1_024, "{port} takes the rights of root");
    }
}

#[test]
fn default_ports_are_those_of_the_contract() {
    let ports = |role| (Config::default().listen(role).0.port(), Config::default().listen(role).1.port());
    assert_eq!(ports(Role::Orchestrator), (7450, 8450));
    assert_eq!(ports(Role::Seats), (7451, 8451));
    assert_eq!(ports(Role::Enrollments), (7452, 8452));
    assert_eq!(ports(Role::Academics), (7453, 8453));
    assert_eq!(ports(Role::Fees), (7454, 8454));
    assert_eq!(ports(Role::Notifications), (7455, 8455));
}

#[test]
fn the_end_and_the_origins_of_browsers_are_checked() {
    let flag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    for (name, value, told) in [
        ("shutdown_grace_ms", "0", "shutdown_grace_ms: must be 500 to 600000"),
        ("shutdown_grace_ms", "3600000", "shutdown_grace_ms: must be 500 to 600000"),
        (
            "orchestrator.cors_origins",
            "portal.example.edu",
            "orchestrator.cors_origins: \"portal.example.edu\" is no origin",
        ),
        ("orchestrator.cors_origins", "https://a.example.edu https://b.example.edu", "orchestrator.cors_origins: "),
        (
            "notifications.sink",
            "{kind=\"smtp\", url=\"smtp://u:tls=p@mail.example.edu\", from=\"r@example.edu\"}",
            "notifications.sink.url: may send",
        ),
    ] {
        let problems = Config::load(None, &[flag(name, value)]).expect_err("it is wrong").to_string();
        assert!(problems.contains(told), "{name}={value}: {problems}");
    }
    let flags = [
        flag("shutdown_grace_ms", "5000"),
        flag("orchestrator.cors_origins", "https://a.example.edu, https://b.example.edu"),
    ];
    let config = Config::load(None, &flags).expect("both can be meant");
    assert_eq!(config.shutdown_grace(), Duration::from_secs(5));
    assert_ne!(config.cors().expect("a list"), Cors::default());
}
