//! The settings that are set, and where: in the file, in the environment, by flags; each goes before the ones before it.
//!
//! Every name is compared with the settings that there are before anything is read, so that all unknown ones are named at
//! once, as they were written. A text is taken as it is, whatever it looks like: `2026` is a folder's name, too.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use figment::Figment;
use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Value};
use matricula_kit::secret::masked;

use super::service_links::is_service_link;

/// Prefix of the environment's settings; levels are parted by two underscores.
const ENV_PREFIX: &str = "MATRICULA_";
/// Settings of the test suite, not of the program.
const OF_TESTS: [&str; 1] = ["MATRICULA_TEST_POSTGRES_URL"];
/// How alike two names are, 0 to 1, when one is suggested for the other: a letter, or an underscore, is wrong.
const ALIKE_MIN: f64 = 0.94;

/// The settings that there are, and how the value of each is written in the environment.
pub type Known = BTreeMap<String, Form>;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it is.
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

/// What is set.
pub struct Layers {
    known: Known,
    set: BTreeMap<String, (Value, Origin)>,
    /// What can't be read at all.
    pub problems: Vec<String>,
    /// Variables that look like settings and are those of a container's services.
    pub ignored: Vec<String>,
}

impl Layers {
    /// Nothing is set.
    pub fn new(known: Known) -> Self {
        Self { known, set: BTreeMap::new(), problems: Vec::new(), ignored: Vec::new() }
    }

    /// Reads a file; one that is missing sets nothing.
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

    /// Reads the variables that begin with our prefix. An empty one counts as unset.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) {
        let mut variables: Vec<(String, OsString)> = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, value)| is_ours(name) && !value.is_empty())
            .collect();
        variables.sort();
        for (variable, value) in variables {
            self.variable(variable, &value);
        }
    }

    fn variable(&mut self, variable: String, value: &OsStr) {
        let name = variable[ENV_PREFIX.len()..].to_lowercase().replace("__", ".");
        let Some(value) = value.to_str() else {
            self.problems.push(format!("{variable}: its value is no UTF-8"));
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
            format!("is a group of settings: set one of them, such as {}", origin.name_of(self.example(&name)))
        } else {
            match self.alike(&name) {
                Some(alike) => format!("there is no such setting; perhaps {} is meant", origin.name_of(alike)),
                None => "there is no such setting; `matricula config` prints all of them".to_owned(),
            }
        };
        self.problems.push(origin.worded(&name, &problem));
    }

    fn is_group(&self, name: &str) -> bool {
        self.known.keys().any(|known| known.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    }

    fn example<'a>(&'a self, group: &'a str) -> &'a str {
        self.known.keys().find(|known| known.starts_with(&format!("{group}."))).map_or(group, String::as_str)
    }

    /// The setting that is most like a name.
    fn alike(&self, name: &str) -> Option<&str> {
        // One underscore instead of two is the most frequent slip.
        let plain = |name: &str| name.replace(['.', '_', '-'], "").to_lowercase();
        let likeness = |known: &str| strsim::jaro_winkler(&plain(known), &plain(name));
        let alike = self.known.keys().map(|known| (likeness(known), known));
        let (likeness, known) = alike.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
        (likeness >= ALIKE_MIN).then_some(known)
    }

    /// The settings that are set, over the defaults.
    pub fn over(&self, defaults: Figment) -> Figment {
        self.set.iter().fold(defaults, |figment, (name, (value, _))| figment.merge((name.as_str(), value.clone())))
    }

    /// Has a setting, or a group, be as if it was not set. Whether it was.
    pub fn unset(&mut self, name: &str) -> bool {
        let before = self.set.len();
        self.set.retain(|known, _| !is_of(known, name));
        self.set.len() < before
    }

    /// A problem of a setting or a group, by the name under which it was set.
    pub fn problem(&self, name: &str, problem: &str) -> String {
        let mut origins = self.set.iter().filter(|(known, _)| is_of(known, name));
        masked(&match origins.next() {
            Some((known, (_, origin))) => origin.worded(known, problem),
            None => format!("{name}: {problem}"),
        })
    }
}

impl Origin {
    /// A problem of what was set here.
    fn worded(&self, name: &str, problem: &str) -> String {
        match self {
            Self::Variable(variable) => format!("{variable}: {problem}"),
            Self::File(file) => format!("{name}: {problem} (set in {file})"),
            Self::Flag => format!("{name}: {problem} (set by a flag)"),
        }
    }

    /// The name of another setting, as it would be set in the same place.
    fn name_of(&self, name: &str) -> String {
        match self {
            Self::Variable(_) => format!("{ENV_PREFIX}{}", name.replace('.', "__").to_uppercase()),
            Self::File(_) | Self::Flag => name.to_owned(),
        }
    }
}

/// Whether a setting is the one of this name, or in the group of this name.
fn is_of(setting: &str, name: &str) -> bool {
    setting.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn is_ours(variable: &str) -> bool {
    let is_prefixed = variable.get(..ENV_PREFIX.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(ENV_PREFIX));
    is_prefixed && !OF_TESTS.contains(&variable)
}
