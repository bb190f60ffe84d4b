//! What `up` proposes to try: commands that work as they stand when they are pasted into another terminal, whatever
//! ports are in force.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::arguments::Role;
use crate::config::Config;

/// The URL of each role, by the setting in which a command has it.
pub type Places = BTreeMap<&'static str, String>;

/// A registration to propose.
pub struct Proposed {
    /// The student.
    pub student: String,
    /// What to add.
    pub sections: Vec<String>,
}

/// The setting by which a command finds a role.
pub fn setting(role: Role) -> &'static str {
    match role {
        Role::Orchestrator => "client.orchestrator_url",
        Role::Seats => "orchestrator.seats_url",
        Role::Enrollments => "orchestrator.enrollments_url",
        Role::Academics => "orchestrator.academics_url",
        Role::Fees => "orchestrator.fees_url",
        Role::Notifications => "orchestrator.notifications_url",
    }
}

/// How a role that listens here is called from this machine.
pub fn url(listening: SocketAddr) -> String {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listening.port()))
}

/// The commands, one a line.
pub fn lines(places: &Places, campus: Option<&Path>, proposed: Option<Proposed>) -> Vec<String> {
    // As it was called, so that the lines can be copied.
    let program = std::env::args().next().unwrap_or_else(|| "matricula".to_owned());
    let found = Config::load(None, &[]).map(|loaded| urls(&loaded.config)).unwrap_or_default();
    proposals(&program, &flags(places, &urls(&Config::default()), &found), campus, proposed)
}

fn urls(config: &Config) -> Places {
    let services = &config.orchestrator;
    BTreeMap::from([
        (setting(Role::Orchestrator), config.client.orchestrator_url.clone()),
        (setting(Role::Seats), services.seats_url.clone()),
        (setting(Role::Enrollments), services.enrollments_url.clone()),
        (setting(Role::Academics), services.academics_url.clone()),
        (setting(Role::Fees), services.fees_url.clone()),
        (setting(Role::Notifications), services.notifications_url.clone()),
    ])
}

/// The flags that a command needs, by setting: one for each URL that it would not find by itself, neither by the
/// defaults nor by the file and the environment. The environment of the other terminal may be another one.
fn flags(places: &Places, default: &Places, found: &Places) -> BTreeMap<&'static str, String> {
    let is_elsewhere =
        |setting: &&str, url: &String| default.get(setting) != Some(url) || found.get(setting) != Some(url);
    let elsewhere = places.iter().filter(|(setting, url)| is_elsewhere(setting, url));
    let flag = |setting: &'static str, url: &String| match setting == self::setting(Role::Orchestrator) {
        true => format!(" --orchestrator {url}"),
        false => format!(" --set {setting}={url}"),
    };
    elsewhere.map(|(setting, url)| (*setting, flag(setting, url))).collect()
}

fn proposals(
    program: &str,
    flags: &BTreeMap<&'static str, String>,
    campus: Option<&Path>,
    proposed: Option<Proposed>,
) -> Vec<String> {
    let program = quoted(program);
    let orchestrator = flags.get(setting(Role::Orchestrator)).map_or("", String::as_str);
    let all: String = flags.values().map(String::as_str).collect();
    let mut lines = vec![format!("{program} sections show{orchestrator}")];
    lines.push(match proposed {
        Some(Proposed { student, sections }) => {
            // Ids need no quotes. The flag behind them ends the list.
            format!("{program} register {student} --add {}{orchestrator}", sections.join(" "))
        }
        None => format!("{program} register --help"),
    });
    if let Some(campus) = campus {
        lines.push(format!("{program} rush {} --speed 60x{all}", quoted(&campus.display().to_string())));
    }
    lines.push(format!("{program} audit{all}"));
    lines
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    // Only a NUL can't be quoted, and no path has one.
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(places: &Places) -> String {
        let default = urls(&Config::default());
        let proposed = Proposed { student: "S7".to_owned(), sections: vec!["A".to_owned(), "B".to_owned()] };
        proposals("matricula", &flags(places, &default, &default), Some(Path::new("my data/campus")), Some(proposed))
            .join("\n")
    }

    #[test]
    fn default_ports_need_no_flags() {
        insta::assert_snapshot!(shown(&urls(&Config::default())), @r"
        matricula sections show
        matricula register S7 --add A B
        matricula rush 'my data/campus' --speed 60x
        matricula audit
        ");
    }

    #[test]
    fn other_ports_are_named() {
        let mut places = urls(&Config::default());
        places.insert(setting(Role::Orchestrator), "http://127.0.0.1:4711".to_owned());
        places.insert(setting(Role::Fees), "http://127.0.0.1:4712".to_owned());
        insta::assert_snapshot!(shown(&places), @r"
        matricula sections show --orchestrator http://127.0.0.1:4711
        matricula register S7 --add A B --orchestrator http://127.0.0.1:4711
        matricula rush 'my data/campus' --speed 60x --orchestrator http://127.0.0.1:4711 --set orchestrator.fees_url=http://127.0.0.1:4712
        matricula audit --orchestrator http://127.0.0.1:4711 --set orchestrator.fees_url=http://127.0.0.1:4712
        ");
    }

    #[test]
    fn what_listens_everywhere_is_called_here() {
        for (listening, called) in [
            ("127.0.0.1:7", "http://127.0.0.1:7"),
            ("0.0.0.0:7", "http://127.0.0.1:7"),
            ("[::]:7", "http://[::1]:7"),
            ("10.0.0.7:7", "http://10.0.0.7:7"),
        ] {
            assert_eq!(url(listening.parse().expect("an address")), called);
        }
    }
}
