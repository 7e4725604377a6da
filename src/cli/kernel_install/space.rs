//! Whether an entry has room where entries are put, before anything there is written to.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use indicatif::DecimalBytes;
use rustix::fs::StatVfsMountFlags;

use super::Installation;
use super::environment::Layout;
use super::mounts;
use crate::migration::Caller;

/// Room that stays free for what other plugins put beside it, in bytes.
pub const SPARE_BYTES: u64 = 1 << 20;

impl Installation<'_> {
    /// Whether the initrd has room, and the kernel beside it, in place of this kernel's entry if there is one.
    pub fn check_space_of_initrd(&self, initrd_bytes: u64) -> Result<()> {
        if self.caller == Caller::DebianHooks {
            return self.check_space("the initrd", initrd_bytes);
        }
        // Of an image that is ours the size is known when it is finished.
        let Some(kernel) = self.arguments.image.as_ref().filter(|_| !self.environment.makes_unified_images()) else {
            return Ok(());
        };
        let kernel_bytes = fs::metadata(kernel).with_context(|| format!("reading {}", kernel.display()))?.len();
        self.check_space("the kernel with its initrd", initrd_bytes + kernel_bytes)
    }

    /// Entries of other kernels stay: there has to be room for theirs and for this one, which replaces its own.
    pub fn check_space(&self, what: &str, needed_bytes: u64) -> Result<()> {
        let Some(boot_root) = self.place_of_entries() else { return Ok(()) };
        mounts::check(&self.root, &boot_root)?;
        let place = boot_root.display();
        let facts = rustix::fs::statvfs(&boot_root)
            .with_context(|| format!("looking for room in {place}, where boot entries are: mount it"))?;
        let is_writable = !facts.f_flag.contains(StatVfsMountFlags::RDONLY);
        ensure!(
            is_writable,
            "{place} is mounted read-only: mount it writable, or see in the kernel's log why it is not"
        );
        let (free, needed) = (facts.f_bavail * facts.f_frsize + self.replaced_bytes(), needed_bytes + SPARE_BYTES);
        ensure!(
            free >= needed,
            "{place} has {} free, and {what} takes {}: remove an old kernel",
            DecimalBytes(free),
            DecimalBytes(needed)
        );
        Ok(())
    }

    /// Where entries are put, if that was said.
    fn place_of_entries(&self) -> Option<PathBuf> {
        match self.environment.layout() {
            Layout::Grub => Some(self.boot()),
            _ => self.environment.boot_root.clone(),
        }
    }

    /// What of this kernel's entry makes room for the new one, in bytes.
    fn replaced_bytes(&self) -> u64 {
        if self.caller == Caller::DebianHooks {
            // The older one stays until the new one is complete, and the kernel is there already.
            return 0;
        }
        if self.environment.layout() == Layout::Grub {
            // Of the initrd the older one stays until the new one is complete; the kernel, by GRUB's plugin, does not.
            return fs::metadata(self.grub_kernel()).map_or(0, |file| file.len());
        }
        let image = self.environment.unified_image(&self.arguments.kernel_version);
        match image {
            Some(image) => fs::metadata(image).map_or(0, |file| file.len()),
            None => size_of_files(&self.arguments.entry_directory),
        }
    }
}

/// How much the files in a directory take, in bytes; none where there is none.
fn size_of_files(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file).map(|file| file.len()).sum()
}
