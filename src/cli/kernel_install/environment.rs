//! What kernel-install tells its plugins in the environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Product;
use ocinitrd_support::progress::{Progress, Verbosity};

/// What the generators are called in install.conf.
const NAME: &str = "ocinitrd";
/// The layout whose entries are unified kernel images.
const UKI: &str = "uki";
/// The one whose entries are files with a kernel and an initrd beside them.
const BLS: &str = "bls";
/// The one in which kernel-install leaves the entries to other plugins: GRUB's, where it is there.
const OTHER: &str = "other";

/// What boot entries look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout<'a> {
    /// Files with a kernel and an initrd beside them, by kernel-install's own plugin.
    Bls,
    /// Unified kernel images.
    Uki,
    /// Files in `/boot/loader/entries` that name `/boot/vmlinuz-KVER` and `/boot/initramfs-KVER.img`, by GRUB's plugin.
    Grub,
    /// One that is not known here.
    Unknown(&'a str),
}

impl<'a> Layout<'a> {
    /// The layout that install.conf or kernel-install calls so.
    pub fn of(name: &'a str) -> Self {
        match name {
            BLS => Layout::Bls,
            UKI => Layout::Uki,
            OTHER | "" => Layout::Grub,
            name => Layout::Unknown(name),
        }
    }
}

/// What kernel-install says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Environment {
    initrd_generator: String,
    uki_generator: String,
    layout: String,
    image_type: String,
    machine_id: String,
    entry_token: String,
    entry_name: String,
    staging_area: Option<PathBuf>,
    is_verbose: bool,
    /// Where entries are put.
    pub boot_root: Option<PathBuf>,
    /// Where its configuration is, if not in its usual places.
    pub configuration_root: Option<PathBuf>,
    /// The root of the machine, if kernel-install works on another than its own.
    pub root: Option<PathBuf>,
    /// Which plugins it runs, if not those in its usual places: paths with white space between them.
    pub plugins: Option<String>,
}

impl Environment {
    /// Reads it by `get`. Before systemd 254 the image's type and the generator of images are missing; 261 adds the entry's name.
    pub fn read(get: impl Fn(&str) -> Option<OsString>) -> Self {
        let value = |name: &str| get(&format!("KERNEL_INSTALL_{name}")).filter(|value| !value.is_empty());
        let text = |name| value(name).map(|value| value.to_string_lossy().into_owned()).unwrap_or_default();
        Environment {
            initrd_generator: text("INITRD_GENERATOR"),
            uki_generator: text("UKI_GENERATOR"),
            layout: text("LAYOUT"),
            image_type: text("IMAGE_TYPE"),
            machine_id: text("MACHINE_ID"),
            entry_token: text("ENTRY_TOKEN"),
            entry_name: text("ENTRY_NAME"),
            staging_area: value("STAGING_AREA").map(PathBuf::from),
            is_verbose: value("VERBOSE").is_some_and(|value| value != "0"),
            boot_root: value("BOOT_ROOT").map(PathBuf::from),
            configuration_root: value("CONF_ROOT").map(PathBuf::from),
            root: value("ROOT").map(PathBuf::from),
            plugins: value("PLUGINS").map(|value| value.to_string_lossy().into_owned()),
        }
    }

    /// What it would say where no kernel-install runs, and an initrd in `/boot` is asked for. What is made is left in `staging_area`.
    pub fn of_hooks(staging_area: &Path) -> Self {
        Environment {
            initrd_generator: NAME.to_owned(),
            layout: OTHER.to_owned(),
            staging_area: Some(staging_area.to_owned()),
            ..Environment::default()
        }
    }

    /// What the entries are called, before their kernels.
    pub fn entry_token(&self) -> &str {
        &self.entry_token
    }

    /// Tells as much as kernel-install does.
    pub fn progress(&self, progress: Progress) -> Progress {
        if self.is_verbose { Progress::new(Verbosity::Verbose) } else { progress }
    }

    /// Whether the product is asked for, of us, and not there already.
    pub fn wants(&self, product: Product, has_initrds: bool) -> bool {
        if self.image_type == UKI {
            return false;
        }
        match product {
            Product::Prepare | Product::Initrd => self.initrd_generator == NAME && !has_initrds,
            Product::Uki => self.makes_unified_images(),
            Product::Check => self.makes_unified_images() || (self.initrd_generator == NAME && !has_initrds),
        }
    }

    /// Whether the entry is a unified kernel image of ours.
    pub fn makes_unified_images(&self) -> bool {
        self.layout() == Layout::Uki && self.uki_generator == NAME
    }

    /// What entries look like.
    pub fn layout(&self) -> Layout<'_> {
        Layout::of(&self.layout)
    }

    /// Where kernel-install puts the unified kernel image of that kernel, if the entry is one. One that still counts its boots
    /// has another name.
    pub fn unified_image(&self, kernel_version: &str) -> Option<PathBuf> {
        let name = match self.entry_name.as_str() {
            "" => format!("{}-{kernel_version}", self.entry_token),
            name => name.to_owned(),
        };
        let place = self.boot_root.as_ref().filter(|_| self.layout() == Layout::Uki)?;
        Some(place.join(format!("EFI/Linux/{name}.efi")))
    }

    /// Where what is made is left.
    ///
    /// # Errors
    /// Fails when kernel-install did not say so.
    pub fn staging_area(&self) -> Result<&Path> {
        self.staging_area
            .as_deref()
            .context("KERNEL_INSTALL_STAGING_AREA is not set: this is called by kernel-install(8)")
    }

    /// The option that tells a system its machine id, where its entries are called by that.
    pub fn machine_id_option(&self) -> Option<String> {
        let is_token = !self.machine_id.is_empty() && self.machine_id == self.entry_token;
        is_token.then(|| format!("systemd.machine_id={}", self.machine_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(values: &[(&str, &str)]) -> Environment {
        Environment::read(|name| {
            let value = values.iter().find(|(key, _)| format!("KERNEL_INSTALL_{key}") == name);
            value.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn nothing_is_made_unless_we_are_asked_by_name() {
        let nobody = environment(&[]);
        assert!(!nobody.wants(Product::Initrd, false) && !nobody.wants(Product::Uki, false));
        let dracut = environment(&[("INITRD_GENERATOR", "dracut"), ("LAYOUT", "uki"), ("UKI_GENERATOR", "ukify")]);
        assert!(!dracut.wants(Product::Initrd, false) && !dracut.wants(Product::Uki, false));
        let ours = environment(&[("INITRD_GENERATOR", "ocinitrd"), ("LAYOUT", "bls"), ("UKI_GENERATOR", "ocinitrd")]);
        assert!(ours.wants(Product::Initrd, false) && !ours.wants(Product::Uki, false));
        let uki = environment(&[("LAYOUT", "uki"), ("UKI_GENERATOR", "ocinitrd")]);
        assert!(uki.wants(Product::Uki, false) && !uki.wants(Product::Initrd, false));
    }

    #[test]
    fn what_is_there_already_is_not_made_again() {
        let ours = [("INITRD_GENERATOR", "ocinitrd"), ("LAYOUT", "uki"), ("UKI_GENERATOR", "ocinitrd")];
        assert!(!environment(&ours).wants(Product::Initrd, true) && environment(&ours).wants(Product::Uki, true));
        let of_image = environment(&[&ours[..], &[("IMAGE_TYPE", "uki")]].concat());
        assert!(!of_image.wants(Product::Initrd, false) && !of_image.wants(Product::Uki, false));
    }

    #[test]
    fn entries_called_by_the_machine_id_tell_it_to_the_system() {
        let of = |token| environment(&[("MACHINE_ID", "0c1d"), ("ENTRY_TOKEN", token)]).machine_id_option();
        assert_eq!(of("0c1d").as_deref(), Some("systemd.machine_id=0c1d"));
        assert_eq!((of("fedora"), environment(&[]).machine_id_option()), (None, None));
    }

    #[test]
    fn an_image_is_where_kernel_install_puts_it_by_its_name_or_by_the_one_that_is_configured() {
        let image = |values: &[(&str, &str)]| {
            let common = [("BOOT_ROOT", "/efi"), ("ENTRY_TOKEN", "fedora"), ("LAYOUT", "uki")];
            environment(&[&common[..], values].concat()).unified_image("6.1")
        };
        assert_eq!(image(&[]), Some("/efi/EFI/Linux/fedora-6.1.efi".into()));
        assert_eq!(image(&[("ENTRY_NAME", "mine-6.1")]), Some("/efi/EFI/Linux/mine-6.1.efi".into()));
        assert_eq!(environment(&[("BOOT_ROOT", "/efi"), ("LAYOUT", "bls")]).unified_image("6.1"), None);
    }

    #[test]
    fn a_layout_that_is_not_set_is_left_to_other_plugins() {
        assert_eq!(environment(&[]).layout(), Layout::Grub);
        assert_eq!(environment(&[("LAYOUT", "other")]).layout(), Layout::Grub);
        assert_eq!(environment(&[("LAYOUT", "efistub")]).layout(), Layout::Unknown("efistub"));
    }
}
