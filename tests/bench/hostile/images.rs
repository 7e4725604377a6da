//! Unified kernel images for `uki inspect` and `uki verify`.

use std::io::Write;

use super::Input;

/// Every image by its name.
pub const INPUTS: &[Input] = &[
    ("empty-sections.efi", empty_sections),
    ("profiles.efi", profiles),
    ("overlapping.efi", overlapping),
    ("signed-profiles.efi", signed_profiles),
];

const HEADER_BYTES: u32 = 0x10000;
const NT_OFFSET: usize = 0x80;

/// A line of the section table: its name, its address, its size in memory, and its place and size in the file.
type Line<'a> = (&'a str, u32, u32, u32, u32);

/// The headers of an image for x86-64, as they lie in the file.
pub fn headers(sections: &[Line<'_>]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES as usize];
    let mut put = |place: usize, data: &[u8]| bytes[place..place + data.len()].copy_from_slice(data);
    put(0, b"MZ");
    put(0x3c, &(NT_OFFSET as u32).to_le_bytes());
    put(NT_OFFSET, b"PE\0\0");
    put(NT_OFFSET + 4, &0x8664_u16.to_le_bytes());
    put(NT_OFFSET + 6, &(sections.len() as u16).to_le_bytes());
    put(NT_OFFSET + 20, &240_u16.to_le_bytes());
    let optional = NT_OFFSET + 24;
    put(optional, &0x20b_u16.to_le_bytes());
    put(optional + 32, &0x1000_u32.to_le_bytes());
    put(optional + 36, &0x200_u32.to_le_bytes());
    put(optional + 56, &u32::MAX.to_le_bytes());
    put(optional + 60, &HEADER_BYTES.to_le_bytes());
    put(optional + 108, &16_u32.to_le_bytes());
    for (number, (name, address, memory_bytes, file_offset, file_bytes)) in sections.iter().enumerate() {
        let line = optional + 240 + number * 40;
        put(line, name.as_bytes());
        for (field, value) in [memory_bytes, address, file_bytes, file_offset].into_iter().enumerate() {
            put(line + 8 + field * 4, &value.to_le_bytes());
        }
    }
    bytes
}

/// Twelve sections of 4 GiB of memory, of which the file has nothing.
fn empty_sections(output: &mut dyn Write) {
    const NAMES: [&str; 12] = [
        ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey",
        ".profile", ".hwids",
    ];
    output.write_all(&headers(&NAMES.map(|name| (name, 0x1000, u32::MAX, 0, 0)))).unwrap();
}

/// A hundred profiles of one kernel with an initrd of 64 MiB.
fn profiles(output: &mut dyn Write) {
    const INITRD_BYTES: u32 = 64 << 20;
    let address = |number: u32| INITRD_BYTES + 0x20000 + number * 0x1000;
    let mut sections =
        vec![(".initrd", 0x10000, INITRD_BYTES, HEADER_BYTES, INITRD_BYTES), (".linux", address(0), 1, 0, 0)];
    sections.extend((1..=100).map(|number| (".profile", address(number), 1, 0, 0)));
    output.write_all(&headers(&sections)).unwrap();
    output.write_all(&vec![1; INITRD_BYTES as usize]).unwrap();
}

/// 1,500 sections, all of the same 64 MiB of the file.
fn overlapping(output: &mut dyn Write) {
    const SIZE_BYTES: u32 = 64 << 20;
    output.write_all(&headers(&[(".data", 0x10000, SIZE_BYTES, HEADER_BYTES, SIZE_BYTES); 1_500])).unwrap();
    output.write_all(&vec![1; SIZE_BYTES as usize]).unwrap();
}

/// A hundred profiles, each of which has signatures for four banks.
fn signed_profiles(output: &mut dyn Write) {
    let text = br#"{"sha1":[],"sha256":[],"sha384":[],"sha512":[]}"#;
    const INITRD_BYTES: u32 = 64 << 20;
    let address = |number: u32| INITRD_BYTES + 0x20000 + number * 0x1000;
    let mut sections =
        vec![(".initrd", 0x10000, INITRD_BYTES, HEADER_BYTES, INITRD_BYTES), (".linux", address(0), 1, 0, 0)];
    for number in 0..100 {
        sections.push((".profile", address(1 + 2 * number), 1, 0, 0));
        let place = HEADER_BYTES + INITRD_BYTES + number * 0x200;
        sections.push((".pcrsig", address(2 + 2 * number), text.len() as u32, place, 0x200));
    }
    output.write_all(&headers(&sections)).unwrap();
    output.write_all(&vec![1; INITRD_BYTES as usize]).unwrap();
    let mut page = text.to_vec();
    page.resize(0x200, 0);
    output.write_all(&page.repeat(100)).unwrap();
}
