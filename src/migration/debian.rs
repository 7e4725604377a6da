//! Kernel packages of Debian and Ubuntu: whether their hooks make the initrd, `/boot/initrd.img-KVER`, or kernel-install does.
//!
//! A package of a kernel runs the hooks in `/etc/kernel/postinst.d`. One of them, of the package systemd-boot, calls kernel-install;
//! where that one does nothing, an initrd comes of the hooks alone, and boot loaders find it by its name.

use super::source::Source;
use super::survey::Loader;

/// What dpkg knows of the packages that are installed.
const PACKAGES: &str = "/var/lib/dpkg/status";
/// The hook that calls kernel-install, where systemd-boot is installed; older versions have it in `/etc`.
const CALLS_KERNEL_INSTALL: [&str; 2] =
    ["/etc/kernel/postinst.d/zz-systemd-boot", "/usr/share/kernel/postinst.d/zz-systemd-boot"];
/// Our hook of a kernel that is installed.
pub const POSTINST: &str = "/etc/kernel/postinst.d/ocinitrd";
/// Our other hooks: of a kernel that goes, and of an initrd that another generator has written.
const OTHERS: [&str; 2] = ["/etc/kernel/postrm.d/ocinitrd", "/etc/initramfs/post-update.d/ocinitrd"];
/// The layout in which kernel-install leaves entries to others.
const OTHER: &str = "other";

/// Whether packages are dpkg's.
pub fn is_there(source: &Source) -> bool {
    source.has(PACKAGES)
}

/// Whether a hook that calls kernel-install is installed.
pub fn has_caller(source: &Source) -> bool {
    CALLS_KERNEL_INSTALL.iter().any(|path| source.has(path))
}

/// Whether our hooks are installed.
pub fn has_hooks(source: &Source) -> bool {
    [POSTINST].iter().chain(&OTHERS).all(|path| source.has(path))
}

/// Whether the initrd is a matter of hooks, and not of kernel-install: that makes no entries here, and nothing calls it.
pub fn is_by_hooks(source: &Source, layout: &str, loaders: &[Loader], has_grub_plugin: bool) -> bool {
    // The hook asks bootctl whether systemd-boot is on the boot partition.
    let is_called = has_caller(source) && loaders.contains(&Loader::SystemdBoot);
    is_there(source) && layout == OTHER && !is_called && !has_grub_plugin
}
