//! Facts about a machine, read below a root directory, so that a directory can stand in for a machine.
//!
//! In: `/proc`, `/etc`, `/dev` and the programs of the search path. Out: plain values; nothing is judged here.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{Access, access, statvfs};

use crate::boot::kvm::offers_virtualisation;
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// A machine and a user of it.
#[derive(Clone, Debug)]
pub struct Host {
    /// `/`, or a directory that stands in for it.
    pub root: PathBuf,
    /// The effective user id.
    pub user_id: u32,
    /// Where programs are looked for, as absolute paths.
    pub search_path: Vec<PathBuf>,
    /// Where the cache is, absolute.
    pub cache: PathBuf,
    /// Where temporary files go, absolute.
    pub temporary: PathBuf,
    /// Where the user's configuration lies, absolute, if that is known.
    pub configuration: Option<PathBuf>,
    /// The architecture in the kernel's words: `x86_64`, `aarch64`.
    pub architecture: String,
}

/// How control groups are mounted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cgroups {
    /// Version 2 alone.
    Unified,
    /// Version 1 alone.
    Legacy,
    /// Both. The controllers that version 2 still has, and where the version 1 hierarchies are.
    Hybrid {
        /// Names out of `cgroup.controllers`.
        controllers: Vec<String>,
        /// The directory of the version 1 hierarchies.
        directory: PathBuf,
    },
    /// None.
    Absent,
}

/// A range of subordinate ids, as in `/etc/subuid`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IdRange {
    /// A user's name or number.
    pub owner: String,
    /// The first id.
    pub start: u64,
    /// How many.
    pub count: u64,
}

/// A soft and a hard limit; `None` is unlimited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limit {
    /// What may be raised by the program itself.
    pub soft: Option<u64>,
    /// What may not.
    pub hard: Option<u64>,
}

impl Host {
    /// `path` on this machine.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn read(&self, path: &str) -> Result<Option<String>> {
        match regular_file::read_text(&self.path(path), TEXT_LIMIT_BYTES) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {path}")),
        }
    }

    /// Where the program is, in the machine's own paths.
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        let places = self.search_path.iter().map(|directory| directory.join(program));
        let is_program = |place: &PathBuf| {
            fs::metadata(self.path(place)).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
        };
        places.into_iter().find(is_program)
    }

    /// The user's name, or the number where `/etc/passwd` has none.
    ///
    /// # Errors
    /// Fails when the file exists and cannot be read.
    pub fn user_name(&self) -> Result<String> {
        let number = self.user_id.to_string();
        let passwd = self.read("/etc/passwd")?.unwrap_or_default();
        let mut entries = passwd.lines().map(|line| line.split(':'));
        let name = entries.find_map(|mut fields| {
            let name = fields.next()?;
            (fields.nth(1) == Some(number.as_str())).then(|| name.to_owned())
        });
        Ok(name.unwrap_or(number))
    }

    /// All ranges of `/etc/subuid` or `/etc/subgid`; lines that are none are left out, as shadow-utils does.
    ///
    /// # Errors
    /// Fails when the file exists and cannot be read.
    pub fn id_ranges(&self, file: &str) -> Result<Vec<IdRange>> {
        let text = self.read(file)?.unwrap_or_default();
        let ranges = text.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next().filter(|owner| !owner.is_empty() && !owner.starts_with('#'))?.to_owned();
            Some(IdRange { owner, start: fields.next()?.parse().ok()?, count: fields.next()?.parse().ok()? })
        });
        Ok(ranges.collect())
    }

    /// How control groups are mounted, by proc_pid_mountinfo(5).
    ///
    /// # Errors
    /// Fails when the mounts cannot be read.
    pub fn cgroups(&self) -> Result<Cgroups> {
        let mounts = self.read("/proc/self/mountinfo")?.context("reading /proc/self/mountinfo: it is missing")?;
        let of_type = |wanted: &str| mounts.lines().filter_map(parse_mount).find(|(kind, _)| *kind == wanted);
        Ok(match (of_type("cgroup"), of_type("cgroup2")) {
            (Some((_, legacy)), Some((_, unified))) => {
                let controllers = self.read(&format!("{unified}/cgroup.controllers"))?.unwrap_or_default();
                let directory = Path::new(legacy).parent().unwrap_or(Path::new("/sys/fs/cgroup")).to_owned();
                Cgroups::Hybrid { controllers: controllers.split_whitespace().map(str::to_owned).collect(), directory }
            }
            (None, Some(_)) => Cgroups::Unified,
            (Some(_), None) => Cgroups::Legacy,
            (None, None) => Cgroups::Absent,
        })
    }

    /// A limit of our own process, by its name in `/proc/self/limits`.
    ///
    /// # Errors
    /// Fails when the limits cannot be read.
    pub fn limit(&self, name: &str) -> Result<Limit> {
        let limits = self.read("/proc/self/limits")?.context("reading /proc/self/limits: it is missing")?;
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        let mut values = line.with_context(|| format!("reading /proc/self/limits: no {name}"))?.split_whitespace();
        let mut next = || values.next().and_then(|value| value.parse().ok());
        Ok(Limit { soft: next(), hard: next() })
    }

    /// Whether a file exists, and whether we may read and write it.
    pub fn access(&self, path: &str) -> io::Result<()> {
        access(self.path(path), Access::READ_OK | Access::WRITE_OK).map_err(io::Error::from)
    }

    /// Whether the processor offers virtualisation to this machine's kernel.
    ///
    /// # Errors
    /// Fails when the processor's description cannot be read.
    pub fn has_virtualisation(&self) -> Result<bool> {
        let description = self.read("/proc/cpuinfo")?.unwrap_or_default();
        Ok(offers_virtualisation(&description))
    }

    /// The free bytes for us in the file system of `directory`, or of the nearest parent that exists.
    ///
    /// # Errors
    /// Fails when the file system cannot be asked.
    pub fn free_bytes(&self, directory: &Path) -> Result<u64> {
        let existing = directory.ancestors().find(|ancestor| self.path(ancestor).exists()).unwrap_or(Path::new("/"));
        let facts = statvfs(self.path(existing))
            .with_context(|| format!("asking for the free space of {}", existing.display()))?;
        Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
    }

    /// The command that installs the first package with apt-get or the second with dnf, whichever the machine has.
    pub fn install_command(&self, debian: &str, fedora: &str) -> String {
        let sudo = self.sudo();
        if self.find("apt-get").is_some() {
            format!("{sudo}apt-get install {debian}")
        } else if self.find("dnf").is_some() {
            format!("{sudo}dnf install {fedora}")
        } else {
            format!("install the package {fedora} (Debian: {debian}) with this distribution's package manager")
        }
    }

    /// What goes before a command that needs root rights.
    pub fn sudo(&self) -> &'static str {
        if self.user_id == 0 { "" } else { "sudo " }
    }
}

/// The type of a mount and where it is.
fn parse_mount(line: &str) -> Option<(&str, &str)> {
    let (fields, rest) = line.split_once(" - ")?;
    Some((rest.split(' ').next()?, fields.split(' ').nth(4)?))
}
