//! Which of a machine's own files its initrd needs: files with who reads them in, needs and what is lost without them out.
//!
//! A file is needed where its reader opens or names what a place lies on, and nothing else does; the machine does not boot
//! without it then. It is wished for where its reader is at work and other names would come of it. Otherwise it is left out, or
//! goes along where it is small and may matter later.

use super::Demand;
use super::derived::Derived;
use crate::analysis::machine::{Device, Kind, LvmFile, Machine, OwnFile, Place, Reader, array_name};

/// The links in `/dev/disk/by-*` that systemd's own rules make.
const BY: [&str; 9] = ["designator", "diskseq", "id", "label", "loop-ref", "partlabel", "partuuid", "path", "uuid"];

/// What a file is for an initrd.
enum Verdict {
    /// Its reader is not at work.
    Unused,
    /// It goes along.
    Taken,
    /// Something is lost without it.
    Wished(String),
    /// The device of that path, below the place, is not there without it.
    Needed(Vec<(String, String)>),
}

/// Adds what each file is.
pub(super) fn add(derived: &mut Derived, machine: &Machine) {
    for file in &machine.own_files {
        match verdict(machine, file) {
            Verdict::Unused => continue,
            Verdict::Taken => {}
            Verdict::Wished(loss) => derived.wish(Demand::File(file.path.clone()), loss),
            Verdict::Needed(purposes) => {
                for (object, place) in purposes {
                    derived.wants.add_for(Demand::File(file.path.clone()), Some(&object), &place);
                }
            }
        }
        derived.own_files.push(file.clone());
    }
    add_unknown_links(derived, machine);
}

fn verdict(machine: &Machine, file: &OwnFile) -> Verdict {
    match &file.reader {
        Reader::HostName { names_arrays, is_system_id } => host_name(machine, *names_arrays, *is_system_id),
        Reader::Mdadm(names) => mdadm(machine, names),
        Reader::Lvm(part) => lvm(machine, *part),
        Reader::Rules(_) => rules(machine, file),
        Reader::Link(is_named) => link(machine, *is_named),
        Reader::Multipath => multipath(machine),
        Reader::MultipathNames(names) => multipath_names(machine, names),
        Reader::NvmeHost(is_in_firmware) => remote(machine, "nvme_", !is_in_firmware),
        Reader::NvmeTargets => remote(machine, "nvme_", false),
        Reader::IscsiName(is_in_firmware) => remote(machine, "iscsi_", !is_in_firmware),
        Reader::IscsiSettings => remote(machine, "iscsi_", false),
        Reader::Clock => Verdict::Wished("the clock is wrong by the time zone until the system starts".to_owned()),
        Reader::Console => Verdict::Taken,
    }
}

fn is_array(device: &Device) -> bool {
    matches!(device.kind, Kind::Array { .. })
}

/// Arrays with the names that this host gives them. One that mdadm numbered itself would get another number by the host's name,
/// and the system may count on this one.
fn is_own_array(device: &Device) -> bool {
    matches!(device.kind, Kind::Array { has_own_name: true, .. })
}

fn all_devices(machine: &Machine) -> impl Iterator<Item = (&Device, &Place)> {
    machine.places.iter().flat_map(|place| place.devices.iter().map(move |device| (device, place)))
}

/// The places that are found by the name of an array, each with that name.
fn named_arrays(machine: &Machine) -> impl Iterator<Item = (&str, &Place)> {
    let places = machine.places.iter().filter(|place| place.devices.iter().any(is_own_array));
    places.flat_map(|place| {
        place.called.iter().filter(|path| array_name(path).is_some()).map(move |path| (path.as_str(), place))
    })
}

/// Whether mdadm.conf has a line for the array.
fn is_listed(machine: &Machine, path: &str) -> bool {
    let name = array_name(path).unwrap_or_default();
    let has = |file: &OwnFile| matches!(&file.reader, Reader::Mdadm(names) if names.iter().any(|known| known == name));
    machine.own_files.iter().any(has)
}

fn needed(purposes: Vec<(String, String)>) -> Option<Verdict> {
    (!purposes.is_empty()).then_some(Verdict::Needed(purposes))
}

fn purpose(object: &str, place: &Place) -> (String, String) {
    (object.to_owned(), place.name.clone())
}

fn host_name(machine: &Machine, names_arrays: bool, is_system_id: bool) -> Verdict {
    let arrays = named_arrays(machine).filter(|(path, _)| names_arrays && !is_listed(machine, path));
    let groups = groups_of_one_host(machine).filter(|_| is_system_id);
    let purposes = arrays.map(|(path, place)| purpose(path, place)).chain(groups).collect();
    let is_useful = names_arrays && all_devices(machine).any(|(device, _)| is_own_array(device));
    let loss = "arrays of this host are called as those of another, such as /dev/md127";
    needed(purposes).unwrap_or(if is_useful { Verdict::Wished(loss.to_owned()) } else { Verdict::Unused })
}

fn mdadm(machine: &Machine, names: &[String]) -> Verdict {
    if !all_devices(machine).any(|(device, _)| is_array(device)) {
        return Verdict::Unused;
    }
    let is_named = |path: &str| names.iter().any(|name| Some(name.as_str()) == array_name(path));
    let purposes = named_arrays(machine).filter(|(path, _)| is_named(path)).map(|(path, place)| purpose(path, place));
    let loss = "arrays may have other names, or not be assembled as it says".to_owned();
    needed(purposes.collect()).unwrap_or(Verdict::Wished(loss))
}

/// The name of the group of volumes that a device of LVM is in: dashes in it are doubled.
fn group(device: &Device) -> Option<String> {
    let Kind::Mapped(uuid) = &device.kind else { return None };
    let name = device.path.strip_prefix("/dev/mapper/").filter(|_| uuid.starts_with("LVM-"))?;
    let single = name.replace("--", "\0");
    Some(single.split('-').next()?.replace('\0', "-"))
}

/// Volumes of groups that may belong to this host alone; of those that are known not to, anybody's LVM opens them.
fn groups_of_one_host(machine: &Machine) -> impl Iterator<Item = (String, String)> {
    let is_owned = |group: &str| machine.system_ids.iter().find(|one| one.group == group).is_none_or(|one| one.is_set);
    let volumes = all_devices(machine).filter(move |(device, _)| group(device).is_some_and(|group| is_owned(&group)));
    volumes.map(|(device, place)| purpose(&device.path, place))
}

fn lvm(machine: &Machine, part: LvmFile) -> Verdict {
    if !all_devices(machine).any(|(device, _)| group(device).is_some()) {
        return Verdict::Unused;
    }
    let purposes = groups_of_one_host(machine).filter(|_| part == LvmFile::SystemId).collect();
    let loss = "LVM looks at other disks, or at all of them, or activates volumes in another way".to_owned();
    let otherwise = if part == LvmFile::Profile { Verdict::Taken } else { Verdict::Wished(loss) };
    needed(purposes).unwrap_or(otherwise)
}

/// Whether udev gives such a name to every device, or the device mapper, LVM or mdadm do.
fn is_usual(machine: &Machine, place: &Place, path: &str) -> bool {
    let is_device = |device: &Device| device.path == path || path.strip_prefix(&device.path).is_some_and(is_partition);
    let is_of_group = |device: &Device| {
        group(device)
            .is_some_and(|group| path.strip_prefix("/dev/").is_some_and(|rest| rest.starts_with(&format!("{group}/"))))
    };
    let is_usual_place = ["/dev/mapper/", "/dev/dm-", "/dev/zvol/", "/dev/block/"];
    let is_by = |by: &&str| path.strip_prefix("/dev/disk/by-").is_some_and(|rest| rest.starts_with(&format!("{by}/")));
    // What the initrd mounts without a device is no link: /dev/nfs, /dev/ram0.
    let is_none =
        place.devices.is_empty() || matches!(path, "/dev/nfs" | "/dev/root" | "/dev/ram0" | "/dev/gpt-auto-root");
    is_none
        || BY.iter().any(is_by)
        || array_name(path).is_some()
        || is_usual_place.iter().any(|directory| path.starts_with(directory))
        || all_devices(machine).any(|(device, _)| is_device(device) || is_of_group(device))
}

/// Whether the end of a path is the number of a partition.
fn is_partition(end: &str) -> bool {
    // kpartx puts between what distributions tell it to.
    let digits = ["-part", "_part", "p"].iter().find_map(|between| end.strip_prefix(between)).unwrap_or(end);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn rules(machine: &Machine, file: &OwnFile) -> Verdict {
    let purposes = machine.places.iter().flat_map(|place| place.called.iter().map(move |path| (path, place)));
    let made = purposes.filter(|(path, place)| !is_usual(machine, place, path) && file.makes(path));
    needed(made.map(|(path, place)| purpose(path, place)).collect()).unwrap_or(Verdict::Taken)
}

/// Names that somebody's rules must make, and no file here does.
fn add_unknown_links(derived: &mut Derived, machine: &Machine) {
    for place in &machine.places {
        for path in place.called.iter().filter(|path| !is_usual(machine, place, path)) {
            if !machine.own_files.iter().any(|file| file.makes(path)) {
                derived.notes.push(format!(
                    "{} is found by {path}, a link that no rule in /etc/udev/rules.d makes: whether the initrd has it is not checked",
                    place.name
                ));
            }
        }
    }
}

fn link(machine: &Machine, is_named: bool) -> Verdict {
    let reached = machine.places.iter().filter(|place| is_named && is_from_network(place));
    needed(reached.map(|place| purpose("the name of a network card", place)).collect()).unwrap_or(Verdict::Taken)
}

fn is_from_network(place: &Place) -> bool {
    let is_remote = |device: &Device| matches!(device.kind, Kind::RemoteDisk(_));
    place.devices.iter().any(is_remote) || place.file_systems.iter().any(|one| one.is_remote())
}

fn multipaths(machine: &Machine) -> impl Iterator<Item = (&Device, &Place)> {
    let is_multipath = |device: &Device| matches!(&device.kind, Kind::Mapped(uuid) if uuid.starts_with("mpath-"));
    all_devices(machine).filter(move |(device, _)| is_multipath(device))
}

fn multipath(machine: &Machine) -> Verdict {
    let purposes = multipaths(machine).map(|(device, place)| purpose(&device.path, place)).collect();
    needed(purposes).unwrap_or(Verdict::Taken)
}

/// A name such as mpatha, by which a place is found, is given to a disk by the bindings alone.
fn multipath_names(machine: &Machine, names: &[String]) -> Verdict {
    let is_bound = |path: &str| names.iter().any(|name| path.strip_prefix("/dev/mapper/") == Some(name));
    let is_called = |path: &str, place: &Place| {
        place
            .called
            .iter()
            .any(|called| called.strip_prefix(path).is_some_and(|end| end.is_empty() || is_partition(end)))
    };
    let disks = multipaths(machine).filter(|(disk, place)| is_bound(&disk.path) && is_called(&disk.path, place));
    needed(disks.map(|(disk, place)| purpose(&disk.path, place)).collect()).unwrap_or(Verdict::Taken)
}

/// What a client of other machines' disks reads; without its own name it is not let in.
fn remote(machine: &Machine, prefix: &str, is_name: bool) -> Verdict {
    let is_such = |device: &Device| matches!(device.kind, Kind::RemoteDisk(module) if module.starts_with(prefix));
    let devices: Vec<_> = all_devices(machine).filter(|(device, _)| is_such(device)).collect();
    let purposes = devices.iter().filter(|_| is_name).map(|(device, place)| purpose(&device.path, place)).collect();
    needed(purposes).unwrap_or(if devices.is_empty() { Verdict::Unused } else { Verdict::Taken })
}

#[cfg(test)]
mod tests;
