//! Checks the dependencies between the crates: `src` -> `orchestrator/*`, `services/*` -> `services/kit` -> `proto`. No
//! service depends on the orchestrator or another service, and the engine depends on no other crate of ours.
//!
//! The graph comes from cargo, so that no crate gets around it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// The direct dependencies that each crate of ours may have on others of ours. Indirect ones follow from these.
const ARROWS: &[(&str, &[&str])] = &[
    ("matricula-proto", &[]),
    // The second is of its feature `testing`, which only tests use.
    ("matricula-kit", &["matricula-proto", "matricula-postgres"]),
    ("matricula-seats", &["matricula-kit", "matricula-proto"]),
    ("matricula-enrollments", &["matricula-kit", "matricula-proto"]),
    ("matricula-grammar", &[]),
    ("matricula-academics", &["matricula-grammar", "matricula-kit", "matricula-proto"]),
    ("matricula-fees", &["matricula-kit", "matricula-proto"]),
    ("matricula-notifications", &["matricula-kit", "matricula-proto"]),
    ("matricula-engine", &[]),
    ("matricula-core", &["matricula-engine"]),
    ("matricula-audit", &["matricula-proto"]),
    ("matricula-testkit", &["matricula-engine"]),
    ("matricula-runtime", &["matricula-core", "matricula-engine", "matricula-kit"]),
    ("matricula-registration", &["matricula-engine", "matricula-kit", "matricula-proto", "matricula-runtime"]),
    (
        "matricula-portal",
        &["matricula-engine", "matricula-kit", "matricula-proto", "matricula-registration", "matricula-runtime"],
    ),
    (
        "matricula-ops",
        &["matricula-engine", "matricula-kit", "matricula-proto", "matricula-registration", "matricula-runtime"],
    ),
    ("matricula-simulation", &["matricula-core", "matricula-engine"]),
    ("matricula-campus", &["matricula-grammar"]),
    (
        "matricula",
        &[
            "matricula-academics",
            "matricula-audit",
            "matricula-campus",
            "matricula-engine",
            "matricula-enrollments",
            "matricula-fees",
            "matricula-grammar",
            "matricula-kit",
            "matricula-notifications",
            "matricula-ops",
            "matricula-portal",
            "matricula-proto",
            "matricula-registration",
            "matricula-runtime",
            "matricula-seats",
        ],
    ),
    ("matricula-postgres", &[]),
    ("matricula-harness", &["matricula-campus", "matricula-kit", "matricula-postgres", "matricula-proto"]),
    ("matricula-chaos", &["matricula-campus", "matricula-harness", "matricula-kit", "matricula-postgres"]),
    (
        "matricula-bench",
        &["matricula-campus", "matricula-chaos", "matricula-harness", "matricula-kit", "matricula-proto"],
    ),
    ("matricula-load", &["matricula-harness", "matricula-kit", "matricula-postgres", "matricula-proto"]),
    ("matricula-last-seat", &["matricula-kit", "matricula-postgres", "matricula-proto", "matricula-seats"]),
    ("xtask", &["matricula-postgres"]),
];

/// Crates without I/O, and the crates that must not be anywhere below them: runtimes, clocks, randomness, databases,
/// networks.
const PURE: [&str; 2] = ["matricula-core", "matricula-engine"];
const IMPURE: [&str; 11] =
    ["tokio", "async-std", "sqlx", "tonic", "rand", "getrandom", "uuid", "jiff", "chrono", "time", "reqwest"];

/// Every package with its dependencies in normal builds; those of tests are left out.
struct Graph {
    ours: BTreeSet<String>,
    dependencies: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn of_cargo() -> Self {
        // Packages of other platforms need not be here.
        let output = Command::new(env!("CARGO"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["metadata", "--format-version", "1", "--filter-platform", &host()])
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self::parse(&serde_json::from_slice(&output.stdout).expect("cargo prints JSON"))
    }

    fn parse(metadata: &Value) -> Self {
        let packages = metadata["packages"].as_array().expect("packages");
        let name_of: BTreeMap<&str, &str> = packages.iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
        let members = metadata["workspace_members"].as_array().expect("members");
        let ours = members.iter().map(|id| name_of[text(id)].to_owned()).collect();
        let mut dependencies: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in metadata["resolve"]["nodes"].as_array().expect("nodes") {
            let entry = dependencies.entry(name_of[text(&node["id"])].to_owned()).or_default();
            let used = node["deps"].as_array().expect("deps").iter().filter(|dependency| is_for_use(dependency));
            entry.extend(used.map(|dependency| name_of[text(&dependency["pkg"])].to_owned()));
        }
        Self { ours, dependencies }
    }

    fn below(&self, package: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut open = vec![package];
        while let Some(name) = open.pop() {
            for dependency in self.dependencies.get(name).into_iter().flatten() {
                if found.insert(dependency.as_str()) {
                    open.push(dependency);
                }
            }
        }
        found
    }
}

fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8(output.stdout).expect("rustc prints UTF-8");
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc names its host").to_owned()
}

fn is_for_use(dependency: &Value) -> bool {
    let kinds = dependency["dep_kinds"].as_array().expect("kinds");
    kinds.iter().any(|kind| kind["kind"].is_null())
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn violations(graph: &Graph) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut found = Vec::new();
    for package in &graph.ours {
        let Some(allowed) = allowed.get(package.as_str()) else {
            found.push(format!("{package} has no arrows in this test: list its allowed dependencies"));
            continue;
        };
        for dependency in graph.dependencies.get(package).into_iter().flatten() {
            if graph.ours.contains(dependency) && !allowed.contains(&dependency.as_str()) {
                found.push(format!("{package} must not depend on {dependency}"));
            }
        }
    }
    for package in PURE {
        let impure = graph.below(package).into_iter().filter(|name| IMPURE.contains(name));
        found.extend(impure.map(|name| format!("{package} is pure and must not have {name} below it")));
    }
    found
}

#[test]
fn the_arrows_point_one_way() {
    assert_eq!(violations(&Graph::of_cargo()), Vec::<String>::new());
}

#[test]
fn every_crate_with_arrows_exists() {
    let graph = Graph::of_cargo();
    let missing: Vec<&str> = ARROWS.iter().map(|(name, _)| *name).filter(|name| !graph.ours.contains(*name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

/// A graph of `package: dependency` pairs; names that begin with `matricula` are ours.
#[track_caller]
fn check(pairs: &[(&str, &str)], expected: &[&str]) {
    let mut graph = Graph { ours: BTreeSet::new(), dependencies: BTreeMap::new() };
    for (package, dependency) in pairs {
        graph.dependencies.entry((*package).to_owned()).or_default().insert((*dependency).to_owned());
        let ours = [package, dependency].into_iter().filter(|name| name.starts_with("matricula"));
        graph.ours.extend(ours.map(ToString::to_string));
    }
    assert_eq!(violations(&graph), expected);
}

#[test]
fn a_wrong_arrow_is_found() {
    check(&[("matricula-seats", "matricula-kit"), ("matricula-kit", "tokio")], &[]);
    check(&[("matricula-seats", "matricula-fees")], &["matricula-seats must not depend on matricula-fees"]);
    check(&[("matricula-fees", "matricula-runtime")], &["matricula-fees must not depend on matricula-runtime"]);
    check(&[("matricula-runtime", "matricula-proto")], &["matricula-runtime must not depend on matricula-proto"]);
    check(&[("matricula-kit", "matricula-seats")], &["matricula-kit must not depend on matricula-seats"]);
}

#[test]
fn a_hidden_impurity_is_found() {
    check(
        &[("matricula-engine", "serde"), ("serde", "innocent"), ("innocent", "tokio")],
        &["matricula-engine is pure and must not have tokio below it"],
    );
}

#[test]
fn an_unknown_crate_is_found() {
    check(
        &[("matricula-gradebook", "serde")],
        &["matricula-gradebook has no arrows in this test: list its allowed dependencies"],
    );
}

#[test]
fn dependencies_of_tests_are_left_out() {
    let metadata = serde_json::json!({
        "packages": [{ "id": "1", "name": "matricula-engine" }, { "id": "2", "name": "tokio" }, { "id": "3", "name": "serde" }],
        "workspace_members": ["1"],
        "resolve": { "nodes": [
            { "id": "1", "deps": [
                { "pkg": "2", "dep_kinds": [{ "kind": "dev" }] },
                { "pkg": "3", "dep_kinds": [{ "kind": "dev" }, { "kind": null }] },
            ] },
            { "id": "2", "deps": [] },
            { "id": "3", "deps": [] },
        ] },
    });
    assert_eq!(Graph::parse(&metadata).below("matricula-engine"), BTreeSet::from(["serde"]));
}
