//! The payload of an rpm file: a compressed cpio archive, with rpm's own short entries (magic 07070X) for files that
//! cpio cannot hold. Its files come in archive order, as a stream. Whoever opened the package vouches for its bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use anyhow::{Context, Result, bail, ensure};

use super::RpmPackage;
use ocinitrd_format::compress::MultiDecoder;
use ocinitrd_support::regular_file;

const BUFFER_BYTES: usize = 1 << 18;
const MAGIC_BYTES: usize = 6;
/// Of the entries of cpio: thirteen fields of eight hexadecimal digits after the magic.
const FIELDS: usize = 13;
const FIELD_BYTES: usize = 8;
const FIELD_FILE_SIZE: usize = 6;
const FIELD_NAME_SIZE: usize = 11;
const NAME_MAX_BYTES: u64 = 4096 + 2;
/// Of what fills an archive up: archivers write whole records of at most so many bytes.
const PADDING_MAX_BYTES: u64 = 64 << 10;
const TRAILER: &[u8] = b"TRAILER!!!";

/// Reads a payload: [`Payload::next_file`] tells the file, reading yields its content.
pub struct Payload<'p> {
    package: &'p RpmPackage,
    archive: BufReader<MultiDecoder<File>>,
    indexes: BTreeMap<&'p [u8], usize>,
    /// The last name of each file with several: that one has the content in short entries.
    last_of_group: BTreeMap<u64, usize>,
    /// Which files the archive had so far.
    seen: Vec<bool>,
    position: u64,
    remaining_bytes: u64,
}

impl<'p> Payload<'p> {
    pub(super) fn open(package: &'p RpmPackage) -> Result<Self> {
        let mut file = regular_file::open(&package.path)?;
        file.seek(SeekFrom::Start(package.payload_offset))?;
        let files = package.files.iter().enumerate();
        let groups = files.clone().filter_map(|(index, file)| Some((file.link_group?, index)));
        Ok(Payload {
            package,
            archive: BufReader::with_capacity(BUFFER_BYTES, MultiDecoder::new(file)),
            last_of_group: groups.collect(),
            indexes: files.map(|(index, file)| (trimmed(&file.path), index)).collect(),
            seen: vec![false; package.files.len()],
            position: 0,
            remaining_bytes: 0,
        })
    }

    /// The next file as its index in [`RpmPackage::files`]; none after the last one. What was not read of the content
    /// before is skipped. Of a file with several names, one has the content.
    ///
    /// # Errors
    /// Fails on a damaged or truncated archive, and on one that disagrees with the header.
    pub fn next_file(&mut self) -> Result<Option<usize>> {
        self.next_entry().with_context(|| format!("reading the payload of {}", self.package.path.display()))
    }

    /// How many bytes the content has that [`Payload::next_file`] came to, before anything is read.
    pub fn remaining_bytes(&self) -> u64 {
        self.remaining_bytes
    }

    fn next_entry(&mut self) -> Result<Option<usize>> {
        self.skip(self.remaining_bytes)?;
        self.remaining_bytes = 0;
        self.skip_padding()?;
        let mut magic = [0; MAGIC_BYTES];
        self.read_exact_counted(&mut magic)?;
        let index = match &magic {
            b"070701" | b"070702" => self.long_entry()?,
            b"07070X" => Some(self.short_entry()?),
            _ => bail!("it is no cpio archive, or damaged"),
        };
        let Some(index) = index else {
            self.finish()?;
            return Ok(None);
        };
        ensure!(!self.package.files[index].is_ghost, "{} is in the archive and a ghost", self.name(index));
        // So what is unpacked is no more than the header says.
        ensure!(!std::mem::replace(&mut self.seen[index], true), "{} is in the archive twice", self.name(index));
        Ok(Some(index))
    }

    /// An entry with metadata of its own, of which only name and size matter; none for the end of the archive.
    fn long_entry(&mut self) -> Result<Option<usize>> {
        let mut fields = [0; FIELDS * FIELD_BYTES];
        self.read_exact_counted(&mut fields)?;
        let field = |index: usize| hexadecimal(&fields[index * FIELD_BYTES..][..FIELD_BYTES]);
        let (size_bytes, name_bytes) = (field(FIELD_FILE_SIZE)?, field(FIELD_NAME_SIZE)?);
        ensure!((1..=NAME_MAX_BYTES).contains(&name_bytes), "an entry's name has {name_bytes} bytes");
        let mut name = vec![0; usize::try_from(name_bytes)?];
        self.read_exact_counted(&mut name)?;
        name.pop();
        self.skip_padding()?;
        if name == TRAILER {
            return Ok(None);
        }
        let index = self.indexes.get(trimmed(&name)).copied();
        let index = index.with_context(|| format!("{} is not in the header", ocinitrd_format::text::quoted(&name)))?;
        let file = &self.package.files[index];
        // Only one name of a file with several has the content; what symlinks and directories have is in the header.
        let agrees = size_bytes == file.size_bytes || file.link_group.is_some() && size_bytes == 0;
        ensure!(
            agrees || !file.is_regular() && size_bytes <= NAME_MAX_BYTES,
            "{} has {size_bytes} bytes instead of {}",
            self.name(index),
            file.size_bytes
        );
        self.remaining_bytes = size_bytes;
        Ok(Some(index))
    }

    /// An entry that says nothing but which file of the header follows.
    fn short_entry(&mut self) -> Result<usize> {
        let mut digits = [0; FIELD_BYTES];
        self.read_exact_counted(&mut digits)?;
        self.skip_padding()?;
        let index = usize::try_from(hexadecimal(&digits)?)?;
        let file = self.package.files.get(index).with_context(|| format!("the header has no file {index}"))?;
        let has_content = match file.link_group {
            Some(group) => self.last_of_group[&group] == index,
            None => file.is_regular() || file.type_bits() == 0o120_000,
        };
        let size_bytes = if has_content { file.size_bytes } else { 0 };
        let fits = file.is_regular() || size_bytes <= NAME_MAX_BYTES;
        ensure!(fits, "{} has {size_bytes} bytes and is not a file", self.name(index));
        self.remaining_bytes = size_bytes;
        Ok(index)
    }

    /// Reads what follows the archive: padding at most.
    fn finish(&mut self) -> Result<()> {
        let mut padding = Vec::new();
        (&mut self.archive).take(PADDING_MAX_BYTES + 1).read_to_end(&mut padding)?;
        let is_padding = padding.len() as u64 <= PADDING_MAX_BYTES && padding.iter().all(|byte| *byte == 0);
        ensure!(is_padding, "something follows the archive");
        Ok(())
    }

    fn name(&self, index: usize) -> String {
        ocinitrd_format::text::quoted(&self.package.files[index].path)
    }

    fn read_exact_counted(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.archive.read_exact(buffer).context("it is cut off or damaged")?;
        self.position += buffer.len() as u64;
        Ok(())
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        let skipped = io::copy(&mut (&mut self.archive).take(count), &mut io::sink())?;
        ensure!(skipped == count, "it is cut off");
        self.position += count;
        Ok(())
    }

    fn skip_padding(&mut self) -> Result<()> {
        self.skip(self.position.next_multiple_of(4) - self.position)
    }
}

/// The content of the file that [`Payload::next_file`] came to; a cut-off archive is an error, not an end.
impl Read for Payload<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.remaining_bytes).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        match self.archive.read(&mut buffer[..wanted])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.remaining_bytes -= count as u64;
                self.position += count as u64;
                Ok(count)
            }
        }
    }
}

/// Paths are absolute in headers and begin with `./` in archives.
fn trimmed(path: &[u8]) -> &[u8] {
    path.strip_prefix(b"./").or_else(|| path.strip_prefix(b"/")).unwrap_or(path)
}

fn hexadecimal(digits: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let text = text.context("a field is no hexadecimal number")?;
    Ok(u64::from_str_radix(text, 16)?)
}
