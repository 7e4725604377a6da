//! What a guest that is started by UEFI has beside its kernel: firmware with variables of its own, and what that starts on a disk.

use std::fs::{self, OpenOptions};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::disks::{copy_sparse, create_sparse};
use super::{BootTarget, MIB, Session};
use crate::analysis::inspect;
use crate::boot::esp::{self, SystemdBoot};
use crate::boot::qemu::{GuestDisk, Start};
use crate::boot::scenario::{self, DiskSet, Scenario};
use crate::boot::stage::Stage;
use crate::boot::uefi::{Firmware, Flash, MISSING};
use crate::boot::verdict::Failure;
use ocinitrd_support::output;
use ocinitrd_support::regular_file;

/// The size of a disk by itself: no smaller one is FAT32. The file is sparse.
const OWN_DISK_MIB: u64 = 512;
/// What the file system takes beside its files, at most.
const SPARE_MIB: u64 = 64;

/// What starts guests by UEFI.
pub struct Uefi<'a> {
    firmware: &'a Firmware,
    program: Program,
    place: Place,
}

/// What the firmware starts.
enum Program {
    /// systemd-boot, which starts the kernel and the initrd that lie beside it.
    SystemdBoot(Vec<u8>),
    /// The unified kernel image of this file.
    Unified(PathBuf),
}

/// Where it lies.
enum Place {
    /// In the EFI system partition on the disk with this number: there, in bytes.
    Partition(usize, Range<u64>),
    /// On a disk by itself behind those of the set, with this number.
    OwnDisk(usize),
}

impl Session<'_> {
    /// What starts a guest from the disks of a scenario by UEFI, if that is needed. Or why nothing does.
    pub(super) fn uefi(&self, scenario: &Scenario) -> Result<std::result::Result<Option<Uefi<'_>>, Failure>> {
        let refuse = |stage, reason| Ok(Err(self.refusal(scenario, stage, reason)));
        if self.subject.unified.is_none() && scenario.firmware == scenario::Firmware::Direct {
            return Ok(Ok(None));
        }
        let Some(firmware) = &self.options.firmware else { return refuse(Stage::Firmware, MISSING.to_owned()) };
        let program = match &self.subject.unified {
            Some(unified) => Program::Unified(unified.image.clone()),
            None => match self.boot_loader() {
                Ok(loader) => Program::SystemdBoot(loader),
                Err(error) => return refuse(Stage::Disks, format!("{error:#}")),
            },
        };
        let place = match scenario.firmware {
            scenario::Firmware::Uefi => esp_of(scenario.disks)?,
            scenario::Firmware::Direct => Place::OwnDisk(scenario.disks.disks.len()),
        };
        Ok(Ok(Some(Uefi { firmware, program, place })))
    }

    /// systemd-boot, as the initrd has it whose programs make the disks.
    fn boot_loader(&self) -> Result<Vec<u8>> {
        let path = &self.options.maker.as_ref().unwrap_or(&self.subject).initrd;
        let initrd = regular_file::open(path).with_context(|| format!("opening {}", path.display()))?;
        let mut loader = Vec::new();
        inspect::extract(initrd, esp::SYSTEMD_BOOT.as_bytes(), &mut loader).with_context(|| {
            format!(
                "taking systemd-boot, of the package systemd-boot-unsigned, out of {} (--disks-by OUT takes it from another build)",
                path.display()
            )
        })?;
        Ok(loader)
    }
}

fn esp_of(set: &DiskSet) -> Result<Place> {
    let found = set.efi_system_partition()?;
    let (disk, place) = found.with_context(|| format!("the disks {} have no EFI system partition", set.name))?;
    Ok(Place::Partition(disk, place))
}

impl Uefi<'_> {
    /// The number of the disk that the guest starts from.
    fn number(&self) -> usize {
        match self.place {
            Place::Partition(number, _) | Place::OwnDisk(number) => number,
        }
    }

    /// Puts `subject` where the firmware finds it, and with it the disk of that: a copy of one of `disks`, or one more. The
    /// disk and the variables are the guest's own.
    ///
    /// # Errors
    /// Fails when the subject does not fit into the EFI system partition, or a file cannot be read or written.
    pub fn start(
        &self,
        subject: &BootTarget,
        command_line: &str,
        disks: &mut Vec<GuestDisk>,
        scratch: &Path,
    ) -> Result<Start> {
        let own = scratch.join("uefi-disk");
        let writing = || format!("writing the EFI system partition of {}", own.display());
        let place = self.own_disk(disks, &own)?;
        let file = OpenOptions::new().read(true).write(true).open(&own).with_context(writing)?;
        let command_line = match &self.program {
            Program::SystemdBoot(loader) => {
                let (kernel, initrd) = (&subject.kernel, &subject.initrd);
                SystemdBoot { loader, kernel, initrd, command_line }.write(&file, place).with_context(writing)?;
                None
            }
            Program::Unified(image) => {
                esp::write_unified(image, &file, place).with_context(writing)?;
                Some(command_line.to_owned())
            }
        };
        let variables = Flash { path: self.own_variables(scratch)?, ..self.firmware.variables.clone() };
        let firmware = Firmware { variables, ..self.firmware.clone() };
        Ok(Start::Uefi { firmware, disk: self.number(), command_line })
    }

    /// Makes the disk `own` and puts it among `disks`. Returns where on it the file system is to be, in bytes.
    fn own_disk(&self, disks: &mut Vec<GuestDisk>, own: &Path) -> Result<Range<u64>> {
        match &self.place {
            Place::Partition(number, place) => {
                let disk = disks.iter_mut().find(|disk| disk.number == *number);
                let disk = disk.context("the guest lacks the disk that it is to start from")?;
                copy_sparse(&disk.image, own)?;
                disk.image = own.to_owned();
                Ok(place.clone())
            }
            Place::OwnDisk(number) => {
                let needed_bytes = (self.program_bytes()? + SPARE_MIB * MIB).next_multiple_of(MIB);
                let size_bytes = needed_bytes.max(OWN_DISK_MIB * MIB);
                create_sparse(own, size_bytes)?;
                disks.push(GuestDisk { number: *number, image: own.to_owned(), writable: false });
                Ok(0..size_bytes)
            }
        }
    }

    fn program_bytes(&self) -> Result<u64> {
        match &self.program {
            Program::SystemdBoot(loader) => Ok(loader.len() as u64),
            Program::Unified(image) => {
                Ok(fs::metadata(image).with_context(|| format!("reading {}", image.display()))?.len())
            }
        }
    }

    fn own_variables(&self, scratch: &Path) -> Result<PathBuf> {
        let (path, own) = (&self.firmware.variables.path, scratch.join("variables"));
        // Not a copy of the file's mode: where the distribution's is read-only, the guest's is not.
        let mut template = regular_file::open(path).with_context(|| format!("reading {}", path.display()))?;
        let copied = output::create_new(&own).and_then(|mut copy| io::copy(&mut template, &mut copy));
        copied.with_context(|| format!("copying {} to {}", path.display(), own.display()))?;
        Ok(own)
    }
}
