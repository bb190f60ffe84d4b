//! Settings that the binary reads from its environment.

use std::process::{Command, Output};

/// Exit code for a configuration that can't be used.
const BAD_CONFIGURATION: i32 = 64;

/// `matricula config` in an empty folder, with these variables and no others.
fn config(variables: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_matricula"));
    command.arg("config").current_dir(folder.path()).env_clear().envs(variables.iter().copied());
    command.output().expect("the binary runs")
}

#[test]
fn a_pod_beside_services_of_our_name_runs() {
    let output = config(&[
        ("MATRICULA_PORT", "tcp://10.0.0.1:7450"),
        ("MATRICULA_SERVICE_HOST", "10.0.0.1"),
        ("MATRICULA_SERVICE_PORT", "7450"),
        ("MATRICULA_SERVICE_PORT_GRPC", "7450"),
        ("MATRICULA_PORT_7450_TCP", "tcp://10.0.0.1:7450"),
        ("MATRICULA_PORT_7450_TCP_PROTO", "tcp"),
        ("MATRICULA_PORT_7450_TCP_PORT", "7450"),
        ("MATRICULA_PORT_7450_TCP_ADDR", "10.0.0.1"),
        ("MATRICULA_SEATS_SERVICE_HOST", "10.0.0.2"),
        ("MATRICULA_SEATS_PORT", "tcp://10.0.0.2:7451"),
        ("MATRICULA_SEATS__LISTEN", "localhost:7451"),
        ("MATRICULA_FEES__LISTEN", ""),
        ("MATRICULA_DATA_DIR", "2026"),
    ]);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    for line in ["seats.listen = localhost:7451", "fees.listen = 127.0.0.1:7454", "data_dir = 2026"] {
        assert!(stdout.lines().any(|shown| shown == line), "{line}: {stdout}");
    }
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.starts_with("warning: these variables are ignored, because Kubernetes or Docker sets them"),
        "{stderr}"
    );
    assert!(stderr.contains("MATRICULA_PORT, ") && stderr.contains("MATRICULA_SEATS_SERVICE_HOST"), "{stderr}");
}

#[test]
fn other_variables_are_refused_by_their_name() {
    let output = config(&[("MATRICULA_FOO", "1"), ("MATRICULA_SEATS__LISTN", "x"), ("MATRICULA_SEATS__LISTEN", "x")]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(BAD_CONFIGURATION), "{stderr}");
    for name in ["MATRICULA_FOO", "MATRICULA_SEATS__LISTN", "MATRICULA_SEATS__LISTEN"] {
        assert!(stderr.contains(&format!("\n  {name}: ")), "{stderr}");
    }
}

/// During an upgrade, new registrations begin with the version of the earlier release.
#[test]
fn the_version_that_registrations_begin_with_can_be_set() {
    const NAME: &str = "MATRICULA_ORCHESTRATOR__REGISTRATION__BEGINS_WITH_VERSION";
    for (value, shown) in [(None, "2"), (Some("1"), "1"), (Some("2"), "2")] {
        let output = config(value.map(|value| (NAME, value)).as_slice());
        let stdout = String::from_utf8_lossy(&output.stdout);
        let line = format!("orchestrator.registration.begins_with_version = {shown}");
        assert!(stdout.lines().any(|shown| shown == line), "{line}: {stdout}");
    }
    for value in ["0", "3", "newest"] {
        let output = config(&[(NAME, value)]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(BAD_CONFIGURATION), "{stderr}");
        assert!(stderr.contains(&format!("\n  {NAME}: ")), "{stderr}");
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_refused_by_its_name() {
    use std::os::unix::ffi::OsStrExt as _;

    let mut command = Command::new(env!("CARGO_BIN_EXE_matricula"));
    let value = std::ffi::OsStr::from_bytes(b"\xff");
    // Variables without our prefix have no effect.
    let output = command.arg("config").env_clear().env("MATRICULA_DATA_DIR", value).env("OTHER", value).output();
    let output = output.expect("the binary runs");
    assert_eq!(output.status.code(), Some(BAD_CONFIGURATION));
    assert!(String::from_utf8_lossy(&output.stderr).contains("\n  MATRICULA_DATA_DIR: the value is not UTF-8"));
}
