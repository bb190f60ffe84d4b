//! Every problem is reported, with the name of its setting.

use std::ffi::OsString;
use std::path::PathBuf;

use super::*;

/// Reads the settings of an environment and of flags, without a file.
fn read(variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, String> {
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let flags: Vec<(String, String)> =
        flags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::read(None, variables, &flags).map_err(|problems| problems.to_string())
}

/// Reads the settings of a file and of an environment.
fn read_file(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, String> {
    let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a temporary file");
    std::fs::write(file.path(), text).expect("it is written");
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let problems = |problems: Problems| problems.to_string().replace(&file.path().display().to_string(), "FILE");
    Config::read(Some(file.path()), variables, &[]).map_err(problems)
}

#[track_caller]
fn refused(variables: &[(&str, &str)], flags: &[(&str, &str)], expected: &[&str]) {
    let problems = read(variables, flags).expect_err("it is refused");
    assert_eq!(problems, format!("error: the configuration can't be used\n  {}", expected.join("\n  ")));
}

fn variable(setting: &str) -> String {
    format!("MATRICULA_{}", setting.replace('.', "__").to_uppercase())
}

#[test]
fn secrets_are_not_shown() {
    let set = [
        ("seats.database_url", "postgres://me:s3cret@db/seats"),
        ("fees.database_url", "postgres://db/fees?user=me&p%61ssword=s3cret"),
        ("orchestrator.read_database_url", "postgres://db/log?sslkey=s3cret"),
        ("notifications.sink.kind", "smtp"),
        ("notifications.sink.url", "smtps://me:s3cret@mail.example"),
        ("notifications.sink.from", "registrar@example.edu"),
    ];
    let config = read(&[], &set).expect("it is right").config;
    let shown = config.shown();
    assert_eq!(shown["seats.database_url"], "postgres://me:********@db/seats");
    assert_eq!(shown["fees.database_url"], "postgres://db/fees?user=me&p%61ssword=********");
    assert_eq!(shown["notifications.sink.url"], "smtps://me:********@mail.example");
    assert!(!format!("{shown:?} {config:?}").contains("s3cret"));
    // Rejected values are masked too.
    let mut wrong: Vec<(&str, &str)> = set.iter().map(|(_, value)| ("seats.listen", *value)).collect();
    wrong.extend(set.iter().map(|(_, value)| ("limits.stall_ms", *value)));
    wrong.extend(set.iter().map(|(_, value)| ("orchestrator.fees_url", *value)));
    wrong.push(("academics.database_url", "postgres://me:s3cret@db/x?sslpassword=s3cret"));
    wrong.push(("enrollments.database_url", "postgres://me:s3cret/@db:x/x"));
    for (name, value) in wrong {
        let problems = read(&[], &[(name, value)]).expect_err("it is refused");
        assert!(!problems.contains("s3cret"), "{problems}");
        let problems = read(&[(&variable(name), value)], &[]).expect_err("it is refused");
        assert!(!problems.contains("s3cret"), "{problems}");
    }
}

#[test]
fn every_problem_is_reported_with_its_setting() {
    refused(
        &[("MATRICULA_FEES__DATABASE_URL", "mysql://x"), ("MATRICULA_LIMITS__CONNECTIONS_MAX", "many")],
        &[
            ("seats.listen", "nowhere"),
            ("limits.stall_ms", "0"),
            ("orchestrator.fees_url", "nowhere"),
            ("client.orchestrator_url", "http://a:7450, http://b:7450, c"),
            ("orchestrator.runtime.lease_ttl_ms", "1"),
            ("orchestrator.read_database_url", "sqlite:x"),
        ],
        &[
            "MATRICULA_LIMITS__CONNECTIONS_MAX: invalid type: found string \"many\", expected usize",
            "seats.listen: \"nowhere\" is not a listen address such as 127.0.0.1:7450, [::1]:7450 or localhost:7450: the port is missing \
             (set by a flag)",
            "MATRICULA_FEES__DATABASE_URL: must begin with sqlite: or postgres://",
            "orchestrator.read_database_url: must begin with postgres:// (set by a flag)",
            "orchestrator.fees_url: \"nowhere\" is not a service URL such as http://127.0.0.1:7451 (set by a flag)",
            "client.orchestrator_url: \"c\" is not a service URL such as http://127.0.0.1:7451 (set by a flag)",
            "orchestrator.runtime.lease_ttl_ms: must be 500 to 60000 (set by a flag)",
            "limits.stall_ms: must be 100 to 600000 (set by a flag)",
        ],
    );
}

#[test]
fn unknown_settings_are_reported_as_they_were_written() {
    refused(
        &[
            ("MATRICULA_FOO", "1"),
            ("MATRICULA_SEATS__LISTN", "127.0.0.1:1"),
            ("MATRICULA_SEATS_LISTEN", "127.0.0.1:1"),
            ("MATRICULA_LIMITS", "1"),
            ("MATRICULA_DATA_DIR__X", "1"),
            ("matricula_bar", "1"),
            ("MATRICULA_PORT", "7450"),
        ],
        &[("seats.lissten", "127.0.0.1:1"), ("baz", "")],
        &[
            "MATRICULA_DATA_DIR__X: unknown setting; did you mean MATRICULA_DATA_DIR?",
            "MATRICULA_FOO: unknown setting; `matricula config` lists all settings",
            "MATRICULA_LIMITS: this is a group of settings: use a setting of the group, such as MATRICULA_LIMITS__ARRIVING_BYTES_MAX",
            "MATRICULA_PORT: unknown setting; `matricula config` lists all settings",
            "MATRICULA_SEATS_LISTEN: unknown setting; did you mean MATRICULA_SEATS__LISTEN?",
            "MATRICULA_SEATS__LISTN: unknown setting; did you mean MATRICULA_SEATS__LISTEN?",
            "matricula_bar: unknown setting; `matricula config` lists all settings",
            "seats.lissten: unknown setting; did you mean seats.listen? (set by a flag)",
            "baz: unknown setting; `matricula config` lists all settings (set by a flag)",
        ],
    );
}

#[test]
fn problems_in_a_file_are_reported_with_the_file() {
    let problems = read_file(
        "data_dir = 2026\nfoo = 1\n[seats]\nlistn = \"x\"\nlisten = \"nowhere:x\"\n[bar]\nbaz = 1\n[limits]\nstall_ms = 0",
        &[],
    );
    let problems = problems.expect_err("it is refused");
    for part in [
        "\n  bar: unknown setting; `matricula config` lists all settings (set in FILE)",
        "\n  foo: unknown setting; `matricula config` lists all settings (set in FILE)",
        "\n  seats.listn: unknown setting; did you mean seats.listen? (set in FILE)",
        "\n  data_dir: invalid type: found signed int `2026`, expected path string (set in FILE)",
        "\n  limits.stall_ms: must be 100 to 600000 (set in FILE)",
    ] {
        assert!(problems.contains(part), "{part}: {problems}");
    }
    assert!(problems.lines().any(|line| line.starts_with("  seats.listen: ") && line.ends_with("(set in FILE)")));
    assert!(read_file("a = [", &[]).expect_err("it is no TOML").contains("\n  FILE: "));
    // The variable overrides the file, so the problem is not the file's.
    let over = read_file("[limits]\nstall_ms = 0", &[("MATRICULA_LIMITS__STALL_MS", "1")]).expect_err("it is refused");
    assert!(over.ends_with("\n  MATRICULA_LIMITS__STALL_MS: must be 100 to 600000"), "{over}");
}

#[test]
fn variables_of_services_are_ignored_and_named() {
    let links = [
        ("MATRICULA_PORT", "tcp://10.0.0.1:7450"),
        ("MATRICULA_PORT_7450_TCP_ADDR", "10.0.0.1"),
        ("MATRICULA_SEATS_SERVICE_HOST", "10.0.0.2"),
    ];
    let loaded = read(&links, &[]).expect("they are no settings");
    assert_eq!(loaded.config, Config::default());
    assert_eq!(
        loaded.warnings,
        [
            "warning: these variables are ignored, because Kubernetes or Docker sets them for a service with that name: MATRICULA_PORT, \
          MATRICULA_PORT_7450_TCP_ADDR, MATRICULA_SEATS_SERVICE_HOST"
        ]
    );
    assert!(read(&[], &[]).expect("nothing is set").warnings.is_empty());
}

#[test]
fn an_empty_variable_counts_as_unset() {
    for setting in Config::default().shown().keys().map(String::as_str).chain(["no.such", "port"]) {
        let loaded = read(&[(&variable(setting), "")], &[]).unwrap_or_else(|problems| panic!("{setting}: {problems}"));
        assert_eq!(loaded.config, Config::default(), "{setting}");
    }
    let over = read_file("[seats]\nlisten = \"127.0.0.1:1\"", &[("MATRICULA_SEATS__LISTEN", "")]).expect("it is right");
    assert_eq!(over.config.seats.listen.to_string(), "127.0.0.1:1");
}

#[test]
fn a_text_is_not_parsed() {
    let texts = ["2026", "007", "1.50", "1e3", "true", "[1, 2]", "{a=1}", "\"quoted\"", "'x'", "-", "null", "0x10"];
    for text in texts {
        for config in [
            read(&[("MATRICULA_DATA_DIR", text)], &[]).expect("a folder").config,
            read(&[], &[("data_dir", text)]).expect("a folder").config,
        ] {
            assert_eq!(config.data_dir, PathBuf::from(text));
        }
        let sink = [("notifications.sink.kind", "file"), ("notifications.sink.path", text)];
        let config = read(&[], &sink).expect("a file").config;
        assert_eq!(config.notifications.sink, SinkConfig::File { path: PathBuf::from(text) });
    }
    // Any text may be rejected because of its content, but not because of its type.
    let is_text = |name: &&String| known()[*name] == Form::Text;
    let names = Config::default().shown().into_keys().collect::<Vec<_>>();
    assert!(names.iter().filter(is_text).count() > 20, "most settings of the services are texts");
    for name in names.iter().filter(is_text) {
        for text in texts {
            if let Err(problems) = read(&[(&variable(name), text)], &[]) {
                assert!(!problems.contains("invalid type"), "{name}: {problems}");
            }
        }
    }
    // Numbers and booleans are still parsed.
    let config = read(
        &[("MATRICULA_WORKER_THREADS", "3"), ("MATRICULA_ORCHESTRATOR__RETENTION__ENABLED", "false")],
        &[("telemetry.trace_sample_ratio", "0.5"), ("limits.stall_ms", "500")],
    );
    let config = config.expect("they are right").config;
    assert_eq!((config.worker_threads, config.limits.stall_ms), (3, 500));
    assert!(!config.orchestrator.retention.enabled);
    assert_eq!(config.telemetry.trace_sample_ratio, Some(0.5));
}

#[test]
fn host_names_are_addresses() {
    let names = Config::default().shown().into_keys().filter(|name| name.ends_with("listen")).collect::<Vec<_>>();
    assert_eq!(names.len(), 12);
    for name in names {
        for address in ["localhost:7450", "[::1]:7450", "0.0.0.0:0"] {
            let config = read(&[(&variable(&name), address)], &[]).expect("an address").config;
            assert_eq!(config.shown()[&name], address);
        }
    }
}

#[test]
fn unsupported_urls_of_services_are_rejected() {
    let mut names = vec!["client.orchestrator_url".to_owned(), "telemetry.otlp_endpoint".to_owned()];
    names.extend(
        ["seats", "enrollments", "academics", "fees", "notifications"].map(|role| format!("orchestrator.{role}_url")),
    );
    for name in names {
        let url = "https://example:7451";
        let problems = read(&[], &[(&name, url)]).expect_err("it would be sent unencrypted");
        assert!(problems.contains(&format!("\n  {name}: \"{url}\": TLS is not supported yet")), "{problems}");
        for url in ["grpc://example", "ftp://example", "unix:/run/x", "example:7451", "http://example/x", "http://a@b"]
        {
            let problems = read(&[(&variable(&name), url)], &[]).expect_err("it is refused");
            assert!(problems.contains(&format!("\n  {}: \"", variable(&name))), "{problems}");
        }
        for url in ["http://localhost:7450", "http://[::1]:7450", "http://example:7451/"] {
            read(&[], &[(&name, url)]).expect("it is served");
        }
    }
}

#[test]
fn two_roles_on_one_database_are_rejected() {
    let check = |seats: &str, fees: &str, setting: &str, other: &str| {
        let set = [("seats.database_url", seats), ("fees.database_url", fees)];
        let set: Vec<_> = set.into_iter().filter(|(_, url)| !url.is_empty()).collect();
        let problems = read(&[], &set).expect_err("it is one database");
        let problem = format!("\n  {setting}: is also the database of {other}: each role needs its own database");
        assert!(problems.contains(&problem), "{problems}");
    };
    check("postgres://db/x", "postgres://me:pw@DB:5432/x?sslmode=disable", "fees.database_url", "seats");
    check("sqlite:x.db", "sqlite:./x.db?mode=rwc", "fees.database_url", "seats");
    check("sqlite:matricula-data/academics.db", "", "academics.database_url", "seats");
    check("", "sqlite:./matricula-data/../matricula-data/orchestrator.db", "orchestrator.database_url", "fees");
    let apart = [("seats.database_url", "postgres://db/x"), ("fees.database_url", "postgres://db/y")];
    read(&[], &apart).expect("they are two databases");
}

#[test]
fn a_data_folder_with_special_characters_contains_its_databases() {
    let config = read(&[("MATRICULA_DATA_DIR", "a b?mode=ro#%20")], &[]).expect("a folder").config;
    match DatabaseUrl::parse(&config.database_url(Role::Fees)) {
        Ok(DatabaseUrl::Sqlite { path, create: true }) => assert_eq!(path, PathBuf::from("a b?mode=ro#%20/fees.db")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_default_port_is_in_a_range_of_local_ports() {
    // Linux: net.ipv4.ip_local_port_range; macOS: net.inet.ip.portrange.first and .last.
    let local_ports = [32_768..=60_999, 49_152..=65_535];
    let defaults = Config::default().shown();
    let ports: Vec<u16> = defaults.values().filter_map(|value| value.rsplit_once(':')?.1.parse().ok()).collect();
    assert_eq!(ports.len(), 18, "two ports of each role, five URLs of services and one of the orchestrator: {ports:?}");
    for port in ports {
        assert!(!local_ports.iter().any(|range| range.contains(&port)), "{port}");
        assert!(port > 1_024, "{port} needs root");
    }
}

#[test]
fn default_ports_are_the_documented_ones() {
    let config = Config::default();
    let ports = |role| -> (u16, u16) {
        let (grpc, http, _) = config.served(role);
        [grpc, http].map(|address| address.to_string().parse::<SocketAddr>().expect("an address").port()).into()
    };
    assert_eq!(ports(Role::Orchestrator), (7450, 8450));
    assert_eq!(ports(Role::Seats), (7451, 8451));
    assert_eq!(ports(Role::Enrollments), (7452, 8452));
    assert_eq!(ports(Role::Academics), (7453, 8453));
    assert_eq!(ports(Role::Fees), (7454, 8454));
    assert_eq!(ports(Role::Notifications), (7455, 8455));
}

#[test]
fn the_shutdown_time_the_time_zone_and_the_cors_origins_are_checked() {
    let flag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    for (name, value, problem) in [
        ("shutdown_grace_ms", "0", "shutdown_grace_ms: must be 500 to 600000"),
        ("shutdown_grace_ms", "3600000", "shutdown_grace_ms: must be 500 to 600000"),
        (
            "orchestrator.registration.begins_with_version",
            "3",
            "orchestrator.registration.begins_with_version: must be 1 to 2",
        ),
        (
            "orchestrator.cors_origins",
            "portal.example.edu",
            "orchestrator.cors_origins: \"portal.example.edu\" is no origin",
        ),
        ("orchestrator.cors_origins", "https://a.example.edu https://b.example.edu", "orchestrator.cors_origins: "),
        (
            "time_zone",
            "America/Nowhere",
            "time_zone: \"America/Nowhere\" is not a time zone; use a name of the IANA database",
        ),
        ("time_zone", "", "time_zone: \"\" is not a time zone"),
        ("notifications.sink.url", "smtp://u:tls=p@mail.example.edu", "notifications.sink.url: may send"),
    ] {
        let mail = [("kind", "smtp"), ("from", "registrar@example.edu"), ("url", "smtps://mail.example.edu")];
        let mut flags: Vec<_> = mail.map(|(name, value)| flag(&format!("notifications.sink.{name}"), value)).into();
        flags.push(flag(name, value));
        let problems = Config::load(None, &flags).expect_err("it is wrong").to_string();
        assert!(problems.contains(problem), "{name}={value}: {problems}");
    }
    assert_eq!(Config::default().zone().expect("the default"), TimeZone::UTC);
    let flags = [
        flag("time_zone", "America/New_York"),
        flag("shutdown_grace_ms", "5000"),
        flag("orchestrator.cors_origins", "https://a.example.edu, https://b.example.edu"),
    ];
    let config = Config::load(None, &flags).expect("both can be meant").config;
    assert_eq!(config.zone().expect("a zone").iana_name(), Some("America/New_York"));
    assert_eq!(config.shutdown_grace(), Duration::from_secs(5));
    assert_ne!(config.cors().expect("a list"), Cors::default());
}

/// An empty ratio counts as unset, so that a standard variable applies.
#[test]
fn a_sample_ratio_may_be_left_empty() {
    let ratio = |value: &str| {
        let flags = [("telemetry.trace_sample_ratio".to_owned(), value.to_owned())];
        Config::load(None, &flags)
            .map(|loaded| loaded.config.telemetry.trace_sample_ratio)
            .map_err(|problems| problems.to_string())
    };
    assert_eq!(ratio(""), Ok(None));
    assert_eq!(ratio("0.5"), Ok(Some(0.5)));
    assert_eq!(ratio("1"), Ok(Some(1.0)));
    assert!(ratio("2").expect_err("out of range").contains("telemetry.trace_sample_ratio: must be 0 to 1"));
    assert!(ratio("half").expect_err("no number").contains("telemetry.trace_sample_ratio"));
    assert_eq!(Config::default().shown()["telemetry.trace_sample_ratio"], "");
}
