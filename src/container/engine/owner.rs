//! Which process a container belongs to, so that the next run can tell a killed run's leftovers from a concurrent run's.
//!
//! In: `/proc`. Out: the value of the label [`RUN_LABEL`]: `pid:start-time:pid-namespace:boot-id`. A process id alone
//! comes back after a while; with its start time (clock ticks after boot) it is unique in one boot, and it means
//! something only in the process id namespace that it was read in.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// The label that every container of a run has.
pub const RUN_LABEL: &str = "org.ocinitrd.run";

/// No build takes that long: a container this old whose owner cannot be asked is a leftover if it does not run.
const LONGEST_RUN: Duration = Duration::from_secs(24 * 60 * 60);

/// A process on one boot of one machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Owner {
    pid: u32,
    start_ticks: u64,
    /// The number of the process id namespace.
    namespace: String,
    boot_id: String,
}

impl Owner {
    /// This process.
    ///
    /// # Errors
    /// Fails when `/proc` cannot be read.
    pub fn current() -> Result<Self> {
        Owner::read(Path::new("/proc"), std::process::id())
    }

    fn read(proc: &Path, pid: u32) -> Result<Self> {
        let start_ticks =
            start_ticks(proc, pid)?.with_context(|| format!("process {pid} is not in {}", proc.display()))?;
        let link = proc.join("self/ns/pid");
        let namespace = fs::read_link(&link).with_context(|| format!("reading {}", link.display()))?;
        let namespace = namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
        Ok(Owner { pid, start_ticks, namespace, boot_id: boot_id(proc)? })
    }

    /// Parses a label's value. `None` for what no version of this program wrote.
    pub fn parse(label: &str) -> Option<Self> {
        let mut parts = label.split(':');
        let owner = Owner {
            pid: parts.next()?.parse().ok()?,
            start_ticks: parts.next()?.parse().ok()?,
            namespace: parts.next()?.to_owned(),
            boot_id: parts.next()?.to_owned(),
        };
        parts.next().is_none().then_some(owner)
    }

    /// Whether the owner runs; `None` if it belongs to another boot, machine or process id namespace than `observer`.
    fn is_alive(&self, observer: &Owner, proc: &Path) -> Result<Option<bool>> {
        if self.boot_id != observer.boot_id || self.namespace != observer.namespace {
            return Ok(None);
        }
        Ok(Some(start_ticks(proc, self.pid)? == Some(self.start_ticks)))
    }

    /// Whether what belongs to this owner, is `age` old and `running` or not, was left behind by a killed run.
    ///
    /// # Errors
    /// Fails when `/proc` cannot be read.
    pub fn left_behind(&self, observer: &Owner, age: Duration, running: bool) -> Result<bool> {
        self.judge(observer, Path::new("/proc"), age, running)
    }

    fn judge(&self, observer: &Owner, proc: &Path, age: Duration, running: bool) -> Result<bool> {
        Ok(match self.is_alive(observer, proc)? {
            Some(alive) => !alive,
            None => !running && age > LONGEST_RUN,
        })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}:{}", self.pid, self.start_ticks, self.namespace, self.boot_id)
    }
}

fn boot_id(proc: &Path) -> Result<String> {
    let path = proc.join("sys/kernel/random/boot_id");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// The 22nd field of `/proc/PID/stat`, see proc_pid_stat(5). The second is a name in parentheses that may hold anything.
fn start_ticks(proc: &Path, pid: u32) -> Result<Option<u64>> {
    let path = proc.join(pid.to_string()).join("stat");
    let stat = match fs::read(&path) {
        Ok(stat) => String::from_utf8_lossy(&stat).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        // The process ended between opening and reading.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let after_name = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = after_name.split_whitespace().nth(19).and_then(|field| field.parse().ok());
    ticks.with_context(|| format!("reading {}: no start time in it", path.display())).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A `/proc` in which process 7 started at tick 1000.
    fn machine() -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir_all(proc.path().join("sys/kernel/random")).unwrap();
        fs::write(proc.path().join("sys/kernel/random/boot_id"), "boot-a\n").unwrap();
        fs::create_dir_all(proc.path().join("self/ns")).unwrap();
        std::os::unix::fs::symlink("pid:[4026531836]", proc.path().join("self/ns/pid")).unwrap();
        fs::create_dir_all(proc.path().join("7")).unwrap();
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 1000 2 3";
        fs::write(proc.path().join("7/stat"), stat).unwrap();
        proc
    }

    fn judge(proc: &Path, label: &str, age: Duration, running: bool) -> bool {
        let observer = Owner::read(proc, 7).unwrap();
        Owner::parse(label).unwrap().judge(&observer, proc, age, running).unwrap()
    }

    #[test]
    fn a_label_reads_back() {
        let owner = Owner::current().unwrap();
        assert_eq!(Owner::parse(&owner.to_string()), Some(owner));
        for foreign in ["", "1:2:3", "x:2:3:4", "1:2:3:4:5"] {
            assert_eq!(Owner::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_living_owners_containers_are_never_leftovers() {
        let proc = machine();
        assert_eq!(Owner::read(proc.path(), 7).unwrap().to_string(), "7:1000:4026531836:boot-a");
        assert!(!judge(proc.path(), "7:1000:4026531836:boot-a", 100 * HOUR, false));
    }

    #[test]
    fn a_dead_owners_containers_are_leftovers_even_if_its_number_came_back() {
        let proc = machine();
        assert!(judge(proc.path(), "8:1000:4026531836:boot-a", Duration::ZERO, true));
        assert!(judge(proc.path(), "7:999:4026531836:boot-a", Duration::ZERO, true));
    }

    #[test]
    fn an_owner_that_cannot_be_asked_keeps_what_runs_and_what_is_young() {
        let proc = machine();
        for label in ["8:1:4026531836:boot-b", "8:1:4026532000:boot-a"] {
            assert!(!judge(proc.path(), label, HOUR, false), "{label}");
            assert!(!judge(proc.path(), label, 100 * HOUR, true), "{label}");
            assert!(judge(proc.path(), label, 25 * HOUR, false), "{label}");
        }
    }
}
