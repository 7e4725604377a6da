//! Images for tests: no code in them, but headers and sections as linkers make them.

use object::LittleEndian as LE;
use object::pe::{
    IMAGE_DIRECTORY_ENTRY_SECURITY, IMAGE_DOS_SIGNATURE, IMAGE_FILE_MACHINE_AMD64, IMAGE_NT_OPTIONAL_HDR64_MAGIC,
    IMAGE_NT_SIGNATURE, ImageDataDirectory, ImageDosHeader, ImageNtHeaders64, ImageSectionHeader,
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
    let (mut address, mut offset) = (SECTION_ALIGNMENT, size_of_headers);
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

/// Says in an image of [`image`] that it is signed.
pub fn sign(image: &mut [u8]) {
    let place = size_of::<ImageDosHeader>()
        + size_of::<ImageNtHeaders64>()
        + IMAGE_DIRECTORY_ENTRY_SECURITY * size_of::<ImageDataDirectory>();
    let end = u32::try_from(image.len()).unwrap();
    image[place..place + 4].copy_from_slice(&end.to_le_bytes());
    image[place + 4..place + 8].copy_from_slice(&8_u32.to_le_bytes());
}
