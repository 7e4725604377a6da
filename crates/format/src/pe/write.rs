//! A copy of an image with further sections behind its own.

use std::io::{self, Read, Seek, Write};

use anyhow::{Context, Result, bail, ensure};
use object::LittleEndian as LE;
use object::pe::{
    IMAGE_SCN_CNT_CODE, IMAGE_SCN_CNT_INITIALIZED_DATA, IMAGE_SCN_MEM_EXECUTE, IMAGE_SCN_MEM_READ, ImageNtHeaders64,
    ImageSectionHeader, SectionFlags,
};
use object::pod::{bytes_of, from_bytes_mut};

use super::{Image, MOST_NAME_BYTES, Section};

/// A section that an image is to get.
pub struct NewSection<'a> {
    /// At most 8 bytes of ASCII.
    pub name: &'a str,
    /// Its contents.
    pub content: Box<dyn Read + 'a>,
    /// How many they are, in bytes.
    pub content_bytes: u64,
    /// How much memory is kept free from where it begins. The section is as large as its contents, whatever lies free behind it.
    pub reserved_bytes: u64,
    /// Whether it is a program; else it is read only.
    pub is_code: bool,
}

/// Where everything of a copy lies, before anything is written.
pub struct Copy<'a> {
    image: &'a Image,
    sections: Vec<(Section, Source<'a>)>,
    size_of_headers: u32,
    size_of_image: u32,
}

enum Source<'a> {
    /// That section of the image.
    Old(&'a Section),
    Bytes(Vec<u8>),
    New(Box<dyn Read + 'a>, u64),
}

impl Source<'_> {
    fn size_bytes(&self) -> u64 {
        match self {
            Source::Old(section) => section.content_bytes().into(),
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::New(_, size_bytes) => *size_bytes,
        }
    }
}

impl<'a> Copy<'a> {
    /// Lays out a copy of `image`, with other contents for the sections that `replaced` names, and with `added` behind all.
    ///
    /// # Errors
    /// Fails on an image that is signed, on a replacement that has no room or no section, on names that are too long, and when
    /// the whole would be larger than the 4 GiB that the format allows.
    pub fn new(image: &'a Image, replaced: Vec<(&str, Vec<u8>)>, added: Vec<NewSection<'a>>) -> Result<Self> {
        ensure!(!image.has_certificates(), "it is signed already, and what is added would make that signature false");
        // What is not aligned is no reason: linkers of old put sections closer together than they say.
        let overlaps = image.overlaps();
        ensure!(overlaps.is_empty(), "it is damaged: {}", overlaps.join("; "));
        let mut sections: Vec<(Section, Source<'_>)> =
            image.sections.iter().map(|section| (section.clone(), Source::Old(section))).collect();
        for (name, bytes) in replaced {
            replace(&mut sections, name, bytes)?;
        }
        let mut copy = Copy { image, sections, size_of_headers: 0, size_of_image: 0 };
        copy.place_in_memory(added)?;
        copy.place_headers()?;
        copy.place_in_file()?;
        Ok(copy)
    }

    fn place_in_memory(&mut self, added: Vec<NewSection<'a>>) -> Result<()> {
        let alignment = u64::from(self.image.section_alignment);
        let sections = self.sections.iter().map(|(section, _)| section.memory_end()).max().unwrap_or(0);
        // Where the image ends behind its last section, that one has the memory reserved.
        let mut end = sections.max(self.image.size_of_image.into());
        for new in added {
            ensure!(new.name.len() <= MOST_NAME_BYTES, "the name {:?} is too long for a section", new.name);
            let address = end.next_multiple_of(alignment);
            end = address + new.reserved_bytes.max(new.content_bytes);
            let section = Section {
                name: new.name.to_owned(),
                address: small(address, new.name)?,
                memory_bytes: small(new.content_bytes, new.name)?,
                file_offset: 0,
                file_bytes: 0,
                characteristics: if new.is_code { CODE.0 } else { DATA.0 },
            };
            self.sections.push((section, Source::New(new.content, new.content_bytes)));
        }
        self.size_of_image = small(end.next_multiple_of(alignment), "last")?;
        Ok(())
    }

    /// Finds room for the longer section table. Where the headers have none left, all contents move back in the file; in memory
    /// nothing moves.
    fn place_headers(&mut self) -> Result<()> {
        let table_bytes = self.sections.len() * size_of::<ImageSectionHeader>();
        let end = (self.image.table_offset + table_bytes) as u64;
        let first = self.sections.iter().map(|(section, _)| section.address).min().unwrap_or(0);
        if end > first.into() {
            bail!(
                "there is no room for {} more sections: its section table would end at byte {end}, and its first section \
                 is at {first} in memory",
                self.sections.len() - self.image.sections.len()
            );
        }
        let aligned = end.next_multiple_of(self.image.file_alignment.into());
        self.size_of_headers = small(aligned.max(self.image.size_of_headers.into()), "first")?;
        Ok(())
    }

    fn place_in_file(&mut self) -> Result<()> {
        let alignment = u64::from(self.image.file_alignment);
        let mut end = u64::from(self.size_of_headers).next_multiple_of(alignment);
        for (section, source) in &mut self.sections {
            let size_bytes = source.size_bytes().next_multiple_of(alignment);
            section.file_offset = if size_bytes == 0 { 0 } else { small(end, &section.name)? };
            section.file_bytes = small(size_bytes, &section.name)?;
            end += size_bytes;
        }
        small(end, "last").map(drop)
    }

    /// Where the sections lie.
    pub fn sections(&self) -> impl Iterator<Item = &Section> {
        self.sections.iter().map(|(section, _)| section)
    }

    /// Writes the copy. `reader` is that of the image.
    ///
    /// # Errors
    /// Fails when reading or writing fails, and when contents are not as long as they should be.
    pub fn write(self, reader: &mut (impl Read + Seek), writer: &mut impl Write) -> Result<()> {
        let mut headers = self.headers()?;
        headers.resize(self.size_of_headers as usize, 0);
        writer.write_all(&headers).context("writing the headers")?;
        let mut written = headers.len() as u64;
        for (section, source) in self.sections {
            if section.file_bytes == 0 {
                continue;
            }
            pad(writer, u64::from(section.file_offset) - written)?;
            let expected = source.size_bytes();
            let copied = match source {
                Source::Old(old) => io::copy(&mut Image::content(old, &mut *reader)?, writer),
                Source::Bytes(bytes) => writer.write_all(&bytes).map(|()| bytes.len() as u64),
                Source::New(content, size_bytes) => io::copy(&mut content.take(size_bytes + 1), writer),
            };
            let copied = copied.with_context(|| format!("writing the section {}", section.name))?;
            let name = &section.name;
            ensure!(
                copied == expected,
                "the section {name} has {copied} bytes and not {expected}: it changed meanwhile"
            );
            pad(writer, u64::from(section.file_bytes) - copied)?;
            written = u64::from(section.file_offset) + u64::from(section.file_bytes);
        }
        Ok(())
    }

    /// The image's headers with what has changed, and the new section table.
    fn headers(&self) -> Result<Vec<u8>> {
        let mut headers = self.image.headers[..self.image.table_offset].to_vec();
        let (nt, _) = from_bytes_mut::<ImageNtHeaders64>(&mut headers[self.image.nt_offset..])
            .map_err(|()| anyhow::anyhow!("the headers are cut off"))?;
        let count = u16::try_from(self.sections.len()).context("an image has at most 65,535 sections")?;
        nt.file_header.number_of_sections.set(LE, count);
        // Symbols lie behind the contents and are not copied.
        nt.file_header.pointer_to_symbol_table.set(LE, 0);
        nt.file_header.number_of_symbols.set(LE, 0);
        nt.optional_header.size_of_image.set(LE, self.size_of_image);
        nt.optional_header.size_of_headers.set(LE, self.size_of_headers);
        nt.optional_header.size_of_initialized_data.set(LE, self.size_with(IMAGE_SCN_CNT_INITIALIZED_DATA)?);
        nt.optional_header.size_of_code.set(LE, self.size_with(IMAGE_SCN_CNT_CODE)?);
        // No firmware looks at it.
        nt.optional_header.check_sum.set(LE, 0);
        for section in self.sections() {
            headers.extend_from_slice(bytes_of(&table_line(section)));
        }
        Ok(headers)
    }

    fn size_with(&self, flag: SectionFlags) -> Result<u32> {
        let marked = self.sections().filter(|section| section.characteristics & flag.0 != 0);
        small(marked.map(|section| u64::from(section.file_bytes)).sum(), "last")
    }
}

const DATA: SectionFlags = SectionFlags(IMAGE_SCN_CNT_INITIALIZED_DATA.0 | IMAGE_SCN_MEM_READ.0);
const CODE: SectionFlags = SectionFlags(IMAGE_SCN_CNT_CODE.0 | IMAGE_SCN_MEM_EXECUTE.0 | IMAGE_SCN_MEM_READ.0);

/// Gives a section other contents, for which there must be room up to the next one.
fn replace(sections: &mut [(Section, Source<'_>)], name: &str, bytes: Vec<u8>) -> Result<()> {
    let Some(index) = sections.iter().position(|(section, _)| section.name == name) else {
        bail!("it has no section {name}");
    };
    let address = sections[index].0.address;
    let next = sections.iter().map(|(section, _)| section.address).filter(|other| *other > address).min();
    let room = next.map_or(u32::MAX - address, |next| next - address);
    let Some(memory_bytes) = u32::try_from(bytes.len()).ok().filter(|needed| *needed <= room) else {
        bail!("its section {name} has room for {room} bytes, and {} are needed", bytes.len());
    };
    sections[index].0.memory_bytes = memory_bytes;
    sections[index].1 = Source::Bytes(bytes);
    Ok(())
}

fn table_line(section: &Section) -> ImageSectionHeader {
    let mut name = [0; MOST_NAME_BYTES];
    name[..section.name.len()].copy_from_slice(section.name.as_bytes());
    let mut line = ImageSectionHeader { name, ..ImageSectionHeader::default() };
    line.virtual_size.set(LE, section.memory_bytes);
    line.virtual_address.set(LE, section.address);
    line.size_of_raw_data.set(LE, section.file_bytes);
    line.pointer_to_raw_data.set(LE, section.file_offset);
    line.characteristics.set(LE, SectionFlags(section.characteristics));
    line
}

fn small(number: u64, name: &str) -> Result<u32> {
    let fits = u32::try_from(number).ok();
    fits.with_context(|| format!("the {name} section would end beyond 4 GiB, which an EFI program cannot have"))
}

fn pad(writer: &mut impl Write, size_bytes: u64) -> Result<()> {
    io::copy(&mut io::repeat(0).take(size_bytes), writer).context("writing zeros")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::fixture;
    use super::*;

    fn new(name: &'static str, content: &'static [u8], reserved_bytes: u64) -> NewSection<'static> {
        let content_bytes = content.len() as u64;
        NewSection { name, content: Box::new(content), content_bytes, reserved_bytes, is_code: false }
    }

    fn copied(bytes: &[u8], replaced: Vec<(&str, Vec<u8>)>, added: Vec<NewSection<'_>>) -> Result<Vec<u8>> {
        let mut reader = Cursor::new(bytes);
        let image = Image::read(&mut reader)?;
        let mut written = Vec::new();
        Copy::new(&image, replaced, added)?.write(&mut reader, &mut written)?;
        Ok(written)
    }

    fn content(bytes: &[u8], name: &str) -> Vec<u8> {
        let image = Image::read(&mut Cursor::new(bytes)).unwrap();
        let mut content = Vec::new();
        Image::content(image.section(name).unwrap(), Cursor::new(bytes)).unwrap().read_to_end(&mut content).unwrap();
        content
    }

    #[test]
    fn new_sections_come_behind_the_old_ones_and_nothing_overlaps() {
        let stub = fixture::image(&[(".text", b"code", 0x800), (".sbat", b"old", 3)], 4);
        let added = vec![new(".a", b"first", 0), new(".linux", b"kernel", 0x5000), new(".z", b"last", 4)];
        let written = copied(&stub, vec![(".sbat", b"new and longer".to_vec())], added).unwrap();
        let image = Image::read(&mut Cursor::new(&written)).unwrap();
        assert_eq!(image.faults(), Vec::<String>::new());
        let places: Vec<_> =
            image.sections.iter().map(|one| (one.name.as_str(), one.address, one.memory_bytes)).collect();
        let expected = [
            (".text", 0x1000, 0x800),
            (".sbat", 0x2000, 14),
            (".a", 0x3000, 5),
            (".linux", 0x4000, 6),
            (".z", 0x9000, 4),
        ];
        assert_eq!((places.as_slice(), image.size_of_image), (expected.as_slice(), 0xa000));
        assert_eq!(
            (content(&written, ".sbat"), content(&written, ".a")),
            (b"new and longer".to_vec(), b"first".to_vec())
        );
        assert!(content(&written, ".linux") == b"kernel" && content(&written, ".text").starts_with(b"code\0"));
    }

    #[test]
    fn memory_that_is_reserved_behind_the_last_section_stays_so_in_a_copy_of_the_copy() {
        let stub = fixture::image(&[(".text", b"code", 4)], 4);
        let first = copied(&stub, Vec::new(), vec![new(".linux", b"kernel", 0x5001)]).unwrap();
        let second = copied(&first, Vec::new(), vec![new(".pcrsig", b"later", 0)]).unwrap();
        let image = Image::read(&mut Cursor::new(&second)).unwrap();
        let linux = image.section(".linux").unwrap();
        assert_eq!((linux.memory_bytes, image.room_bytes(linux)), (6, 0x6000));
        let at_once = vec![new(".linux", b"kernel", 0x5001), new(".pcrsig", b"later", 0)];
        assert!(copied(&stub, Vec::new(), at_once).unwrap() == second);
    }

    /// Where the section table has no room left, contents move back in the file, and nothing in memory.
    #[test]
    fn a_section_table_without_room_gets_some() {
        let stub = fixture::image(&[(".text", b"code", 4)], 0);
        let before = Image::read(&mut Cursor::new(&stub)).unwrap();
        let names: Vec<String> = (0..20).map(|number| format!(".n{number}")).collect();
        let added = names.iter().map(|name| NewSection { name, ..new("", b"content", 7) }).collect();
        let written = copied(&stub, Vec::new(), added).unwrap();
        let after = Image::read(&mut Cursor::new(&written)).unwrap();
        assert!(after.size_of_headers > before.size_of_headers && after.faults().is_empty());
        assert_eq!((after.sections.len(), after.sections[0].address), (21, before.sections[0].address));
        assert!(content(&written, ".text").starts_with(b"code") && content(&written, ".n19") == b"content");
        let too_many = (0..120).map(|_| new(".n", b"", 0)).collect();
        let error = copied(&stub, Vec::new(), too_many).unwrap_err().to_string();
        assert!(error.starts_with("there is no room for 120 more sections"), "{error}");
    }

    #[test]
    fn what_cannot_be_copied_is_refused() {
        let refused = |bytes: &[u8], replaced, added| format!("{:#}", copied(bytes, replaced, added).unwrap_err());
        let mut signed = fixture::image(&[(".text", b"code", 4)], 1);
        fixture::sign(&mut signed);
        assert!(refused(&signed, Vec::new(), Vec::new()).starts_with("it is signed already"));
        let stub = fixture::image(&[(".sbat", b"sbat", 4), (".text", b"code", 4)], 1);
        let error = refused(&stub, vec![(".sbat", vec![b'x'; 0x1001])], Vec::new());
        assert_eq!(error, "its section .sbat has room for 4096 bytes, and 4097 are needed");
        assert_eq!(refused(&stub, vec![(".none", Vec::new())], Vec::new()), "it has no section .none");
        assert!(refused(&stub, Vec::new(), vec![new(".longname", b"", 0)]).contains("too long for a section"));
        let huge = NewSection { content_bytes: 1 << 32, ..new(".initrd", b"", 0) };
        assert!(refused(&stub, Vec::new(), vec![huge]).contains("the .initrd section would end beyond 4 GiB"));
        let shrunk = NewSection { content_bytes: 9, ..new(".initrd", b"content", 0) };
        let error = refused(&stub, Vec::new(), vec![shrunk]);
        assert_eq!(error, "the section .initrd has 7 bytes and not 9: it changed meanwhile");
    }
}
