//! Reads newc archives (magic 070701) and those with checksums (070702, verified): bytes in, entries and their data out.
//!
//! Tolerates what the kernel tolerates and refuses what it would refuse. The `cpio` crate's reader is not used: it fails on
//! names that are not UTF-8, does not skip the zeros between archives and does not verify checksums.

use std::io::{self, BufRead, Read};

use super::{ALIGNMENT_BYTES, HEADER_BYTES, PATH_MAX_BYTES, TRAILER, TYPE_FILE, TYPE_MASK, TYPE_SYMLINK, missing_to};
use crate::text::Escaped;

const FIELDS: usize = 13;

/// One entry as its archive has it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Entry {
    /// The name as bytes, as written: it may begin with `/` or `./`. What follows a NUL is cut off, as by the kernel.
    pub path: Vec<u8>,
    /// The whole `st_mode`: file type and permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time in seconds since 1970-01-01 UTC.
    pub mtime: u32,
    /// Inode number: with `file_system` the identity of a file with several names.
    pub inode: u32,
    /// How many names the file has.
    pub links: u32,
    /// Major and minor number of the file system the entry came from.
    pub file_system: (u32, u32),
    /// Major and minor number of a device node.
    pub device: (u32, u32),
    /// Length of the data in bytes. Of a file with several names only one, the first or the last, has the data.
    pub size_bytes: u32,
    /// Where the header starts, in bytes.
    pub offset: u64,
    /// Whether it is a file without data that has a checksum, as GNU cpio writes further names of a file. The kernel takes that for
    /// damage.
    pub has_stale_checksum: bool,
}

impl Entry {
    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.mode & TYPE_MASK == TYPE_FILE
    }

    /// Whether the kernel takes it for the end of an archive. Symlinks and what it skips may have that name.
    fn is_trailer(&self) -> bool {
        self.path == TRAILER && !self.is_symlink() && (self.is_file() || self.size_bytes == 0)
    }

    /// Whether it is a symlink: then the data is its target.
    pub fn is_symlink(&self) -> bool {
        self.mode & TYPE_MASK == TYPE_SYMLINK
    }
}

/// What comes next in the stream.
#[derive(Debug, Eq, PartialEq)]
pub enum Next {
    /// An entry; until the next call the reader yields its data.
    Entry(Entry),
    /// The end of an archive.
    ArchiveEnd {
        /// Whether the archive ended with its trailer. Without, it may have been cut off.
        trailer: bool,
    },
    /// Something that is no cpio entry, such as a compressed archive. Nothing of it was consumed.
    Foreign,
    /// The end of the stream.
    End,
}

/// Iterates over the entries of archives that follow each other, and reads the data of the current one.
pub struct Reader<R> {
    inner: R,
    position: u64,
    in_archive: bool,
    entry: Entry,
    remaining: u32,
    checksum: Option<Checksum>,
}

struct Checksum {
    expected: u32,
    sum: u32,
}

impl<R: BufRead> Reader<R> {
    /// Reads from the start of a stream.
    pub fn new(inner: R) -> Self {
        Reader::at(inner, 0)
    }

    /// Reads from byte `offset` of a stream: offsets are counted and alignment is checked from the stream's start.
    pub fn at(inner: R, offset: u64) -> Self {
        Reader { inner, position: offset, in_archive: false, entry: Entry::default(), remaining: 0, checksum: None }
    }

    /// The offset of the next byte to be read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The underlying reader, at [`Reader::position`].
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Goes to what comes next; data of the current entry that was not read is skipped.
    ///
    /// # Errors
    /// Fails on input that is damaged, cut off inside an entry, or that the kernel would not unpack, and when reading fails. The
    /// message has the offset and, once known, the name of the entry.
    pub fn next_item(&mut self) -> io::Result<Next> {
        self.skip_data()?;
        match self.skip_zeros()? {
            Some(b'0') => self.read_entry(),
            _ if self.in_archive => {
                self.in_archive = false;
                Ok(Next::ArchiveEnd { trailer: false })
            }
            Some(_) => Ok(Next::Foreign),
            None => Ok(Next::End),
        }
    }

    fn read_entry(&mut self) -> io::Result<Next> {
        self.entry = Entry { offset: self.position, ..Entry::default() };
        if missing_to(ALIGNMENT_BYTES, self.position) != 0 {
            return Err(self.error("it does not start at a multiple of 4 bytes, where the kernel expects it"));
        }
        let mut header = [0; HEADER_BYTES];
        self.fill(&mut header, "header")?;
        let name_bytes = self.parse_header(&header)?;
        self.entry.path = self.read_name(name_bytes)?;
        self.remaining = self.entry.size_bytes;
        self.in_archive = !self.entry.is_trailer();
        if self.in_archive {
            return Ok(Next::Entry(self.entry.clone()));
        }
        self.skip_data()?;
        Ok(Next::ArchiveEnd { trailer: true })
    }

    /// Returns the length of the name with its NUL.
    fn parse_header(&mut self, header: &[u8; HEADER_BYTES]) -> io::Result<usize> {
        let has_checksum = match &header[..6] {
            b"070701" => false,
            b"070702" => true,
            b"070707" => return Err(self.error("it is in the old format (odc), and the kernel takes newc only")),
            other => return Err(self.error(&format!("bad magic \"{}\"", Escaped(other)))),
        };
        let mut fields = [0; FIELDS];
        for (field, digits) in fields.iter_mut().zip(header[6..].chunks_exact(8)) {
            *field = parse_hex(digits)
                .ok_or_else(|| self.error(&format!("header field \"{}\" is no hexadecimal number", Escaped(digits))))?;
        }
        let [inode, mode, uid, gid, links, mtime, size_bytes, major, minor, device_major, device_minor, name, sum] =
            fields;
        let (file_system, device) = ((major, minor), (device_major, device_minor));
        let offset = self.entry.offset;
        let summed = has_checksum && mode & TYPE_MASK == TYPE_FILE;
        let (path, has_stale_checksum) = (Vec::new(), summed && size_bytes == 0 && sum != 0);
        self.entry = Entry {
            path,
            mode,
            uid,
            gid,
            mtime,
            inode,
            links,
            file_system,
            device,
            size_bytes,
            offset,
            has_stale_checksum,
        };
        self.checksum = (summed && size_bytes > 0).then_some(Checksum { expected: sum, sum: 0 });
        match name as usize {
            0 => Err(self.error("its name has no bytes, not even a NUL")),
            name if name > PATH_MAX_BYTES + 1 => {
                Err(self.error(&format!("its name has {name} bytes, and the kernel takes {}", PATH_MAX_BYTES + 1)))
            }
            name => Ok(name),
        }
    }

    fn read_name(&mut self, name_bytes: usize) -> io::Result<Vec<u8>> {
        let mut name = vec![0; name_bytes + missing_to(ALIGNMENT_BYTES, (HEADER_BYTES + name_bytes) as u64)];
        self.fill(&mut name, "name")?;
        if name[name_bytes - 1] != 0 {
            return Err(self.error("its name does not end in NUL"));
        }
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name_bytes);
        if end == 0 {
            return Err(self.error("its name is empty"));
        }
        name.truncate(end);
        Ok(name)
    }

    fn fill(&mut self, buffer: &mut [u8], what: &str) -> io::Result<()> {
        self.inner.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.truncated(&format!("inside its {what}")),
            kind => io::Error::new(kind, self.message(&error.to_string())),
        })?;
        self.position += buffer.len() as u64;
        Ok(())
    }

    fn skip_zeros(&mut self) -> io::Result<Option<u8>> {
        loop {
            let buffer = fill_buffer(&mut self.inner)?;
            let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
            let next = buffer.get(zeros).copied();
            let ended = buffer.is_empty();
            self.inner.consume(zeros);
            self.position += zeros as u64;
            if next.is_some() || ended {
                return Ok(next);
            }
        }
    }

    /// Goes to the end of the current entry's data: after that the entry is known to be whole.
    ///
    /// # Errors
    /// Fails as [`Reader::next_item`] does.
    pub fn skip_data(&mut self) -> io::Result<()> {
        while self.remaining > 0 {
            let available = fill_buffer(&mut self.inner)?.len();
            let count = available.min(self.remaining as usize);
            self.consume_data(count)?;
        }
        // An archive may end without the padding of its last data; what then is missing is the trailer.
        let mut padding = missing_to(ALIGNMENT_BYTES, self.position);
        while self.in_archive && padding > 0 {
            let available = fill_buffer(&mut self.inner)?.len().min(padding);
            if available == 0 {
                break;
            }
            self.inner.consume(available);
            self.position += available as u64;
            padding -= available;
        }
        Ok(())
    }

    fn consume_data(&mut self, count: usize) -> io::Result<()> {
        if let Some(checksum) = &mut self.checksum {
            checksum.add(&fill_buffer(&mut self.inner)?[..count]);
        }
        self.inner.consume(count);
        self.account(count)
    }

    /// Counts `count` bytes of data as read; 0 means that there are no more.
    fn account(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Err(self.truncated(&format!("{} bytes before the end of its data", self.remaining)));
        }
        self.position += count as u64;
        self.remaining -= u32::try_from(count).expect("at most the remaining bytes");
        match &self.checksum {
            Some(Checksum { expected, sum }) if self.remaining == 0 && expected != sum => {
                Err(self.error(&format!("its data has the checksum {sum:08x} instead of {expected:08x}")))
            }
            _ => Ok(()),
        }
    }

    fn message(&self, reason: &str) -> String {
        match self.entry.path.as_slice() {
            [] => format!("cpio entry at byte {}: {reason}", self.entry.offset),
            path => format!("cpio entry \"{}\" at byte {}: {reason}", Escaped(path), self.entry.offset),
        }
    }

    fn error(&self, reason: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, self.message(reason))
    }

    fn truncated(&self, place: &str) -> io::Error {
        io::Error::new(io::ErrorKind::UnexpectedEof, self.message(&format!("the archive is cut off {place}")))
    }
}

/// Reads the data of the current entry.
impl<R: BufRead> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(self.remaining as usize);
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.inner.read(&mut buffer[..wanted])?;
        if let Some(checksum) = &mut self.checksum {
            checksum.add(&buffer[..count]);
        }
        self.account(count)?;
        Ok(count)
    }
}

impl Checksum {
    /// The sum of all bytes, modulo 2^32.
    fn add(&mut self, bytes: &[u8]) {
        self.sum = bytes.iter().fold(self.sum, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    }
}

fn fill_buffer(inner: &mut impl BufRead) -> io::Result<&[u8]> {
    // The retry stands apart from the return because the borrow checker takes them for two borrows.
    while let Err(error) = inner.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    inner.fill_buf()
}

fn parse_hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value: u32, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}
