//! Whether somebody finishes what ours begin: kernel-install itself reports success where no plugin makes an entry.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::Installation;
use super::environment::Layout;
use crate::host;
use ocinitrd_format::boot_entry;
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// Who would make the entry of a kernel.
pub struct Finishers<'a> {
    /// What entries look like.
    pub layout: Layout<'a>,
    /// The plugins that kernel-install runs.
    pub plugins: &'a [PathBuf],
    /// The directory of GRUB's entries.
    pub entries: PathBuf,
    /// The name that the initrd has in an entry of GRUB's.
    pub initrd: String,
    /// Where kernel-install would put the entry's files, if that is known.
    pub entry_directory: Option<&'a Path>,
}

impl Finishers<'_> {
    /// Insists, before anything is made, that the layout is one in which an entry comes of it.
    ///
    /// # Errors
    /// Fails when a plugin is missing that would make the entry.
    pub fn check(&self) -> Result<()> {
        match self.layout {
            // Who makes these entries may be anybody: that is seen when they are made.
            Layout::Bls => Ok(()),
            Layout::Uki => self.check_images_are_placed(),
            Layout::Grub => self.check_grub_makes_an_entry(),
            Layout::Unknown(name) => bail!(
                "with layout={name} in install.conf nothing puts an initrd into the boot entry: say layout=other for GRUB, \
                 layout=bls or layout=uki"
            ),
        }
    }

    fn check_images_are_placed(&self) -> Result<()> {
        ensure!(
            host::named(self.plugins, "uki-copy").is_some(),
            "layout=uki takes the kernel-install of systemd 253 or newer: no plugin 90-uki-copy.install is there, which puts \
             unified kernel images in their place; say layout=bls, or update systemd"
        );
        Ok(())
    }

    fn check_grub_makes_an_entry(&self) -> Result<()> {
        if entries_name(&self.entries, &self.initrd) {
            return Ok(());
        }
        ensure!(
            host::named(self.plugins, "grub").is_some(),
            "nothing makes a boot entry: the layout is neither bls nor uki, and neither GRUB's plugin of kernel-install is there, \
             20-grub.install, nor an entry in {} that names {}; install GRUB's plugin, or say layout=bls or layout=uki in \
             /etc/kernel/install.conf if another boot loader is there",
            self.entries.display(),
            self.initrd
        );
        if let Some(directory) = self.entry_directory.filter(|directory| directory.is_dir()) {
            bail!(
                "{} is there, and so GRUB's plugin makes no entry: remove that directory, or say layout=bls in \
                 /etc/kernel/install.conf if another boot loader is there",
                directory.display()
            );
        }
        Ok(())
    }
}

impl Installation<'_> {
    /// As [`Finishers::check`].
    pub fn check_layout(&self) -> Result<()> {
        let finishers = Finishers {
            layout: self.environment.layout(),
            plugins: &self.plugins(),
            entries: self.grub_entries(),
            initrd: self.grub_initrd_name(),
            entry_directory: Some(&self.arguments.entry_directory),
        };
        finishers.check()
    }

    fn plugins(&self) -> Vec<PathBuf> {
        match &self.environment.plugins {
            Some(listed) => listed.split_ascii_whitespace().map(PathBuf::from).collect(),
            None => host::plugins(&self.root),
        }
    }

    /// Insists, after all other plugins, that an entry came of it.
    ///
    /// # Errors
    /// Fails when none did.
    pub fn check_entry(&self) -> Result<()> {
        let staging_area = self.environment.staging_area()?;
        let [initrd, image] = ["initrd", "uki.efi"].map(|name| staging_area.join(name));
        self.warn_of_debian_s_initrd(staging_area);
        match self.environment.layout() {
            // What is in GRUB's was recorded when it was put there.
            Layout::Grub => return self.check_grub_entry(&initrd),
            Layout::Bls if initrd.is_file() => self.check_bls_entry(&initrd)?,
            Layout::Uki if image.is_file() => self.check_image(&image)?,
            _ => return Ok(()),
        }
        self.record_placed();
        Ok(())
    }

    fn check_grub_entry(&self, staged: &Path) -> Result<()> {
        let place = self.grub_initrd();
        let entries = self.grub_entries();
        ensure!(
            entries_name(&entries, &self.grub_initrd_name()),
            "no entry in {} names {}: GRUB's plugin made none",
            entries.display(),
            self.grub_initrd_name()
        );
        let found = fs::metadata(&place).with_context(|| format!("a plugin removed {}", place.display()))?;
        if fs::metadata(staged).is_ok_and(|staged| staged.len() != found.len()) {
            self.progress.warn(&format!(
                "{} is not the initrd that was made: a plugin that runs later wrote another; a link to /dev/null of its name in \
                 /etc/kernel/install.d hides it",
                place.display()
            ));
        }
        Ok(())
    }

    fn check_bls_entry(&self, staged: &Path) -> Result<()> {
        let boot_root = self.boot_root()?;
        let entries = boot_root.join("loader/entries");
        let length = fs::metadata(staged).with_context(|| format!("reading {}", staged.display()))?.len();
        // Paths count from the file system's root, which is not known here: the file of that name in the entry's directory is it.
        let is_ours = |word: &String| {
            let name = word.rsplit('/').next().unwrap_or_default();
            let places = [boot_root.join(word.trim_start_matches('/')), self.arguments.entry_directory.join(name)];
            places.iter().any(|place| fs::metadata(place).is_ok_and(|found| found.len() == length))
        };
        ensure!(
            initrds_of_entries(&entries).iter().any(is_ours),
            "no entry in {} names the initrd that was made: no plugin made one, as 90-loaderentry.install of kernel-install does",
            entries.display()
        );
        Ok(())
    }

    fn check_image(&self, staged: &Path) -> Result<()> {
        let images = self.boot_root()?.join("EFI/Linux");
        let length = fs::metadata(staged).with_context(|| format!("reading {}", staged.display()))?.len();
        let entries = fs::read_dir(&images).into_iter().flatten().flatten();
        ensure!(
            entries.filter_map(|entry| entry.metadata().ok()).any(|found| found.len() == length),
            "the image that was made is not in {}: no plugin put it there, as 90-uki-copy.install of kernel-install does",
            images.display()
        );
        Ok(())
    }

    fn boot_root(&self) -> Result<&Path> {
        self.environment
            .boot_root
            .as_deref()
            .context("KERNEL_INSTALL_BOOT_ROOT is not set: this is called by kernel-install(8)")
    }

    /// The plugin of Debian 12 and 13 adds the initrd that hooks of packages made, even if another generator is named.
    fn warn_of_debian_s_initrd(&self, staging_area: &Path) {
        let name = format!("initrd.img-{}", self.arguments.kernel_version);
        if fs::symlink_metadata(staging_area.join(&name)).is_err() {
            return;
        }
        let plugins = self.plugins();
        let plugin = host::named(&plugins, "initrd").unwrap_or(Path::new("55-initrd.install"));
        let plugin = plugin.file_name().unwrap_or_default().to_string_lossy();
        self.progress.warn(&format!(
            "the entry has /boot/{name} as well, of Debian's hooks: `ln -s /dev/null /etc/kernel/install.d/{plugin}` keeps it out"
        ));
    }

    fn grub_entries(&self) -> PathBuf {
        self.boot().join("loader/entries")
    }
}

/// Whether an entry in a directory names an initrd of that name, be it one by hand.
fn entries_name(directory: &Path, name: &str) -> bool {
    initrds_of_entries(directory).iter().any(|initrd| initrd.rsplit('/').next() == Some(name))
}

/// What the entries in a directory name as initrds.
fn initrds_of_entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let texts = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .filter_map(|path| regular_file::read_text(&path, TEXT_LIMIT_BYTES).ok());
    texts.flat_map(|text| boot_entry::initrds(&text).map(str::to_owned).collect::<Vec<_>>()).collect()
}
