//! What a program or shared library leads to: the libraries that it is linked to or may load, and what its texts name.

use anyhow::{Context, Result};
use object::read::elf::{Dyn, ElfFile64};
use object::{Object, ObjectSection, SectionKind};
use serde::Deserialize;

use super::features::Features;
use super::references::References;
use super::script;
use super::unit;
use ocinitrd_format::text::escaped_error;

/// What an ELF file starts with.
pub const MAGIC: &[u8] = b"\x7fELF";
/// Where the notes on libraries that are loaded at run time lie.
const DLOPEN_SECTION: &str = ".note.dlopen";
/// Shorter texts name nothing.
const SHORTEST_TEXT_BYTES: usize = 4;

/// A note on a library that is loaded at run time; of several names one is enough.
#[derive(Debug, Deserialize)]
struct DlopenNote {
    #[serde(default)]
    feature: String,
    soname: Vec<String>,
}

/// The references of a 64-bit ELF file.
///
/// # Errors
/// Fails when the file is damaged.
pub fn references(bytes: &[u8], features: &Features) -> Result<References> {
    let file: ElfFile64<'_> = ElfFile64::parse(bytes).context("reading it as an ELF file")?;
    let mut references = References::default();
    references.libraries.extend(linked(&file, bytes)?);
    let notes = dlopen_notes(&file)?;
    let wanted = notes.iter().filter(|note| features.wants(&note.feature));
    references.libraries.extend(wanted.flat_map(|note| note.soname.iter().cloned()));
    for section in file.sections().filter(|section| holds_texts(section.kind())) {
        let data = section.data().context("reading a section of the ELF file")?;
        for text in texts(data) {
            add_text(&mut references, text);
            if notes.is_empty() && is_soname(text) && features.wants(text) {
                references.libraries.insert(text.to_owned());
            }
        }
    }
    Ok(references)
}

fn holds_texts(kind: SectionKind) -> bool {
    matches!(
        kind,
        SectionKind::ReadOnlyData | SectionKind::ReadOnlyString | SectionKind::Data | SectionKind::ReadOnlyDataWithRel
    )
}

/// The names of the libraries that the file cannot be run without (`DT_NEEDED`).
fn linked(file: &ElfFile64<'_>, bytes: &[u8]) -> Result<Vec<String>> {
    let endian = file.endian();
    let sections = file.elf_section_table();
    let reading = "reading the dynamic section of the ELF file";
    let Some((entries, strings)) = sections.dynamic(endian, bytes).context(reading)? else { return Ok(Vec::new()) };
    let strings = sections.strings(endian, bytes, strings).context(reading)?;
    let mut names = Vec::new();
    for entry in entries {
        if entry.tag(endian) == object::elf::DT_NEEDED {
            names.push(String::from_utf8_lossy(entry.string(endian, strings).context(reading)?).into_owned());
        }
    }
    Ok(names)
}

fn dlopen_notes(file: &ElfFile64<'_>) -> Result<Vec<DlopenNote>> {
    let Some(section) = file.section_by_name(DLOPEN_SECTION) else { return Ok(Vec::new()) };
    let data = section.data().context("reading the notes on libraries of the ELF file")?;
    let mut notes = Vec::new();
    // Each note is JSON, which no other part of the section looks like.
    for text in data.split(|byte| *byte == 0).filter(|text| text.starts_with(b"[{")) {
        notes.extend(
            serde_json::from_slice::<Vec<DlopenNote>>(text)
                .map_err(escaped_error)
                .context("reading a note on libraries")?,
        );
    }
    Ok(notes)
}

/// The texts in data: what lies between NUL bytes and is printable, several lines too.
fn texts(data: &[u8]) -> impl Iterator<Item = &str> {
    data.split(|byte| *byte == 0)
        .filter(|text| {
            text.len() >= SHORTEST_TEXT_BYTES && text.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t'))
        })
        .filter_map(|text| std::str::from_utf8(text).ok())
}

fn add_text(references: &mut References, text: &str) {
    if text.contains('/') {
        // A path alone, a command, or a unit that the program writes.
        references.paths.extend(script::words(text).filter(|word| word.starts_with('/')).map(str::to_owned));
    } else if unit::is_unit(text) {
        references.units.insert(unit::without_specifiers(text));
    } else if unit::is_unit(&format!("{text}.service")) {
        // systemd makes the name of an instance from that of the template.
        references.units.insert(format!("{text}@.service"));
    }
}

/// Whether it is what a library is loaded by, `libNAME.so.VERSION`.
fn is_soname(text: &str) -> bool {
    let version = text.split_once(".so.").filter(|(name, _)| name.starts_with("lib")).map(|(_, version)| version);
    version.is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
}
