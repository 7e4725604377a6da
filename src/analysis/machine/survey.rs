//! What a machine's initrd has to mount: mounts in, file systems and the devices they lie on out.

use anyhow::{Result, bail};

use super::block::{Blocks, Kind};
use super::mountinfo::{Mount, Mounts};
use super::root::Root;
use super::udev;
use super::{FileSystem, Place};

/// File systems that are mounted from elsewhere: no device of this machine lies below them.
pub(super) const REMOTE: &[&str] = &["9p", "ceph", "cifs", "nfs", "nfs4", "smb3", "virtiofs"];
const IN_MEMORY: &[&str] = &["ramfs", "rootfs", "tmpfs"];
/// Devices that a file system uses beside that which it is mounted from.
const FURTHER_DEVICES: &[&str] = &["logdev", "rtdev"];
/// Where a system that is deployed by ostree keeps what its root is made of.
const OSTREE_ROOT: &str = "/sysroot";
const BTRFS: &str = "/sys/fs/btrfs";

/// What is known of a machine.
pub(super) struct Survey<'a> {
    pub(super) root: &'a Root,
    pub(super) mounts: &'a Mounts,
    pub(super) blocks: &'a Blocks<'a>,
    /// What is unusual.
    pub(super) notes: Vec<String>,
}

impl Survey<'_> {
    /// What is mounted at `point` and what it lies on; nothing where nothing is.
    ///
    /// # Errors
    /// Fails when that cannot be told.
    pub(super) fn mounted(&mut self, point: &str) -> Result<Option<Place>> {
        let Some(mount) = self.mounts.at(point) else { return Ok(None) };
        if IN_MEMORY.contains(&mount.kind.as_str()) {
            bail!("{point} is in memory ({}): there is nothing that an initrd could mount; use --needs", mount.kind);
        }
        let mut place = Place::new(point.to_owned());
        self.add_mount(mount, &mut place)?;
        Ok(Some(place))
    }

    /// What the file system lies on that holds a file.
    pub(super) fn holding(&mut self, file: &str) -> Result<Option<Place>> {
        let Some(mount) = self.mounts.holding(file) else { return Ok(None) };
        let mut place = Place::new(mount.point.clone());
        self.add_mount(mount, &mut place)?;
        Ok(Some(place))
    }

    /// Where the file system of a device is mounted, if anywhere.
    pub(super) fn mount_point(&self, kernel_name: &str) -> Result<Option<&str>> {
        for mount in self.mounts.iter().filter(|mount| mount.source.starts_with('/') || !mount.is_anonymous()) {
            let found = if mount.is_anonymous() {
                self.blocks.find(&mount.source)?
            } else {
                self.blocks.numbered(&mount.device).ok()
            };
            if found.as_deref() == Some(kernel_name) {
                return Ok(Some(&mount.point));
            }
        }
        Ok(None)
    }

    /// Adds a block device with all below it.
    pub(super) fn add_device(&mut self, kernel_name: &str, place: &mut Place) -> Result<()> {
        let known = place.devices.len();
        self.blocks.add(kernel_name, &mut place.devices)?;
        let added: Vec<_> = place.devices[known..].iter().map(|device| (device.path.clone(), &device.kind)).collect();
        let is_loop = |(path, kind): (String, &Kind)| match kind {
            Kind::Loop(file) => Some((path, file.clone())),
            _ => None,
        };
        let loops: Vec<_> = added.into_iter().filter_map(is_loop).collect();
        for (path, file) in loops {
            let holding = self.mounts.holding(&file).filter(|mount| !place.has_mount(&mount.point));
            match holding {
                Some(mount) => self.add_mount(mount, place)?,
                None => self.notes.push(format!("{path} is the file {file}: what that lies on is not known")),
            }
        }
        Ok(())
    }

    fn add_mount(&mut self, mount: &Mount, place: &mut Place) -> Result<()> {
        let index = place.file_systems.len();
        let (kind, point) = (mount.kind.clone(), mount.point.clone());
        place.file_systems.push(FileSystem { kind, point, device_count: 0 });
        match mount.kind.as_str() {
            kind if REMOTE.contains(&kind) || IN_MEMORY.contains(&kind) => Ok(()),
            "overlay" => self.add_layers(mount, place),
            "zfs" => self.add_pool(mount, place),
            "btrfs" => self.btrfs_devices(mount)?.iter().try_for_each(|name| self.add_device(name, place)),
            _ => {
                let names = self.devices(mount)?;
                place.file_systems[index].device_count = names.len();
                for name in names {
                    self.add_device(&name, place)?;
                }
                self.add_further_devices(mount, place)
            }
        }
    }

    /// What a pool of ZFS lies on. The kernel does not say so, but udev has seen the pool's name on each of its devices.
    fn add_pool(&mut self, mount: &Mount, place: &mut Place) -> Result<()> {
        let pool = mount.source.split('/').next().unwrap_or_default();
        let mut members = Vec::new();
        for number in udev::members(self.root, "zfs_member", pool)? {
            // Of a device that is gone an entry may have stayed.
            members.extend(self.blocks.with_number(&number)?);
        }
        if members.is_empty() {
            self.notes.push(format!(
                "what the pool {pool:?} of ZFS lies on is not known: drivers of its disks are not checked"
            ));
        }
        members.iter().try_for_each(|name| self.add_device(name, place))
    }

    fn devices(&self, mount: &Mount) -> Result<Vec<String>> {
        // bcachefs names all of its devices, and has the number of one of them.
        let parts = sources(&mount.source);
        if !mount.is_anonymous() && parts.len() == 1 {
            return Ok(vec![self.blocks.numbered(&mount.device)?]);
        }
        let found: Vec<_> = parts.iter().map(|part| self.blocks.find(part)).collect::<Result<_>>()?;
        let found: Option<Vec<String>> = found.into_iter().collect();
        match found {
            Some(names) => Ok(names),
            None => bail!(
                "what {} lies on cannot be told: it is {} on {:?}, which is no block device; \
                 say with --needs what it needs",
                mount.point,
                mount.kind,
                mount.source
            ),
        }
    }

    /// All devices of the file system, of which its mount names only one.
    fn btrfs_devices(&self, mount: &Mount) -> Result<Vec<String>> {
        let mounted_from = self.blocks.find(&mount.source)?;
        let mut candidates = Vec::new();
        for uuid in self.root.names(BTRFS)? {
            let devices = self.root.names(&format!("{BTRFS}/{uuid}/devices"))?;
            if !devices.is_empty() && mounted_from.as_ref().is_none_or(|name| devices.contains(name)) {
                candidates.push(devices);
            }
        }
        match candidates.as_slice() {
            [devices] => Ok(devices.clone()),
            _ => bail!(
                "what {} lies on cannot be told: no one file system in {} has the device {}",
                mount.point,
                self.root.shown(BTRFS),
                mount.source
            ),
        }
    }

    fn add_further_devices(&mut self, mount: &Mount, place: &mut Place) -> Result<()> {
        for given in FURTHER_DEVICES.iter().filter_map(|name| mount.option(name)) {
            match self.blocks.find(given)? {
                Some(name) => self.add_device(&name, place)?,
                None => bail!("what {} lies on cannot be told: there is no device {given}", mount.point),
            }
        }
        Ok(())
    }

    /// The file systems that an overlay's layers lie in.
    fn add_layers(&mut self, overlay: &Mount, place: &mut Place) -> Result<()> {
        let mut found = false;
        if overlay.source == "composefs" {
            // Its file names are in an image of this type, which the initrd mounts out of sight.
            place.file_systems.push(FileSystem {
                kind: "erofs".to_owned(),
                point: overlay.point.clone(),
                device_count: 0,
            });
        }
        let of_ostree = self.mounts.at(OSTREE_ROOT).map(|_| OSTREE_ROOT);
        for layer in layers(&overlay.options).chain(of_ostree) {
            let Some(mount) = self.mounts.holding(layer).filter(|mount| mount.point != overlay.point) else { continue };
            found |= !IN_MEMORY.contains(&mount.kind.as_str());
            if !place.has_mount(&mount.point) {
                self.add_mount(mount, place)?;
            }
        }
        if !found {
            bail!(
                "{} is an overlay whose layers cannot be seen from here, as in a container: run this on the machine \
                 itself, or give --host a directory where its root, /proc and /sys are mounted",
                overlay.point
            );
        }
        Ok(())
    }
}

/// The paths that a mount names as its source, with colons between them; there may be others in the paths.
fn sources(source: &str) -> Vec<&str> {
    let ends = source.match_indices(":/").map(|(end, _)| end).chain([source.len()]);
    let mut begin = 0;
    ends.map(|end| &source[std::mem::replace(&mut begin, end + 1)..end]).collect()
}

/// The directories of an overlay, in both spellings of its options.
fn layers(options: &str) -> impl Iterator<Item = &str> {
    let names = ["lowerdir", "lowerdir+", "datadir+", "upperdir"];
    let options = options.split(',').filter_map(|option| option.split_once('='));
    let lists = options.filter(move |(name, _)| names.contains(name)).map(|(_, list)| list);
    lists.flat_map(|list| list.split(':')).filter(|layer| layer.starts_with('/'))
}
