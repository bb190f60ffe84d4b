//! CPU time of this process, of a PostgreSQL server with all its processes, and of a Redis server, as Linux reports it.

/// Units of CPU time in a second: fixed for programs, whatever the kernel itself uses.
const TICKS_PER_S: u64 = 100;

/// The processes whose time is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Meters {
    /// The first process of the PostgreSQL server; `None` when it is on another machine.
    pub postmaster: Option<u32>,
    /// The Redis server.
    pub redis: Option<u32>,
}

/// Microseconds of CPU, since the start of each process or between two reads. `None`: not available.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// This process: the clients and, with one writer, the writer.
    pub client_us: Option<u64>,
    /// PostgreSQL, with the processes that have ended.
    pub postgres_us: Option<u64>,
    /// Redis.
    pub redis_us: Option<u64>,
}

/// The times in `/proc/PID/stat`.
struct Stat {
    parent: u32,
    own_us: u64,
    /// Of children that have ended and were waited for.
    ended_us: u64,
}

impl Meters {
    /// Reads the times.
    pub fn read(&self) -> Cpu {
        Cpu {
            client_us: stat("self").map(|stat| stat.own_us),
            postgres_us: self.postmaster.and_then(tree_us),
            redis_us: self.redis.and_then(|pid| stat(&pid.to_string())).map(|stat| stat.own_us),
        }
    }
}

impl Cpu {
    /// The time since an earlier read.
    pub fn since(&self, earlier: &Self) -> Self {
        let used = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        Self {
            client_us: used(self.client_us, earlier.client_us),
            postgres_us: used(self.postgres_us, earlier.postgres_us),
            redis_us: used(self.redis_us, earlier.redis_us),
        }
    }
}

/// The first process of the server whose child serves this connection; `None` when it is not on this machine.
pub fn postmaster_of(backend: i32) -> Option<u32> {
    let parent = stat(&backend.to_string())?.parent;
    let name = std::fs::read_to_string(format!("/proc/{parent}/comm")).ok()?;
    name.starts_with("postgres").then_some(parent)
}

fn tree_us(first: u32) -> Option<u64> {
    let root = stat(&first.to_string())?;
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let names = processes.filter_map(|entry| entry.file_name().into_string().ok());
    let pids = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let children = pids.filter_map(|pid| stat(&pid)).filter(|stat| stat.parent == first);
    Some(root.own_us + root.ended_us + children.map(|stat| stat.own_us).sum::<u64>())
}

fn stat(pid: &str) -> Option<Stat> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(text: &str) -> Option<Stat> {
    // The name before it may contain any character, blanks and brackets too.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let us = |at: usize| Some(fields.get(at)?.parse::<u64>().ok()? * (1_000_000 / TICKS_PER_S));
    Some(Stat { parent: fields.get(1)?.parse().ok()?, own_us: us(11)? + us(12)?, ended_us: us(13)? + us(14)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read_whatever_the_name_holds() {
        let text = "4242 (post) gres (1)) S 7 4242 4242 0 -1 4194560 1 2 3 4 150 50 30 20 20 0 1 0 100 1 1";
        let stat = parse(text).unwrap();
        assert_eq!((stat.parent, stat.own_us, stat.ended_us), (7, 2_000_000, 500_000));
        assert!(parse("4242 (post").is_none());
    }
}
