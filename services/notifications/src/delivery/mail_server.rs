//! The mail server as it is configured: a URL, read as a whole. A part that means nothing here is refused by its name,
//! and a password never leaves this machine unencrypted.
//!
//! | URL | connection |
//! |---|---|
//! | `smtps://host` | TLS from the first byte (`?tls=wrapper` says the same) |
//! | `smtp://host?tls=required` | STARTTLS; without it nothing is sent |
//! | `smtp://host?tls=opportunistic` | STARTTLS where the server offers it |
//! | `smtp://host` | plain (`?tls=none` says the same) |

use std::net::IpAddr;

use lettre::transport::smtp::AsyncSmtpTransportBuilder;
use lettre::{AsyncSmtpTransport, Tokio1Executor};
use url::{Host, Url};

/// The one parameter of a URL.
const TLS: &str = "tls";

/// How the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encryption {
    Wrapper,
    Required,
    Opportunistic,
    None,
}

/// Checks a URL, and makes a transport to its server, which connects when there is something to send.
pub fn transport(url: &str) -> Result<AsyncSmtpTransportBuilder, String> {
    let mut url = Url::parse(url).map_err(|error| format!("is no URL: {error}"))?;
    let encryption = encryption(&url)?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err("has no host".to_owned());
    }
    if url.fragment().is_some() {
        return Err("has a `#`, which means nothing here; in a password it is written %23".to_owned());
    }
    match (url.username().is_empty(), url.password()) {
        (false, None) => return Err("has a user without a password".to_owned()),
        (true, Some(_)) => return Err("has a password without a user".to_owned()),
        (true, None) => {}
        (false, Some(_)) => {
            // The one in the middle can take the offer of STARTTLS away.
            let may_be_plain = matches!(encryption, Encryption::None | Encryption::Opportunistic);
            if may_be_plain && !is_this_machine(&url) {
                let problem = "may send the password unencrypted: use smtps://, or append ?tls=required";
                return Err(problem.to_owned());
            }
        }
    }
    if encryption == Encryption::None {
        // The library has no name for it.
        url.set_query(None);
    }
    AsyncSmtpTransport::<Tokio1Executor>::from_url(url.as_str()).map_err(|error| format!("can't be used: {error}"))
}

fn encryption(url: &Url) -> Result<Encryption, String> {
    let mut tls = None;
    for (name, value) in url.query_pairs() {
        if name != TLS {
            return Err(format!("has a parameter `{name}`, which is not known; the only one is `{TLS}`"));
        }
        if tls.replace(value).is_some() {
            return Err(format!("has the parameter `{TLS}` twice"));
        }
    }
    match (url.scheme(), tls.as_deref()) {
        ("smtps", None | Some("wrapper")) => Ok(Encryption::Wrapper),
        ("smtps", Some(_)) => Err("smtps:// is TLS from the first byte, which is `tls=wrapper`".to_owned()),
        ("smtp", None | Some("none")) => Ok(Encryption::None),
        ("smtp", Some("required")) => Ok(Encryption::Required),
        ("smtp", Some("opportunistic")) => Ok(Encryption::Opportunistic),
        ("smtp", Some("wrapper")) => Err("TLS from the first byte is smtps://".to_owned()),
        ("smtp", Some(other)) => {
            Err(format!("has `{TLS}={other}`, which is none of `required`, `opportunistic` and `none`"))
        }
        _ => Err("must begin with smtp:// or smtps://".to_owned()),
    }
}

fn is_this_machine(url: &Url) -> bool {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        // In a URL that is not of the web, an IPv4 address is a name for the parser.
        Some(Host::Domain(name)) => match name.parse() {
            Ok(address) => address,
            Err(_) => return name.eq_ignore_ascii_case("localhost"),
        },
        None => return false,
    };
    address.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expect: Result<(), &str>) {
        match (transport(url), expect) {
            (Ok(_), Ok(())) => {}
            (Err(problem), Err(words)) => {
                assert!(problem.contains(words), "{url}: {problem}");
                assert!(!problem.contains("secret"), "{url}: the password is told: {problem}");
            }
            (Ok(_), Err(words)) => panic!("{url}: taken, though it {words}"),
            (Err(problem), Ok(())) => panic!("{url}: {problem}"),
        }
    }

    #[test]
    fn what_a_url_may_say() {
        for url in [
            "smtp://relay.example.edu",
            "smtp://relay.example.edu:25",
            "smtp://relay.example.edu?tls=none",
            "smtp://relay.example.edu?tls=opportunistic",
            "smtp://relay.example.edu?tls=required",
            "smtps://relay.example.edu",
            "smtps://relay.example.edu:465?tls=wrapper",
            "smtp://relay.example.edu/registrar.example.edu",
            "smtps://u:secret@mail.example.edu",
            "SMTPS://u:secret@mail.example.edu",
            "smtp://u:secret@mail.example.edu?tls=required",
            "smtp://u:secret@mail.example.edu?%74ls=required",
            "smtp://u%40example.edu:secret%23%3F@mail.example.edu:587?tls=required",
        ] {
            check(url, Ok(()));
        }
    }

    #[test]
    fn a_password_stays_on_this_machine_or_is_encrypted() {
        for host in ["localhost", "LOCALHOST:25", "127.0.0.1", "127.8.9.10:2525", "[::1]", "[::1]:25"] {
            check(&format!("smtp://u:secret@{host}"), Ok(()));
            check(&format!("smtp://u:secret@{host}?tls=opportunistic"), Ok(()));
        }
        let unencrypted = Err("may send the password unencrypted");
        for host in
            ["mail.example.edu", "10.0.0.1", "[2001:db8::1]", "127.evil.example", "localhost.evil.example", "0.0.0.0"]
        {
            check(&format!("smtp://u:secret@{host}"), unencrypted);
            check(&format!("smtp://u:secret@{host}?tls=none"), unencrypted);
            check(&format!("smtp://u:secret@{host}?tls=opportunistic"), unencrypted);
        }
        // Neither a user nor a password nor a path is a parameter.
        check("smtp://u:tls=secret@mail.example.edu", unencrypted);
        check("smtp://tls=required:secret@mail.example.edu", unencrypted);
        check("smtp://u:secret%3Ftls=required@mail.example.edu", unencrypted);
        check("smtp://u:secret@mail.example.edu/tls=required", unencrypted);
        check("smtp://u:secret@mail.example.edu/localhost", unencrypted);
    }

    #[test]
    fn what_means_nothing_is_refused_by_its_name() {
        check("smtp://u:secret@mail.example.edu?tls=requierd", Err("`tls=requierd`"));
        check("smtp://mail.example.edu?tls=", Err("`tls=`"));
        check("smtp://mail.example.edu?TLS=required", Err("`TLS`"));
        check("smtp://mail.example.edu?tls=required&timeout=5", Err("`timeout`"));
        check("smtp://mail.example.edu?starttls", Err("`starttls`"));
        check("smtp://mail.example.edu?tls=none&tls=required", Err("twice"));
        check("smtp://mail.example.edu?tls=wrapper", Err("smtps://"));
        check("smtps://mail.example.edu?tls=none", Err("tls=wrapper"));
        check("smtps://mail.example.edu?tls=required", Err("tls=wrapper"));
        check("http://mail.example.edu", Err("smtp:// or smtps://"));
        check("mail.example.edu:25", Err("smtp:// or smtps://"));
        check("mail.example.edu", Err("is no URL"));
        check("smtp://", Err("no host"));
        check("smtp://mail.example.edu:99999", Err("is no URL"));
        check("smtps://u@mail.example.edu", Err("a user without a password"));
        check("smtps://:secret@mail.example.edu", Err("a password without a user"));
        check("smtps://mail.example.edu#secret", Err("%23"));
    }
}
