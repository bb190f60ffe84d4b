//! How long finished sagas stay, and where they go; each number with its reason.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How late a call of a finished saga may take effect, in seconds: four hours. Services decide no call that is older
/// than two hours, the clocks of two machines may differ by one hour, and a commit in progress may take one hour. See
/// ADR 0010.
const MARGIN_S: u64 = 4 * 60 * 60;
const KEEP_S_MAX: u64 = 100 * 365 * 24 * 60 * 60;

/// Settings of the retention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// Whether finished sagas leave the database at all.
    pub enabled: bool,
    /// How long a saga stays after its end, in seconds. During thirty days people may want to see every attempt of a
    /// registration. Its answer stays for ever.
    pub keep_finished_s: u64,
    /// The minimum of `keep_finished_s`, in seconds. After four hours no call of a finished saga can take effect any
    /// more, so its barrier rows are not needed. Less is for tests, in which no call is late.
    pub margin_s: u64,
    /// Folder of the archive's files; empty: `archive` in the data folder.
    pub archive_dir: PathBuf,
    /// Sagas that are archived together, in one file: a file of a few megabytes, and 0.1 s of work.
    pub chunk: usize,
    /// Time between two searches for old sagas, in milliseconds.
    pub look_ms: u64,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            keep_finished_s: 30 * 24 * 60 * 60,
            margin_s: MARGIN_S,
            archive_dir: PathBuf::new(),
            chunk: 1_000,
            look_ms: 60_000,
        }
    }
}

impl RetentionConfig {
    /// The settings that are out of bounds, as (setting, problem).
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |good: bool, setting, bound: String| {
            if !good {
                problems.push((setting, format!("must be {bound}")));
            }
        };
        let keep = format!("margin_s ({}) to {KEEP_S_MAX}", self.margin_s);
        check((self.margin_s..=KEEP_S_MAX).contains(&self.keep_finished_s), "keep_finished_s", keep);
        // The most sagas in one request to a service.
        check((1..=1_000).contains(&self.chunk), "chunk", "1 to 1000".to_owned());
        check((100..=86_400_000).contains(&self.look_ms), "look_ms", "100 to 86400000".to_owned());
        problems
    }

    pub(super) fn keep_ms(&self) -> i64 {
        i64::try_from(self.keep_finished_s.saturating_mul(1_000)).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_covers_stale_calls_and_wrong_clocks() {
        let clocks_apart_ms = 60 * 60 * 1_000;
        let committing_ms = 60 * 60 * 1_000;
        let margin_ms = i64::try_from(MARGIN_S * 1_000).expect("it fits");
        assert_eq!(margin_ms, matricula_kit::participant::STALE_AFTER_MS + clocks_apart_ms + committing_ms);
    }

    #[test]
    fn bounds() {
        assert_eq!(RetentionConfig::default().problems(), []);
        let config = RetentionConfig { keep_finished_s: 60, chunk: 0, look_ms: 1, ..RetentionConfig::default() };
        let settings: Vec<&str> = config.problems().into_iter().map(|(setting, _)| setting).collect();
        assert_eq!(settings, ["keep_finished_s", "chunk", "look_ms"]);
    }
}
