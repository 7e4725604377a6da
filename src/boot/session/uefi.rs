//! What a guest that is started by UEFI has beside its kernel: firmware with variables of its own, and a boot loader on its disk.

use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Session, Subject};
use crate::boot::esp::{self, SystemdBoot};
use crate::boot::qemu::Start;
use crate::boot::scenario::{DiskSet, Scenario};
use crate::boot::stage::Stage;
use crate::boot::verdict::Failure;
use crate::inspect;
use crate::uefi::{Firmware, Flash, MISSING};

/// What starts guests by UEFI.
pub struct Uefi<'a> {
    firmware: &'a Firmware,
    loader: Vec<u8>,
    /// The number of the disk that it starts from.
    disk: usize,
    /// The EFI system partition on that disk, in bytes.
    place: Range<u64>,
}

impl Session<'_> {
    /// What starts a guest from the disks of a scenario by UEFI, or why nothing does.
    pub(super) fn uefi(&self, scenario: &Scenario) -> Result<std::result::Result<Uefi<'_>, Failure>> {
        let refuse = |stage, reason| Ok(Err(self.refusal(scenario, stage, reason)));
        let Some(firmware) = &self.options.firmware else { return refuse(Stage::Firmware, MISSING.to_owned()) };
        let loader = match self.boot_loader() {
            Ok(loader) => loader,
            Err(error) => return refuse(Stage::Disks, format!("{error:#}")),
        };
        let (disk, place) = esp_of(scenario.disks)?;
        Ok(Ok(Uefi { firmware, loader, disk, place }))
    }

    /// systemd-boot, as the initrd has it whose programs make the disks.
    fn boot_loader(&self) -> Result<Vec<u8>> {
        let path = &self.options.maker.as_ref().unwrap_or(&self.subject).initrd;
        let initrd = File::open(path).with_context(|| format!("opening {}", path.display()))?;
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

fn esp_of(set: &DiskSet) -> Result<(usize, Range<u64>)> {
    set.efi_system_partition()?.with_context(|| format!("the disks {} have no EFI system partition", set.name))
}

impl Uefi<'_> {
    /// Whether the guest starts from the disk with this number.
    pub fn starts_from(&self, number: usize) -> bool {
        self.disk == number
    }

    /// Puts `subject` where the firmware finds it: onto `disk`, a copy that is the guest's own. So are the variables.
    ///
    /// # Errors
    /// Fails when the subject does not fit into the EFI system partition, or a file cannot be read or written.
    pub fn start(&self, subject: &Subject, command_line: &str, disk: &Path, scratch: &Path) -> Result<Start> {
        let writing = || format!("writing the EFI system partition of {}", disk.display());
        let file = OpenOptions::new().read(true).write(true).open(disk).with_context(writing)?;
        let boot = SystemdBoot { loader: &self.loader, kernel: &subject.kernel, initrd: &subject.initrd, command_line };
        boot.write(&file, self.place.clone()).with_context(writing)?;
        let variables = Flash { path: self.own_variables(scratch)?, ..self.firmware.variables.clone() };
        Ok(Start::Uefi { firmware: Firmware { variables, ..self.firmware.clone() }, disk: self.disk })
    }

    fn own_variables(&self, scratch: &Path) -> Result<PathBuf> {
        let (template, own) = (&self.firmware.variables.path, scratch.join("variables"));
        // Not a copy of the file's mode: where the distribution's is read-only, the guest's is not.
        let bytes = fs::read(template).with_context(|| format!("reading {}", template.display()))?;
        fs::write(&own, bytes).with_context(|| format!("writing {}", own.display()))?;
        Ok(own)
    }
}
