//! Holds the rules of the code that no compiler checks: where SQL may be, what the pure parts must not use, the first
//! line of every file, and its length. The rules of plain English are in `tidy/words.rs`.

use std::path::{Path, PathBuf};

#[path = "tidy/words.rs"]
mod words;

/// A longer file has more than one job. Do not split one idea to meet a smaller number.
const LINES_MAX: usize = 900;

/// Signs of SQL.
const SQL: [&str; 4] = ["INSERT INTO", "SELECT ", "DELETE FROM", "ON CONFLICT"];

/// Places of SQL besides a `store`.
const SQL_PLACES: [&str; 4] = [
    "services/kit/src/database/",
    "services/kit/src/imports",
    "services/kit/src/participant/barrier.rs",
    "services/kit/src/testing",
];

/// Crates that a `domain` must not name: it uses neither wire types nor a database.
const NOT_IN_DOMAIN: [&str; 3] = ["matricula_proto", "tonic", "sqlx"];

/// Parts that are functions of their arguments.
const PURE_PLACES: [&str; 3] = ["orchestrator/engine/src/", "orchestrator/core/src/", "orchestrator/audit/src/"];

/// Names that a pure part must not use: it waits for nothing, and reads no clock, file or network.
const NOT_IN_PURE: [&str; 9] = [
    "async fn",
    "tokio",
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "SystemTime",
    "Instant",
    "matricula_kit::time::now",
];

/// The shell around the core: it moves data and decides nothing about a saga.
const SHELL: &str = "orchestrator/runtime/src/";

/// Types that a decision about a saga reads or makes.
const NOT_IN_SHELL: [&str; 3] = ["Event::", "Effect::", "Phase::"];

/// Calls that start an unsupervised task.
const UNWATCHED: [&str; 2] = ["tokio::spawn", "tokio::task::spawn"];

/// Places of such calls: the supervisor's own. A command is a client, which joins its tasks and ends.
const SPAWN_PLACES: [&str; 2] = ["services/kit/src/tasks.rs", "src/commands/"];

/// Ways to stdout besides `src/output.rs`, which checks whether a write succeeded.
const STDOUT: [&str; 2] = ["println", "stdout"];

/// Places in the binary that may write to stdout: `main` prints clap's messages. The third place has only tests.
const STDOUT_PLACES: [&str; 3] = ["src/output.rs", "src/main.rs", "src/commands/import/hostile"];

fn violations(path: &str, source: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !source.starts_with("//!") {
        found.push(format!("{path}: does not begin with `//!`: state the module's one job"));
    }
    if is_test(path) {
        return found;
    }
    let lines = source.lines().count();
    if lines > LINES_MAX {
        found.push(format!("{path}: has {lines} lines, more than {LINES_MAX}: split it"));
    }
    let is_domain = has_module(path, "domain");
    let is_pure = is_domain || PURE_PLACES.iter().any(|place| path.starts_with(place));
    let is_binary = path.starts_with("src/") && !STDOUT_PLACES.iter().any(|place| path.starts_with(place));
    let rules: [(bool, &[&str], &str); 6] = [
        (is_binary, &STDOUT, "only output.rs writes to stdout, and checks the result"),
        (!may_have_sql(path), &SQL, "SQL belongs to the store"),
        (is_domain, &NOT_IN_DOMAIN, "a domain uses neither wire types nor a database"),
        (is_pure, &NOT_IN_PURE, "this part is pure"),
        (path.starts_with(SHELL), &NOT_IN_SHELL, "the core decides about sagas, and the shell moves data"),
        (!may_spawn(path), &UNWATCHED, "a task that dies must be seen: start it by `matricula_kit::tasks`"),
    ];
    for (applies, words, reason) in rules {
        let named = words.iter().filter(|word| applies && code(source).any(|line| names(line, word)));
        found.extend(named.map(|word| format!("{path}: has `{}`: {reason}", word.trim_end())));
    }
    found
}

/// Tests of a module in its own file, or of a crate.
fn is_test(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs")
}

fn has_module(path: &str, module: &str) -> bool {
    path.split('/').any(|part| part == module || part.strip_suffix(".rs") == Some(module))
}

fn may_have_sql(path: &str) -> bool {
    has_module(path, "store") || SQL_PLACES.iter().any(|place| path.starts_with(place))
}

/// Tests and tools may spawn freely.
fn may_spawn(path: &str) -> bool {
    let is_product = ["services/", "orchestrator/", "src/"].iter().any(|place| path.starts_with(place));
    !is_product || SPAWN_PLACES.iter().any(|place| path.starts_with(place))
}

/// The lines of a file that are neither comments nor tests.
fn code(source: &str) -> impl Iterator<Item = &str> {
    let lines = source.lines().take_while(|line| *line != "#[cfg(test)]");
    lines.filter(|line| !line.trim_start().starts_with("//"))
}

/// Whether a line has the word, and not as a part of a longer one.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let in_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !in_word(before) && (word.ends_with([' ', ':']) || !in_word(after))
    })
}

/// Every file of ours with such a name, as a path from the root with `/`, and its text, in order.
fn files(root: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in folder.read_dir().expect("a folder of the project").flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    open.push(path);
                }
            } else if is_wanted(&name) {
                let source = std::fs::read_to_string(&path).expect("a file of text");
                let relative = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
                found.push((relative, source));
            }
        }
    }
    found.sort();
    found
}

/// Every Rust file of ours.
fn sources(root: &Path) -> Vec<(String, String)> {
    files(root, |name| name.ends_with(".rs"))
}

#[test]
fn every_file_is_in_order() {
    let sources = sources(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(sources.len() > 50, "only {} files were found", sources.len());
    let found: Vec<String> = sources.iter().flat_map(|(path, source)| violations(path, source)).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The names behind a call such as `metrics::counter!(`.
fn named<'a>(source: &'a str, before: &str) -> Vec<&'a str> {
    let code = source.split(before).skip(1).map(str::trim_start);
    code.filter_map(|rest| rest.strip_prefix('"')?.split('"').next()).collect()
}

/// A metric without a description has no `# HELP` line.
#[test]
fn every_metric_that_is_recorded_is_described() {
    let sources = sources(Path::new(env!("CARGO_MANIFEST_DIR")));
    let sources: Vec<&str> =
        sources.iter().filter(|(path, _)| !is_test(path)).map(|(_, source)| source.as_str()).collect();
    for (recorded, described) in [("counter!(", "counter("), ("gauge!(", "gauge("), ("histogram!(", "histogram(")] {
        let all = |before: &str| -> std::collections::BTreeSet<&str> {
            sources.iter().flat_map(|source| named(source, before)).collect()
        };
        let (recorded, described) = (all(&format!("metrics::{recorded}")), all(&format!("Metric::{described}")));
        assert!(!recorded.is_empty());
        assert_eq!(recorded, described);
    }
}

/// The parts of a service: each has all of them, with the same jobs.
const SERVICE_PARTS: [&str; 5] = ["domain/mod.rs", "grpc/mod.rs", "lib.rs", "participant.rs", "store/mod.rs"];
/// What one service does beside the five: the feed of seats, and the delivery of messages.
const SERVICE_EXTRAS: [&str; 2] = ["seats: feed.rs", "notifications: delivery/mod.rs"];

/// What differs from the one list in the `src` of a service, whose files these are.
fn misplaced(service: &str, files: &[&str]) -> Vec<String> {
    let missing = SERVICE_PARTS.iter().filter(|part| !files.contains(part)).map(|part| format!("{service}: no {part}"));
    let is_part = |file: &str| match file.split_once('/') {
        Some((folder, _)) => {
            let module = format!("{folder}/mod.rs");
            SERVICE_PARTS.contains(&module.as_str())
                || SERVICE_EXTRAS.contains(&format!("{service}: {module}").as_str())
                || folder == "participant"
        }
        None => SERVICE_PARTS.contains(&file) || SERVICE_EXTRAS.contains(&format!("{service}: {file}").as_str()),
    };
    let others =
        files.iter().filter(|file| !is_part(file)).map(|file| format!("{service}: {file} is no part of a service"));
    let unpaired = files.contains(&"grpc/imports.rs") != files.contains(&"store/imports.rs");
    let imports = unpaired.then(|| format!("{service}: imports are in grpc/imports.rs and store/imports.rs"));
    missing.chain(others).chain(imports).collect()
}

#[test]
fn every_service_has_the_same_parts() {
    let sources = sources(Path::new(env!("CARGO_MANIFEST_DIR")));
    for service in ["academics", "enrollments", "fees", "notifications", "seats"] {
        let folder = format!("services/{service}/src/");
        let files: Vec<&str> = sources.iter().filter_map(|(path, _)| path.strip_prefix(&folder)).collect();
        let found = misplaced(service, &files);
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }
    let other =
        misplaced("fees", &["domain/mod.rs", "domain/price.rs", "grpc/mod.rs", "lib.rs", "feed.rs", "store/mod.rs"]);
    assert_eq!(other, ["fees: no participant.rs", "fees: feed.rs is no part of a service"]);
}

#[track_caller]
fn check(path: &str, source: &str, expected: &[&str]) {
    assert_eq!(violations(path, source), expected);
}

#[test]
fn sql_outside_a_store_is_found() {
    let sql = "//! Doc.\nconst A: &str = \"SELECT 1\";\n";
    check("services/seats/src/grpc.rs", sql, &["services/seats/src/grpc.rs: has `SELECT`: SQL belongs to the store"]);
    check("services/seats/src/store.rs", sql, &[]);
    check("services/seats/src/store/holds.rs", sql, &[]);
    check("services/kit/src/database/mod.rs", sql, &[]);
    check("services/seats/src/grpc/tests.rs", sql, &[]);
    check("services/seats/src/grpc.rs", "//! Doc.\n// No SELECT here.\n", &[]);
    check("services/seats/src/grpc.rs", "//! Doc.\n#[cfg(test)]\nmod tests { const A: &str = \"SELECT 1\"; }\n", &[]);
}

#[test]
fn wire_and_database_in_a_domain_are_found() {
    let path = "services/fees/src/domain/ladder.rs";
    let reason = "a domain uses neither wire types nor a database";
    for word in ["matricula_proto", "tonic", "sqlx"] {
        check(path, &format!("//! Doc.\nuse {word}::X;\n"), &[&format!("{path}: has `{word}`: {reason}")]);
    }
    check(path, "//! Doc.\nuse matricula_kit::answer::Tonics;\nconst A: u32 = tonical;\n", &[]);
    check("services/fees/src/grpc.rs", "//! Doc.\nuse tonic::X;\n", &[]);
}

#[test]
fn clocks_and_waiting_in_a_pure_part_are_found() {
    let path = "orchestrator/engine/src/retry.rs";
    check(path, "//! Doc.\nlet a = Instant::now();\n", &[&format!("{path}: has `Instant`: this part is pure")]);
    check(path, "//! Doc.\npub async fn a() {}\n", &[&format!("{path}: has `async fn`: this part is pure")]);
    check(
        "services/fees/src/domain.rs",
        "//! Doc.\nstd::fs::read(p);\n",
        &["services/fees/src/domain.rs: has `std::fs`: this part is pure"],
    );
    check("orchestrator/runtime/src/lib.rs", "//! Doc.\nlet a = Instant::now();\n", &[]);
}

#[test]
fn a_decision_in_the_shell_is_found() {
    let reason = "the core decides about sagas, and the shell moves data";
    for word in NOT_IN_SHELL {
        let source = format!("//! Doc.\n// No {word}Finished here.\nmatches!(it, {word}Finished);\n");
        let path = "orchestrator/runtime/src/news.rs";
        check(path, &source, &[&format!("{path}: has `{word}`: {reason}")]);
        check("orchestrator/core/src/core.rs", &source, &[]);
        check("orchestrator/runtime/src/store/tests.rs", &source, &[]);
    }
    check("orchestrator/runtime/src/peers.rs", "//! Doc.\nlet other = StoredEvent::One;\n", &[]);
}

#[test]
fn an_unsupervised_task_is_found() {
    let reason = "a task that dies must be seen: start it by `matricula_kit::tasks`";
    for word in UNWATCHED {
        let source = format!("//! Doc.\nlet task = {word}(run());\n");
        let path = "services/seats/src/feed.rs";
        check(path, &source, &[&format!("{path}: has `{word}`: {reason}")]);
        check("src/roles/start.rs", &source, &[&format!("src/roles/start.rs: has `{word}`: {reason}")]);
        check("services/kit/src/tasks.rs", &source, &[]);
        check("src/commands/rush/play.rs", &source, &[]);
        check("services/seats/src/feed/tests.rs", &source, &[]);
        check("tests/load/src/spike.rs", &source, &[]);
    }
    check("services/seats/src/feed.rs", "//! Doc.\nlet read = tokio::task::spawn_blocking(read);\n", &[]);
}

#[test]
fn a_second_way_to_stdout_is_found() {
    let reason = "only output.rs writes to stdout, and checks the result";
    let print = "//! Doc.\nprintln!(\"done\");\n";
    check("src/commands/audit.rs", print, &[&format!("src/commands/audit.rs: has `println`: {reason}")]);
    check("src/output.rs", "//! Doc.\nlet out = io::stdout();\n", &[]);
    check("src/commands/audit.rs", "//! Doc.\neprintln!(\"done\");\n", &[]);
    check("xtask/src/main.rs", print, &[]);
}

#[test]
fn a_file_without_its_job_is_found() {
    check("src/main.rs", "fn main() {}\n", &["src/main.rs: does not begin with `//!`: state the module's one job"]);
}

#[test]
fn a_file_too_long_is_found() {
    let long = format!("//! Doc.\n{}", "\n".repeat(900));
    check("src/main.rs", &long, &["src/main.rs: has 901 lines, more than 900: split it"]);
    check("src/tests.rs", &long, &[]);
}

/// The table of faults names tests as `file::function`. A renamed or removed test must not stay in it.
#[test]
fn every_test_that_the_table_of_faults_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("tests/README.md")).expect("tests/README.md is there");
    let named: Vec<(&str, &str)> = table.split('`').filter_map(|code| code.split_once(".rs::")).collect();
    assert!(named.len() > 20, "the table names tests");
    for (file, function) in named {
        let source = std::fs::read_to_string(root.join(format!("{file}.rs"))).unwrap_or_default();
        assert!(
            source.contains(&format!("fn {function}(")),
            "tests/README.md names {file}.rs::{function}: it is not there"
        );
    }
}

/// A decision names the tests, guards and files that hold it, in backticks behind "Held by". Each must be there.
#[test]
fn everything_that_holds_a_decision_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = sources(root);
    let decisions = files(&root.join("orchestrator/adr"), |name| name.ends_with(".md"));
    let holders = decisions.iter().filter_map(|(path, text)| Some((path, text.split_once("**Held by**")?.1)));
    let named: Vec<(&String, &str)> =
        holders.flat_map(|(path, text)| text.split('`').skip(1).step_by(2).map(move |name| (path, name))).collect();
    assert!(named.len() > 20, "decisions name what holds them");
    for (path, name) in named {
        let is_there = if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            sources.iter().any(|(_, source)| names(source, name))
        } else if name.ends_with(".rs") && !name.contains('{') {
            sources.iter().any(|(source, _)| source.ends_with(&format!("/{name}")) || source == name)
        } else {
            true
        };
        assert!(is_there, "orchestrator/adr/{path} names `{name}`: it is not there");
    }
}

/// The paths of a span of code such as `src/{shutdown,serve}.rs`.
fn paths(span: &str) -> Vec<String> {
    let mut parts = span.split(['{', '}']);
    let before = parts.next().unwrap_or_default();
    let (Some(names), Some(rest)) = (parts.next(), parts.next()) else { return vec![span.to_owned()] };
    names.split(',').map(|name| format!("{before}{name}{rest}")).collect()
}

/// ARCHITECTURE.md is the map of the code: what it names from the root, in backticks, must be there.
#[test]
fn every_path_of_the_map_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = std::fs::read_to_string(root.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let tops = ["src/", "services/", "orchestrator/", "tests/"];
    let is_path = |span: &&str| tops.iter().any(|top| span.starts_with(top));
    let spans = map.split('`').skip(1).step_by(2).filter(is_path).filter(|span| !span.contains('<'));
    let named: Vec<String> = spans.flat_map(paths).collect();
    assert!(named.len() > 30, "the map names paths");
    for path in named {
        // `telemetry*` is a file, a folder, or both.
        let plain = path.trim_end_matches('*');
        let is_there = root.join(plain).exists() || root.join(format!("{plain}.rs")).exists();
        assert!(is_there, "ARCHITECTURE.md names `{path}`: it is not there");
    }
}
