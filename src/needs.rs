//! Whether an initrd holds what a root device needs: names of needs and an initrd in, what is missing out.
//!
//! A need is a row of [`NEEDS`]: kernel modules, built into the kernel or in the initrd, and programs, libraries and rules.
//! That they are there is no proof that a machine boots, but what is not there is certain to be missed.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::inspect;

/// Something that a machine may need of its initrd.
#[derive(Debug)]
pub struct Need {
    /// What `--needs` calls it.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Kernel modules; of each list one is enough.
    modules: &'static [&'static [&'static str]],
    /// Paths of files, without the leading slash; of each list one is enough.
    files: &'static [&'static [&'static str]],
    /// What brings them into an image.
    pub brought_by: &'static str,
}

/// What is missing of a need.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Answer {
    /// The need's name.
    pub need: &'static str,
    /// Kernel modules that are neither in the initrd nor built into the kernel; of alternatives the first.
    pub missing_modules: Vec<&'static str>,
    /// Files that are missing, as absolute paths; of alternatives the first.
    pub missing_files: Vec<String>,
    /// What brings them into an image.
    pub brought_by: &'static str,
}

impl Answer {
    /// Whether nothing is missing.
    pub fn ok(&self) -> bool {
        self.missing_modules.is_empty() && self.missing_files.is_empty()
    }
}

const LVM: &[&[&str]] =
    &[&["usr/sbin/lvm", "usr/bin/lvm"], &["usr/lib/udev/rules.d/69-dm-lvm.rules", "usr/lib/udev/rules.d/69-lvm.rules"]];
const MDADM: &[&[&str]] = &[&["usr/sbin/mdadm", "usr/bin/mdadm"], &["usr/lib/udev/rules.d/64-md-raid-assembly.rules"]];
const CRYPTSETUP: &[&[&str]] = &[
    &["usr/bin/systemd-cryptsetup", "usr/lib/systemd/systemd-cryptsetup"],
    &["usr/lib/systemd/system-generators/systemd-cryptsetup-generator"],
];
const RAID: &str = "the profile raid";
const BY_PATTERN: &str = "a pattern with its name in [kernel] modules";

const fn module(name: &'static str, summary: &'static str, modules: &'static [&'static [&'static str]]) -> Need {
    Need { name, summary, modules, files: &[], brought_by: BY_PATTERN }
}

const fn raid(name: &'static str, summary: &'static str, modules: &'static [&'static [&'static str]]) -> Need {
    Need { name, summary, modules, files: MDADM, brought_by: RAID }
}

/// Every need that can be asked for.
pub const NEEDS: &[Need] = &[
    module("ext4", "an ext4 file system", &[&["ext4"]]),
    module("xfs", "an XFS file system", &[&["xfs"]]),
    Need {
        name: "btrfs",
        summary: "a btrfs file system, over one device or several",
        modules: &[&["btrfs"]],
        files: &[&["usr/lib/udev/rules.d/64-btrfs.rules"]],
        brought_by: "the package systemd-udev, and a pattern with its name in [kernel] modules",
    },
    module("vfat", "a FAT file system, such as the EFI system partition", &[&["vfat"]]),
    module("overlay", "an overlay of file systems", &[&["overlay"]]),
    Need {
        name: "lvm",
        summary: "logical volumes",
        modules: &[&["dm_mod"]],
        files: LVM,
        brought_by: "the profile lvm",
    },
    Need {
        name: "lvm-thin",
        summary: "thin logical volumes",
        modules: &[&["dm_thin_pool"]],
        files: LVM,
        brought_by: "the profile lvm",
    },
    Need {
        name: "luks",
        summary: "LUKS volumes",
        modules: &[&["dm_crypt"]],
        files: CRYPTSETUP,
        brought_by: "the packages systemd-udev and cryptsetup-libs, and the module pattern dm-crypt",
    },
    Need {
        name: "tpm2",
        summary: "keys in a TPM 2.0",
        modules: &[&["tpm_tis", "tpm_crb"]],
        files: &[&["usr/lib64/libtss2-esys.so.0", "usr/lib/libtss2-esys.so.0"]],
        brought_by: "the package tpm2-tss, and the module patterns tpm_tis and tpm_crb",
    },
    raid("md-raid0", "md RAID0", &[&["raid0"]]),
    raid("md-raid1", "md RAID1", &[&["raid1"]]),
    raid("md-raid10", "md RAID10", &[&["raid10"]]),
    raid("md-raid5", "md RAID5", &[&["raid456"]]),
    raid("md-raid6", "md RAID6", &[&["raid456"]]),
    Need {
        name: "nfs",
        summary: "a root on NFS",
        modules: &[&["nfs"], &["nfsv4", "nfsv3"]],
        files: &[&["usr/sbin/mount.nfs", "usr/bin/mount.nfs"]],
        brought_by: "the profile nfs",
    },
    Need {
        name: "hibernation",
        summary: "waking up from hibernation",
        modules: &[],
        files: &[
            &["usr/lib/systemd/systemd-hibernate-resume"],
            &["usr/lib/systemd/system-generators/systemd-hibernate-resume-generator"],
        ],
        brought_by: "the package systemd",
    },
    module("nvme", "NVMe disks", &[&["nvme"]]),
    module("ahci", "SATA disks", &[&["ahci"]]),
    module("sd", "disks that speak SCSI: SATA, SAS, USB", &[&["sd_mod"]]),
    module("usb-storage", "USB disks", &[&["usb_storage"], &["uas"]]),
    module("mmc", "SD cards and eMMC", &[&["mmc_block"]]),
    module("virtio", "disks of QEMU", &[&["virtio_pci"], &["virtio_blk"], &["virtio_scsi"]]),
    module("hyper-v", "disks of Hyper-V", &[&["hv_storvsc"]]),
    module("vmware", "disks of VMware", &[&["vmw_pvscsi"]]),
    module("xen", "disks of Xen", &[&["xen_blkfront"]]),
];

/// What an initrd holds, as far as needs ask for it.
#[derive(Debug, Default)]
pub struct Holdings {
    files: BTreeSet<String>,
    /// With `_`, as the kernel writes them.
    modules: BTreeSet<String>,
}

impl Holdings {
    /// The files of an initrd, by their paths without a leading slash, and the text of its `modules.builtin`.
    pub fn new(files: impl IntoIterator<Item = String>, builtin: &str) -> Self {
        let files: BTreeSet<String> = files.into_iter().collect();
        let modules = files.iter().map(String::as_str).chain(builtin.lines()).filter_map(module_name).collect();
        Holdings { files, modules }
    }

    /// Reads them from an initrd.
    ///
    /// # Errors
    /// Fails when it cannot be read, and when the kernel would not unpack all of it.
    pub fn of_initrd(initrd: &Path) -> Result<Self> {
        let report = inspect::inspect(File::open(initrd)?)?;
        if let Some(problem) = report.problems.first() {
            bail!("the kernel would not unpack all of it: {problem}");
        }
        let paths: Vec<String> = report.listing().map(|listed| listed.path).collect();
        let mut builtin = Vec::new();
        for path in paths.iter().filter(|path| path.ends_with("/modules.builtin")) {
            inspect::extract(File::open(initrd)?, path.as_bytes(), &mut builtin)?;
        }
        Ok(Holdings::new(paths, &String::from_utf8_lossy(&builtin)))
    }

    /// What is missing of a need.
    pub fn check(&self, need: &'static Need) -> Answer {
        let without = |names: &[&str], there: &BTreeSet<String>| !names.iter().any(|name| there.contains(*name));
        let missing = |lists: &'static [&'static [&'static str]], there| {
            lists.iter().filter(move |names| without(names, there)).map(|names| names[0])
        };
        Answer {
            need: need.name,
            missing_modules: missing(need.modules, &self.modules).collect(),
            missing_files: missing(need.files, &self.files).map(|path| format!("/{path}")).collect(),
            brought_by: need.brought_by,
        }
    }
}

/// The need of that name.
///
/// # Errors
/// Fails when there is none, naming those there are.
pub fn named(name: &str) -> Result<&'static Need> {
    NEEDS.iter().find(|need| need.name == name).with_context(|| {
        let names: Vec<&str> = NEEDS.iter().map(|need| need.name).collect();
        format!("there is no need {name:?}; those there are: {}", names.join(", "))
    })
}

/// The name of the module that lies at `path`, if one does.
fn module_name(path: &str) -> Option<String> {
    let (_, file) = path.rsplit_once('/')?;
    let (name, _) = file.split_once(".ko").filter(|(_, rest)| rest.is_empty() || rest.starts_with('.'))?;
    Some(name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &[&str] = &[
        "usr/lib/modules/6.1/kernel/drivers/md/dm-crypt.ko.xz",
        "usr/lib/modules/6.1/kernel/drivers/md/raid1.ko",
        "usr/bin/systemd-cryptsetup",
        "usr/lib/systemd/system-generators/systemd-cryptsetup-generator",
        "usr/sbin/mdadm",
    ];

    fn check(name: &str) -> Answer {
        let files = FILES.iter().map(|path| (*path).to_owned());
        Holdings::new(files, "kernel/fs/ext4/ext4.ko\nkernel/drivers/md/dm-mod.ko\n").check(named(name).unwrap())
    }

    #[test]
    fn modules_may_be_files_or_built_in_and_files_have_alternatives() {
        for need in ["ext4", "luks"] {
            assert!(check(need).ok(), "{:?}", check(need));
        }
    }

    #[test]
    fn what_is_missing_is_named_with_what_brings_it() {
        assert_eq!(check("xfs").missing_modules, ["xfs"]);
        let raid = check("md-raid1");
        assert_eq!(raid.missing_files, ["/usr/lib/udev/rules.d/64-md-raid-assembly.rules"]);
        assert_eq!((raid.missing_modules.len(), raid.brought_by), (0, "the profile raid"));
        let lvm = check("lvm");
        assert_eq!(lvm.missing_files, ["/usr/sbin/lvm", "/usr/lib/udev/rules.d/69-dm-lvm.rules"]);
        assert!(!lvm.ok() && lvm.missing_modules.is_empty());
    }

    #[test]
    fn an_unknown_need_is_refused_with_those_there_are() {
        let error = named("lvn").unwrap_err().to_string();
        assert!(error.starts_with("there is no need \"lvn\"; those there are: ext4, xfs, "), "{error}");
    }
}
