//! What a block device lies on: its name in, it and all devices below it out, down to the disks; from `/sys`.
//!
//! The kernel links a device that is made of others to these in `slaves`, and puts a partition into the directory of its
//! disk. `Documentation/ABI/stable/sysfs-block` and `testing/sysfs-block-dm` of Linux.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use super::drivers::{Driver, Drivers, is_numbered};
use super::root::Root;

const CLASS: &str = "/sys/class/block";

/// A block device of a machine, or a part of it that a driver is needed for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Device {
    /// What people call it: `/dev/mapper/vg-root`, `/dev/sda`.
    pub path: String,
    /// What it is made of.
    pub kind: Kind,
    /// The drivers between it and the processor.
    pub drivers: Vec<Driver>,
}

/// What a block device is made of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A disk, or what a driver offers as one.
    Disk,
    /// A disk of another machine, and the kernel module that reaches it, where no driver says so.
    RemoteDisk(&'static str),
    /// What the device mapper makes of others: its UUID, which begins with its maker.
    Mapped(String),
    /// md RAID.
    Array {
        /// In the kernel's words: `raid1`, `container`.
        level: String,
        /// Whether a program of the system keeps its metadata.
        is_external: bool,
        /// Whether it has the name that its own host gives it. mdadm numbers those of other hosts from 127 down.
        has_own_name: bool,
    },
    /// A disk with another as its cache, by bcache.
    Cached,
    /// A file as a device: its path.
    Loop(String),
    /// A volume of a pool of ZFS.
    PoolVolume,
}

/// The block devices of a machine.
#[derive(Clone, Debug)]
pub(super) struct Blocks<'a> {
    root: &'a Root,
    /// The kernel's names of mapped devices, by those of people.
    mapped: BTreeMap<String, String>,
}

impl<'a> Blocks<'a> {
    /// # Errors
    /// Fails when `/sys` cannot be read.
    pub(super) fn read(root: &'a Root) -> Result<Self> {
        let mut mapped = BTreeMap::new();
        for kernel_name in root.names(CLASS)? {
            if let Some(name) = root.attribute(&format!("{CLASS}/{kernel_name}/dm/name"))? {
                mapped.insert(name, kernel_name);
            }
        }
        Ok(Blocks { root, mapped })
    }

    /// The kernel's name of the device with this number.
    ///
    /// # Errors
    /// Fails when there is none.
    pub(super) fn numbered(&self, number: &str) -> Result<String> {
        let found = self.with_number(number)?;
        found.with_context(|| {
            format!("there is no block device {}", self.root.shown(&format!("/sys/dev/block/{number}")))
        })
    }

    /// The same, if there is one.
    pub(super) fn with_number(&self, number: &str) -> Result<Option<String>> {
        let device = self.root.resolve(&format!("/sys/dev/block/{number}"))?;
        Ok(device.map(|device| base_name(&device).to_owned()))
    }

    /// The kernel's name of what is mapped as `name`.
    pub(super) fn mapped(&self, name: &str) -> Option<String> {
        self.mapped.get(name).cloned()
    }

    /// The kernel's name of a device that is given as users give it: a path, or `UUID=` and the like.
    pub(super) fn find(&self, given: &str) -> Result<Option<String>> {
        let path = match given.split_once('=') {
            Some((tag @ ("UUID" | "LABEL" | "PARTUUID" | "PARTLABEL"), value)) => {
                let directory = tag.to_ascii_lowercase();
                format!("/dev/disk/by-{directory}/{}", encode(value.trim_matches('"')))
            }
            _ => given.to_owned(),
        };
        let Some(name) = path.strip_prefix("/dev/") else { return Ok(None) };
        let in_class = |name: String| self.root.has(&format!("{CLASS}/{name}")).then_some(name);
        let by_map = name.strip_prefix("mapper/").and_then(|name| self.mapped(name));
        if let Some(known) = by_map.or_else(|| in_class(name.replace('/', "!"))) {
            return Ok(Some(known));
        }
        // udev's links lead to the kernel's name in one step.
        let target = self.root.link(&path)?;
        let linked = target.and_then(|target| in_class(base_name(&target).to_owned()));
        Ok(linked.or_else(|| name.split_once('/').and_then(|(group, volume)| self.mapped(&lvm_name(group, volume)))))
    }

    /// What people call the device.
    pub(super) fn shown(&self, kernel_name: &str) -> String {
        match self.mapped.iter().find(|(_, mapped)| *mapped == kernel_name) {
            Some((name, _)) => format!("/dev/mapper/{name}"),
            None => format!("/dev/{}", kernel_name.replace('!', "/")),
        }
    }

    /// Adds the device and all below it to `devices`, each once.
    ///
    /// # Errors
    /// Fails on a device that does not tell what it lies on.
    pub(super) fn add(&self, kernel_name: &str, devices: &mut Vec<Device>) -> Result<()> {
        let path = self.shown(kernel_name);
        if devices.iter().any(|device| device.path == path) {
            return Ok(());
        }
        let in_class = format!("{CLASS}/{kernel_name}");
        let directory = self.root.resolve(&in_class)?;
        let directory =
            directory.with_context(|| format!("there is no block device {}", self.root.shown(&in_class)))?;
        if self.root.has(&format!("{directory}/partition")) {
            let disk = directory.rsplit('/').nth(1).unwrap_or_default();
            return self.add(disk, devices);
        }
        let below = self.root.names(&format!("{directory}/slaves"))?;
        devices.push(self.device(path, &directory)?);
        below.iter().try_for_each(|name| self.add(name, devices))
    }

    fn device(&self, path: String, directory: &str) -> Result<Device> {
        let attribute = |name: &str| self.root.attribute(&format!("{directory}/{name}"));
        let composed = if let Some(uuid) = attribute("dm/uuid")? {
            Some(Kind::Mapped(uuid))
        } else if let Some(level) = attribute("md/level")? {
            let is_external = attribute("md/metadata_version")?.is_some_and(|version| version.starts_with("external:"));
            let has_own_name = super::arrays::has_own_name(self.root, base_name(directory))?;
            Some(Kind::Array { level, is_external, has_own_name })
        } else if self.root.has(&format!("{directory}/bcache")) && base_name(directory).starts_with("bcache") {
            Some(Kind::Cached)
        } else {
            attribute("loop/backing_file")?.map(Kind::Loop)
        };
        match composed {
            Some(kind) => Ok(Device { path, kind, drivers: Vec::new() }),
            None => self.disk(path, directory),
        }
    }

    fn disk(&self, path: String, directory: &str) -> Result<Device> {
        let Drivers { drivers, remote } = Drivers::above(self.root, directory)?;
        if is_numbered(base_name(directory), "zd") {
            return Ok(Device { path, kind: Kind::PoolVolume, drivers });
        }
        let remote = remote.or_else(|| remote_by_name(base_name(directory)));
        if drivers.is_empty() && remote.is_none() && directory.starts_with("/sys/devices/virtual/") {
            bail!("what {path} lies on cannot be told: {} names nothing below it", self.root.shown(directory));
        }
        Ok(Device { path, kind: remote.map_or(Kind::Disk, Kind::RemoteDisk), drivers })
    }
}

/// Disks of other machines that have neither a driver nor a disk below them.
fn remote_by_name(kernel_name: &str) -> Option<&'static str> {
    let prefixes = ["nbd", "rbd", "drbd"];
    prefixes.into_iter().find(|prefix| is_numbered(kernel_name, prefix))
}

/// What the device mapper calls a logical volume: dashes in the names are doubled.
fn lvm_name(group: &str, volume: &str) -> String {
    format!("{}-{}", group.replace('-', "--"), volume.replace('-', "--"))
}

/// What udev makes of a label or a UUID in the names of its links.
fn encode(value: &str) -> String {
    let is_plain =
        |character: char| character.is_ascii_alphanumeric() || "#+-.:=@_".contains(character) || !character.is_ascii();
    let encode = |character: char| match is_plain(character) {
        true => character.to_string(),
        false => format!("\\x{:02x}", u32::from(character)),
    };
    value.chars().map(encode).collect()
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    fn stack(fixture: &Fixture, name: &str) -> Vec<Device> {
        let root = fixture.root();
        let mut devices = Vec::new();
        Blocks::read(&root).unwrap().add(name, &mut devices).unwrap();
        devices
    }

    #[test]
    fn a_stack_goes_down_to_its_disks_and_names_each_device_once() {
        let fixture = Fixture::new();
        fixture.disk("sda", "pci0000:00/0000:00:17.0/ata1/host0/0:0:0:0", &[]).partition("sda", "sda2");
        fixture.disk("sdb", "pci0000:00/0000:00:17.0/ata2/host1/1:0:0:0", &[]).partition("sdb", "sdb2");
        fixture.array("md0", "raid1", &["sda2", "sdb2"]);
        fixture.mapped("dm-0", "CRYPT-LUKS2-0-luks", "luks", &["md0"]);
        fixture.mapped("dm-1", "LVM-1", "vg-root", &["dm-0", "sdb2"]);
        let devices = stack(&fixture, "dm-1");
        let paths: Vec<_> = devices.iter().map(|device| device.path.as_str()).collect();
        assert_eq!(paths, ["/dev/mapper/vg-root", "/dev/mapper/luks", "/dev/md0", "/dev/sda", "/dev/sdb"]);
        assert_eq!(devices[2].kind, Kind::Array { level: "raid1".to_owned(), is_external: false, has_own_name: true });
        assert_eq!(devices[0].kind, Kind::Mapped("LVM-1".to_owned()));
        assert_eq!(devices[4].kind, Kind::Disk);
    }

    #[test]
    fn devices_are_found_by_every_name_that_users_give() {
        let fixture = Fixture::new();
        fixture.disk("sda", "pci0000:00/0000:00:17.0", &[]).partition("sda", "sda2");
        fixture.disk("cciss!c0d0", "pci0000:00/0000:00:18.0", &[]);
        fixture.mapped("dm-0", "LVM-1", "my--vg-a--root", &["sda2"]);
        fixture.link("dev/disk/by-uuid/12-34", "../../sda2").link("dev/disk/by-label/a\\x20b", "../../dm-0");
        fixture.link("dev/old/root", "../dm-0");
        let root = fixture.root();
        let blocks = Blocks::read(&root).unwrap();
        for (given, found) in [
            ("UUID=12-34", Some("sda2")),
            ("LABEL=\"a b\"", Some("dm-0")),
            ("/dev/sda2", Some("sda2")),
            ("/dev/cciss/c0d0", Some("cciss!c0d0")),
            ("/dev/mapper/my--vg-a--root", Some("dm-0")),
            ("/dev/my-vg/a-root", Some("dm-0")),
            ("/dev/old/root", Some("dm-0")),
            ("/dev/disk/by-uuid/12-34", Some("sda2")),
            ("UUID=56-78", None),
            ("/dev/sdb", None),
            ("sda2", None),
        ] {
            assert_eq!(blocks.find(given).unwrap().as_deref(), found, "{given}");
        }
        assert_eq!(blocks.numbered(&fixture.number("sda2")).unwrap(), "sda2");
        let error = blocks.numbered("9:99").unwrap_err().to_string();
        assert!(error.ends_with("/sys/dev/block/9:99") && error.starts_with("there is no block device "), "{error}");
    }

    #[test]
    fn files_caches_and_disks_of_other_machines_are_told_apart() {
        let fixture = Fixture::new();
        fixture.disk("sda", "pci0000:00/0000:00:17.0", &[]);
        fixture
            .virtual_block("loop0", &[])
            .write("sys/devices/virtual/block/loop0/loop/backing_file", "/images/root\n");
        fixture.virtual_block("bcache0", &["sda"]).directory("sys/devices/virtual/block/bcache0/bcache");
        fixture.virtual_block("nbd0", &[]).virtual_block("zd0", &[]).virtual_block("odd", &[]);
        assert_eq!(stack(&fixture, "loop0")[0].kind, Kind::Loop("/images/root".to_owned()));
        let cached = stack(&fixture, "bcache0");
        assert_eq!((&cached[0].kind, cached[1].path.as_str()), (&Kind::Cached, "/dev/sda"));
        assert_eq!(stack(&fixture, "nbd0")[0].kind, Kind::RemoteDisk("nbd"));
        assert_eq!(stack(&fixture, "zd0")[0].kind, Kind::PoolVolume);
        let root = fixture.root();
        let error = Blocks::read(&root).unwrap().add("odd", &mut Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("what /dev/odd lies on cannot be told"), "{error}");
    }
}
