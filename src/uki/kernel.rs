//! A kernel image as a part of a unified one: what it says of itself.

use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result};

use super::{NamedContent, SBAT};
use crate::format::pe::Image;

/// Where the boot protocol of x86 puts its mark, and behind it a place of the version: <https://docs.kernel.org/arch/x86/boot.html>.
const HEADER_MARK: (usize, &[u8]) = (0x202, b"HdrS");
const VERSION_PLACE: usize = 0x20e;
/// What that place counts from.
const VERSION_BASE: usize = 0x200;
/// The boot protocol's own code, in which the version lies, takes no more.
const SETUP_BYTES: u64 = 64 << 10;

/// A kernel image.
#[derive(Clone, Debug)]
pub struct KernelImage {
    /// Its bytes, and what messages call it.
    pub file: NamedContent,
    /// Its headers.
    pub pe: Image,
    /// What `uname -r` says under it, where the image tells.
    pub version: Option<String>,
    /// The text of its own section `.sbat`, if it has one.
    pub sbat: Option<String>,
}

/// What the start of a kernel image says.
pub(super) struct Headers {
    /// How much memory it takes where it runs in place, in bytes; none of what is no EFI program.
    pub size_of_image: Option<u32>,
    /// What `uname -r` says under it, where the image tells.
    pub version: Option<String>,
}

/// Reads the start of a kernel image.
///
/// # Errors
/// Fails when reading does.
pub(super) fn headers(reader: impl Read) -> io::Result<Headers> {
    let mut start = Vec::new();
    reader.take(SETUP_BYTES).read_to_end(&mut start)?;
    let version = version(&start);
    Ok(Headers { size_of_image: Image::of_start(start).ok().map(|image| image.size_of_image), version })
}

impl KernelImage {
    /// Reads what is needed of a kernel image in a file.
    ///
    /// # Errors
    /// As [`KernelImage::new`], and when the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let file = NamedContent::open(path).with_context(|| format!("reading the kernel {}", path.display()))?;
        Self::new(file)
    }

    /// Reads what is needed of a kernel image.
    ///
    /// # Errors
    /// Fails when it cannot be read, and on a kernel that is no EFI program.
    pub fn new(file: NamedContent) -> Result<Self> {
        let of_file = || format!("reading the kernel {}", file.name.display());
        let no_pe = "a unified kernel image takes a kernel that is an EFI program (CONFIG_EFI_STUB)";
        let pe = Image::read(&mut file.content.reader()).context(no_pe).with_context(of_file)?;
        let version = headers(file.content.reader()).with_context(of_file)?.version;
        let sbat = pe.text(SBAT, file.content.reader()).with_context(of_file)?;
        Ok(KernelImage { file, version, pe, sbat })
    }

    /// How much memory it takes where it runs in place, in bytes: it may write behind its end.
    pub fn memory_bytes(&self) -> u64 {
        self.file.content.size_bytes().max(self.pe.size_of_image.into())
    }
}

fn version(setup: &[u8]) -> Option<String> {
    let (mark, text) = HEADER_MARK;
    if setup.get(mark..mark + text.len())? != text {
        return None;
    }
    let place = setup.get(VERSION_PLACE..VERSION_PLACE + 2)?;
    let start = VERSION_BASE + usize::from(u16::from_le_bytes([place[0], place[1]]));
    let words = setup.get(start..)?.split(|byte| *byte == b' ' || *byte == 0).next()?;
    std::str::from_utf8(words).ok().filter(|word| !word.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_the_first_word_of_what_the_boot_header_points_to() {
        let mut setup = vec![0; 0x400];
        assert_eq!(version(&setup), None);
        setup[0x202..0x206].copy_from_slice(b"HdrS");
        setup[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        assert_eq!(version(&setup), None);
        setup[0x300..0x314].copy_from_slice(b"6.12.1-1.x86_64 (me)");
        assert_eq!(version(&setup).as_deref(), Some("6.12.1-1.x86_64"));
        setup[0x20e..0x210].copy_from_slice(&u16::MAX.to_le_bytes());
        assert_eq!(version(&setup), None);
    }

    #[test]
    fn what_is_no_efi_program_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vmlinuz");
        std::fs::write(&path, "not a kernel").unwrap();
        let error = format!("{:#}", KernelImage::open(&path).unwrap_err());
        assert!(error.contains("vmlinuz: a unified kernel image takes a kernel that is an EFI program"), "{error}");
    }
}
