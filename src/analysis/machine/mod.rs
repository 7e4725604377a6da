//! What a machine's root lies on: a directory that stands for its root in, file systems and devices out.
//!
//! | module | what it does |
//! |---|---|
//! | [`mod@root`] | the machine's files below that directory |
//! | [`mountinfo`] | what is mounted where |
//! | [`survey`] | a mount to the file systems and devices below it |
//! | [`block`], [`drivers`] | a block device to all that it lies on, and the drivers of its disks |
//! | [`arrays`] | whose names the arrays of md have |
//! | [`fstab`] | what is to be mounted where |
//! | [`kernel_options`], [`crypttab`], [`volumes`] | how volumes are opened |
//! | [`resume`] | what the machine wakes up from |
//! | [`keyboards`] | the keyboards that it has now |
//! | [`own_files`] | its files that programs of an initrd read |
//!
//! Nothing here knows what an initrd needs of this: that is [`crate::analysis::needs`]. Only `/proc`, `/sys`, `/etc`, the links in
//! `/dev` and the database of udev are read, no device and no program.

mod arrays;
mod block;
pub(crate) mod crypttab;
mod drivers;
#[cfg(test)]
pub(crate) mod fixture;
mod fstab;
mod kernel_options;
mod keyboards;
mod mountinfo;
mod own_files;
mod resume;
pub(crate) mod root;
mod survey;
mod udev;
mod volumes;

use std::path::Path;

use anyhow::{Context, Result};

use block::Blocks;
use drivers::Drivers;
use kernel_options::KernelOptions;
use mountinfo::Mounts;
use root::Root;
use survey::Survey;
use volumes::Volumes;

pub use arrays::array_name;
pub use block::{Device, Kind};
pub use drivers::Driver;
pub use fstab::{FSTAB, FstabLine, read_fstab};
pub use keyboards::Keyboard;
pub use mountinfo::unescape;
pub use own_files::{LvmFile, OwnFile, Reader, SystemId, own_files};
pub use volumes::{KEYS, Typing, Volume};

/// Where the kernel shows what is on its USB buses, the buses themselves among it.
const USB: &str = "/sys/bus/usb/devices";
/// Where GRUB has its configuration, beside the kernels that it starts.
const GRUB: [&str; 2] = ["/boot/grub2/grub.cfg", "/boot/grub/grub.cfg"];

/// What an initrd has to do on a machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Machine {
    /// What has to be mounted, woken up from or opened.
    pub places: Vec<Place>,
    /// The drivers of its TPM; none where it has none.
    pub tpm: Vec<Driver>,
    /// The network cards that are up.
    pub network: Vec<Card>,
    /// The keyboards that it has now.
    pub keyboards: Vec<Keyboard>,
    /// Whether it has a USB bus, to which another keyboard may be plugged.
    pub has_usb: bool,
    /// Its files that programs of an initrd read.
    pub own_files: Vec<OwnFile>,
    /// The groups of volumes of LVM that are known to belong to one host, or to any.
    pub system_ids: Vec<SystemId>,
    /// What is unusual.
    pub notes: Vec<String>,
    /// The notes on volumes below `/` and `/usr` that nothing has systemd open in an initrd: another generator may open them by other
    /// rules, and does where the system runs.
    pub unopened: Vec<String>,
}

/// A network card.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Card {
    /// The name of its interface.
    pub name: String,
    /// The drivers between it and the processor.
    pub drivers: Vec<Driver>,
}

/// Something that an initrd has to reach.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// What it is: a mount point, `resume=UUID=1234`, a volume.
    pub name: String,
    /// Whether the machine wakes up from it.
    pub is_resumed: bool,
    /// The paths in `/dev` that the initrd is told to find it by, or what it lies on.
    pub called: Vec<String>,
    /// What is mounted, that which the place is called by first.
    pub file_systems: Vec<FileSystem>,
    /// The block devices that all this lies on.
    pub devices: Vec<Device>,
    /// Those of them that a table may have the initrd open.
    pub volumes: Vec<Volume>,
}

/// A file system.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileSystem {
    /// Its type, in the kernel's words.
    pub kind: String,
    /// Where it is mounted.
    pub point: String,
    /// How many devices its mount names; none where it does not lie on devices of this machine.
    pub device_count: usize,
}

impl FileSystem {
    /// Whether it comes from another machine, or from that which runs this one.
    pub fn is_remote(&self) -> bool {
        survey::REMOTE.contains(&self.kind.as_str())
    }
}

impl Place {
    fn new(name: String) -> Self {
        Place { name, ..Place::default() }
    }

    fn has_mount(&self, point: &str) -> bool {
        self.file_systems.iter().any(|file_system| file_system.point == point)
    }
}

impl Machine {
    /// Reads the machine whose root is `directory`: `/`, or where it is mounted with its `/proc` and `/sys`.
    ///
    /// # Errors
    /// Fails when something cannot be read, or what the root lies on not be told.
    pub fn read(directory: &Path) -> Result<Self> {
        let root = Root::open(directory)?;
        let mounts = Mounts::read(&root)?;
        let blocks = Blocks::read(&root)?;
        let options = KernelOptions::read(&root)?;
        let volumes = Volumes::read(&root, &options)?;
        let mut survey = Survey { root: &root, mounts: &mounts, blocks: &blocks, notes: Vec::new() };
        let mut places = mounted(&mut survey, &options)?;
        places.extend(resumed(&mut survey, &options)?);
        places.extend(attached(&mut survey, &volumes, &places)?);
        let mut unopened = Vec::new();
        for place in &mut places {
            place.volumes = place.devices.iter().filter_map(|device| volumes.volume(device)).collect();
            let called = place.volumes.iter().filter_map(|volume| volumes.called(volume));
            place.called.extend(called.filter(|name| name.starts_with("/dev/")).map(str::to_owned));
            let untold: Vec<String> = place.devices.iter().filter_map(|device| volumes.untold(device)).collect();
            if ["/", "/usr"].iter().any(|point| place.has_mount(point)) {
                unopened.extend(untold.iter().cloned());
            }
            survey.notes.extend(untold);
        }
        let of_boot = encrypted_boot(&mut survey, &volumes, &places);
        let mut notes = survey.notes;
        notes.extend(of_boot);
        let mut told = std::collections::BTreeSet::new();
        notes.retain(|note| told.insert(note.clone()));
        Ok(Machine {
            places,
            tpm: tpm(&root)?,
            network: network(&root)?,
            keyboards: keyboards::keyboards(&root)?,
            has_usb: !root.names(USB)?.is_empty(),
            own_files: own_files::read(&root, &options)?,
            system_ids: own_files::groups(&root)?,
            notes,
            unopened,
        })
    }
}

/// What is to be said where the boot loader has to open an encrypted volume too: it reads the kernel and the initrd from there.
fn encrypted_boot(survey: &mut Survey<'_>, volumes: &Volumes<'_>, places: &[Place]) -> Option<String> {
    let configuration = GRUB.into_iter().find(|path| survey.root.has(path))?;
    // What cannot be told of it concerns no initrd.
    let boot = survey.holding(configuration).ok().flatten()?;
    let volume =
        boot.devices.iter().filter_map(|device| volumes.volume(device)).find(|one| one.typing != Typing::Never)?;
    let path = &volume.path;
    let is_needed = places.iter().flat_map(|place| &place.volumes).any(|needed| needed.path == *path);
    let twice = if is_needed && volume.typing == Typing::Always {
        ", and the initrd asks for the passphrase once more: a key file in a line of /etc/crypttab with x-initrd.attach saves that"
    } else {
        ""
    };
    Some(format!("GRUB reads {configuration} and the initrd from {path}, which it has to open itself{twice}"))
}

/// The values of an option of the kernel, of the machine as it was booted and of kernels that will be installed.
///
/// # Errors
/// Fails when there is no such machine or its options cannot be read.
pub fn kernel_option(root: &Path, name: &str) -> Result<Vec<String>> {
    let options = KernelOptions::read(&Root::open(root)?)?;
    Ok(options.values(name).map(str::to_owned).collect())
}

/// The root, `/usr`, and what `/etc/fstab` has the initrd mount.
fn mounted(survey: &mut Survey<'_>, options: &KernelOptions) -> Result<Vec<Place>> {
    let mut root = survey.mounted("/")?.with_context(|| {
        let root = survey.root.shown("/");
        format!("nothing is mounted at the root of {root}: give --host the root of a machine that is mounted")
    })?;
    root.called = options.values("root").filter(|name| name.starts_with("/dev/")).map(str::to_owned).collect();
    let mut places = vec![root];
    places.extend(survey.mounted("/usr")?);
    let fstab = read_fstab(survey.root.directory())?;
    let of_initrd = fstab.iter().filter(|line| line.has("x-initrd.mount")).map(|line| line.point.as_str());
    for point in of_initrd.filter(|point| !["/", "/usr"].contains(point)) {
        match survey.mounted(point)? {
            Some(place) => places.push(place),
            None => survey.notes.push(format!("{FSTAB} has the initrd mount {point}, which is not mounted")),
        }
    }
    for place in &mut places[1..] {
        let sources = fstab.iter().filter(|line| line.point == place.name).map(|line| &line.source);
        place.called = sources.filter(|source| source.starts_with("/dev/")).cloned().collect();
    }
    Ok(places)
}

fn resumed(survey: &mut Survey<'_>, options: &KernelOptions) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for target in resume::targets(survey.root, options)? {
        match resume::device(survey.root, survey.blocks, &target)? {
            Some(kernel_name) => {
                survey.notes.extend(resume::untold(&target, survey.mount_point(&kernel_name)?));
                let called = Some(target.given).filter(|name| name.starts_with("/dev/")).into_iter().collect();
                let mut place = Place { is_resumed: true, called, ..Place::new(target.name) };
                survey.add_device(&kernel_name, &mut place)?;
                places.push(place);
            }
            None => survey.notes.push(format!("{} names no device that is there", target.name)),
        }
    }
    Ok(places)
}

/// The volumes that a table has the initrd open, unless they are needed anyway.
fn attached(survey: &mut Survey<'_>, volumes: &Volumes<'_>, needed: &[Place]) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for (table, name) in volumes.for_initrd() {
        let Some(kernel_name) = survey.blocks.mapped(name) else {
            survey.notes.push(format!("{table} has the initrd open {name}, which is not open"));
            continue;
        };
        let path = survey.blocks.shown(&kernel_name);
        if needed.iter().flat_map(|place| &place.devices).all(|device| device.path != path) {
            let mut place = Place::new(format!("{path}, which has x-initrd.attach"));
            survey.add_device(&kernel_name, &mut place)?;
            places.push(place);
        }
    }
    Ok(places)
}

fn tpm(root: &Root) -> Result<Vec<Driver>> {
    match root.resolve("/sys/class/tpm/tpm0")? {
        Some(directory) => Ok(Drivers::above(root, &directory)?.drivers),
        None => Ok(Vec::new()),
    }
}

fn network(root: &Root) -> Result<Vec<Card>> {
    let mut cards = Vec::new();
    for name in root.names("/sys/class/net")? {
        let path = format!("/sys/class/net/{name}");
        let is_up = root.attribute(&format!("{path}/operstate"))?.is_some_and(|state| state == "up");
        let Some(directory) = root.resolve(&path)?.filter(|_| is_up && root.has(&format!("{path}/device"))) else {
            continue;
        };
        cards.push(Card { drivers: Drivers::above(root, &directory)?.drivers, name });
    }
    Ok(cards)
}

#[cfg(test)]
mod tests;
