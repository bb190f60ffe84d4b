//! What clients can take of this process at most: connections, memory for what they send, and time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Files and sockets that the process needs beside the connections of clients: databases, other services, probes.
const OPEN_FILES_RESERVED: u64 = 512;
/// Fewest connections a port takes, however few files the process may open.
const CONNECTIONS_MIN: usize = 16;
/// Fewest bytes that may be arriving: the largest message that a service takes.
const ARRIVING_BYTES_MIN: usize = 16 << 20;

/// Settings of what clients can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Connections that each gRPC port takes; the next is closed at once. A portal holds a few, and a browser holds one
    /// while it watches. An idle connection costs about 20 KiB.
    pub connections_max: usize,
    /// Bytes of requests that have begun to arrive on a port and are not whole yet; beyond it they are rejected.
    pub arriving_bytes_max: usize,
    /// How long a client may send nothing more of a request that it has begun, or take nothing of what it is sent. Then
    /// its call or its connection is ended.
    pub stall_ms: u64,
    /// How long a new connection may take to show that it speaks HTTP.
    pub opening_ms: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { connections_max: 10_000, arriving_bytes_max: 256 << 20, stall_ms: 30_000, opening_ms: 10_000 }
    }
}

impl LimitsConfig {
    /// What is wrong, by setting.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |setting, value: u64, min: u64, max: u64| {
            if !(min..=max).contains(&value) {
                problems.push((setting, format!("must be {min} to {max}")));
            }
        };
        check("connections_max", self.connections_max as u64, CONNECTIONS_MIN as u64, 1_000_000);
        check("arriving_bytes_max", self.arriving_bytes_max as u64, ARRIVING_BYTES_MIN as u64, 1 << 40);
        check("stall_ms", self.stall_ms, 100, 600_000);
        check("opening_ms", self.opening_ms, 100, 600_000);
        problems
    }

    /// The limits of each of `ports` in this process, which may from now on open as many files as the system lets it.
    pub fn in_process(&self, ports: usize) -> Limits {
        let open_files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
            tracing::warn!(%error, "the limit of open files can't be read; connections are limited as configured");
            u64::MAX
        });
        let limits = self.within(open_files, ports);
        if limits.connections_max < self.connections_max {
            tracing::warn!(
                open_files,
                connections_max = limits.connections_max,
                "each port takes fewer connections than configured: raise the limit of open files (ulimit -n)"
            );
        }
        limits
    }

    /// The limits of each of `ports` in a process that may open so many files.
    fn within(&self, open_files: u64, ports: usize) -> Limits {
        let each = open_files.saturating_sub(OPEN_FILES_RESERVED) / ports.max(1) as u64;
        let each = usize::try_from(each).unwrap_or(usize::MAX).max(CONNECTIONS_MIN);
        Limits {
            connections_max: self.connections_max.min(each),
            arriving_bytes_max: self.arriving_bytes_max,
            stall: Duration::from_millis(self.stall_ms),
            opening: Duration::from_millis(self.opening_ms),
        }
    }
}

/// What clients can take of one port.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections; the next is closed at once.
    pub connections_max: usize,
    /// Bytes of requests that are not whole yet.
    pub arriving_bytes_max: usize,
    /// How long a request may bring nothing, or a reader take nothing.
    pub stall: Duration,
    /// How long a new connection may send nothing.
    pub opening: Duration,
}

impl Default for Limits {
    /// Of a process that may open any number of files.
    fn default() -> Self {
        LimitsConfig::default().within(u64::MAX, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(open_files: u64, ports: usize, expect: usize) {
        assert_eq!(LimitsConfig::default().within(open_files, ports).connections_max, expect);
    }

    #[test]
    fn connections_leave_room_for_other_files() {
        check(u64::MAX, 6, 10_000);
        check(20_000, 1, 10_000);
        check(20_000, 6, 3_248);
        check(1_024, 1, 512);
        check(1_024, 6, 85);
        check(256, 1, CONNECTIONS_MIN);
    }

    #[test]
    fn every_problem_is_reported() {
        let config = LimitsConfig { connections_max: 0, arriving_bytes_max: 1, stall_ms: 0, opening_ms: u64::MAX };
        let settings: Vec<&str> = config.problems().into_iter().map(|(setting, _)| setting).collect();
        assert_eq!(settings, ["connections_max", "arriving_bytes_max", "stall_ms", "opening_ms"]);
        assert_eq!(LimitsConfig::default().problems(), []);
    }
}
