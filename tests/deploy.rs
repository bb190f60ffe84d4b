//! Checks that `deploy/` and the binary agree: the binary supports every setting that the containers have.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output};

const COMPOSE: &str = include_str!("../deploy/compose.yaml");
const INIT: &str = include_str!("../deploy/postgres/init.sh");

/// Exit code for a configuration that can't be used.
const BAD_CONFIGURATION: i32 = 64;

/// The settings of all services; a variable has the same value wherever it is set.
fn settings() -> BTreeMap<&'static str, String> {
    let variables = COMPOSE.lines().map(str::trim).filter(|line| line.starts_with("MATRICULA_"));
    variables
        .map(|line| {
            let (name, value) = line.split_once(": ").expect("a variable and its value");
            (name, value.replace("${POSTGRES_PASSWORD:-matricula}", "matricula"))
        })
        .collect()
}

fn config(settings: &BTreeMap<&'static str, String>) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_matricula"));
    // An empty folder and environment, so that no file and no variable of this machine has an effect.
    command.arg("config").current_dir(folder.path()).env_clear().envs(settings);
    command.output().expect("the binary runs")
}

#[test]
fn every_setting_of_the_containers_is_in_force() {
    let settings = settings();
    assert!(settings.len() > 20, "only {} settings were found", settings.len());
    let output = config(&settings);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = String::from_utf8(output.stdout).expect("UTF-8");
    let shown: BTreeMap<&str, &str> = shown.lines().filter_map(|line| line.split_once(" = ")).collect();
    for (variable, value) in settings {
        let name = variable.trim_start_matches("MATRICULA_").to_lowercase().replace("__", ".");
        let value = value.replace(":matricula@", ":********@");
        assert_eq!(shown.get(name.as_str()), Some(&value.as_str()), "{variable}");
    }
}

#[test]
fn an_unknown_setting_is_refused() {
    let output = config(&BTreeMap::from([("MATRICULA_SEATS__LISTENING", "0.0.0.0:1".to_owned())]));
    assert_eq!(output.status.code(), Some(BAD_CONFIGURATION), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_database_of_the_containers_is_made() {
    let settings = settings();
    let urls = settings.values().filter(|value| value.starts_with("postgres://"));
    let named: BTreeSet<&str> = urls.filter_map(|url| url.rsplit('/').next()).collect();
    let made = INIT.lines().find_map(|line| line.strip_prefix("for role in ")?.strip_suffix("; do"));
    assert_eq!(named, made.expect("the list of roles").split(' ').collect());
}

#[test]
fn every_health_check_asks_the_port_that_its_role_serves() {
    let settings = settings();
    let listening = settings.iter().filter(|(name, _)| name.ends_with("__HTTP_LISTEN"));
    let served: BTreeSet<&str> = listening.filter_map(|(_, address)| address.rsplit(':').next()).collect();
    let checks = COMPOSE.lines().filter_map(|line| line.split_once("healthcheck, \"")?.1.strip_suffix("\"]"));
    assert_eq!(checks.collect::<BTreeSet<_>>(), served);
}
