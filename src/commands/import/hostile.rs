//! Damaged bundles: either reading reports the problem and its place, or every service accepts all rows. So no part of
//! a bad bundle is ever imported. Here the damage is random; `sweep` damages each column.

mod sweep;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use matricula_campus::{Bundle, Spec};
use matricula_kit::database::Database;
use matricula_kit::serve::{self, Limits, Listen, Role};
use matricula_kit::time::TimeZone;
use matricula_notifications::NotificationConfig;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio_util::sync::CancellationToken;

use super::*;

/// Number of bundles; `HOSTILE_BUNDLES` overrides it, and `HOSTILE_SEED` repeats a run.
const BUNDLES: usize = 300;
/// Maximum number of accepted bundles that are sent to real services, each to new ones.
const IMPORTS_MAX: usize = 10;

/// Values that a reader might accept and a service might reject: for each bound, the first value beyond it. `C001` is a
/// course of every generated campus.
fn values() -> Vec<String> {
    let fixed = [
        "",
        " ",
        "-1",
        "0",
        "1",
        "100.01",
        "150",
        "1000001",
        "1000000001",
        "1000000000001",
        "1e3",
        "9999999999999",
        "\u{1}",
        "é",
        "a\tb",
        "a\nb",
        "NUL\0",
        "true",
        "tobedeleted",
        "EUR",
        "USD",
        "usd",
        "P",
        "C001:P",
        "C001:B",
        "Or",
        "and",
        "C001 or C001",
        "C999",
        "2026-09-01T08:00:00Z",
        "-009999-01-02T01:59:59Z",
        "9999-12-30T22:00:00.999999999Z",
        "2026-13-01",
        "2026-09-01T00:00:00Z:101",
        "2026-09-01T00:00:00.0001Z:100;2026-09-01T00:00:00.0002Z:50",
        "M 08:00-09:00",
        "U 23:00-23:59;M 00:00-00:01",
        "M 08:00-24:00",
        "M 09:00-08:00",
        "1/2",
        "a@b",
        "a@b.c",
        "a b@c.d",
        "a..b@c.d",
        "\"a\"@b.c",
        "a@-b.c",
        "jörg@uni.example",
        "a@münchen.example",
        "a@[127.0.0.1]",
        "a@b..c",
        "'; DROP TABLE terms; --",
    ];
    let long = [64, 65, 128, 129, 200, 500, 501, 2_001, 4_096, 4_097].map(|length| "x".repeat(length));
    let mails = [64, 65].map(|length| format!("{}@example.edu", "x".repeat(length)));
    let meetings = ["M 08:00-09:00"; 36].join(";");
    let nested = [20, 21, 32, 33].map(|depth| format!("{}C001{}", "(".repeat(depth), ")".repeat(depth)));
    let rules = [250, 251].map(|courses| vec!["C001"; courses].join(" or "));
    let domains = [250, 254].map(|length| format!("a@{}e", "d.".repeat(length / 2)));
    let wide = ["é".repeat(250), "é".repeat(499), "学".repeat(500), "学".repeat(501)];
    let fixed = fixed.map(str::to_owned).into_iter();
    fixed.chain(long).chain(mails).chain(domains).chain([meetings]).chain(rules).chain(nested).chain(wide).collect()
}

/// Damages one file of the bundle.
fn damage(rng: &mut ChaCha8Rng, folder: &Path, values: &[String]) {
    let entries = fs::read_dir(folder).expect("the bundle");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let file = files.choose(rng).expect("it has files");
    let mut bytes = fs::read(file).expect("a file");
    if bytes.is_empty() {
        return;
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = rng.random_range(0..bytes.len());
    match rng.random_range(0..12) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes.truncate(at),
        2 => bytes = [b"\xef\xbb\xbf", text.replace('\n', "\r\n").as_bytes()].concat(),
        3 => drop(lines.remove(rng.random_range(0..lines.len()))),
        4 => lines.push(lines.choose(rng).expect("a line").clone()),
        5 => return fs::remove_file(file).expect("removed"),
        6 => drop(bytes.splice(at..at, (0..10).map(|_| rng.random()).collect::<Vec<u8>>())),
        // Columns are swapped, with their names or in one row only.
        7 => {
            let rows = if rng.random_bool(0.5) { 0..lines.len() } else { 0..1 };
            for line in &mut lines[rows] {
                let mut cells: Vec<&str> = line.split(',').collect();
                cells.reverse();
                *line = cells.join(",");
            }
        }
        _ => {
            let row = rng.random_range(1..lines.len().max(2)).min(lines.len() - 1);
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(lines[row].as_bytes());
            let Some(Ok(record)) = reader.records().next() else { return };
            let mut cells: Vec<String> = record.iter().map(str::to_owned).collect();
            let cell = cells.choose_mut_at(rng);
            *cell = values.choose(rng).expect("values").clone();
            let quoted: Vec<String> = cells.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect();
            lines[row] = quoted.join(",");
        }
    }
    // Changed lines are written.
    if bytes == text.as_bytes() {
        bytes = (lines.join("\n") + "\n").into_bytes();
    }
    fs::write(file, bytes).expect("written");
}

trait ChooseAt {
    fn choose_mut_at(&mut self, rng: &mut ChaCha8Rng) -> &mut String;
}

impl ChooseAt for Vec<String> {
    fn choose_mut_at(&mut self, rng: &mut ChaCha8Rng) -> &mut String {
        let at = rng.random_range(0..self.len());
        &mut self[at]
    }
}

/// The services that receive imports, new and empty.
async fn services(folder: &Path) -> (Services, CancellationToken) {
    let end = CancellationToken::new();
    let open = async |name: &str| {
        let url = format!("sqlite:{}", folder.join(name).display());
        Database::open(&url).await.expect("an empty database")
    };
    let channel = async |role: Role| {
        let listen = Listen { grpc: SocketAddr::from(([127, 0, 0, 1], 0)), http: None, limits: Limits::default() };
        serve::serve(role, listen, end.clone()).await.expect("it is served").in_memory
    };
    let seats = matricula_seats::start(open("seats").await, TimeZone::UTC, end.clone()).await.expect("it starts");
    let fees = matricula_fees::start(open("fees").await).await.expect("it starts");
    let config = NotificationConfig { sink: Default::default() };
    let notifications = matricula_notifications::start(open("notifications").await, &config).await.expect("it starts");
    let academics = matricula_academics::start(open("academics").await, TimeZone::UTC).await.expect("it starts");
    let services = Services {
        seats: channel(seats).await,
        fees: channel(fees).await,
        notifications: channel(notifications).await,
        academics: channel(academics).await,
    };
    (services, end)
}

/// Checks that every problem names its place and can be shown.
fn check_problems(errors: &BundleErrors) {
    assert!(!errors.problems().is_empty() && errors.total() >= errors.problems().len());
    assert!(errors.to_string().ends_with("nothing of the bundle is used"), "{errors}");
    for problem in errors.problems() {
        let (line, column) = (problem.line.is_some(), problem.column.is_some());
        let is_placed = problem.file.ends_with(".csv") && (line || !column) && (problem.value.is_none() || column);
        assert!(is_placed && !problem.what.is_empty(), "{problem:?}");
    }
}

#[tokio::test]
async fn a_damaged_bundle_is_rejected_by_its_reader_or_accepted_by_all_services() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = number("HOSTILE_SEED").unwrap_or_else(rand::random);
    let bundles = number("HOSTILE_BUNDLES").map_or(BUNDLES, |count| count as usize);
    println!("HOSTILE_SEED={seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (values, sound) = (values(), matricula_campus::generate(Spec::try_new(12, 8, 1).expect("a small campus")));
    let (mut refused, mut taken) = (0, 0);
    for number in 0..bundles {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("bundle");
        matricula_campus::write(&sound, &dir).expect("it is written");
        for _ in 0..rng.random_range(1..3) {
            damage(&mut rng, &dir, &values);
        }
        let bundle: Bundle = match matricula_campus::read(&dir) {
            Ok(bundle) => bundle,
            Err(errors) => {
                check_problems(&errors);
                refused += 1;
                continue;
            }
        };
        if taken == IMPORTS_MAX * bundles / BUNDLES || bundle == sound {
            continue;
        }
        taken += 1;
        let (services, end) = services(folder.path()).await;
        let imported = import_bundle(&bundle, &services, &TimeZone::UTC).await;
        end.cancel();
        if let Err(error) = imported {
            let kept = folder.keep();
            panic!(
                "bundle {number} was accepted by the reader and rejected by a service: {error:#}\nthe bundle is in {}",
                kept.display()
            );
        }
    }
    println!("{refused} refused, {taken} imported");
    assert!(refused > bundles / 4 && taken > 0, "{refused} refused, {taken} imported: the damage tests too little");
}
