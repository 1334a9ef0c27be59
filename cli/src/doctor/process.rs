//! What this process may do, and who may take its rings away.

use super::{Check, Status};
use crate::units;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::{Pid, geteuid};
use std::fs;
use std::path::Path;

/// Descriptors that a process with a few rings needs: two for each handle, besides its own.
const FEW_FILES: u64 = 256;
/// User ids below this are the system's, and logind leaves their files alone.
const FIRST_USER: u32 = 1000;

pub fn checks() -> Vec<Check> {
    let mut checks = vec![processors(), files(), locked_memory(), seccomp(), protected_regular()];
    checks.extend(remove_ipc());
    checks
}

fn processors() -> Check {
    const NAME: &str = "processors";
    let allowed = sched_getaffinity(Pid::from_raw(0))
        .map(|set| (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu) == Ok(true)).count());
    match allowed {
        Ok(1) => Check::new(NAME, Status::Note, "1 allowed").advise(
            "sides that wait sleep at once: spinning would only keep the other from running",
        ),
        Ok(count) => Check::new(NAME, Status::Ok, format!("{count} allowed")),
        Err(errno) => Check::new(NAME, Status::Note, errno.desc()),
    }
}

fn limit(resource: Resource) -> Option<u64> {
    getrlimit(resource).ok().map(|(soft, _)| soft)
}

fn files() -> Check {
    const NAME: &str = "RLIMIT_NOFILE";
    match limit(Resource::RLIMIT_NOFILE) {
        Some(count) if count < FEW_FILES => {
            Check::new(NAME, Status::Warning, format!("{count} descriptors")).advise(
                "each open ring takes one, and each of its sides one more; raise it (ulimit -n)",
            )
        }
        Some(RLIM_INFINITY) => Check::new(NAME, Status::Ok, "no limit"),
        Some(count) => Check::new(NAME, Status::Ok, format!("{count} descriptors")),
        None => Check::new(NAME, Status::Note, "unknown"),
    }
}

fn locked_memory() -> Check {
    const NAME: &str = "RLIMIT_MEMLOCK";
    match limit(Resource::RLIMIT_MEMLOCK) {
        Some(RLIM_INFINITY) => Check::new(NAME, Status::Ok, "no limit"),
        Some(bytes) => Check::new(NAME, Status::Note, units::bytes(bytes))
            .advise("rings lock no memory; only programs that call mlock on theirs need more"),
        None => Check::new(NAME, Status::Note, "unknown"),
    }
}

fn seccomp() -> Check {
    const NAME: &str = "seccomp";
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:")).map(str::trim);
    match mode {
        Some("0") => Check::new(NAME, Status::Ok, "off"),
        Some("1") => Check::new(NAME, Status::Warning, "strict")
            .advise("a process in this mode can use rings it has open only by spinning"),
        Some("2") => Check::new(NAME, Status::Note, "a filter is on")
            .advise("the checks of the kernel above ran under it: what they say holds"),
        _ => Check::new(NAME, Status::Note, "unknown"),
    }
}

fn protected_regular() -> Check {
    const NAME: &str = "fs.protected_regular";
    let value = fs::read_to_string("/proc/sys/fs/protected_regular").unwrap_or_default();
    match value.trim() {
        "" => Check::new(NAME, Status::Note, "unknown"),
        "0" => Check::new(NAME, Status::Ok, "0"),
        value => Check::new(NAME, Status::Ok, value)
            .advise("rings are opened without O_CREAT, which is all that it forbids"),
    }
}

/// logind removes the shared memory of a user who has logged out altogether, rings in use included.
fn remove_ipc() -> Option<Check> {
    if !Path::new("/run/systemd/system").exists() {
        return None;
    }
    let mut files: Vec<_> = fs::read_dir("/etc/systemd/logind.conf.d")
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.sort();
    files.insert(0, "/etc/systemd/logind.conf".into());
    let setting = files
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|text| {
            let values = text.lines().filter_map(|line| line.trim().strip_prefix("RemoveIPC="));
            values.map(|value| value.trim().to_ascii_lowercase()).collect::<Vec<_>>()
        })
        .next_back();
    let removes = !matches!(setting.as_deref(), Some("no" | "false" | "off" | "0"));
    Some(remove_ipc_check(removes, geteuid().as_raw()))
}

fn remove_ipc_check(removes: bool, uid: u32) -> Check {
    const NAME: &str = "logind RemoveIPC";
    match (removes, uid >= FIRST_USER) {
        (false, _) => Check::new(NAME, Status::Ok, "off"),
        (true, false) => {
            Check::new(NAME, Status::Ok, "on, but it leaves system users' rings alone")
        }
        (true, true) => Check::new(NAME, Status::Warning, "on")
            .advise("names of this user's rings vanish at the last logout; set RemoveIPC=no, or `loginctl enable-linger`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logind_threatens_only_people() {
        assert_eq!(remove_ipc_check(true, 1000).status, Status::Warning);
        assert_eq!(remove_ipc_check(true, 0).status, Status::Ok);
        assert_eq!(remove_ipc_check(false, 1000).status, Status::Ok);
    }
}
