//! PE32+ images, the format of EFI programs: their sections, and a copy that has more of them.
//!
//! Nothing is loaded: an image is its headers in memory and its contents where they are. Specification:
//! <https://learn.microsoft.com/windows/win32/debug/pe-format>.

mod certificates;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixture;
mod write;

use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result, bail, ensure};
use object::LittleEndian as LE;
use object::pe::{IMAGE_DIRECTORY_ENTRY_SECURITY, ImageDosHeader, ImageNtHeaders64, Machine};
use object::read::pe::ImageNtHeaders;

pub use write::{Copy, NewSection};

/// More headers than that has no EFI program; the section table lies within.
const MOST_HEADER_BYTES: u64 = 64 << 10;
/// How many faults are named.
const MOST_FAULTS: usize = 20;
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
    /// The first number of the version that it gives itself.
    pub major_image_version: u16,
    /// How much of the file the headers take, in bytes.
    pub size_of_headers: u32,
    /// The place in the file and the size of the table of certificates; both are 0 where nothing is signed.
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

    /// Where in the file it ends.
    fn file_end(&self) -> u64 {
        u64::from(self.file_offset) + u64::from(self.file_bytes)
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
        // `get` passes over what is at 0, where no table can be.
        let signatures = directories.iter().nth(IMAGE_DIRECTORY_ENTRY_SECURITY);
        let image = Image {
            machine: nt.file_header().machine.get(LE).0,
            section_alignment: optional.section_alignment.get(LE),
            file_alignment: optional.file_alignment.get(LE),
            size_of_image: optional.size_of_image.get(LE),
            major_image_version: optional.major_image_version.get(LE),
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

    /// How much memory nobody else has from where that section begins, in bytes.
    pub fn room_bytes(&self, section: &Section) -> u32 {
        let others = self.sections.iter().filter(|other| other.memory_bytes > 0).map(|other| other.address);
        let next = others.filter(|address| *address > section.address).min().unwrap_or(self.size_of_image);
        next.saturating_sub(section.address)
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

    /// What a loader would stumble on: sections that overlap or are not aligned, and sizes that do not fit. Of many faults the first are
    /// named.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.contradictions();
        faults.extend(self.misaligned());
        shortened(faults)
    }

    /// Those of the faults with which the sizes of sections mean nothing: what is there in file or memory is claimed twice, or is not
    /// there at all.
    pub fn contradictions(&self) -> Vec<String> {
        let mut faults = self.overlaps();
        faults.extend(self.misplaced());
        let table_end = self.table_end() as u64;
        if table_end > self.size_of_headers.into() {
            faults.push(format!("the section table ends beyond the {} bytes of the headers", self.size_of_headers));
        }
        if u64::from(self.size_of_headers) > self.file_bytes {
            let (size, file) = (self.size_of_headers, self.file_bytes);
            faults.push(format!("the headers take {size} bytes, and the file has {file}"));
        }
        faults
    }

    /// Whether there is a table of certificates. See [`Image::check_signatures`].
    pub fn has_certificates(&self) -> bool {
        self.signatures != (0, 0)
    }

    /// Checks the table of certificates, which there is: that it lies in the file, behind everything else, and that every entry is a
    /// signature by its form. `reader` is that of the image.
    ///
    /// # Errors
    /// Fails with what is wrong, and when reading fails.
    pub fn check_signatures(&self, mut reader: impl Read + Seek) -> Result<()> {
        let (offset, size) = self.signatures;
        let (start, end) = (u64::from(offset), u64::from(offset) + u64::from(size));
        let table = "its table of certificates";
        ensure!(size > 0, "{table} at byte {start} is empty");
        let file_bytes = self.file_bytes;
        ensure!(end <= file_bytes, "{table} ends at byte {end}, and the file has {file_bytes}");
        ensure!(start.is_multiple_of(8), "{table} is at byte {start}, which is not a multiple of 8");
        ensure!(offset >= self.size_of_headers, "{table} at byte {start} begins in the headers");
        let filled = self.sections.iter().filter(|section| section.file_bytes > 0);
        if let Some(section) = filled.into_iter().find(|section| start < section.file_end()) {
            bail!("{table} at byte {start} is not behind the section {}", section.name);
        }
        ensure!(size <= certificates::MOST_BYTES, "{table} has {size} bytes, more than any signatures take");
        let mut bytes = vec![0; size as usize];
        reader.seek(SeekFrom::Start(start)).and_then(|_| reader.read_exact(&mut bytes)).context("reading it")?;
        certificates::check(&bytes)
    }

    fn overlaps(&self) -> Vec<String> {
        let in_memory = self.sections.iter().filter(|section| section.memory_bytes > 0);
        let in_memory = in_memory.map(|section| (section.address, section.memory_end(), section)).collect();
        let in_file = self.sections.iter().filter(|section| section.file_bytes > 0);
        let in_file = in_file.map(|section| (section.file_offset, section.file_end(), section)).collect();
        let mut faults = overlapping(in_memory, "memory");
        faults.extend(overlapping(in_file, "the file"));
        faults
    }

    /// Sections where headers are, or beyond the image.
    fn misplaced(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for section in &self.sections {
            let (name, headers, image) = (&section.name, self.size_of_headers, self.size_of_image);
            if section.memory_bytes > 0 && (section.address as usize) < self.table_end() {
                faults.push(format!("the section {name} overlaps the headers in memory"));
            }
            if section.file_bytes > 0 && section.file_offset < headers {
                faults.push(format!("the section {name} overlaps the {headers} bytes of the headers in the file"));
            }
            if section.memory_end() > image.into() {
                faults.push(format!("the section {name} ends beyond the {image} bytes of the image"));
            }
        }
        faults
    }

    /// Sections that do not begin where they should.
    fn misaligned(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for section in &self.sections {
            let (name, memory, file) = (&section.name, self.section_alignment, self.file_alignment);
            if section.address % memory != 0 {
                faults.push(format!("the section {name} is not at a multiple of {memory} bytes"));
            }
            if section.file_bytes > 0 && section.file_offset % file != 0 {
                faults.push(format!("the section {name} is not aligned to {file} bytes in the file"));
            }
        }
        faults
    }
}

/// Which of places, each with its beginning, its end and whose it is, begin before an earlier one ends.
fn overlapping(mut places: Vec<(u32, u64, &Section)>, of: &str) -> Vec<String> {
    places.sort_by_key(|(start, ..)| *start);
    let mut faults = Vec::new();
    let mut furthest: Option<(u64, &Section)> = None;
    for (start, end, section) in places {
        if let Some((_, other)) = furthest.filter(|(end, _)| *end > start.into()) {
            faults.push(format!("the sections {} and {} overlap in {of}", other.name, section.name));
        }
        if furthest.is_none_or(|(furthest, _)| end > furthest) {
            furthest = Some((end, section));
        }
    }
    faults
}

/// The first faults, and how many more there are.
fn shortened(mut faults: Vec<String>) -> Vec<String> {
    if faults.len() > MOST_FAULTS {
        let others = faults.len() - MOST_FAULTS;
        faults.truncate(MOST_FAULTS);
        faults.push(format!("and {others} more faults of its sections"));
    }
    faults
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

    #[test]
    fn every_section_that_an_earlier_one_reaches_into_is_told_and_the_headers_are_nobody_elses() {
        let mut bytes = fixture::image(&[(".a", b"a", 0x9000), (".b", b"b", 1), (".c", b"c", 1), (".d", b"d", 1)], 0);
        let mut put = |number: usize, field: usize, value: u32| {
            let place = fixture::table_line(number) + field;
            bytes[place..place + 4].copy_from_slice(&value.to_le_bytes());
        };
        for (number, address) in [(1, 0x2000), (2, 0x3000), (3, 0)] {
            put(number, 12, address);
        }
        put(3, 20, 0);
        let image = read(bytes).unwrap();
        assert_eq!(
            image.contradictions(),
            [
                "the sections .a and .b overlap in memory",
                "the sections .a and .c overlap in memory",
                "the section .d overlaps the headers in memory",
                "the section .d overlaps the 512 bytes of the headers in the file",
            ]
        );
        let none = [(".n", &b""[..], 0x2000); 100].map(|(name, content, memory)| (name, content, memory));
        let mut many = fixture::image(&none, 0);
        for number in 0..100 {
            let place = fixture::table_line(number) + 12;
            many[place..place + 4].copy_from_slice(&0x10000_u32.to_le_bytes());
        }
        let faults = read(many).unwrap().faults();
        assert_eq!((faults.len(), faults[20].as_str()), (21, "and 79 more faults of its sections"));
    }

    #[test]
    fn a_table_of_certificates_lies_behind_everything_and_in_the_file() {
        let image = fixture::image(&[(".text", b"code", 4)], 0);
        let mut signed = image.clone();
        fixture::sign(&mut signed);
        let checked = |bytes: &[u8]| {
            let image = read(bytes.to_vec()).unwrap();
            assert!(image.has_certificates());
            image.check_signatures(Cursor::new(bytes)).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(checked(&signed), Ok(()));
        let (start, size) = (image.len() as u32, (signed.len() - image.len()) as u32);
        let table = "its table of certificates";
        for (offset, size, expected) in [
            (start, size + 8, format!("{table} ends at byte {}, and the file has {}", signed.len() + 8, signed.len())),
            (u32::MAX, u32::MAX, format!("{table} ends at byte 8589934590")),
            (start, 0, format!("{table} at byte {start} is empty")),
            (0, size, format!("{table} at byte 0 begins in the headers")),
            (start - 0x200, size, format!("{table} at byte 512 is not behind the section .text")),
            (start + 4, size - 4, format!("{table} is at byte {}, which is not a multiple of 8", start + 4)),
            (start, 8, "signature 1 in its table of certificates: it ends beyond the table".to_owned()),
        ] {
            let mut bytes = signed.clone();
            fixture::set_certificates(&mut bytes, offset, size);
            let error = checked(&bytes).unwrap_err();
            assert!(error.starts_with(&expected), "{error}");
        }
        assert!(!read(image).unwrap().has_certificates());
    }
}
