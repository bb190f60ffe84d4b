//! The CPU time and the memory of a process, from the operating system.

use std::time::Duration;

/// Ticks of the kernel's accounting in a second; Linux uses this number for all programs.
const TICKS_PER_S: u64 = 100;

/// A line of `/proc/PID/stat`.
struct Stat {
    parent: u32,
    own_ticks: u64,
    /// Of children that have ended.
    children_ticks: u64,
}

impl Stat {
    fn read(pid: &str) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(line: &str) -> Option<Self> {
        // The name in parentheses may have spaces; the fields after it are numbered from the state, the third.
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own_ticks: ticks(11)? + ticks(12)?,
            children_ticks: ticks(13)? + ticks(14)?,
        })
    }
}

/// The CPU that a process has used since its start, all its threads together.
///
/// # Panics
/// When it does not run.
pub fn cpu(pid: u32) -> Duration {
    of_ticks(Stat::read(&pid.to_string()).expect("the process lives, on Linux").own_ticks)
}

/// The CPU that a server with a process for each connection has used, with all those processes, ended or not.
///
/// # Panics
/// When it does not run.
pub fn cpu_of_server(pid: u32) -> Duration {
    let server = Stat::read(&pid.to_string()).expect("the server lives, on Linux");
    let all = std::fs::read_dir("/proc").expect("there is a /proc").flatten();
    let children = all.filter_map(|entry| Stat::read(entry.file_name().to_str()?)).filter(|stat| stat.parent == pid);
    of_ticks(server.own_ticks + server.children_ticks + children.map(|child| child.own_ticks).sum::<u64>())
}

/// The memory of a process now, in MiB.
///
/// # Panics
/// When it does not run.
pub fn memory_mib(pid: u32) -> u64 {
    status_mib(pid, "VmRSS:")
}

/// The peak memory of a process, in MiB.
///
/// # Panics
/// When it does not run.
pub fn peak_memory_mib(pid: u32) -> u64 {
    status_mib(pid, "VmHWM:")
}

fn status_mib(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives, on Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells it");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number of kB") / 1024
}

fn of_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1_000 / TICKS_PER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let line = "77 (a) b (c) S 12 77 77 0 -1 4194560 1 2 3 4 150 50 7 3 20 0 9 0 5 6";
        let stat = Stat::parse(line).expect("a line of the kernel's");
        assert_eq!((stat.parent, stat.own_ticks, stat.children_ticks), (12, 200, 10));
        assert_eq!(of_ticks(stat.own_ticks), Duration::from_secs(2));
    }

    #[test]
    fn a_busy_process_uses_cpu() {
        let me = std::process::id();
        let (before, started) = (cpu(me), std::time::Instant::now());
        while cpu(me) <= before {
            assert!(started.elapsed() < crate::PATIENCE, "this loop uses CPU");
        }
        assert!(cpu_of_server(me) >= cpu(me) && peak_memory_mib(me) > 0);
    }
}
