//! What a machine needs of its initrd: the facts of a [`Machine`] in, needs with what each is for out.
//!
//! The kernel's words for file systems, arrays and mapped devices become rows of the table. The device mapper's UUIDs begin
//! with their maker, and what LVM makes for itself is told by the end of its UUID or, where that has none, of its name
//! (`build_dm_uuid` and `lib/metadata` of LVM2; `CRYPT_*` in `libcryptsetup.h`).

use super::own_files;
use super::table::NEEDS;
use super::{Demand, Holdings, Wanted, Wants};
use crate::analysis::machine::crypttab;
use crate::analysis::machine::{Device, Driver, FileSystem, Kind, Machine, OwnFile, Place, Typing, Volume};

/// What a machine needs.
#[derive(Clone, Debug, Default)]
pub struct Derived {
    /// The needs, with what they are for.
    pub wants: Wants,
    /// What an initrd does without, with what is lost.
    pub wishes: Vec<Wish>,
    /// The files of the machine that go into its own initrd.
    pub own_files: Vec<OwnFile>,
    /// What is unusual, and what cannot be checked.
    pub notes: Vec<String>,
    /// The notes on volumes of the root that an initrd with systemd would not open.
    pub unopened: Vec<String>,
}

/// Something that an initrd does without, at a price.
#[derive(Clone, Debug)]
pub struct Wish {
    /// What is asked of the initrd.
    pub demand: Demand,
    /// What happens without it.
    pub loss: String,
}

/// Where the kernel's word for a file system is not the name of a need.
const FILE_SYSTEMS: &[(&str, &str)] = &[("ext3", "ext4"), ("smb3", "cifs"), ("msdos", "vfat")];
/// Where it is not the name of a module either.
const FILE_SYSTEM_MODULES: &[(&str, &str)] = &[("fuseblk", "fuse")];

/// Makers of mapped devices, by the beginning of their UUIDs.
const MAPPED_BY: &[(&str, &str)] = &[
    ("LVM-", "lvm"),
    ("CRYPT-LUKS", "luks"),
    ("CRYPT-PLAIN-", "crypt"),
    ("CRYPT-TCRYPT-", "crypt"),
    ("CRYPT-BITLK-", "crypt"),
    ("CRYPT-VERITY-", "dm-verity"),
    ("CRYPT-INTEGRITY-", "dm-integrity"),
    ("mpath-", "multipath"),
    ("part", "kpartx"),
    ("DMRAID-", "dmraid"),
    ("stratis-", "stratis"),
    ("VDO-", "dm-vdo"),
    ("dmz-", "dm-zoned"),
];

/// What LVM makes for itself, by the end of its UUID.
const LVM_PARTS: &[(&str, &str)] = &[
    ("-tpool", "lvm-thin"),
    ("-pool", "lvm-thin"),
    ("-tdata", "lvm-thin"),
    ("-tmeta", "lvm-thin"),
    ("-cow", "lvm-snapshot"),
    ("-cdata", "lvm-cache"),
    ("-cmeta", "lvm-cache"),
    ("-cpool", "lvm-cache"),
    ("-vpool", "lvm-vdo"),
    ("-vdata", "lvm-vdo"),
];

/// The same, by a part of its name that a number or another end may follow.
const LVM_NAMES: &[(&str, &str)] = &[
    ("_rimage_", "lvm-raid"),
    ("_rmeta_", "lvm-raid"),
    ("_mimage_", "lvm-mirror"),
    ("_mlog", "lvm-mirror"),
    ("_corig", "lvm-cache"),
    ("_wcorig", "lvm-writecache"),
    ("_iorig", "lvm-integrity"),
    ("_imeta", "lvm-integrity"),
];

/// Drivers of disks that kernels may have built in, by the kernel's name of the driver, and their modules in others. What is
/// not here is never a module, such as the bridges of PCI, or rare enough that nobody builds it in.
const BUILT_IN: &[(&str, &str)] = &[
    ("ahci", "ahci"),
    ("ata_piix", "ata_piix"),
    ("ehci-pci", "ehci_pci"),
    ("hv_storvsc", "hv_storvsc"),
    ("mmcblk", "mmc_block"),
    ("nvme", "nvme"),
    ("sd", "sd_mod"),
    ("sdhci-acpi", "sdhci_acpi"),
    ("sdhci-pci", "sdhci_pci"),
    ("sr", "sr_mod"),
    ("uas", "uas"),
    ("usb-storage", "usb_storage"),
    ("vbd", "xen_blkfront"),
    ("virtio-mmio", "virtio_mmio"),
    ("virtio-pci", "virtio_pci"),
    ("virtio_blk", "virtio_blk"),
    ("virtio_net", "virtio_net"),
    ("virtio_scsi", "virtio_scsi"),
    ("vmd", "vmd"),
    ("vmw_pvscsi", "vmw_pvscsi"),
    ("xhci_hcd", "xhci_pci"),
];

/// All that a machine needs.
pub fn of_machine(machine: &Machine) -> Derived {
    let mut derived =
        Derived { notes: machine.notes.clone(), unopened: machine.unopened.clone(), ..Derived::default() };
    for place in &machine.places {
        derived.add_place(machine, place);
    }
    own_files::add(&mut derived, machine);
    derived
}

impl Derived {
    /// What of the wishes an initrd does not have, a line each.
    pub fn missed(&self, holdings: &Holdings) -> Vec<String> {
        let is_missed = |wish: &&Wish| !holdings.check(&Wanted::new(wish.demand.clone())).ok();
        let what = |demand: &Demand| match demand {
            Demand::Need(need) => format!("all that {} needs", need.name),
            _ => demand.name(),
        };
        let line = |wish: &Wish| format!("the initrd does not have {}: {}", what(&wish.demand), wish.loss);
        self.wishes.iter().filter(is_missed).map(line).collect()
    }

    pub(super) fn wish(&mut self, demand: Demand, loss: String) {
        let name = demand.name();
        if !self.wishes.iter().any(|wish| wish.demand.name() == name && wish.loss == loss) {
            self.wishes.push(Wish { demand, loss });
        }
    }

    fn add_place(&mut self, machine: &Machine, place: &Place) {
        if place.is_resumed {
            self.add("hibernation", None, place);
        }
        for file_system in &place.file_systems {
            self.add_file_system(file_system, place);
        }
        for device in &place.devices {
            self.add_device(device, place);
        }
        for volume in &place.volumes {
            self.add_volume(machine, volume, place);
        }
        let is_remote = |device: &Device| matches!(device.kind, Kind::RemoteDisk(_));
        if place.file_systems.iter().any(FileSystem::is_remote) || place.devices.iter().any(is_remote) {
            self.add_network(machine, place);
        }
    }

    fn add_file_system(&mut self, file_system: &FileSystem, place: &Place) {
        let kind = file_system.kind.as_str();
        let object = (file_system.point != place.name).then_some(file_system.point.as_str());
        let name = replaced(FILE_SYSTEMS, kind);
        if matches!(kind, "tmpfs" | "ramfs" | "rootfs") {
            // Of every kernel.
        } else if NEEDS.iter().any(|need| need.name == name) {
            self.add(name, object, place);
            // Its own devices: of a volume that lies on several disks it knows one.
            if kind == "bcachefs" && file_system.device_count > 1 {
                self.add("bcachefs-devices", object, place);
            }
        } else {
            self.add_module(replaced(FILE_SYSTEM_MODULES, kind), object, place);
        }
    }

    fn add_device(&mut self, device: &Device, place: &Place) {
        let object = Some(device.path.as_str());
        match &device.kind {
            Kind::Disk => {}
            Kind::RemoteDisk("iscsi_tcp") => self.add("iscsi", object, place),
            Kind::RemoteDisk(module) => {
                if module.starts_with("nvme_") {
                    self.add("nvme-over-network", object, place);
                }
                self.add_module(module, object, place);
            }
            Kind::Mapped(uuid) => self.add_mapped(device, uuid, place),
            Kind::Array { level, is_external, .. } => self.add_array(level, *is_external, object, place),
            Kind::PoolVolume => {
                self.add("zfs", object, place);
                self.notes.push(format!(
                    "what the pool of {} lies on is not known: drivers of its disks are not checked",
                    device.path
                ));
            }
            Kind::Cached => self.add("bcache", object, place),
            Kind::Loop(_) => self.add("loop", object, place),
        }
        self.add_drivers(&device.drivers, &device.path, place);
    }

    fn add_mapped(&mut self, device: &Device, uuid: &str, place: &Place) {
        let object = Some(device.path.as_str());
        if uuid.starts_with("LVM-") {
            self.add_lvm(&device.path, uuid, place);
        } else if uuid.starts_with("CRYPT-SUBDEV-") {
            // Below a volume of another kind: only that of integrity is another target of the device mapper.
            let module = if device.path.ends_with("_dif") { "dm_integrity" } else { "dm_crypt" };
            self.add_module(module, object, place);
        } else if let Some((_, name)) = MAPPED_BY.iter().find(|(prefix, _)| uuid.starts_with(prefix)) {
            self.add(name, object, place);
        } else {
            self.add_module("dm_mod", object, place);
            self.notes
                .push(format!("who made {} is not known (UUID {uuid:?}): what it needs is not checked", device.path));
        }
    }

    fn add_lvm(&mut self, path: &str, uuid: &str, place: &Place) {
        let by_uuid = LVM_PARTS.iter().find(|(end, _)| uuid.ends_with(end));
        let by_name = LVM_NAMES.iter().find(|(part, _)| path.contains(part));
        let name = match by_name.or(by_uuid) {
            Some((_, name)) => name,
            // What a volume was before it got a snapshot.
            None if uuid.ends_with("-real") => "lvm-snapshot",
            None => "lvm",
        };
        self.add(name, Some(path), place);
    }

    fn add_array(&mut self, level: &str, is_external: bool, object: Option<&str>, place: &Place) {
        if is_external {
            self.add("md-external", object, place);
        }
        let name = format!("md-{level}");
        if NEEDS.iter().any(|need| need.name == name) {
            self.add(&name, object, place);
        } else if level != "container" {
            let path = object.unwrap_or_default();
            self.notes.push(format!("{path} is an array of the level {level:?}: what it needs is not checked"));
        }
    }

    fn add_drivers(&mut self, drivers: &[Driver], object: &str, place: &Place) {
        for module in modules_of(drivers) {
            self.add_module(module, Some(object), place);
        }
    }

    fn add_volume(&mut self, machine: &Machine, volume: &Volume, place: &Place) {
        let object = Some(volume.path.as_str());
        let has = |name: &str| volume.options.iter().any(|option| option.starts_with(name));
        if has("tpm2-device=") {
            self.add("tpm2", object, place);
            self.add_drivers(&machine.tpm, &format!("the TPM for {}", volume.path), place);
            if machine.tpm.is_empty() {
                self.notes.push(format!("{} is opened by a TPM, and this machine shows none", volume.path));
            }
        }
        if has("fido2-device=") {
            self.add("fido2", object, place);
        }
        if has("pkcs11-uri=") {
            self.add("pkcs11", object, place);
        }
        if let Some(table) = volume.by_table {
            self.wants.add_for(Demand::File(table.to_owned()), object, &place.name);
        }
        for file in crypttab::option_files(&volume.options).chain(volume.key.as_deref()) {
            self.add_file(file, volume, place);
        }
        self.add_typing(machine, volume, place);
    }

    /// A keyboard for who types, which may be another at the next boot than the one that is there now.
    fn add_typing(&mut self, machine: &Machine, volume: &Volume, place: &Place) {
        let Some(need) = NEEDS.iter().find(|need| need.name == "somebody-types") else { return };
        match volume.typing {
            Typing::Never => return,
            Typing::AfterFailure => {
                let loss = format!("nobody can type where the key or the TPM of {} fails", volume.path);
                self.wish(Demand::Need(need), loss);
            }
            Typing::Always if machine.has_usb => {
                self.wants.add_for(Demand::Need(need), Some(&volume.path), &place.name);
            }
            // Without USB, as in a guest with a serial console, its kernel may have no drivers of such keyboards either.
            Typing::Always => {
                let loss = format!("a USB keyboard could not type what {} asks for", volume.path);
                self.wish(Demand::Need(need), loss);
            }
        }
        for keyboard in &machine.keyboards {
            for module in modules_of(&keyboard.drivers) {
                let loss = format!("the keyboard {:?} may be dead where a passphrase is asked for", keyboard.name);
                self.wish(Demand::Module(module.to_owned()), loss);
            }
        }
    }

    /// Whether anybody may have to type something while the initrd runs.
    pub fn somebody_types(&self) -> bool {
        let is_it = |demand: &Demand| matches!(demand, Demand::Need(need) if need.name == "somebody-types");
        self.wants.iter().any(|wanted| is_it(&wanted.demand)) || self.wishes.iter().any(|wish| is_it(&wish.demand))
    }

    /// The key or the header of a volume.
    fn add_file(&mut self, file: &str, volume: &Volume, place: &Place) {
        if let Some((_, device)) = file.split_once(':') {
            self.notes.push(format!("{} needs a file of {device}, which is not checked", volume.path));
        } else if file.starts_with('/') && !["/dev/", "/run/", "/proc/", "/sys/"].iter().any(|at| file.starts_with(at))
        {
            self.wants.add_for(Demand::File(file.to_owned()), Some(&volume.path), &place.name);
        }
    }

    fn add_network(&mut self, machine: &Machine, place: &Place) {
        let needs_card = !place.file_systems.iter().any(|one| matches!(one.kind.as_str(), "9p" | "virtiofs"));
        match machine.network.as_slice() {
            _ if !needs_card => return,
            [card] => self.add_drivers(&card.drivers, &card.name, place),
            cards => {
                let names: Vec<&str> = cards.iter().map(|card| card.name.as_str()).collect();
                let names = if names.is_empty() { "none is up".to_owned() } else { names.join(", ") };
                self.notes.push(format!(
                    "{} is reached through a network, by which card is not known ({names}): drivers of cards are not checked",
                    place.name
                ));
            }
        }
        self.notes.push(format!("how the initrd sets up the network for {} is not checked", place.name));
    }

    fn add(&mut self, name: &str, object: Option<&str>, place: &Place) {
        if let Some(need) = NEEDS.iter().find(|need| need.name == name) {
            self.wants.add_for(Demand::Need(need), object, &place.name);
        }
    }

    fn add_module(&mut self, name: &str, object: Option<&str>, place: &Place) {
        self.wants.add_for(Demand::Module(name.to_owned()), object, &place.name);
    }
}

/// The modules of drivers in a kernel that has them as such.
fn modules_of(drivers: &[Driver]) -> impl Iterator<Item = &str> {
    drivers.iter().filter_map(|driver| match driver {
        Driver::Module(name) => Some(name.as_str()),
        Driver::BuiltIn(name) => BUILT_IN.iter().find(|(driver, _)| driver == name).map(|(_, module)| *module),
    })
}

fn replaced<'a>(table: &[(&'a str, &'a str)], word: &'a str) -> &'a str {
    table.iter().find(|(from, _)| *from == word).map_or(word, |(_, to)| to)
}

#[cfg(test)]
mod tests;
