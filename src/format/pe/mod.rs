//! PE32+ images, the format of EFI programs: their sections, and a copy that has more of them.
//!
//! Nothing is loaded: an image is its headers in memory and its contents where they are. Specification:
//! <https://learn.microsoft.com/windows/win32/debug/pe-format>.

#[cfg(test)]
pub(crate) mod fixture;
mod write;

use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result, bail, ensure};
use object::LittleEndian as LE;
use object::pe::{IMAGE_DIRECTORY_ENTRY_SECURITY, ImageDosHeader, ImageNtHeaders64, Machine};
use object::read::pe::ImageNtHeaders;

pub use write::{Copy, NewSection};

/// More headers than that has no EFI program; the section table lies within.
const MOST_HEADER_BYTES: u64 = 64 << 10;
/// A name in the section table has no more.
pub const MOST_NAME_BYTES: usize = 8;

/// The headers of an image.
#[derive(Clone, Debug)]
pub struct Image {
    /// The instruction set, by the number that the specification gives it.
    pub machine: u16,
    /// Addresses of sections are multiples of it.
    pub section_alignment: u32,
    /// Places and sizes of contents in the file are multiples of it.
    pub file_alignment: u32,
    /// How much memory the image takes, in bytes.
    pub size_of_image: u32,
    /// How much of the file the headers take, in bytes.
    pub size_of_headers: u32,
    /// The place in the file and the size of the signatures; the size is 0 where nothing is signed.
    pub signatures: (u32, u32),
    /// In the order of the table.
    pub sections: Vec<Section>,
    /// The file up to the end of its section table.
    headers: Vec<u8>,
    /// Where in `headers` the PE headers begin.
    nt_offset: usize,
    /// Where in `headers` the section table begins.
    table_offset: usize,
    /// The size of the file, in bytes.
    file_bytes: u64,
}

/// A line of the section table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Section {
    /// Its name, without the zeros that fill it up.
    pub name: String,
    /// Where in memory it lies, from the start of the image.
    pub address: u32,
    /// How much memory it takes. What the file has not got of it is zeros.
    pub memory_bytes: u32,
    /// Where in the file its contents lie.
    pub file_offset: u32,
    /// How much of the file its contents take, with what fills them up to the alignment.
    pub file_bytes: u32,
    /// Its flags, `IMAGE_SCN_` of the specification.
    pub characteristics: u32,
}

impl Section {
    /// How much of the memory comes out of the file, in bytes.
    pub fn content_bytes(&self) -> u32 {
        self.memory_bytes.min(self.file_bytes)
    }

    /// Where in memory it ends.
    fn memory_end(&self) -> u64 {
        u64::from(self.address) + u64::from(self.memory_bytes)
    }
}

impl Image {
    /// Reads the headers of an image.
    ///
    /// # Errors
    /// Fails when reading fails, on what is no PE32+ image, and on contents beyond the end of the file.
    pub fn read(reader: &mut (impl Read + Seek)) -> Result<Self> {
        let file_bytes = reader.seek(SeekFrom::End(0)).context("looking for the end of the file")?;
        reader.rewind().context("going back to the start of the file")?;
        let mut headers = Vec::new();
        reader.take(MOST_HEADER_BYTES).read_to_end(&mut headers).context("reading the headers")?;
        Self::parse(headers, file_bytes)
    }

    /// The headers of an image of which `start` is no more than the first bytes; where its contents lie is not checked.
    ///
    /// # Errors
    /// As [`Image::read`].
    pub fn of_start(start: Vec<u8>) -> Result<Self> {
        Self::parse(start, u64::MAX)
    }

    fn parse(mut headers: Vec<u8>, file_bytes: u64) -> Result<Self> {
        ensure!(headers.starts_with(b"MZ"), "it is no EFI program: it does not begin with MZ");
        let data = &headers[..];
        let no_pe = "it is no EFI program for 64-bit machines: it has no PE32+ headers";
        let nt_offset = ImageDosHeader::parse(data).context(no_pe)?.nt_headers_offset();
        let mut offset = u64::from(nt_offset);
        let (nt, directories) = ImageNtHeaders64::parse(data, &mut offset).context(no_pe)?;
        let optional = nt.optional_header();
        let table = nt.sections(data, offset).context("its section table is cut off")?;
        let sections = table.iter().map(section).collect::<Result<Vec<_>>>()?;
        let signatures = directories.get(IMAGE_DIRECTORY_ENTRY_SECURITY);
        let image = Image {
            machine: nt.file_header().machine.get(LE).0,
            section_alignment: optional.section_alignment.get(LE),
            file_alignment: optional.file_alignment.get(LE),
            size_of_image: optional.size_of_image.get(LE),
            size_of_headers: optional.size_of_headers.get(LE),
            signatures: signatures.map_or((0, 0), |place| (place.virtual_address.get(LE), place.size.get(LE))),
            nt_offset: nt_offset as usize,
            table_offset: usize::try_from(offset).context("its section table is beyond its end")?,
            headers: Vec::new(),
            sections,
            file_bytes,
        };
        headers.truncate(image.table_end());
        let image = Image { headers, ..image };
        image.check()?;
        Ok(image)
    }

    /// Refuses what cannot be worked with at all.
    fn check(&self) -> Result<()> {
        let (file, memory) = (self.file_alignment, self.section_alignment);
        ensure!(
            file.is_power_of_two() && memory.is_power_of_two(),
            "its alignments {file} and {memory} are no powers of 2"
        );
        for section in &self.sections {
            let end = u64::from(section.file_offset) + u64::from(section.content_bytes());
            if end > self.file_bytes {
                let (name, size) = (&section.name, self.file_bytes);
                bail!("its section {name} ends at byte {end}, and the file has {size}: it is cut off");
            }
        }
        Ok(())
    }

    fn table_end(&self) -> usize {
        self.table_offset + self.sections.len() * size_of::<object::pe::ImageSectionHeader>()
    }

    /// The first section of that name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The contents of a section, as far as they come out of the file.
    ///
    /// # Errors
    /// Fails when the reader cannot go there.
    pub fn content<R: Read + Seek>(section: &Section, mut reader: R) -> Result<impl Read + use<R>> {
        let offset = u64::from(section.file_offset);
        reader.seek(SeekFrom::Start(offset)).with_context(|| format!("going to the section {}", section.name))?;
        Ok(reader.take(section.content_bytes().into()))
    }

    /// The contents of the section of that name as text, if there is one.
    ///
    /// # Errors
    /// Fails when reading fails, and on what is no UTF-8.
    pub fn text(&self, name: &str, reader: impl Read + Seek) -> Result<Option<String>> {
        let Some(section) = self.section(name) else { return Ok(None) };
        let mut text = String::new();
        let read = Self::content(section, reader)?.read_to_string(&mut text);
        read.with_context(|| format!("reading the section {name}"))?;
        Ok(Some(text))
    }

    /// What a loader would stumble on: sections that overlap or are not aligned, and sizes that do not fit.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.overlaps();
        faults.extend(self.misplaced());
        if self.table_end() > self.size_of_headers as usize {
            faults.push(format!("the section table ends beyond the {} bytes of the headers", self.size_of_headers));
        }
        faults
    }

    fn overlaps(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |text: String| faults.push(text);
        let mut by_address: Vec<&Section> = self.sections.iter().collect();
        by_address.sort_by_key(|section| section.address);
        for pair in by_address.windows(2) {
            if pair[0].memory_end() > pair[1].address.into() {
                fault(format!("the sections {} and {} overlap in memory", pair[0].name, pair[1].name));
            }
        }
        let mut by_offset: Vec<&Section> = self.sections.iter().filter(|section| section.file_bytes > 0).collect();
        by_offset.sort_by_key(|section| section.file_offset);
        for pair in by_offset.windows(2) {
            if u64::from(pair[0].file_offset) + u64::from(pair[0].file_bytes) > pair[1].file_offset.into() {
                fault(format!("the sections {} and {} overlap in the file", pair[0].name, pair[1].name));
            }
        }
        faults
    }

    /// Sections at places where none should begin or end.
    fn misplaced(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |text: String| faults.push(text);
        for section in &self.sections {
            if section.address % self.section_alignment != 0 {
                fault(format!("the section {} is not at a multiple of {} bytes", section.name, self.section_alignment));
            }
            if section.file_bytes > 0 && section.file_offset % self.file_alignment != 0 {
                fault(format!(
                    "the section {} is not aligned to {} bytes in the file",
                    section.name, self.file_alignment
                ));
            }
            if section.memory_end() > self.size_of_image.into() {
                fault(format!(
                    "the section {} ends beyond the {} bytes of the image",
                    section.name, self.size_of_image
                ));
            }
        }
        faults
    }
}

/// What a number of [`Image::machine`] is called, as `systemd-stub` calls it in its file names.
pub fn machine_name(machine: u16) -> Option<&'static str> {
    match Machine(machine) {
        object::pe::IMAGE_FILE_MACHINE_AMD64 => Some("x64"),
        object::pe::IMAGE_FILE_MACHINE_ARM64 => Some("aa64"),
        object::pe::IMAGE_FILE_MACHINE_RISCV64 => Some("riscv64"),
        _ => None,
    }
}

fn section(header: &object::pe::ImageSectionHeader) -> Result<Section> {
    let end = header.name.iter().position(|byte| *byte == 0).unwrap_or(MOST_NAME_BYTES);
    let name =
        std::str::from_utf8(&header.name[..end]).ok().filter(|name| name.chars().all(|one| one.is_ascii_graphic()));
    let Some(name) = name else { bail!("a section has the name {:?}", String::from_utf8_lossy(&header.name)) };
    Ok(Section {
        name: name.to_owned(),
        address: header.virtual_address.get(LE),
        memory_bytes: header.virtual_size.get(LE),
        file_offset: header.pointer_to_raw_data.get(LE),
        file_bytes: header.size_of_raw_data.get(LE),
        characteristics: header.characteristics.get(LE).0,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn read(bytes: Vec<u8>) -> Result<Image> {
        Image::read(&mut Cursor::new(bytes))
    }

    fn refused(bytes: Vec<u8>) -> String {
        format!("{:#}", read(bytes).unwrap_err())
    }

    #[test]
    fn sections_are_found_with_their_contents() {
        let bytes = fixture::image(&[(".text", b"code", 4), (".data", b"data", 0x3000)], 0);
        let image = read(bytes.clone()).unwrap();
        assert_eq!((image.machine, machine_name(image.machine)), (0x8664, Some("x64")));
        assert_eq!(image.faults(), Vec::<String>::new());
        let data = image.section(".data").unwrap();
        assert_eq!((data.address, data.memory_bytes, data.content_bytes()), (0x2000, 0x3000, 0x200));
        let mut content = Vec::new();
        Image::content(data, Cursor::new(bytes)).unwrap().read_to_end(&mut content).unwrap();
        assert!(content.starts_with(b"data\0") && content.len() == 0x200);
        assert!(image.section(".none").is_none());
    }

    #[test]
    fn what_is_no_image_or_is_cut_off_is_refused() {
        assert!(refused(b"#!/bin/sh".to_vec()).contains("does not begin with MZ"));
        assert!(refused(b"MZ".to_vec()).contains("no PE32+ headers"));
        let whole = fixture::image(&[(".text", &[1; 0x300], 0x300)], 0);
        assert!(refused(whole[..0x100].to_vec()).contains("no PE32+ headers"));
        assert!(refused(whole[..fixture::table_line(1) - 1].to_vec()).contains("section table is cut off"));
        assert!(
            refused(whole[..0x480].to_vec()).contains("its section .text ends at byte 1280, and the file has 1152")
        );
    }

    #[test]
    fn sections_that_overlap_or_are_not_aligned_are_told() {
        let mut bytes = fixture::image(&[(".a", b"a", 0x1800), (".b", b"b", 1)], 0);
        // The address of .b.
        let place = fixture::table_line(1) + 12;
        bytes[place..place + 4].copy_from_slice(&0x2001_u32.to_le_bytes());
        let faults = read(bytes).unwrap().faults();
        assert_eq!(
            faults,
            ["the sections .a and .b overlap in memory", "the section .b is not at a multiple of 4096 bytes"]
        );
    }
}
