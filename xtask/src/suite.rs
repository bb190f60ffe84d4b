//! Runs `cargo test` beside a PostgreSQL server.
//!
//! The server and its folder are removed at the end, also when tests fail or panic and when a signal interrupts the
//! run.

use matricula_postgres::{Cluster, POSTGRES_URL};

use crate::child::{self, Signals};
use crate::{packages, say};

/// Lines of the server's log that are shown when tests fail: enough for a crash and its cause.
const LOG_LINES_SHOWN: usize = 30;

/// Runs the suite and returns the exit code of the tests.
pub fn run(cargo_args: &[String]) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // The signal handlers are installed before the server starts, so that no signal can leave the server behind.
        let mut signals = Signals::install()?;
        packages::install_faketime_if_missing();
        packages::install_pgbouncer_if_missing();
        if let Some(url) = std::env::var(POSTGRES_URL).ok().filter(|url| !url.is_empty()) {
            say(&format!("using the PostgreSQL server at {POSTGRES_URL}."));
            return test(cargo_args, &url, &mut signals).await;
        }
        let binaries = packages::find_or_install_postgres()?;
        let cluster = Cluster::start(&binaries)?;
        say(&format!("PostgreSQL from {} listens at {}.", binaries.display(), cluster.url()));
        let code = test(cargo_args, cluster.url(), &mut signals).await;
        if !matches!(code, Ok(0)) {
            say(&format!("the end of the PostgreSQL server's log:\n{}", cluster.log_tail(LOG_LINES_SHOWN)));
        }
        drop(cluster);
        say("the PostgreSQL server was stopped and removed.");
        code
    })
}

async fn test(cargo_args: &[String], postgres_url: &str, signals: &mut Signals) -> anyhow::Result<u8> {
    let mut command = child::cargo();
    command.args(test_args(cargo_args)).env(POSTGRES_URL, postgres_url);
    child::until_ended(command, signals).await
}

fn test_args(cargo_args: &[String]) -> Vec<String> {
    let names_package = cargo_args
        .iter()
        .take_while(|arg| *arg != "--")
        .any(|arg| arg == "-p" || arg == "--package" || arg.starts_with("--package="));
    let mut args = vec!["test".to_owned()];
    // Cargo would ignore the package if `--workspace` were given too.
    if !names_package {
        args.push("--workspace".to_owned());
    }
    args.extend_from_slice(cargo_args);
    args
}

#[cfg(test)]
mod tests {
    use super::test_args;

    #[track_caller]
    fn check(given: &[&str], expected: &[&str]) {
        let given: Vec<String> = given.iter().map(ToString::to_string).collect();
        assert_eq!(test_args(&given), expected);
    }

    #[test]
    fn the_whole_workspace_is_tested_unless_a_package_is_named() {
        check(&[], &["test", "--workspace"]);
        check(&["hold", "--", "-p"], &["test", "--workspace", "hold", "--", "-p"]);
        check(&["-p", "matricula-seats"], &["test", "-p", "matricula-seats"]);
        check(&["--package=matricula-seats"], &["test", "--package=matricula-seats"]);
    }
}
