//! Links by build identifier: for every program and library, `/usr/lib/.build-id/ab/cdef...` points to it.
//!
//! rpmbuild adds them to each package, with the directories that they lie in.

use std::collections::BTreeMap;

use crate::handmade::EPOCH;
use crate::package::{Class, Content, File, Package};

const DIRECTORY: &str = "/usr/lib/.build-id";
const PT_NOTE: u32 = 4;
const NT_GNU_BUILD_ID: u32 = 3;

/// Adds the links for the files of `package`.
pub fn add_links(package: &mut Package) {
    let mut links: BTreeMap<String, String> = BTreeMap::new();
    for (path, file) in &package.files {
        if let Content::Regular(bytes) = &file.content
            && let Some(identifier) = of(bytes)
        {
            // A file with several names is found under its first.
            links.entry(identifier).or_insert_with(|| path.clone());
        }
    }
    let mut add = |path: String, content: Content, mode: u16| {
        let mut file = File::of_root(content, mode, EPOCH);
        file.class = Class::Artifact;
        package.files.insert(path, file);
    };
    for (identifier, path) in links {
        let (beginning, rest) = identifier.split_at(2);
        add(DIRECTORY.to_owned(), Content::Directory, 0o755);
        add(format!("{DIRECTORY}/{beginning}"), Content::Directory, 0o755);
        add(format!("{DIRECTORY}/{beginning}/{rest}"), Content::Symlink(format!("../../../..{path}")), 0o777);
    }
}

/// The build identifier of an ELF file of 64 bits, in hexadecimal digits.
fn of(elf: &[u8]) -> Option<String> {
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = usize::try_from(number(elf, 32, 8)?).ok()?;
    let (size, count) = (number(elf, 54, 2)? as usize, number(elf, 56, 2)? as usize);
    (0..count).find_map(|index| {
        let header = elf.get(table + index * size..)?;
        if number(header, 0, 4)? != u64::from(PT_NOTE) {
            return None;
        }
        let (start, length) = (number(header, 8, 8)? as usize, number(header, 32, 8)? as usize);
        in_notes(elf.get(start..start.checked_add(length)?)?)
    })
}

/// The identifier among the notes of one segment.
fn in_notes(mut notes: &[u8]) -> Option<String> {
    const HEADER_BYTES: usize = 12;
    while notes.len() > HEADER_BYTES {
        let (name_bytes, bytes) = (number(notes, 0, 4)? as usize, number(notes, 4, 4)? as usize);
        let kind = number(notes, 8, 4)?;
        let start = HEADER_BYTES + name_bytes.next_multiple_of(4);
        let description = notes.get(start..start + bytes)?;
        if kind == u64::from(NT_GNU_BUILD_ID)
            && notes.get(HEADER_BYTES..HEADER_BYTES + name_bytes)? == b"GNU\0"
            && bytes > 2
        {
            return Some(description.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        notes = notes.get(start + bytes.next_multiple_of(4)..)?;
    }
    None
}

/// A number of `width` bytes, little-endian.
fn number(bytes: &[u8], offset: usize, width: usize) -> Option<u64> {
    let bytes = bytes.get(offset..offset + width)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}
