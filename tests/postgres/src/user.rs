//! The user for a server when this process is root's.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use anyhow::Context;

/// Users that may run it, the best first: `postgres` comes with the packages, `nobody` is on every system.
const NAMES: [&str; 2] = ["postgres", "nobody"];

/// A user of the system.
#[derive(Debug, PartialEq, Eq)]
pub struct User {
    /// Number of the user.
    pub uid: u32,
    /// Number of the user's group.
    pub gid: u32,
}

impl User {
    /// The user to run a server as.
    pub fn for_server() -> anyhow::Result<Self> {
        let passwd = std::fs::read_to_string("/etc/passwd").context("can't read /etc/passwd")?;
        NAMES
            .iter()
            .find_map(|name| find(&passwd, name))
            .context("PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`")
    }
}

/// Whether this process is root's. A new file belongs to the current user, so no system call of its own is needed.
pub fn is_root() -> anyhow::Result<bool> {
    let file: File = tempfile::tempfile()?;
    Ok(file.metadata()?.uid() == 0)
}

fn find(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(User { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::{User, find};

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\npostgres2:x:1:2::/:\npostgres:x:101:104::/var/lib/postgresql:/bin/sh\n";
        assert_eq!(find(passwd, "postgres"), Some(User { uid: 101, gid: 104 }));
        assert_eq!(find(passwd, "nobody"), None);
    }
}
