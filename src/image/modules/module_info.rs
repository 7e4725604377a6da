//! What a module says of itself: its `.modinfo` section and the symbols it exports and needs.
//!
//! In: a module's file, compressed or not. Out: [`ModuleInfo`]. The section holds `key=value`, each ended by a NUL
//! (`include/linux/module.h` of Linux); exported symbols are those with a `__crc_` companion, or, in a kernel without
//! versioned symbols, the names in `__ksymtab_strings`.

use std::collections::BTreeSet;
use std::io::Read;

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use liblzma::read::XzDecoder;
use liblzma::stream::{IGNORE_CHECK, Stream};
use object::{Object, ObjectSection, ObjectSymbol};
use zstd::Decoder as ZstdDecoder;

use super::kernel_modules::ModuleFile;
use super::name::Compression;

/// More than this is no kernel module; the largest of a distribution's take some 30 MB.
const LARGEST_MODULE_BYTES: u64 = 1 << 30;
/// How much xz makes of a module, roughly; only to reserve memory.
const TYPICAL_RATIO: u64 = 5;

/// What a module says of itself. Values that are not UTF-8 have their invalid bytes replaced.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ModuleInfo {
    /// The module's name as the kernel writes it, with `_`.
    pub name: String,
    /// What it answers to, in the order of the section.
    pub aliases: Vec<String>,
    /// The modules it cannot be loaded without.
    pub depends: Vec<String>,
    /// `softdep` values as written: names or aliases with `pre:` and `post:` between them.
    pub softdeps: Vec<String>,
    /// `weakdep` values as written: names or aliases.
    pub weakdeps: Vec<String>,
    /// Firmware files it may ask for, below `usr/lib/firmware`; may be globs.
    pub firmware: Vec<String>,
    /// Symbols that other modules may use.
    pub exported_symbols: BTreeSet<String>,
    /// Symbols it needs from the kernel or from other modules, in the order of its symbol table.
    pub needed_symbols: Vec<String>,
    /// The size of the module without compression, in bytes.
    pub size_bytes: u64,
}

impl ModuleInfo {
    /// Names and aliases that soft and weak dependencies ask for.
    pub(super) fn soft_dependencies(&self) -> impl Iterator<Item = &str> {
        self.softdeps.iter().chain(&self.weakdeps).flat_map(|value| dependency_words(value))
    }
}

/// The words of a `softdep` or `weakdep` value that name something: all but `pre:` and `post:`.
pub(super) fn dependency_words(value: &str) -> impl Iterator<Item = &str> {
    value.split_whitespace().filter(|word| !word.ends_with(':'))
}

/// Reads what a module says of itself.
///
/// # Errors
/// Fails when the file cannot be read or decompressed or is no ELF object.
pub(super) fn read(file: &ModuleFile) -> Result<ModuleInfo> {
    let read = || parse(&file.name, &decompressed(file)?);
    read().with_context(|| format!("reading the module {}", file.relative_path))
}

/// A module's bytes without compression.
pub(super) fn decompressed(file: &ModuleFile) -> Result<Vec<u8>> {
    let reader = file.content.reader();
    let mut decoder: Box<dyn Read> = match file.compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(GzDecoder::new(reader)),
        Compression::Xz => Box::new(XzDecoder::new_stream(reader, xz_stream()?)),
        Compression::Zstd => Box::new(ZstdDecoder::new(reader).context("starting the zstd decoder")?),
    };
    let expected = file.content.size_bytes().saturating_mul(TYPICAL_RATIO).min(LARGEST_MODULE_BYTES);
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
    let size_bytes =
        decoder.by_ref().take(LARGEST_MODULE_BYTES + 1).read_to_end(&mut bytes).context("decompressing")?;
    if size_bytes as u64 > LARGEST_MODULE_BYTES {
        bail!("it is larger than {LARGEST_MODULE_BYTES} bytes, which no module is; the package may be damaged");
    }
    Ok(bytes)
}

/// The decoder's state. The archive's own checksum is passed over: the package was verified whole.
fn xz_stream() -> Result<Stream> {
    Stream::new_stream_decoder(u64::MAX, IGNORE_CHECK).context("starting the xz decoder")
}

fn parse(name: &str, bytes: &[u8]) -> Result<ModuleInfo> {
    let object = object::File::parse(bytes).context("it is no ELF object; the package may be damaged")?;
    let mut info = ModuleInfo { name: name.to_owned(), size_bytes: bytes.len() as u64, ..ModuleInfo::default() };
    if let Some(section) = object.section_by_name(".modinfo") {
        add_fields(&mut info, section.data().context("reading its section .modinfo")?);
    }
    add_symbols(&mut info, &object)?;
    Ok(info)
}

fn add_fields(info: &mut ModuleInfo, section: &[u8]) {
    for text in section.split(|byte| *byte == 0) {
        let text = String::from_utf8_lossy(text);
        let Some((key, value)) = text.split_once('=') else { continue };
        match key {
            "alias" => info.aliases.push(value.to_owned()),
            "depends" => info.depends.extend(value.split(',').filter(|name| !name.is_empty()).map(str::to_owned)),
            "softdep" => info.softdeps.push(value.to_owned()),
            "weakdep" => info.weakdeps.push(value.to_owned()),
            "firmware" => info.firmware.push(value.to_owned()),
            _ => {}
        }
    }
}

fn add_symbols(info: &mut ModuleInfo, object: &object::File) -> Result<()> {
    for symbol in object.symbols() {
        let name = String::from_utf8_lossy(symbol.name_bytes().context("reading its symbols")?);
        if let Some(exported) = name.strip_prefix("__crc_") {
            info.exported_symbols.insert(exported.to_owned());
        }
        if symbol.is_undefined() && !name.is_empty() {
            info.needed_symbols.push(name.into_owned());
        }
    }
    if info.exported_symbols.is_empty()
        && let Some(section) = object.section_by_name("__ksymtab_strings")
    {
        let names = section.data().context("reading its section __ksymtab_strings")?.split(|byte| *byte == 0);
        let names = names.filter(|name| !name.is_empty()).map(|name| String::from_utf8_lossy(name).into_owned());
        info.exported_symbols.extend(names);
    }
    Ok(())
}
