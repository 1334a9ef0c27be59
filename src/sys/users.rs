//! Whose user id that is.

use std::fs;

/// The id that the kernel shows for users whom the caller's user namespace does not know, unless it is told another.
const OVERFLOW: u32 = 65534;

/// Whether `uid`, as the kernel says it here, is this process's user or the superuser, who could do to us whatever it
/// wants anyhow.
///
/// In a user namespace that does not know all users, those whom it does not know look alike, and like `nobody`. One of
/// them is nobody's equal, also where this process is itself shown so.
pub(crate) fn is_same_or_root(uid: u32) -> bool {
    uid == 0
        || uid == nix::unistd::geteuid().as_raw()
            && (uid != overflow() || knows_all(&read("/proc/self/uid_map")))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn overflow() -> u32 {
    read("/proc/sys/kernel/overflowuid").trim().parse().unwrap_or(OVERFLOW)
}

/// Whether a namespace with this map has an id for each user there can be: lines of first id inside, first id
/// outside, count.
fn knows_all(map: &str) -> bool {
    let count = |line: &str| -> Option<u64> { line.split_whitespace().nth(2)?.parse().ok() };
    // The highest number is no user's.
    map.lines().filter_map(count).sum::<u64>() >= u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_map_knows_all() {
        assert!(knows_all("         0          0 4294967295\n"));
        assert!(knows_all("0 0 1000\n1000 1000 4294966295\n"));
        assert!(!knows_all("0 100000 65536\n"));
        assert!(!knows_all("65534 65534 1\n"));
        assert!(!knows_all(""));
    }
}
