//! Images for tests: no code in them, but headers and sections as linkers make them.

#![allow(clippy::unwrap_used, reason = "only tests build files with it")]

use std::mem::offset_of;

use object::LittleEndian as LE;
use object::pe::{
    IMAGE_DIRECTORY_ENTRY_SECURITY, IMAGE_DOS_SIGNATURE, IMAGE_FILE_MACHINE_AMD64, IMAGE_NT_OPTIONAL_HDR64_MAGIC,
    IMAGE_NT_SIGNATURE, ImageDataDirectory, ImageDosHeader, ImageNtHeaders64, ImageOptionalHeader64,
    ImageSectionHeader,
};
use object::pod::{Pod, bytes_of};

const DIRECTORIES: usize = 16;
const FILE_ALIGNMENT: u32 = 0x200;
const SECTION_ALIGNMENT: u32 = 0x1000;

fn zeroed<T: Pod + Copy>() -> T {
    let bytes = vec![0_u8; size_of::<T>()];
    *object::pod::from_bytes::<T>(&bytes).expect("the buffer is as large as the header").0
}

/// An image for x86-64 with these sections: name, contents, memory in bytes. The headers have room for `spare` sections more.
pub fn image(sections: &[(&str, &[u8], u32)], spare: usize) -> Vec<u8> {
    let table_bytes = size_of::<ImageSectionHeader>() * sections.len();
    let nt_offset = size_of::<ImageDosHeader>();
    let header_bytes =
        nt_offset + size_of::<ImageNtHeaders64>() + DIRECTORIES * size_of::<ImageDataDirectory>() + table_bytes;
    let size_of_headers =
        u32::try_from(header_bytes + spare * size_of::<ImageSectionHeader>()).unwrap().next_multiple_of(FILE_ALIGNMENT);
    let (mut address, mut offset) = (size_of_headers.next_multiple_of(SECTION_ALIGNMENT), size_of_headers);
    let (mut table, mut contents) = (Vec::new(), Vec::new());
    for (name, content, memory_bytes) in sections {
        let file_bytes = u32::try_from(content.len()).unwrap().next_multiple_of(FILE_ALIGNMENT);
        let mut line: ImageSectionHeader = zeroed();
        line.name[..name.len()].copy_from_slice(name.as_bytes());
        line.virtual_size.set(LE, *memory_bytes);
        line.virtual_address.set(LE, address);
        line.size_of_raw_data.set(LE, file_bytes);
        line.pointer_to_raw_data.set(LE, offset);
        table.extend_from_slice(bytes_of(&line));
        contents.extend_from_slice(content);
        contents.resize((offset + file_bytes - size_of_headers) as usize, 0);
        address = (address + memory_bytes).next_multiple_of(SECTION_ALIGNMENT);
        offset += file_bytes;
    }
    let mut dos: ImageDosHeader = zeroed();
    dos.e_magic.set(LE, IMAGE_DOS_SIGNATURE);
    dos.e_lfanew.set(LE, u32::try_from(nt_offset).unwrap());
    let mut nt: ImageNtHeaders64 = zeroed();
    nt.signature.set(LE, IMAGE_NT_SIGNATURE);
    nt.file_header.machine.set(LE, IMAGE_FILE_MACHINE_AMD64);
    nt.file_header.number_of_sections.set(LE, u16::try_from(sections.len()).unwrap());
    let optional_bytes = size_of_val(&nt.optional_header) + DIRECTORIES * size_of::<ImageDataDirectory>();
    nt.file_header.size_of_optional_header.set(LE, u16::try_from(optional_bytes).unwrap());
    nt.optional_header.magic.set(LE, IMAGE_NT_OPTIONAL_HDR64_MAGIC);
    nt.optional_header.section_alignment.set(LE, SECTION_ALIGNMENT);
    nt.optional_header.file_alignment.set(LE, FILE_ALIGNMENT);
    nt.optional_header.size_of_image.set(LE, address);
    nt.optional_header.size_of_headers.set(LE, size_of_headers);
    nt.optional_header.number_of_rva_and_sizes.set(LE, u32::try_from(DIRECTORIES).unwrap());
    let mut image = [bytes_of(&dos), bytes_of(&nt)].concat();
    image.resize(image.len() + DIRECTORIES * size_of::<ImageDataDirectory>(), 0);
    image.extend(table);
    image.resize(size_of_headers as usize, 0);
    image.extend(contents);
    image
}

/// The place of a line of the section table in an image of [`image`].
pub fn table_line(number: usize) -> usize {
    let directories = DIRECTORIES * size_of::<ImageDataDirectory>();
    size_of::<ImageDosHeader>() + size_of::<ImageNtHeaders64>() + directories + number * size_of::<ImageSectionHeader>()
}

/// Gives an image of [`image`] the first number of a version.
pub fn set_image_version(image: &mut [u8], version: u16) {
    let optional = size_of::<ImageDosHeader>() + offset_of!(ImageNtHeaders64, optional_header);
    let place = optional + offset_of!(ImageOptionalHeader64, major_image_version);
    image[place..place + 2].copy_from_slice(&version.to_le_bytes());
}

/// Signs an image of [`image`], by nobody.
pub fn sign(image: &mut Vec<u8>) {
    image.resize(image.len().next_multiple_of(8), 0);
    let table = certificate(0x0200, 0x0002, &signature());
    let (offset, size) = (u32::try_from(image.len()).unwrap(), u32::try_from(table.len()).unwrap());
    set_certificates(image, offset, size);
    image.extend(table);
}

/// A value in DER.
pub fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82][..], &length, content].concat()
}

/// The outer values of a signature in PKCS #7, as `check` of [`super::certificates`] looks at them.
pub fn signature() -> Vec<u8> {
    let digest = [0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x04];
    let signed = der(0x30, &der(0x06, &digest));
    let values = [der(0x02, &[1]), der(0x31, b""), signed, der(0xa0, b"certificates"), der(0x31, b"signers")];
    let kind = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
    der(0x30, &[der(0x06, &kind), der(0xa0, &der(0x30, &values.concat()))].concat())
}

/// An entry of a table of certificates.
pub fn certificate(revision: u16, kind: u16, signature: &[u8]) -> Vec<u8> {
    let length = u32::try_from(8 + signature.len()).unwrap();
    let mut entry = [&length.to_le_bytes()[..], &revision.to_le_bytes(), &kind.to_le_bytes(), signature].concat();
    entry.resize(entry.len().next_multiple_of(8), 0);
    entry
}

/// Says in an image of [`image`] where its table of certificates is.
pub fn set_certificates(image: &mut [u8], offset: u32, size: u32) {
    let place = size_of::<ImageDosHeader>()
        + size_of::<ImageNtHeaders64>()
        + IMAGE_DIRECTORY_ENTRY_SECURITY * size_of::<ImageDataDirectory>();
    image[place..place + 4].copy_from_slice(&offset.to_le_bytes());
    image[place + 4..place + 8].copy_from_slice(&size.to_le_bytes());
}
