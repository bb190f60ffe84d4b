//! What `up` proposes to try: commands that work as they stand when they are pasted into another terminal, whatever
//! ports are in force.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::arguments::Role;
use crate::config::{Config, ROLES, url_setting};

/// The URL of each role, by the setting from which a command reads it.
pub type RoleUrls = BTreeMap<String, String>;

/// A registration to propose.
pub struct Proposed {
    /// The student.
    pub student: String,
    /// The sections to add.
    pub sections: Vec<String>,
}

/// The URL by which this machine calls a role with this listen address.
pub fn url(listening: SocketAddr) -> String {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listening.port()))
}

/// The commands, one per line.
pub fn lines(places: &RoleUrls, campus: Option<&Path>, proposed: Option<Proposed>) -> Vec<String> {
    // The program as it was called, so that the lines can be copied.
    let program = std::env::args().next().unwrap_or_else(|| "matricula".to_owned());
    let found = Config::load(None, &[]).map(|loaded| urls(&loaded.config)).unwrap_or_default();
    proposals(&program, &flags(places, &urls(&Config::default()), &found), campus, proposed)
}

fn urls(config: &Config) -> RoleUrls {
    ROLES.into_iter().map(|role| (url_setting(role), config.url(role).to_owned())).collect()
}

/// The flags that a command needs, by setting: one for each URL that it would not find by itself, neither by the
/// defaults nor by the file and the environment. The environment of the other terminal may be another one.
fn flags(places: &RoleUrls, default: &RoleUrls, found: &RoleUrls) -> RoleUrls {
    let is_elsewhere =
        |setting: &str, url: &String| [default, found].iter().any(|known| known.get(setting) != Some(url));
    let elsewhere = places.iter().filter(|(setting, url)| is_elsewhere(setting, url));
    let flag = |setting: &str, url: &String| match setting == url_setting(Role::Orchestrator) {
        true => format!(" --orchestrator {url}"),
        false => format!(" --set {setting}={url}"),
    };
    elsewhere.map(|(setting, url)| (setting.clone(), flag(setting, url))).collect()
}

fn proposals(
    program: &str,
    flags: &BTreeMap<String, String>,
    campus: Option<&Path>,
    proposed: Option<Proposed>,
) -> Vec<String> {
    let program = quoted(program);
    let orchestrator = flags.get(&url_setting(Role::Orchestrator)).map_or("", String::as_str);
    let all: String = flags.values().map(String::as_str).collect();
    let mut lines = vec![format!("{program} sections show{orchestrator}")];
    lines.push(match proposed {
        Some(Proposed { student, sections }) => {
            // Ids need no quotes. The flag after them ends the list.
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

/// Quotes a word for a shell.
fn quoted(word: &str) -> String {
    // Only a NUL can't be quoted, and paths have none.
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(places: &RoleUrls) -> String {
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
        places.insert(url_setting(Role::Orchestrator), "http://127.0.0.1:4711".to_owned());
        places.insert(url_setting(Role::Fees), "http://127.0.0.1:4712".to_owned());
        insta::assert_snapshot!(shown(&places), @r"
        matricula sections show --orchestrator http://127.0.0.1:4711
        matricula register S7 --add A B --orchestrator http://127.0.0.1:4711
        matricula rush 'my data/campus' --speed 60x --orchestrator http://127.0.0.1:4711 --set orchestrator.fees_url=http://127.0.0.1:4712
        matricula audit --orchestrator http://127.0.0.1:4711 --set orchestrator.fees_url=http://127.0.0.1:4712
        ");
    }

    #[test]
    fn a_role_that_listens_everywhere_is_called_locally() {
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
