//! The initrd of an entry of GRUB's, `/boot/initramfs-KVER.img`: GRUB's plugin names it, and the generator of initrds writes it. On
//! Debian it is `/boot/initrd.img-KVER`, which `update-grub` finds by its name.
//!
//! GRUB's plugin, dracut's and these agree on `/boot`, wherever kernel-install would put entries of its own. What is there stays until
//! its successor is complete and on the disk, and then goes by a rename.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use super::Installation;
use super::base;
use super::mounts;
use crate::migration::Caller;
use ocinitrd_support::output::{MODE_PRIVATE, OutputFile};
use ocinitrd_support::process::{self, Program};

/// What gives a file the label that SELinux's policy has for its path.
const RESTORECON: &str = "restorecon";
/// What is locked while an initrd is put there.
const LOCK: &str = "boot.lock";

impl Installation<'_> {
    /// Where GRUB reads kernels and initrds from.
    pub fn boot(&self) -> PathBuf {
        self.root.join("boot")
    }

    /// The initrd that GRUB's entry names.
    pub fn grub_initrd(&self) -> PathBuf {
        self.boot().join(self.grub_initrd_name())
    }

    /// The kernel that GRUB's entry names.
    pub fn grub_kernel(&self) -> PathBuf {
        self.boot().join(format!("vmlinuz-{}", self.arguments.kernel_version))
    }

    /// The name that the initrd has in an entry.
    pub fn grub_initrd_name(&self) -> String {
        let kernel_version = &self.arguments.kernel_version;
        match self.caller {
            Caller::KernelInstall => format!("initramfs-{kernel_version}.img"),
            Caller::DebianHooks => format!("initrd.img-{kernel_version}"),
        }
    }

    /// Whether the initrd can be put there.
    ///
    /// # Errors
    /// Fails when something else has its name, and when its file system is not mounted.
    pub fn check_grub_place(&self) -> Result<()> {
        mounts::check(&self.root, &self.boot())?;
        let place = self.grub_initrd();
        match fs::symlink_metadata(&place) {
            Ok(found) if found.is_symlink() => bail!(
                "{} is a link, and other generators of initrds and GRUB's plugin write through it or remove it: remove it",
                place.display()
            ),
            Ok(found) if !found.is_file() => {
                bail!("{} is there and is not a file: move it away", place.display())
            }
            _ => Ok(()),
        }
    }

    /// Puts the initrd there that was made in the staging area.
    ///
    /// # Errors
    /// Fails when it has no room or cannot be written; what was there before stays.
    pub fn place_for_grub(&self, staged: &Path) -> Result<()> {
        let place = self.grub_initrd();
        self.check_grub_place()?;
        let _alone = base::lock(&self.root, LOCK)?;
        self.remove_leftovers();
        let reading = || format!("reading {}", staged.display());
        let mut source = File::open(staged).with_context(reading)?;
        self.check_space_of_initrd(source.metadata().with_context(reading)?.len())?;
        let mut output = OutputFile::create(&place, MODE_PRIVATE)?;
        output.copy_from(&mut source)?;
        output.set_modified(self.not_older_than_the_kernel())?;
        output.commit()?;
        self.label(&place);
        self.warn_of_readers(&place);
        Ok(())
    }

    /// Now, or the time of the kernel if that is later, by a clock that went back since: GRUB's plugin removes an initrd that is
    /// older than the kernel.
    fn not_older_than_the_kernel(&self) -> SystemTime {
        let kernels = [self.arguments.image.clone(), Some(self.grub_kernel())];
        let times = kernels.into_iter().flatten().filter_map(|kernel| fs::metadata(kernel).ok()?.modified().ok());
        times.fold(SystemTime::now(), SystemTime::max)
    }

    /// What a run left that lost its power: a file system without unnamed files gives it a name.
    fn remove_leftovers(&self) {
        let prefix = format!(".{}.", self.grub_initrd_name());
        for entry in fs::read_dir(self.boot()).into_iter().flatten().flatten() {
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if is_file && entry.file_name().to_string_lossy().starts_with(&prefix) {
                // Where it cannot be removed, nothing can be written either, and that is reported.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// GRUB reads it whatever label it has, so that a failure is no reason to have no initrd.
    fn label(&self, place: &Path) {
        if self.root != Path::new("/") || !matches!(process::find(RESTORECON), Ok(Some(_))) {
            return;
        }
        let labelled = Program::new(RESTORECON).args([place]).run();
        if let Err(error) = labelled {
            self.progress.warn(&format!("{error:#}; {} keeps the label of its directory", place.display()));
        }
    }

    /// A file system without modes shows to everybody what its mount options say.
    fn warn_of_readers(&self, place: &Path) {
        let mode = fs::metadata(place).map_or(0, |metadata| metadata.permissions().mode());
        if mode & 0o077 != 0 {
            self.progress.warn(&format!(
                "everybody can read {}, with the keys that it may have, since its file system has no modes: mount it with \
                 umask=0077",
                place.display()
            ));
        }
    }

    /// Puts the initrd there that dracut made instead, where dracut has not done so: later versions leave it in the staging area.
    ///
    /// # Errors
    /// Fails when dracut has made none since `start`.
    pub fn place_dracut_s(&self, staged: &Path, start: SystemTime) -> Result<()> {
        if staged.is_file() {
            return self.place_for_grub(staged);
        }
        let place = self.grub_initrd();
        let written = fs::metadata(&place).and_then(|metadata| metadata.modified());
        if !written.is_ok_and(|written| written >= start) {
            bail!("dracut's plugin made no {}", place.display());
        }
        Ok(())
    }
}
