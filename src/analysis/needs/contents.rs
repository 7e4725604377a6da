//! What an initrd holds, as far as needs ask for it: its list of files in, what is missing of a need out.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail};

use super::{Answer, Demand, Need, Wanted};
use crate::analysis::inspect::{self, LimitReached, Limits};
use ocinitrd_format::text::Escaped;
use ocinitrd_support::regular_file;

/// What the lists of built-in modules may have together; that of a kernel has some 20 kB.
const LISTS_MAX_BYTES: u64 = 4 << 20;

/// What an initrd holds, as far as needs ask for it.
#[derive(Debug, Default)]
pub struct Holdings {
    files: BTreeSet<String>,
    libraries: BTreeSet<String>,
    /// With `_`, as the kernel writes them.
    modules: BTreeSet<String>,
}

impl Holdings {
    /// The files of an initrd, by their paths without a leading slash, and the text of its `modules.builtin`.
    pub fn new(files: impl IntoIterator<Item = String>, builtin: &str) -> Self {
        let files: BTreeSet<String> = files.into_iter().map(merged).collect();
        let modules = files.iter().map(String::as_str).chain(builtin.lines()).filter_map(module_name).collect();
        let libraries = files.iter().filter_map(|path| library_name(path)).collect();
        Holdings { files, libraries, modules }
    }

    /// Reads them from an initrd.
    ///
    /// # Errors
    /// Fails when it cannot be read, beyond the limits, and when the kernel would not unpack all of it.
    pub fn of_initrd(initrd: &Path, limits: &Limits) -> Result<Self> {
        let is_list = |path: &[u8]| path.ends_with(b"/modules.builtin");
        let (report, lists) = inspect::inspect_and_read(regular_file::open(initrd)?, limits, LISTS_MAX_BYTES, is_list)?;
        if let Some(problem) = report.problems.first() {
            bail!("the kernel would not unpack all of it: {problem}");
        }
        let mut left_bytes = limits.paths_bytes();
        let mut paths = Vec::new();
        for (path, _) in report.view.iter() {
            let path = Escaped(&path).to_string();
            left_bytes = left_bytes.checked_sub(path.len() as u64).ok_or(LimitReached::Paths(limits.paths_bytes()))?;
            paths.push(path);
        }
        let builtin = lists.into_values().collect::<Vec<_>>().concat();
        Ok(Holdings::new(paths, &String::from_utf8_lossy(&builtin)))
    }

    /// The paths of its files, without a leading slash and as they are once `/bin` and the like are links into `/usr`.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    /// What is missing of what is wanted.
    pub fn check(&self, wanted: &Wanted) -> Answer {
        let answer = Answer {
            need: wanted.demand.name(),
            purposes: wanted.for_what(),
            missing_modules: Vec::new(),
            missing_files: Vec::new(),
            brought_by: String::new(),
        };
        match &wanted.demand {
            Demand::Need(need) => self.check_need(need, answer),
            Demand::Module(name) => {
                let missing = (!self.modules.contains(name)).then(|| name.clone());
                let brought_by = format!("the pattern {name} in [kernel] modules");
                Answer { missing_modules: missing.into_iter().collect(), brought_by, ..answer }
            }
            Demand::File(path) => {
                let found = [path.as_str()]
                    .into_iter()
                    .chain(twin(path))
                    .any(|path| self.has_file(path.trim_start_matches('/')));
                let missing = (!found).then(|| path.clone());
                let brought_by = "a directory of extra_trees".to_owned();
                Answer { missing_files: missing.into_iter().collect(), brought_by, ..answer }
            }
        }
    }

    fn check_need(&self, need: &Need, answer: Answer) -> Answer {
        let modules = need.modules.iter().filter(|names| !names.iter().any(|name| self.modules.contains(*name)));
        let files = need.files.iter().filter(|names| !names.iter().any(|name| self.has_file(name)));
        let shown = |name: &str| if is_library(name) { name.to_owned() } else { format!("/{name}") };
        Answer {
            missing_modules: modules.map(|names| names[0].to_owned()).collect(),
            missing_files: files.map(|names| shown(names[0])).collect(),
            brought_by: need.brought_by.to_owned(),
            ..answer
        }
    }

    fn has_file(&self, name: &str) -> bool {
        match is_library(name) {
            true => self.libraries.contains(name),
            false => self.files.contains(&merged(name.to_owned())),
        }
    }
}

/// The other place where programs look for a file: dracut gives an initrd Debian's in that of others.
fn twin(path: &str) -> Option<&'static str> {
    match path {
        "/etc/mdadm.conf" => Some("/etc/mdadm/mdadm.conf"),
        "/etc/mdadm/mdadm.conf" => Some("/etc/mdadm.conf"),
        _ => None,
    }
}

fn is_library(name: &str) -> bool {
    !name.contains('/')
}

/// The path where it lies once `/bin`, `/sbin` and `/lib` are links into `/usr`.
fn merged(path: String) -> String {
    let is_linked = ["bin/", "sbin/", "lib/", "lib64/"].iter().any(|directory| path.starts_with(directory));
    if is_linked { format!("usr/{path}") } else { path }
}

/// The name of the library that lies at `path`, if one does.
fn library_name(path: &str) -> Option<String> {
    let (_, name) = path.strip_prefix("usr/lib")?.rsplit_once('/')?;
    name.contains(".so").then(|| name.to_owned())
}

/// The name of the module that lies at `path`, if one does.
fn module_name(path: &str) -> Option<String> {
    let (_, file) = path.rsplit_once('/')?;
    let (name, _) = file.split_once(".ko").filter(|(_, rest)| rest.is_empty() || rest.starts_with('.'))?;
    Some(name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::super::named;
    use super::*;

    const FILES: &[&str] = &[
        "usr/lib/modules/6.1/kernel/drivers/md/dm-crypt.ko.xz",
        "usr/lib/modules/6.1/kernel/drivers/md/raid1.ko",
        "usr/lib/modules/6.1/kernel/drivers/hid/usbhid/usbhid.ko",
        "usr/bin/systemd-cryptsetup",
        "usr/lib/systemd/system-generators/systemd-cryptsetup-generator",
        "sbin/mdadm",
        "usr/lib/x86_64-linux-gnu/libfido2.so.1",
        "lib/udev/rules.d/60-fido-id.rules",
        "etc/keys/root.key",
    ];

    fn check(demand: Demand) -> Answer {
        let files = FILES.iter().map(|path| (*path).to_owned());
        let holdings = Holdings::new(files, "kernel/fs/ext4/ext4.ko\nkernel/drivers/md/dm-mod.ko\n");
        holdings.check(&Wanted { demand, purposes: Vec::new() })
    }

    fn check_named(name: &str) -> Answer {
        check(Demand::Need(named(name).unwrap()))
    }

    #[test]
    fn modules_may_be_files_or_built_in_and_files_have_alternatives() {
        for need in ["ext4", "luks"] {
            assert!(check_named(need).ok(), "{:?}", check_named(need));
        }
    }

    #[test]
    fn libraries_count_wherever_they_lie_and_directories_may_not_be_merged() {
        assert!(check_named("fido2").ok(), "{:?}", check_named("fido2"));
        assert_eq!(check_named("pkcs11").missing_files, ["libp11-kit.so.0"]);
    }

    #[test]
    fn what_is_missing_is_named_with_what_brings_it() {
        assert_eq!(check_named("xfs").missing_modules, ["xfs"]);
        let raid = check_named("md-raid1");
        assert_eq!(raid.missing_files, ["/usr/lib/udev/rules.d/64-md-raid-assembly.rules"]);
        assert_eq!((raid.missing_modules.len(), raid.brought_by.as_str()), (0, "the profile raid"));
        let lvm = check_named("lvm");
        assert_eq!(lvm.missing_files, ["/usr/sbin/lvm", "/usr/lib/udev/rules.d/69-dm-lvm.rules"]);
        assert!(!lvm.ok() && lvm.missing_modules.is_empty());
    }

    #[test]
    fn single_modules_and_files_are_named_too() {
        for demand in [Demand::Module("dm_mod".to_owned()), Demand::File("/etc/keys/root.key".to_owned())] {
            assert!(check(demand).ok());
        }
        let module = check(Demand::Module("nvme".to_owned()));
        assert_eq!((module.need.as_str(), module.missing_modules), ("the kernel module nvme", vec!["nvme".to_owned()]));
        assert_eq!(module.brought_by, "the pattern nvme in [kernel] modules");
        let twin = Holdings::new(["etc/mdadm.conf".to_owned()], "");
        let demand = Demand::File("/etc/mdadm/mdadm.conf".to_owned());
        assert!(twin.check(&Wanted { demand, purposes: Vec::new() }).ok());
        let file = check(Demand::File("/etc/other".to_owned()));
        assert_eq!((file.need.as_str(), file.missing_files), ("the file /etc/other", vec!["/etc/other".to_owned()]));
    }
}
