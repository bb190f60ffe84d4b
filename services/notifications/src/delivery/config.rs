//! Where messages go, as it is configured.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{FileSink, LogSink, Sink, SmtpSink};

/// Configuration of the role.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NotificationConfig {
    /// Where messages go.
    pub sink: SinkConfig,
}

/// Where messages go: `kind` is `log`, `file` or `smtp`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SinkConfig {
    /// To the log, at debug level: a registration day has more messages than a log should carry unasked.
    #[default]
    Log,
    /// To a file, one JSON object a line.
    File {
        /// The file; it is created when it is not there, and appended to.
        path: PathBuf,
    },
    /// To the students' addresses.
    Smtp {
        /// `smtps://user:password@host:port`, or `smtp://...?tls=required` for STARTTLS. A password is taken with plain
        /// `smtp://` and with `?tls=opportunistic` for a server on this machine only.
        url: String,
        /// The sender, such as `Registrar <registrar@example.edu>`.
        from: String,
    },
}

/// A setting that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ConfigError {
    /// Path of the setting.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl ConfigError {
    pub(crate) fn new(field: &'static str, problem: impl fmt::Display) -> Self {
        Self { field, problem: problem.to_string() }
    }
}

impl NotificationConfig {
    /// Checks the settings without touching file or network.
    pub fn try_validate(&self) -> Result<(), ConfigError> {
        match &self.sink {
            SinkConfig::Log => Ok(()),
            SinkConfig::File { path } if path.as_os_str().is_empty() => {
                Err(ConfigError::new("notifications.sink.path", "must name a file"))
            }
            SinkConfig::File { .. } => Ok(()),
            SinkConfig::Smtp { url, from } => SmtpSink::try_validate(url, from),
        }
    }
}

impl SinkConfig {
    /// Makes the sink; needs a runtime.
    pub(crate) fn try_sink(&self) -> Result<Arc<dyn Sink>, ConfigError> {
        NotificationConfig { sink: self.clone() }.try_validate()?;
        Ok(match self {
            Self::Log => Arc::new(LogSink),
            Self::File { path } => Arc::new(FileSink::try_open(path)?),
            Self::Smtp { url, from } => Arc::new(SmtpSink::try_new(url, from)?),
        })
    }
}

impl fmt::Debug for SinkConfig {
    /// Without the password that is in the URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log => f.write_str("Log"),
            Self::File { path } => f.debug_struct("File").field("path", path).finish(),
            Self::Smtp { url, from } => {
                // A URL that can't be read is not shown at all: its password may be anywhere in it.
                let host = url::Url::parse(url).ok().and_then(|url| {
                    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                    Some(format!("{}{port}", url.host_str()?))
                });
                f.debug_struct("Smtp")
                    .field("url", &format!("smtp at {}", host.unwrap_or_default()))
                    .field("from", from)
                    .finish()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expect: Result<(), &str>) {
        let config: NotificationConfig = serde_json::from_str(json).expect("a configuration");
        assert_eq!(config.try_validate().map_err(|error| error.field), expect);
    }

    fn smtp(url: &str, from: &str) -> String {
        format!(r#"{{"sink": {{"kind": "smtp", "url": "{url}", "from": "{from}"}}}}"#)
    }

    #[test]
    fn settings_are_checked() {
        check("{}", Ok(()));
        check(r#"{"sink": {"kind": "file", "path": "a/b"}}"#, Ok(()));
        check(r#"{"sink": {"kind": "file", "path": ""}}"#, Err("notifications.sink.path"));
        for url in ["smtps://u:p@mail.example.edu", "smtp://u:p@mail.example.edu:25?tls=required", "smtp://relay:25"] {
            check(&smtp(url, "Registrar <r@example.edu>"), Ok(()));
        }
        check(&smtp("smtp://u:p@127.0.0.1:2525", "r@example.edu"), Ok(()));
        check(&smtp("smtp://u:p@mail.example.edu", "r@example.edu"), Err("notifications.sink.url"));
        check(&smtp("http://mail.example.edu", "r@example.edu"), Err("notifications.sink.url"));
        check(&smtp("smtps://mail.example.edu", "nobody"), Err("notifications.sink.from"));
        assert!(serde_json::from_str::<NotificationConfig>(r#"{"sink": {"kind": "fax"}}"#).is_err());
    }

    #[test]
    fn a_password_is_not_shown() {
        let config = SinkConfig::Smtp { url: "smtps://u:secret@host:465".to_owned(), from: "r@e.edu".to_owned() };
        assert_eq!(format!("{config:?}"), r#"Smtp { url: "smtp at host:465", from: "r@e.edu" }"#);
    }
}
