//! Finds PostgreSQL's server binaries: on the PATH, where `pg_config` says, or where distributions put them.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs that a useful folder must hold.
const PROGRAMS: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// Folders of distributions: the parent, the prefix of a version's folder, and the path below it.
const PLACES: [(&str, &str, &str); 8] = [
    // Debian and Ubuntu.
    ("/usr/lib/postgresql", "", "bin"),
    // Alpine.
    ("/usr/libexec", "postgresql", ""),
    // Fedora and the RPMs of the PostgreSQL project.
    ("/usr", "pgsql-", "bin"),
    ("/usr/lib64", "pgsql", "bin"),
    // Homebrew: Apple silicon, Intel, Linux.
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
    ("/usr/local", "pgsql", "bin"),
];

/// The first folder that holds all programs; of several versions in one place the newest.
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).collect::<Vec<_>>();
    on_path.into_iter().chain(of_pg_config()).chain(of_distributions()).find(|folder| holds_programs(folder))
}

fn holds_programs(folder: &Path) -> bool {
    PROGRAMS.iter().all(|program| folder.join(program).is_file())
}

fn of_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(folder.trim()))
}

fn of_distributions() -> Vec<PathBuf> {
    let places = PLACES.iter().map(|(parent, prefix, below)| (Path::new(parent), *prefix, *below));
    places.flat_map(|(parent, prefix, below)| versions(parent, prefix, below)).collect()
}

/// The folders of `parent` that begin with `prefix`, newest version first.
fn versions(parent: &Path, prefix: &str, below: &str) -> Vec<PathBuf> {
    let Ok(entries) = parent.read_dir() else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    found.sort_by_key(|name| Reverse(version(name)));
    found.into_iter().map(|name| parent.join(name).join(below)).collect()
}

fn version(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::versions;

    #[test]
    fn the_newest_version_comes_first() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["postgresql@9.6", "postgresql@17", "postgresql@9", "other@99"] {
            std::fs::create_dir(parent.path().join(name)).unwrap();
        }
        let found = versions(parent.path(), "postgresql", "bin");
        let expected = ["postgresql@17/bin", "postgresql@9.6/bin", "postgresql@9/bin"];
        assert_eq!(found, expected.map(|name| parent.path().join(name)));
    }
}
