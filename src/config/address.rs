//! The address at which a role listens: an IP address or a host name, and a port.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `127.0.0.1:7450`, `[::1]:7450` or `localhost:7450`. A host name is resolved when the role starts to listen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// An IP address and a port.
    Socket(SocketAddr),
    /// A host name and a port.
    Name(String, u16),
}

/// Why a text is not a valid address.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a listen address such as 127.0.0.1:7450, [::1]:7450 or localhost:7450: {1}")]
pub struct AddressError(String, &'static str);

/// A host name that can't be resolved.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: the host name of {address} can't be resolved")]
pub struct LookupError {
    setting: String,
    address: Address,
    #[source]
    source: std::io::Error,
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Socket(address)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        let refused = |why| Err(AddressError(matricula_kit::secret::masked_url(text), why));
        let Some((name, port)) = text.rsplit_once(':') else { return refused("the port is missing") };
        if name.is_empty() {
            return refused("the host is missing; use 0.0.0.0 or [::] for all addresses of this machine");
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if !name.bytes().all(is_name) {
            return refused("the host is neither an IP address nor a host name");
        }
        match port.parse::<u16>() {
            Ok(port) if port.to_string().len() == text.len() - name.len() - 1 => Ok(Self::Name(name.to_owned(), port)),
            _ => refused("the port must be a number from 0 to 65535"),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => write!(f, "{address}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl Address {
    /// Resolves the host name. It prefers the first IPv4 address, because the default URLs use IPv4.
    pub async fn look_up(&self, setting: &str) -> Result<SocketAddr, LookupError> {
        let (name, port) = match self {
            Self::Socket(address) => return Ok(*address),
            Self::Name(name, port) => (name.as_str(), *port),
        };
        let failed = |source| LookupError { setting: setting.to_owned(), address: self.clone(), source };
        let found: Vec<SocketAddr> = tokio::net::lookup_host((name, port)).await.map_err(failed)?.collect();
        let first = found.iter().find(|address| address.is_ipv4()).or(found.first()).copied();
        first.ok_or_else(|| failed(std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Result<(), &str>) {
        match (text.parse::<Address>(), expect) {
            (Ok(address), Ok(())) => assert_eq!(address.to_string(), text),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
            (read, expect) => panic!("{text}: {read:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn addresses_and_names_are_read() {
        for text in ["127.0.0.1:7450", "[::1]:7450", "[::]:0", "0.0.0.0:0", "localhost:7450", "seats-0.seats:7451"] {
            check(text, Ok(()));
        }
        check("nowhere", Err("port is missing"));
        check("7450", Err("port is missing"));
        check(":7450", Err("host is missing"));
        check("::1:7450", Err("neither an IP address nor a host name"));
        check("*:7450", Err("neither an IP address nor a host name"));
        check("http://localhost:7450", Err("neither an IP address nor a host name"));
        for text in ["localhost:", "localhost:70000", "localhost:+1", "localhost:x", "127.0.0.1:70000"] {
            check(text, Err("from 0 to 65535"));
        }
    }

    #[tokio::test]
    async fn names_are_looked_up() {
        let look_up = async |text: &str| text.parse::<Address>().expect("an address").look_up("seats.listen").await;
        assert_eq!(look_up("localhost:7450").await.expect("known everywhere").port(), 7450);
        assert!(look_up("localhost:0").await.expect("known everywhere").ip().is_loopback());
        assert_eq!(look_up("[::1]:7450").await.expect("no name"), "[::1]:7450".parse().expect("an address"));
        let error = look_up("no-such-host.invalid:7450").await.expect_err("reserved for this").to_string();
        assert_eq!(error, "seats.listen: the host name of no-such-host.invalid:7450 can't be resolved");
    }
}
