//! Finds the programs that the tests need: PostgreSQL's server binaries, libfaketime for wrong clocks, PgBouncer, and a
//! Redis server for comparison. Missing programs are installed with the system's package manager, after a message.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::say;

/// A package manager: the program by which it is detected, its commands, and its names of the packages.
struct Manager {
    program: &'static str,
    /// Commands before an installation.
    update: Option<&'static [&'static str]>,
    /// The installation command, without the package.
    install: &'static [&'static str],
    postgres: &'static str,
    faketime: &'static str,
    redis: &'static str,
    /// Whether its commands need root. Homebrew refuses to run as root.
    as_root: bool,
}

const MANAGERS: [Manager; 5] = [
    Manager {
        program: "apt-get",
        update: Some(&["apt-get", "update", "--quiet"]),
        install: &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--no-install-recommends"],
        postgres: "postgresql",
        faketime: "faketime",
        redis: "redis-server",
        as_root: true,
    },
    Manager {
        program: "dnf",
        update: None,
        install: &["dnf", "install", "--assumeyes"],
        postgres: "postgresql-server",
        faketime: "libfaketime",
        redis: "redis",
        as_root: true,
    },
    Manager {
        program: "apk",
        update: None,
        install: &["apk", "add"],
        postgres: "postgresql",
        faketime: "libfaketime",
        redis: "redis",
        as_root: true,
    },
    Manager {
        program: "pacman",
        update: None,
        install: &["pacman", "--sync", "--refresh", "--needed", "--noconfirm"],
        postgres: "postgresql",
        faketime: "libfaketime",
        redis: "valkey",
        as_root: true,
    },
    Manager {
        program: "brew",
        update: None,
        install: &["brew", "install"],
        postgres: "postgresql@17",
        faketime: "libfaketime",
        redis: "redis",
        as_root: false,
    },
];

/// The folder with `initdb`, `pg_ctl` and `postgres`; installs them if they are missing.
pub fn find_or_install_postgres() -> anyhow::Result<PathBuf> {
    if let Some(folder) = matricula_postgres::find_binaries() {
        return Ok(folder);
    }
    install("PostgreSQL's server binaries (initdb, pg_ctl, postgres)", |manager| manager.postgres)?;
    matricula_postgres::find_binaries()
        .context("PostgreSQL was installed, but its server binaries are in none of the known folders")
}

/// Installs libfaketime if it is missing. Without it, one test is skipped with a message.
pub fn install_faketime_if_missing() {
    // The program comes with the library.
    let missing = "The test with wrong clocks will be skipped.";
    install_unless(on_path("faketime"), "libfaketime", |manager| manager.faketime, missing);
}

/// Installs PgBouncer if it is missing. Without it, the tests with a pooler are skipped with a message.
pub fn install_pgbouncer_if_missing() {
    let is_there = matricula_postgres::PgBouncer::find().is_some();
    install_unless(is_there, "pgbouncer", |_| "pgbouncer", "The tests with a connection pooler will be skipped.");
}

/// Installs a Redis server if it is missing. Without it, the lock in Redis is not measured.
pub fn install_redis_if_missing() {
    let missing = "The lock in Redis will not be measured.";
    install_unless(on_path("redis-server"), "redis-server", |manager| manager.redis, missing);
}

fn install_unless(is_there: bool, what: &str, package: impl Fn(&Manager) -> &'static str, without_it: &str) {
    if !is_there && let Err(error) = install(what, package) {
        say(&format!("{error:#}. {without_it}"));
    }
}

fn install(what: &str, package: impl Fn(&Manager) -> &'static str) -> anyhow::Result<()> {
    let Some(manager) = MANAGERS.iter().find(|manager| on_path(manager.program)) else {
        bail!(
            "{what}: not found, and no known package manager was found; install it manually, then run the tests again"
        );
    };
    let commands = commands(manager, package(manager), matricula_postgres::is_root()?, on_path("sudo"))
        .with_context(|| format!("{what}: not found"))?;
    say(&format!("{what}: not found; installing it."));
    for command in commands {
        let line = command.join(" ");
        say(&format!("running: {line}"));
        // The package manager's output goes to stderr: stdout belongs to the tests.
        let status = Command::new(command[0])
            .args(&command[1..])
            .stdout(std::io::stderr())
            .status()
            .with_context(|| format!("can't run `{line}`"))?;
        if !status.success() {
            bail!("`{line}` failed ({status}): install {what} manually, then run the tests again");
        }
    }
    Ok(())
}

fn commands(
    manager: &Manager,
    package: &'static str,
    is_root: bool,
    has_sudo: bool,
) -> anyhow::Result<Vec<Vec<&'static str>>> {
    let install = [manager.install, &[package]].concat();
    let wanted: Vec<Vec<&str>> = manager.update.map(<[_]>::to_vec).into_iter().chain([install]).collect();
    let needs_sudo = manager.as_root && !is_root;
    if needs_sudo && !has_sudo {
        let lines: Vec<String> = wanted.iter().map(|command| command.join(" ")).collect();
        bail!("the installation needs root: run `{}` as root, then the tests again", lines.join(" && "));
    }
    let prefix: &[&str] = if needs_sudo { &["sudo"] } else { &[] };
    Ok(wanted.into_iter().map(|command| [prefix, &command].concat()).collect())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::{MANAGERS, commands};

    fn own(lines: &[&str]) -> Vec<String> {
        lines.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn check(program: &str, is_root: bool, has_sudo: bool, expected: Option<&[&str]>) {
        let manager = MANAGERS.iter().find(|manager| manager.program == program).unwrap();
        let found = commands(manager, manager.postgres, is_root, has_sudo).ok();
        let found: Option<Vec<String>> =
            found.map(|commands| commands.into_iter().map(|command| command.join(" ")).collect());
        assert_eq!(found.as_deref(), expected.map(own).as_deref());
    }

    #[test]
    fn sudo_is_used_where_root_is_needed_and_missing() {
        let install = "env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends postgresql";
        check("apt-get", true, false, Some(&["apt-get update --quiet", install]));
        check("apt-get", false, true, Some(&["sudo apt-get update --quiet", &format!("sudo {install}")]));
        check("dnf", false, true, Some(&["sudo dnf install --assumeyes postgresql-server"]));
        check("brew", false, true, Some(&["brew install postgresql@17"]));
    }

    #[test]
    fn without_root_and_sudo_nothing_is_run() {
        check("apt-get", false, false, None);
    }
}
