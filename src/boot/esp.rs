//! The EFI system partition of a guest: a boot loader, a kernel and an initrd in, or all of it as one image; the partition's file
//! system out.
//!
//! It is written on the host, since it holds what the very boot is about. Specifications:
//! [UEFI 2.10, 3.5.1.1](https://uefi.org/specs/UEFI/2.10/) (Removable Media Boot Behavior),
//! [UAPI.1](https://uapi-group.org/specifications/specs/boot_loader_specification/) (Boot Loader Specification).

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use anyhow::Result;

use super::fat::{self, Content};

/// Where an initrd has systemd-boot, without the leading slash.
pub const SYSTEMD_BOOT: &str = "usr/lib/systemd/boot/efi/systemd-bootx64.efi";

/// Where the firmware looks for a boot loader on a disk that none of its variables names.
const BOOT_LOADER: &str = "EFI/BOOT/BOOTX64.EFI";
/// Nobody is there to choose from a menu.
const LOADER_CONFIGURATION: &str = "timeout 0\n";

/// Writes a file system with a unified kernel image over the bytes `place` of `disk`, where the firmware starts it.
///
/// # Errors
/// As [`SystemdBoot::write`].
pub fn write_unified(image: &Path, disk: &File, place: Range<u64>) -> Result<()> {
    fat::write(disk, place, &[(BOOT_LOADER, Content::File(image))])
}

/// A kernel that systemd-boot starts. It is also what tells systemd-gpt-auto-generator which disk was booted from.
pub struct SystemdBoot<'a> {
    /// The boot loader itself.
    pub loader: &'a [u8],
    /// The kernel image.
    pub kernel: &'a Path,
    /// The initrd.
    pub initrd: &'a Path,
    /// The kernel's options.
    pub command_line: &'a str,
}

impl SystemdBoot<'_> {
    /// Writes a file system with all of it over the bytes `place` of `disk`.
    ///
    /// # Errors
    /// Fails when the files do not fit, one of them cannot be read, or the disk cannot be written.
    pub fn write(&self, disk: &File, place: Range<u64>) -> Result<()> {
        let entry = self.entry();
        let files = [
            (BOOT_LOADER, Content::Bytes(self.loader)),
            ("loader/loader.conf", Content::Bytes(LOADER_CONFIGURATION.as_bytes())),
            ("loader/entries/ocinitrd.conf", Content::Bytes(entry.as_bytes())),
            ("vmlinuz", Content::File(self.kernel)),
            ("initrd", Content::File(self.initrd)),
        ];
        fat::write(disk, place, &files)
    }

    fn entry(&self) -> String {
        format!("title ocinitrd\nlinux /vmlinuz\ninitrd /initrd\noptions {}\n", self.command_line)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom};

    use super::*;

    const BYTES: u64 = 300 << 20;

    #[test]
    fn the_entry_names_the_kernel_and_the_initrd_that_lie_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let (kernel, initrd) = (directory.path().join("kernel"), directory.path().join("initrd"));
        std::fs::write(&kernel, "a kernel").unwrap();
        std::fs::write(&initrd, "an initrd").unwrap();
        let mut disk = tempfile::tempfile().unwrap();
        disk.set_len(BYTES).unwrap();
        let boot = SystemdBoot { loader: b"a boot loader", kernel: &kernel, initrd: &initrd, command_line: "rw quiet" };
        boot.write(&disk, 0..BYTES).unwrap();

        disk.seek(SeekFrom::Start(0)).unwrap();
        let file_system = fatfs::FileSystem::new(disk, fatfs::FsOptions::new()).unwrap();
        let read = |path: &str| {
            let mut text = String::new();
            let file = file_system.root_dir().open_file(path.trim_start_matches('/'));
            file.unwrap().read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!(read("EFI/BOOT/BOOTX64.EFI"), "a boot loader");
        assert_eq!(read("loader/loader.conf"), "timeout 0\n");
        let entry = read("loader/entries/ocinitrd.conf");
        let named = |key: &str| entry.lines().find_map(|line| line.strip_prefix(&format!("{key} "))).unwrap();
        assert_eq!(named("options"), "rw quiet");
        assert_eq!((read(named("linux")), read(named("initrd"))), ("a kernel".to_owned(), "an initrd".to_owned()));
    }
}
