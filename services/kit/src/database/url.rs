//! Parses the URL of a database, and decides whether two URLs name the same database.
//!
//! URLs of SQLite are read as the driver documents them, those of PostgreSQL as by libpq and the driver. Parts that
//! would be ignored, or would lose data, are rejected.

use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::{fmt, io};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use sqlx::postgres::PgConnectOptions;
use url::Url;

use crate::secret;

/// Characters that must be encoded in the path of a SQLite URL.
const NOT_IN_PATH: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#');
/// The parameters that the driver reads from a PostgreSQL URL; `options[NAME]` is also allowed.
const POSTGRES_PARAMETERS: &str = "application_name, dbname, host, hostaddr, options, password, port, ssl-ca, ssl-cert, \
     ssl-key, ssl-mode, ssl-root-cert, sslcert, sslkey, sslmode, sslrootcert, statement-cache-capacity, user";
const IN_MEMORY: &str = "an in-memory database is lost when the process ends: use a file, such as sqlite:seats.db";
const NO_FILE: &str = "the file is missing: write its path after sqlite:, such as sqlite:seats.db";
const FILE_URL: &str = "file: URLs are not supported: write sqlite:PATH";
const READ_ONLY: &str =
    "mode=ro opens the file for reading only, and each role writes to its database: use mode=rw or mode=rwc";
const SEVERAL_HOSTS: &str = "it has several hosts, and only one is supported: use a host name or address that always leads \
                             to the primary";
/// A longer chain of links is a cycle.
const LINKS_MAX: usize = 40;

/// A valid URL of a database.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// A file.
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Whether the file is created if it is missing.
        create: bool,
    },
    /// A database on a server.
    Postgres(Box<PgConnectOptions>),
}

/// Why a URL is rejected.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseUrlError {
    /// The database is not supported.
    #[error("must begin with sqlite: or postgres://")]
    Scheme,
    /// A part can't be read, would be ignored, or would lose data.
    #[error("{0}")]
    Unusable(String),
}

/// The place of a database. Two URLs with the same place name the same database, even if they are spelled differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabasePlace {
    /// An existing file, by the numbers of its device and inode.
    Inode(u64, u64),
    /// A file that does not exist yet.
    Path(PathBuf),
    /// A database on a server.
    Server {
        /// The server's name, address or socket.
        host: String,
        /// Its port.
        port: u16,
        /// The name of the database.
        database: String,
    },
}

impl fmt::Debug for DatabaseUrl {
    /// Omits the password, which is in the driver's options.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { path, create } => {
                f.debug_struct("Sqlite").field("path", path).field("create", create).finish()
            }
            Self::Postgres(_) => f.debug_tuple("Postgres").field(&self.place()).finish(),
        }
    }
}

impl DatabaseUrl {
    /// Parses a URL.
    pub fn parse(url: &str) -> Result<Self, DatabaseUrlError> {
        if let Some(rest) = url.strip_prefix("sqlite:") {
            return sqlite(rest);
        }
        match url {
            url if is_postgres(url) => postgres(url),
            ":memory:" => Err(unusable(IN_MEMORY)),
            url if url.starts_with("file:") => Err(unusable(FILE_URL)),
            _ => Err(DatabaseUrlError::Scheme),
        }
    }

    /// The URL of a file.
    pub fn of_file(path: &Path) -> String {
        format!("sqlite:{}", utf8_percent_encode(&path.to_string_lossy(), NOT_IN_PATH))
    }

    /// The place of the database, as far as it can be determined without a query to a server.
    pub fn place(&self) -> DatabasePlace {
        match self {
            Self::Sqlite { path, .. } => inode(path).unwrap_or_else(|| DatabasePlace::Path(real_path(path))),
            Self::Postgres(options) => {
                let host = match options.get_socket() {
                    Some(folder) => folder.to_string_lossy().into_owned(),
                    None => host(options.get_host()),
                };
                let database = options.get_database().unwrap_or(options.get_username()).to_owned();
                DatabasePlace::Server { host, port: options.get_port(), database }
            }
        }
    }
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// Parses the part after `sqlite:`. <https://docs.rs/sqlx/latest/sqlx/sqlite/struct.SqliteConnectOptions.html>
fn sqlite(rest: &str) -> Result<DatabaseUrl, DatabaseUrlError> {
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let path = percent_decode_str(path).decode_utf8();
    let path = path.map_err(unreadable)?;
    match &*path {
        "" => return Err(unusable(NO_FILE)),
        ":memory:" => return Err(unusable(IN_MEMORY)),
        path if path.starts_with("file:") => return Err(unusable(FILE_URL)),
        _ => {}
    }
    let mut create = true;
    for (name, value) in url::form_urlencoded::parse(parameters.as_bytes()) {
        if name != "mode" {
            return Err(unsupported(&name, "mode"));
        }
        create = match &*value {
            "rwc" => true,
            "rw" => false,
            "ro" => return Err(unusable(READ_ONLY)),
            "memory" => return Err(unusable(IN_MEMORY)),
            _ => return Err(unusable(format!("the parameter mode can't be {value:?}; use rw or rwc"))),
        };
    }
    Ok(DatabaseUrl::Sqlite { path: PathBuf::from(&*path), create })
}

fn postgres(text: &str) -> Result<DatabaseUrl, DatabaseUrlError> {
    let url = Url::parse(text).map_err(unreadable)?;
    if url.fragment().is_some() {
        return Err(unusable("the text after # would be ignored: write # as %23"));
    }
    for (name, value) in url.query_pairs() {
        let is_option = name.strip_prefix("options[").is_some_and(|rest| rest.ends_with(']'));
        if !is_option && !POSTGRES_PARAMETERS.split(", ").any(|known| known == name) {
            return Err(unsupported(&name, POSTGRES_PARAMETERS));
        }
        if name == "host" && value.contains(',') {
            return Err(unusable(SEVERAL_HOSTS));
        }
    }
    if url.host_str().is_some_and(|host| host.contains(',')) {
        return Err(unusable(SEVERAL_HOSTS));
    }
    match PgConnectOptions::from_str(text) {
        // Poolers reject `extra_float_digits`, and it is not needed without floating-point numbers.
        Ok(options) => Ok(DatabaseUrl::Postgres(Box::new(options.extra_float_digits(None)))),
        Err(error) => Err(unreadable(secret::masked(&error.to_string()))),
    }
}

fn unusable(problem: impl Into<String>) -> DatabaseUrlError {
    DatabaseUrlError::Unusable(problem.into())
}

fn unsupported(parameter: &str, supported: &str) -> DatabaseUrlError {
    unusable(format!("the parameter {parameter} is not supported; supported are: {supported}"))
}

fn unreadable(error: impl fmt::Display) -> DatabaseUrlError {
    let problem = "percent-encode special characters of a password, such as @ as %40";
    unusable(format!("can't be read as a URL: {error}; {problem}"))
}

/// A canonical spelling of a host. All loopback names are one host.
fn host(name: &str) -> String {
    let name = name.trim_matches(['[', ']']).trim_end_matches('.').to_lowercase();
    let is_loopback = name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if is_loopback { "localhost".to_owned() } else { name }
}

#[cfg(unix)]
fn inode(path: &Path) -> Option<DatabasePlace> {
    use std::os::unix::fs::MetadataExt as _;

    let file = std::fs::metadata(path).ok()?;
    Some(DatabasePlace::Inode(file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn inode(_path: &Path) -> Option<DatabasePlace> {
    None
}

/// The path without links, `.` and `..`, also for a file that does not exist yet.
pub(super) fn real_path(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(target) = path.read_link() else { break };
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    let absolute = std::path::absolute(&path).unwrap_or(path);
    // The existing part of the path is resolved; the part after it has no links yet.
    let mut known = absolute.as_path();
    let real = loop {
        match (known.canonicalize(), known.parent()) {
            (Ok(real), _) => break real,
            (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => known = parent,
            (Err(_), _) => return absolute,
        }
    };
    let rest = absolute.strip_prefix(known).unwrap_or(Path::new(""));
    rest.components().fold(real, |mut real, component| {
        match component {
            Component::ParentDir => drop(real.pop()),
            Component::Normal(name) => real.push(name),
            _ => {}
        }
        real
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expect: Result<(&str, bool), &str>) {
        let read = match DatabaseUrl::parse(url) {
            Ok(DatabaseUrl::Sqlite { path, create }) => Ok((path.display().to_string(), create)),
            Ok(DatabaseUrl::Postgres(options)) => Ok((options.get_database().unwrap_or_default().to_owned(), true)),
            Err(error) => Err(error.to_string()),
        };
        match (read, expect) {
            (Ok((path, create)), Ok(expect)) => assert_eq!((path.as_str(), create), expect, "{url}"),
            (Err(error), Err(part)) => assert!(error.contains(part), "{url}: {error}"),
            (read, expect) => panic!("{url}: {read:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn files_are_named_as_the_driver_documents() {
        check("sqlite:a.db", Ok(("a.db", true)));
        check("sqlite://a.db", Ok(("a.db", true)));
        check("sqlite:/x/a.db", Ok(("/x/a.db", true)));
        check("sqlite:///x/a.db", Ok(("/x/a.db", true)));
        check("sqlite:a%20b%3F.db", Ok(("a b?.db", true)));
        check("sqlite:a.db?mode=rwc", Ok(("a.db", true)));
        check("sqlite://a.db?mode=rw", Ok(("a.db", false)));
        for path in ["a.db", "a b?c#d%20.db", "/x/100%.db"] {
            check(&DatabaseUrl::of_file(Path::new(path)), Ok((path, true)));
        }
    }

    #[test]
    fn urls_that_would_lose_data_or_ignore_parts_are_rejected() {
        for url in ["sqlite::memory:", "sqlite://:memory:", ":memory:", "sqlite:a?mode=memory", "sqlite:%3Amemory%3A"] {
            check(url, Err("in-memory"));
        }
        check("sqlite:", Err("the file is missing"));
        check("sqlite://", Err("the file is missing"));
        check("sqlite:?mode=rwc", Err("the file is missing"));
        check("file:a.db", Err("sqlite:PATH"));
        check("sqlite:file:a.db?mode=rwc", Err("sqlite:PATH"));
        check("sqlite:a.db?mode=ro", Err("mode=ro"));
        check("sqlite:a.db?mode=wr", Err("mode can't be \"wr\""));
        check("sqlite:a.db?cache=shared", Err("cache is not supported"));
        check("sqlite:a.db?immutable=1", Err("immutable is not supported"));
        check("sqlite:a.db?password=x", Err("password is not supported"));
        check("mysql://x", Err("must begin with"));
        check("a.db", Err("must begin with"));
        check("postgres:x", Err("must begin with"));
        check("postgres://h/x?sslmod=require", Err("sslmod is not supported"));
        check("postgres://h/x?connect_timeout=3", Err("connect_timeout is not supported"));
        check("postgres://h/x?sslmode=maybe", Err("can't be read"));
        check("postgres://a,b/x", Err("several hosts"));
        check("postgres://x?host=a,b", Err("several hosts"));
        check("postgres://h/x#y", Err("%23"));
        check("postgres://me:a/b@h/x", Err("percent-encode"));
    }

    #[test]
    fn a_password_is_not_shown() {
        let url = DatabaseUrl::parse("postgres://me:s3cret@h/x?sslmode=require").expect("a URL");
        assert!(!format!("{url:?}").contains("s3cret"), "{url:?}");
    }

    #[test]
    fn databases_of_servers_are_read() {
        check("postgres://me:a%2Fb@h:5433/x?sslmode=require&application_name=y", Ok(("x", true)));
        check("postgresql://h/x?options=-c%20geqo%3Doff", Ok(("x", true)));
        check("postgres://h/x?options[geqo]=off", Ok(("x", true)));
        check("postgres://%2Frun%2Fpostgresql:5433/x", Ok(("x", true)));
    }

    #[track_caller]
    fn same(one: &str, other: &str, is_same: bool) {
        let place = |url| DatabaseUrl::parse(url).expect("a URL").place();
        assert_eq!(place(one) == place(other), is_same, "{one} and {other}");
    }

    #[test]
    fn the_same_database_is_seen_however_it_is_spelt() {
        same("postgres://h/x", "postgres://h:5432/x", true);
        same("postgres://h/x", "postgresql://me:secret@H./x?application_name=a", true);
        same("postgres://h/x", "postgres://h/%78", true);
        same("postgres://h/x", "postgres://other/?host=h&dbname=x", true);
        same("postgres://x@h", "postgres://h/x", true);
        same("postgres://localhost/x", "postgres://127.0.0.1/x", true);
        same("postgres://[::1]/x", "postgres://127.0.0.1/x", true);
        same("postgres://h/x", "postgres://h/y", false);
        same("postgres://h/x", "postgres://h:5433/x", false);
        same("postgres://h/x", "postgres://g/x", false);
        same("postgres://h/x", "sqlite:x", false);
        same("sqlite:x.db", "sqlite:./x.db", true);
        same("sqlite:x.db", "sqlite://x%2Edb?mode=rwc", true);
        same("sqlite:none/../x.db", "sqlite:x.db", true);
        same("sqlite:x.db", "sqlite:y.db", false);
    }

    #[cfg(unix)]
    #[test]
    fn links_to_a_file_are_followed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        let url = |name: &str| DatabaseUrl::of_file(&path(name));
        std::os::unix::fs::symlink("x.db", path("link.db")).expect("a link");
        std::os::unix::fs::symlink(folder.path(), path("folder")).expect("a link");
        // Before the file exists, and after.
        for _ in 0..2 {
            same(&url("x.db"), &url("link.db"), true);
            same(&url("x.db"), &url("folder/x.db"), true);
            same(&url("x.db"), &url("folder/../x.db"), false);
            std::fs::write(path("x.db"), "").expect("a file");
        }
        std::fs::hard_link(path("x.db"), path("hard.db")).expect("a link");
        same(&url("x.db"), &url("hard.db"), true);
    }
}
