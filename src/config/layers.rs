//! The layers of settings: file, environment, flags. Each layer overrides those before it.
//!
//! Every name is checked against the existing settings before a value is read, so that all unknown names are reported
//! at once, as the user wrote them. A text setting is not parsed: `2026` can be the name of a folder.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use figment::Figment;
use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Value};
use matricula_kit::secret::masked;

use super::service_links::is_service_link;

/// Prefix of environment variables that are settings; two underscores separate the levels of a name.
const ENV_PREFIX: &str = "MATRICULA_";
/// Settings of the test suite, not of the program.
const OF_TESTS: [&str; 1] = ["MATRICULA_TEST_POSTGRES_URL"];
/// The similarity of two names, 0 to 1, from which one is suggested for the other: about one wrong letter or
/// underscore.
const ALIKE_MIN: f64 = 0.94;

/// The existing settings, and how the value of each is written in the environment.
pub type KnownSettings = BTreeMap<String, Form>;

/// How a value is written in the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As plain text.
    Text,
    /// As in TOML: a number, `true`, `false`.
    Toml,
}

/// Where a setting was set.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    File(String),
    Variable(String),
    Flag,
}

/// The settings that are set, each with its origin.
pub struct Layers {
    known: KnownSettings,
    set: BTreeMap<String, (Value, Origin)>,
    /// Settings and files that can't be read.
    pub problems: Vec<String>,
    /// Variables that look like settings, but describe the services of a container.
    pub ignored: Vec<String>,
}

impl Layers {
    /// No setting is set.
    pub fn new(known: KnownSettings) -> Self {
        Self { known, set: BTreeMap::new(), problems: Vec::new(), ignored: Vec::new() }
    }

    /// Reads a file; a missing file sets nothing.
    pub fn file(&mut self, file: &Path) {
        let shown = file.display().to_string();
        match Figment::from(Toml::file(file)).extract::<Dict>() {
            Ok(values) => self.table("", values, &shown),
            Err(error) => {
                self.problems.extend(error.into_iter().map(|error| masked(&format!("{shown}: {}", error.kind))));
            }
        }
    }

    fn table(&mut self, prefix: &str, values: Dict, file: &str) {
        for (key, value) in values {
            let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
            match value {
                Value::Dict(_, values) if !self.known.contains_key(&name) && self.is_group(&name) => {
                    self.table(&name, values, file);
                }
                value => self.set(name, value, Origin::File(file.to_owned())),
            }
        }
    }

    /// Reads the variables with our prefix. An empty variable counts as unset.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) {
        let mut variables: Vec<(String, OsString)> = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, value)| has_our_prefix(name) && !value.is_empty())
            .collect();
        variables.sort();
        for (variable, value) in variables {
            self.variable(variable, &value);
        }
    }

    fn variable(&mut self, variable: String, value: &OsStr) {
        let name = variable[ENV_PREFIX.len()..].to_lowercase().replace("__", ".");
        let Some(value) = value.to_str() else {
            self.problems.push(format!("{variable}: the value is not UTF-8"));
            return;
        };
        let is_setting = self.known.contains_key(&name) || self.is_group(&name);
        if !is_setting && is_service_link(&variable, value) {
            self.ignored.push(variable);
            return;
        }
        let value = self.read(&name, value);
        self.set(name, value, Origin::Variable(variable));
    }

    /// Takes flags, as (name, value).
    pub fn flags(&mut self, flags: &[(String, String)]) {
        for (name, value) in flags {
            let value = self.read(name, value);
            self.set(name.clone(), value, Origin::Flag);
        }
    }

    fn read(&self, name: &str, value: &str) -> Value {
        match self.known.get(name) {
            Some(Form::Toml) => value.parse().unwrap_or_else(|never| match never {}),
            Some(Form::Text) | None => Value::from(value),
        }
    }

    fn set(&mut self, name: String, value: Value, origin: Origin) {
        if self.known.contains_key(&name) {
            self.set.insert(name, (value, origin));
            return;
        }
        let problem = if self.is_group(&name) {
            format!(
                "this is a group of settings: use a setting of the group, such as {}",
                origin.name_of(self.example(&name))
            )
        } else {
            match self.alike(&name) {
                Some(alike) => format!("unknown setting; did you mean {}?", origin.name_of(alike)),
                None => "unknown setting; `matricula config` lists all settings".to_owned(),
            }
        };
        self.problems.push(origin.with_problem(&name, &problem));
    }

    fn is_group(&self, name: &str) -> bool {
        self.known.keys().any(|known| known.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    }

    fn example<'a>(&'a self, group: &'a str) -> &'a str {
        self.known.keys().find(|known| known.starts_with(&format!("{group}."))).map_or(group, String::as_str)
    }

    /// The setting with the most similar name.
    fn alike(&self, name: &str) -> Option<&str> {
        // The most frequent mistake is one underscore instead of two.
        let plain = |name: &str| name.replace(['.', '_', '-'], "").to_lowercase();
        let likeness = |known: &str| strsim::jaro_winkler(&plain(known), &plain(name));
        let alike = self.known.keys().map(|known| (likeness(known), known));
        let (likeness, known) = alike.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
        (likeness >= ALIKE_MIN).then_some(known)
    }

    /// The settings that are set, merged over the defaults.
    pub fn over(&self, defaults: Figment) -> Figment {
        self.set.iter().fold(defaults, |figment, (name, (value, _))| figment.merge((name.as_str(), value.clone())))
    }

    /// Removes a setting or a group. Returns whether it was set.
    pub fn unset(&mut self, name: &str) -> bool {
        let before = self.set.len();
        self.set.retain(|known, _| !is_in(known, name));
        self.set.len() < before
    }

    /// A problem with a setting or a group, reported under the name with which it was set.
    pub fn problem(&self, name: &str, problem: &str) -> String {
        let mut origins = self.set.iter().filter(|(known, _)| is_in(known, name));
        masked(&match origins.next() {
            Some((known, (_, origin))) => origin.with_problem(known, problem),
            None => format!("{name}: {problem}"),
        })
    }
}

impl Origin {
    /// The text of a problem with a setting of this origin.
    fn with_problem(&self, name: &str, problem: &str) -> String {
        match self {
            Self::Variable(variable) => format!("{variable}: {problem}"),
            Self::File(file) => format!("{name}: {problem} (set in {file})"),
            Self::Flag => format!("{name}: {problem} (set by a flag)"),
        }
    }

    /// The name of another setting, as it would be written at the same origin.
    fn name_of(&self, name: &str) -> String {
        match self {
            Self::Variable(_) => format!("{ENV_PREFIX}{}", name.replace('.', "__").to_uppercase()),
            Self::File(_) | Self::Flag => name.to_owned(),
        }
    }
}

/// Whether the setting has this name, or is in the group of this name.
fn is_in(setting: &str, name: &str) -> bool {
    setting.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn has_our_prefix(variable: &str) -> bool {
    let is_prefixed = variable.get(..ENV_PREFIX.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(ENV_PREFIX));
    is_prefixed && !OF_TESTS.contains(&variable)
}
