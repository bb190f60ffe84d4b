//! Finds PostgreSQL's server binaries. Where they are missing, it installs them through whichever package manager the
//! system has, after saying so.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::say;

/// A package manager: the program that shows it is there, and its commands for a PostgreSQL server.
struct Manager {
    program: &'static str,
    commands: &'static [&'static [&'static str]],
    /// Whether its commands want the rights of root. Homebrew refuses to run with them.
    as_root: bool,
}

const MANAGERS: [Manager; 5] = [
    Manager {
        program: "apt-get",
        commands: &[
            &["apt-get", "update", "--quiet"],
            &[
                "env",
                "DEBIAN_FRONTEND=noninteractive",
                "apt-get",
                "install",
                "--yes",
                "--no-install-recommends",
                "postgresql",
            ],
        ],
        as_root: true,
    },
    Manager { program: "dnf", commands: &[&["dnf", "install", "--assumeyes", "postgresql-server"]], as_root: true },
    Manager { program: "apk", commands: &[&["apk", "add", "postgresql"]], as_root: true },
    Manager {
        program: "pacman",
        commands: &[&["pacman", "--sync", "--refresh", "--needed", "--noconfirm", "postgresql"]],
        as_root: true,
    },
    Manager { program: "brew", commands: &[&["brew", "install", "postgresql@17"]], as_root: false },
];

/// The folder with `initdb`, `pg_ctl` and `postgres`; installs them where they are missing.
pub fn find_or_install_postgres() -> anyhow::Result<PathBuf> {
    if let Some(folder) = matricula_postgres::find_binaries() {
        return Ok(folder);
    }
    install_postgres(matricula_postgres::is_root()?)?;
    matricula_postgres::find_binaries()
        .context("PostgreSQL was installed, but its server binaries are nowhere that I look")
}

/// Installs a PostgreSQL server.
fn install_postgres(is_root: bool) -> anyhow::Result<()> {
    let Some(manager) = MANAGERS.iter().find(|manager| on_path(manager.program)) else {
        bail!(
            "no PostgreSQL server binaries (initdb, pg_ctl, postgres) are here, and no package manager that I know: \
             install PostgreSQL, then run the tests again"
        );
    };
    let commands = commands(manager, is_root, on_path("sudo"))?;
    say("PostgreSQL's server binaries are missing: installing them.");
    for command in commands {
        let line = command.join(" ");
        say(&format!("running: {line}"));
        // What the package manager prints is talk, too: stdout stays for the tests.
        let status = Command::new(command[0])
            .args(&command[1..])
            .stdout(std::io::stderr())
            .status()
            .with_context(|| format!("can't run: {line}"))?;
        if !status.success() {
            bail!("`{line}` failed ({status}): install PostgreSQL by hand, then run the tests again");
        }
    }
    Ok(())
}

fn commands(manager: &Manager, is_root: bool, has_sudo: bool) -> anyhow::Result<Vec<Vec<&'static str>>> {
    let needs_sudo = manager.as_root && !is_root;
    if needs_sudo && !has_sudo {
        let wanted: Vec<String> = manager.commands.iter().map(|command| command.join(" ")).collect();
        bail!(
            "PostgreSQL's server binaries are missing, and installing them takes root: run `{}` as root, then the \
             tests again",
            wanted.join(" && ")
        );
    }
    let prefix: &[&str] = if needs_sudo { &["sudo"] } else { &[] };
    Ok(manager.commands.iter().map(|command| [prefix, command].concat()).collect())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::{MANAGERS, commands};

    #[track_caller]
    fn check(program: &str, is_root: bool, has_sudo: bool, expected: Option<&str>) {
        let manager = MANAGERS.iter().find(|manager| manager.program == program).unwrap();
        let first = commands(manager, is_root, has_sudo).ok().map(|commands| commands[0].join(" "));
        assert_eq!(first.as_deref(), expected);
    }

    #[test]
    fn sudo_is_used_where_root_is_needed_and_missing() {
        check("apt-get", true, false, Some("apt-get update --quiet"));
        check("apt-get", false, true, Some("sudo apt-get update --quiet"));
        check("dnf", false, true, Some("sudo dnf install --assumeyes postgresql-server"));
        check("brew", false, true, Some("brew install postgresql@17"));
    }

    #[test]
    fn without_root_and_sudo_nothing_is_run() {
        check("apt-get", false, false, None);
    }
}
