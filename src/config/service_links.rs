//! Detects the variables that Kubernetes and Docker set in a container for each service that it could call.
//!
//! A service named `matricula` sets `MATRICULA_PORT=tcp://10.0.0.1:7450` in every pod of its namespace, and a service
//! named `matricula-seats` sets `MATRICULA_SEATS_SERVICE_HOST`. These names look like our settings, but are not.
//!
//! | suffix after the name of the service | value | by |
//! |---|---|---|
//! | `_SERVICE_HOST` | an address | Kubernetes |
//! | `_SERVICE_PORT`, `_SERVICE_PORT_<NAME>` | a port | Kubernetes |
//! | `_PORT`, `_PORT_<N>_TCP` (or `UDP`, `SCTP`) | `tcp://address:port` | both |
//! | `_PORT_<N>_TCP_PROTO`, `_PORT`, `_ADDR` | `tcp`, a port, an address | both |
//! | `_PORT_<N>_TCP_START`, `_END`, `_PORT_START`, `_PORT_END` | as above | Docker, for a range of ports |
//! | `_NAME` | `/container/alias` | Docker |
//! | `_ENV_<NAME>` | anything: a variable of the linked container | Docker |
//!
//! <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>,
//! <https://docs.docker.com/engine/network/links/#environment-variables>

use std::net::IpAddr;

/// The prefix of the services' names in variables.
const SERVICE: &str = "MATRICULA";
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// Whether Kubernetes or Docker set the variable, judged by its name and its value.
pub fn is_service_link(name: &str, value: &str) -> bool {
    let Some(rest) = name.strip_prefix(SERVICE) else { return false };
    let is_known = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    // Any name can follow `_ENV_`.
    let of_service = rest.split_once("_ENV_").map_or(rest, |(service, _)| service);
    if !of_service.bytes().all(is_known) || !(of_service.is_empty() || of_service.starts_with('_')) {
        return false;
    }
    if rest.len() > of_service.len() {
        return true;
    }
    if let Some((_, port_name)) = rest.rsplit_once("_SERVICE_PORT") {
        return (port_name.is_empty() || port_name.len() > 1 && port_name.starts_with('_')) && is_port(value);
    }
    if rest.ends_with("_SERVICE_HOST") {
        return is_address(value);
    }
    if rest.ends_with("_NAME") {
        return value.starts_with('/') && value[1..].contains('/');
    }
    if let Some(of_port) = rest.rmatch_indices("_PORT_").find_map(|(at, mark)| of_port(&rest[at + mark.len()..])) {
        return match of_port {
            "" | "_START" | "_END" => is_place(value),
            "_PROTO" => PROTOCOLS.iter().any(|protocol| value.eq_ignore_ascii_case(protocol)),
            "_PORT" | "_PORT_START" | "_PORT_END" => is_port(value),
            "_ADDR" => is_address(value),
            _ => false,
        };
    }
    rest.ends_with("_PORT") && is_place(value)
}

/// The suffix after `<N>_TCP`.
fn of_port(text: &str) -> Option<&str> {
    let (number, rest) = text.split_once('_')?;
    let protocol = PROTOCOLS.iter().find(|protocol| rest.starts_with(*protocol))?;
    is_port(number).then(|| &rest[protocol.len()..])
}

fn is_port(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_digit()) && value.parse::<u16>().is_ok()
}

fn is_address(value: &str) -> bool {
    value.parse::<IpAddr>().is_ok()
}

/// `tcp://10.0.0.1:7450` or `tcp://[fd00::1]:7450`.
fn is_place(value: &str) -> bool {
    let Some((protocol, place)) = value.split_once("://") else { return false };
    let Some((address, port)) = place.rsplit_once(':') else { return false };
    let address = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    PROTOCOLS.iter().any(|known| known.eq_ignore_ascii_case(protocol)) && is_address(address) && is_port(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_services_are_detected() {
        for (name, value) in [
            ("MATRICULA_PORT", "tcp://10.0.0.1:7450"),
            ("MATRICULA_PORT", "tcp://[fd00::1]:7450"),
            ("MATRICULA_SERVICE_HOST", "10.0.0.1"),
            ("MATRICULA_SERVICE_HOST", "fd00::1"),
            ("MATRICULA_SERVICE_PORT", "7450"),
            ("MATRICULA_SERVICE_PORT_GRPC", "7450"),
            ("MATRICULA_SERVICE_PORT_HTTP_METRICS", "8450"),
            ("MATRICULA_PORT_7450_TCP", "tcp://10.0.0.1:7450"),
            ("MATRICULA_PORT_7450_TCP_PROTO", "tcp"),
            ("MATRICULA_PORT_7450_TCP_PORT", "7450"),
            ("MATRICULA_PORT_7450_TCP_ADDR", "10.0.0.1"),
            ("MATRICULA_PORT_53_UDP", "udp://10.0.0.1:53"),
            ("MATRICULA_PORT_53_SCTP_PROTO", "sctp"),
            ("MATRICULA_PORT_7450_TCP_START", "tcp://172.17.0.5:7450"),
            ("MATRICULA_PORT_7450_TCP_PORT_END", "7455"),
            ("MATRICULA_SEATS_SERVICE_HOST", "10.0.0.2"),
            ("MATRICULA_SEATS_PORT", "tcp://10.0.0.2:7451"),
            ("MATRICULA_SEATS_PORT_7451_TCP_ADDR", "10.0.0.2"),
            ("MATRICULA_SEATS_SERVICE_PORT_GRPC", "7451"),
            ("MATRICULA_PORT_SERVICE_PORT", "1"),
            ("MATRICULA__SEATS_SERVICE_HOST", "10.0.0.2"),
            ("MATRICULA_NAME", "/portal/matricula"),
            ("MATRICULA_ENV_PATH", "/usr/bin"),
            ("MATRICULA_SEATS_ENV_lower", ""),
        ] {
            assert!(is_service_link(name, value), "{name}={value}");
        }
    }

    #[test]
    fn other_variables_are_not() {
        for (name, value) in [
            ("MATRICULA_PORT", "7450"),
            ("MATRICULA_PORT", "http://10.0.0.1:7450"),
            ("MATRICULA_PORT", "tcp://seats:7450"),
            ("MATRICULA_SERVICE_HOST", "seats"),
            ("MATRICULA_SERVICE_PORT", "grpc"),
            ("MATRICULA_SERVICE_PORT_", "7450"),
            ("MATRICULA_SERVICE_PORTS", "7450"),
            ("MATRICULA_PORT_7450_TCP", "10.0.0.1:7450"),
            ("MATRICULA_PORT_7450_TCP_HOST", "10.0.0.1"),
            ("MATRICULA_PORT_X_TCP", "tcp://10.0.0.1:7450"),
            ("MATRICULA_PORT_70000_TCP", "tcp://10.0.0.1:7450"),
            ("MATRICULA_FOO", "tcp://10.0.0.1:7450"),
            ("MATRICULA_NAME", "matricula"),
            ("MATRICULAX_PORT", "tcp://10.0.0.1:7450"),
            ("matricula_port", "tcp://10.0.0.1:7450"),
            ("MATRICULA_SEATS__LISTN", "127.0.0.1:7451"),
        ] {
            assert!(!is_service_link(name, value), "{name}={value}");
        }
    }
}
