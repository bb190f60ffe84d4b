//! How PostgreSQL is reached and logged in to, as the driver has understood it: from a URL, the variables `PG...` of the
//! environment, and `.pgpass`.
//!
//! Both ways to PostgreSQL use it: the driver, with its own options, for what reads, and the connections that write.

use std::path::PathBuf;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// How the driver writes a certificate that is in a file, and not in the option itself.
const IN_FILE: &str = "file: ";
/// What the driver's URL has for parts that it would not encode.
const PLAIN: &str = "x";

/// Where a server is, and how to log in.
#[derive(Clone)]
pub(super) struct Login {
    /// What the driver connects with.
    pub(super) options: PgConnectOptions,
    pub(super) password: Option<String>,
    /// Certificates of authorities beside those that are known.
    pub(super) root_certificates: Option<Certificate>,
    /// The certificates that this client shows.
    pub(super) certificates: Option<Certificate>,
    /// The key of these.
    pub(super) key: Option<Certificate>,
}

/// A certificate or a key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Certificate {
    File(PathBuf),
    Text(String),
}

impl Certificate {
    fn of(shown: &str) -> Self {
        match shown.strip_prefix(IN_FILE) {
            Some(path) => Self::File(PathBuf::from(path)),
            None => Self::Text(shown.to_owned()),
        }
    }
}

impl Login {
    /// Some options can't be read one by one: they are in the URL that the driver makes of them.
    pub(super) fn of(options: PgConnectOptions) -> Self {
        let plain = options.clone().username(PLAIN).host(PLAIN).database(PLAIN);
        // A folder of a socket is encoded.
        let url = plain.to_url_lossy();
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let certificate = |name: &str| {
            let mut pairs = url.query_pairs();
            pairs.find(|(known, _)| known == name).map(|(_, value)| Certificate::of(&value))
        };
        Self {
            password: url.password().map(decoded),
            root_certificates: certificate("sslrootcert"),
            certificates: certificate("sslcert"),
            key: certificate("sslkey"),
            options,
        }
    }

    /// The name or address of the server, without the brackets that one of IPv6 has in a URL.
    pub(super) fn host(&self) -> &str {
        self.options.get_host().trim_matches(['[', ']'])
    }

    pub(super) fn ssl_mode(&self) -> PgSslMode {
        self.options.get_ssl_mode()
    }
}

/// The socket of a server on this machine, if it is reached by that.
pub(super) fn socket(options: &PgConnectOptions) -> Option<PathBuf> {
    let host = options.get_host();
    let folder = options.get_socket().cloned().or_else(|| host.starts_with('/').then(|| PathBuf::from(host)));
    folder.map(|folder| folder.join(format!(".s.PGSQL.{}", options.get_port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(url: &str) -> Login {
        Login::of(url.parse().expect("a URL"))
    }

    #[test]
    fn what_the_driver_does_not_show_is_read_from_its_url() {
        let all = "postgres://m%40e:a%2Fb%40%25%3F%23%20%C3%B1@h:5433/x%2Fy?sslmode=verify-ca&sslrootcert=/c/root%20ca.pem\
                   &sslcert=client.pem&sslkey=/c/%25.key";
        let all = login(all);
        assert_eq!(all.password.as_deref(), Some("a/b@%?# ñ"));
        assert_eq!(all.options.get_username(), "m@e");
        assert_eq!(all.root_certificates, Some(Certificate::File("/c/root ca.pem".into())));
        assert_eq!(all.certificates, Some(Certificate::File("client.pem".into())));
        assert_eq!(all.key, Some(Certificate::File("/c/%.key".into())));
        assert!(matches!(all.ssl_mode(), PgSslMode::VerifyCa));

        let other = login("postgres://h/x?password=%2B%3D&host=/run/pg");
        assert_eq!(other.password.as_deref(), Some("+="));
        assert_eq!(socket(&other.options), Some("/run/pg/.s.PGSQL.5432".into()));
        // The variables of the environment may have the certificate itself.
        let text = "-----BEGIN CERTIFICATE-----\nab+/=\n-----END CERTIFICATE-----";
        assert_eq!(Certificate::of(text), Certificate::Text(text.to_owned()));
    }

    #[test]
    fn what_is_not_named_is_not_there() {
        let plain = login("postgres://me@[::1]:5433/x");
        assert_eq!(plain.host(), "::1");
        assert!(plain.certificates.is_none() && plain.key.is_none() && socket(&plain.options).is_none());
        assert_eq!(socket(&login("postgres://%2Frun%2Fpg/x").options), Some("/run/pg/.s.PGSQL.5432".into()));
    }
}
