//! A kernel image as a part of a unified one: what it says of itself.

use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result};

use super::{NamedContent, SBAT};
use ocinitrd_format::pe::{self, Image};

/// Where the boot protocol of x86 puts its mark, and behind it a place of the version: <https://docs.kernel.org/arch/x86/boot.html>.
const HEADER_MARK: (usize, &[u8]) = (0x202, b"HdrS");
const VERSION_PLACE: usize = 0x20e;
/// What that place counts from.
const VERSION_BASE: usize = 0x200;
/// Where that protocol has its own version, and since which it says how long a command line may be, and where.
const PROTOCOL_PLACE: usize = 0x206;
const PROTOCOL_WITH_LIMIT: u16 = 0x0206;
const LIMIT_PLACE: usize = 0x238;
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
    /// How long a command line it takes, in bytes, where that is known.
    pub most_command_line_bytes: Option<u32>,
    /// The text of its own section `.sbat`, if it has one.
    pub sbat: Option<String>,
}

/// What the start of a kernel image says.
pub(super) struct Headers {
    /// Those of an EFI program; none of what is none.
    pub pe: Option<Image>,
    /// What `uname -r` says under it, where the image tells.
    pub version: Option<String>,
    /// How long a command line it takes, in bytes, where that is known.
    pub most_command_line_bytes: Option<u32>,
}

/// Reads the start of a kernel image.
///
/// # Errors
/// Fails when reading does.
pub(super) fn headers(reader: impl Read) -> io::Result<Headers> {
    let mut start = Vec::new();
    reader.take(SETUP_BYTES).read_to_end(&mut start)?;
    let (version, limit) = (version(&start), command_line_limit(&start));
    let pe = Image::of_start(start).ok();
    let most_command_line_bytes = limit.or_else(|| usual_command_line_limit(pe.as_ref()?.machine));
    Ok(Headers { pe, version, most_command_line_bytes })
}

/// Whether stubs start a kernel by the handover protocol of x86, those before systemd 258 perhaps where it lies, so that it writes behind
/// its end. Linux 5.8 and later call themselves EFI programs of version 1, are copied to memory of their own, and have no need.
pub(super) fn may_start_in_place(kernel: &Image) -> bool {
    pe::machine_name(kernel.machine) == Some("x64") && kernel.major_image_version < 1
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
        let Headers { version, most_command_line_bytes, .. } = headers(file.content.reader()).with_context(of_file)?;
        let sbat = pe.text(SBAT, file.content.reader()).with_context(of_file)?;
        Ok(KernelImage { file, pe, version, most_command_line_bytes, sbat })
    }

    /// How much memory it may write to from its start on where it lies, in bytes.
    pub(super) fn reserved_bytes(&self) -> u64 {
        let size_bytes = self.file.content.size_bytes();
        if may_start_in_place(&self.pe) { size_bytes.max(self.pe.size_of_image.into()) } else { size_bytes }
    }
}

/// The longest command line that kernels of a machine take unless they say another: `COMMAND_LINE_SIZE` of its
/// `include/uapi/asm/setup.h` in Linux, less a NUL.
fn usual_command_line_limit(machine: u16) -> Option<u32> {
    match pe::machine_name(machine)? {
        "x64" | "aa64" => Some(2047),
        "riscv64" => Some(1023),
        _ => None,
    }
}

fn has_header_mark(setup: &[u8]) -> bool {
    let (place, text) = HEADER_MARK;
    setup.get(place..place + text.len()) == Some(text)
}

/// What the boot protocol of x86 says of the longest command line.
fn command_line_limit(setup: &[u8]) -> Option<u32> {
    let protocol = u16::from_le_bytes(setup.get(PROTOCOL_PLACE..PROTOCOL_PLACE + 2)?.try_into().ok()?);
    let limit = u32::from_le_bytes(setup.get(LIMIT_PLACE..LIMIT_PLACE + 4)?.try_into().ok()?);
    Some(limit).filter(|limit| has_header_mark(setup) && protocol >= PROTOCOL_WITH_LIMIT && *limit > 0)
}

fn version(setup: &[u8]) -> Option<String> {
    if !has_header_mark(setup) {
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
    use crate::image::tree;
    use ocinitrd_format::pe::fixture;

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
    fn the_longest_command_line_is_what_the_boot_header_says_or_else_usual_on_the_machine() {
        let limit = |setup: &[u8]| headers(setup).unwrap().most_command_line_bytes;
        let mut kernel = fixture::image(&[(".text", b"code", 4)], 0);
        assert_eq!((limit(&kernel), limit(b"no kernel")), (Some(2047), None));
        let machine = fixture::table_line(0) - 240 - 20;
        for (number, expected) in [(0xaa64_u16, Some(2047)), (0x5064, Some(1023)), (0x1234, None)] {
            kernel[machine..machine + 2].copy_from_slice(&number.to_le_bytes());
            assert_eq!(limit(&kernel), expected, "{number:#x}");
        }
        kernel.resize(0x400, 0);
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel[0x238..0x23c].copy_from_slice(&4095_u32.to_le_bytes());
        assert_eq!(limit(&kernel), None);
        kernel[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
        assert_eq!(limit(&kernel), Some(4095));
    }

    /// An old kernel runs where it lies, a newer one nowhere but in memory of its own.
    #[test]
    fn memory_is_reserved_behind_kernels_of_the_handover_protocol_alone() {
        let reserved = |version: u16| {
            let mut bytes = fixture::image(&[(".text", b"code", 0x9000)], 0);
            fixture::set_image_version(&mut bytes, version);
            let size = bytes.len() as u64;
            let file = NamedContent { name: "vmlinuz".into(), content: tree::Content::from_bytes(bytes) };
            (KernelImage::new(file).unwrap().reserved_bytes(), size)
        };
        let (old, (new, size)) = (reserved(0).0, reserved(1));
        assert_eq!((old, new), (0xa000, size));
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
