//! How to reach PostgreSQL and log in, as the driver resolves it: from a URL, the environment variables `PG...`, and
//! `.pgpass`.
//!
//! Both kinds of connections use it: the driver's, with its own options, for reading, and ours for writing.

use std::path::PathBuf;

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

/// The driver's mark of a certificate that is in a file instead of the option itself.
const IN_FILE: &str = "file: ";
/// A placeholder in the driver's URL for parts that it would not encode.
const PLAIN: &str = "x";

/// The server, and the credentials.
#[derive(Clone)]
pub(super) struct Login {
    /// The driver's options.
    pub(super) options: PgConnectOptions,
    pub(super) password: Option<String>,
    /// Certificates of additional authorities.
    pub(super) root_certificates: Option<Certificate>,
    /// The certificates of this client.
    pub(super) certificates: Option<Certificate>,
    /// The key of the client's certificate.
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
    /// The driver has no accessors for some options; they are read from the URL that it writes.
    pub(super) fn of(options: PgConnectOptions) -> Self {
        let plain = options.clone().username(PLAIN).host(PLAIN).database(PLAIN);
        // The folder of a socket is percent-encoded.
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

    /// The name or address of the server; an IPv6 address without its brackets.
    pub(super) fn host(&self) -> &str {
        self.options.get_host().trim_matches(['[', ']'])
    }
}

/// The socket of a local server, if the options use one.
pub(super) fn socket(options: &PgConnectOptions) -> Option<PathBuf> {
    let host = options.get_host();
    let folder = options.get_socket().cloned().or_else(|| host.starts_with('/').then(|| PathBuf::from(host)));
    folder.map(|folder| folder.join(format!(".s.PGSQL.{}", options.get_port())))
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgSslMode;

    use super::*;

    fn login(url: &str) -> Login {
        Login::of(url.parse().expect("a URL"))
    }

    #[test]
    fn options_without_an_accessor_are_read_from_the_url() {
        let all = "postgres://m%40e:a%2Fb%40%25%3F%23%20%C3%B1@h:5433/x%2Fy?sslmode=verify-ca&sslrootcert=/c/root%20ca.pem\
                   &sslcert=client.pem&sslkey=/c/%25.key";
        let all = login(all);
        assert_eq!(all.password.as_deref(), Some("a/b@%?# ñ"));
        assert_eq!(all.options.get_username(), "m@e");
        assert_eq!(all.root_certificates, Some(Certificate::File("/c/root ca.pem".into())));
        assert_eq!(all.certificates, Some(Certificate::File("client.pem".into())));
        assert_eq!(all.key, Some(Certificate::File("/c/%.key".into())));
        assert!(matches!(all.options.get_ssl_mode(), PgSslMode::VerifyCa));

        let other = login("postgres://h/x?password=%2B%3D&host=/run/pg");
        assert_eq!(other.password.as_deref(), Some("+="));
        assert_eq!(socket(&other.options), Some("/run/pg/.s.PGSQL.5432".into()));
        // The environment variables may contain the certificate itself.
        let text = "-----BEGIN CERTIFICATE-----\nab+/=\n-----END CERTIFICATE-----";
        assert_eq!(Certificate::of(text), Certificate::Text(text.to_owned()));
    }

    #[test]
    fn options_that_are_not_set_are_none() {
        let plain = login("postgres://me@[::1]:5433/x");
        assert_eq!(plain.host(), "::1");
        assert!(plain.certificates.is_none() && plain.key.is_none() && socket(&plain.options).is_none());
        assert_eq!(socket(&login("postgres://%2Frun%2Fpg/x").options), Some("/run/pg/.s.PGSQL.5432".into()));
    }
}
