//! A tar stream to raw entries: ustar with GNU (`L`, `K`, base-256 numbers) and pax extensions, as GNU tar, podman and
//! OCI layers have them.
//!
//! The blocks are walked here rather than by the `tar` crate, whose header layout is used: its pax reader splits
//! records at newlines, which a binary attribute such as `security.capability` may hold, and its entry iterator takes
//! a stream that stops between two entries for a whole one. Specification: pax(1p) and the GNU tar manual's
//! "Basic Tar Format".

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::number::{self, Number};
use super::pax;
use crate::image::tree::attributes;
use ocinitrd_format::tally::Tally;
use ocinitrd_format::text::quoted;

/// tar counts in blocks of so many bytes.
pub(super) const BLOCK_BYTES: usize = 512;
/// Of a long name or a pax header: far above what names (4 KiB) and attributes (64 KiB each) need.
const LARGEST_RECORD_BYTES: u64 = 4 << 20;

/// One member as the archive describes it; nothing is checked but its form.
#[derive(Debug, Default)]
pub(super) struct Member {
    pub(super) path: Vec<u8>,
    pub(super) link_target: Vec<u8>,
    pub(super) typeflag: u8,
    pub(super) size_bytes: u64,
    /// Where the content starts, in bytes from the start of the archive.
    pub(super) offset: u64,
    pub(super) mode: u64,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// Whole seconds; times before 1970 are 0.
    pub(super) mtime: u64,
    pub(super) device: (u64, u64),
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Member {
    /// How much of the archive after its header is the member's. Of a hard link it is nothing whatever its size: writers record
    /// there how long the file is.
    fn content_bytes(&self) -> u64 {
        if self.typeflag == b'1' { 0 } else { self.size_bytes }
    }
}

/// Where an archive comes from.
pub(super) trait Source: BufRead {
    /// Passes over up to `count` bytes and says how many they were: fewer at the end of the stream.
    fn skip(&mut self, count: u64) -> io::Result<u64>;
}

/// A file of which only the headers are read. Its buffer is small: of most contents nothing should be.
pub(super) struct Headers<'a> {
    file: BufReader<&'a File>,
    unread: u64,
}

impl<'a> Headers<'a> {
    /// From the file's current position.
    pub(super) fn of(mut file: &'a File) -> io::Result<Self> {
        let unread = file.metadata()?.len().saturating_sub(file.stream_position()?);
        Ok(Headers { file: BufReader::with_capacity(4 << 10, file), unread })
    }
}

impl Source for Headers<'_> {
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let count = count.min(self.unread);
        self.file.seek_relative(i64::try_from(count).map_err(io::Error::other)?)?;
        self.unread -= count;
        Ok(count)
    }
}

impl BufRead for Headers<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.file.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.unread = self.unread.saturating_sub(count as u64);
        self.file.consume(count);
    }
}

impl Read for Headers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.unread = self.unread.saturating_sub(count as u64);
        Ok(count)
    }
}

/// A stream that cannot be positioned, or whose every byte is wanted.
impl<R: Read> Source for BufReader<R> {
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let mut skipped = 0;
        while skipped < count {
            let available = self.fill_buf()?.len();
            if available == 0 {
                break;
            }
            let part = usize::try_from(count - skipped).unwrap_or(usize::MAX).min(available);
            self.consume(part);
            skipped += part as u64;
        }
        Ok(skipped)
    }
}

/// Walks the members of an archive; whatever the caller leaves unread of one is passed over.
pub(super) struct Archive<R> {
    source: R,
    position: u64,
    /// Content and padding of the current member that is still ahead.
    pending: u64,
    last_path: Vec<u8>,
    warnings: Tally,
}

impl<R: Source> Archive<R> {
    pub(super) fn new(source: R) -> Self {
        Archive { source, position: 0, pending: 0, last_path: Vec::new(), warnings: Tally::default() }
    }

    /// The next member, or `None` after the end-of-archive mark, behind which only zeros may follow.
    pub(super) fn next_member(&mut self) -> Result<Option<Member>> {
        let mut extension = Extension::default();
        loop {
            self.skip_pending()?;
            let Some(header) = self.header()? else {
                ensure!(extension.is_empty(), "the tar stream ends after an extension header without its entry");
                return Ok(None);
            };
            let typeflag = header.as_old().linkflag[0];
            let size = number::field(&header.as_old().size);
            let record_bytes = || size.whole().map_err(|reason| self.bad_field("size", reason));
            match typeflag {
                b'L' => {
                    let path = until_nul(&self.record(record_bytes()?)?).to_vec();
                    self.set_once(&mut extension.path, path, "GNU name")?;
                }
                b'K' => {
                    let target = until_nul(&self.record(record_bytes()?)?).to_vec();
                    self.set_once(&mut extension.link_target, target, "GNU link target")?;
                }
                b'x' => {
                    let records = self.pax_records(record_bytes()?)?;
                    self.set_once(&mut extension.records, records, "pax")?;
                }
                b'g' => self.note_global(record_bytes()?)?,
                _ => return self.member(&header, extension).map(Some),
            }
        }
    }

    /// The wrapped source and what a person should know of the archive.
    pub(super) fn finish(self) -> (R, Tally) {
        (self.source, self.warnings)
    }

    /// Readers disagree on which of two extension headers of one kind counts.
    fn set_once<T>(&self, place: &mut Option<T>, value: T, kind: &str) -> Result<()> {
        let former = place.replace(value);
        ensure!(former.is_none(), "after {} there are two {kind} headers for one entry", quoted(&self.last_path));
        Ok(())
    }

    fn member(&mut self, header: &tar::Header, extension: Extension) -> Result<Member> {
        let old = header.as_old();
        let mut fields = Fields::of(header);
        let (path, link_target) = (extension.path, extension.link_target);
        let has_gnu_names = [(&b"path"[..], path.is_some()), (b"linkpath", link_target.is_some())];
        let mut member = Member {
            path: path.unwrap_or_else(|| name(header)),
            link_target: link_target.unwrap_or_else(|| until_nul(&old.linkname).to_vec()),
            typeflag: old.linkflag[0],
            offset: self.position,
            ..Member::default()
        };
        for (key, value) in extension.records.unwrap_or_default() {
            let twice = has_gnu_names.iter().any(|(name, is_there)| *is_there && *name == key);
            let applied = if twice { Err(anyhow!(NAMED_TWICE)) } else { apply(&mut member, &mut fields, &key, value) };
            applied.with_context(|| format!("reading the entry {}", quoted(&member.path)))?;
        }
        self.leave_out_attributes(&mut member);
        ensure!(!member.path.is_empty(), "the entry before byte {} of the archive has an empty path", self.position);
        let read = fields.read_into(&mut member);
        read.map_err(|(field, reason)| {
            anyhow!("the archive entry {} has {field} that {reason}", quoted(&member.path))
        })?;
        // What is longer than numbers go is longer than any archive.
        self.pending = member.content_bytes().checked_next_multiple_of(BLOCK_BYTES as u64).unwrap_or(u64::MAX);
        self.last_path.clone_from(&member.path);
        Ok(member)
    }

    /// Leaves out the attributes of the machine that made the archive.
    fn leave_out_attributes(&mut self, member: &mut Member) {
        let warnings = &mut self.warnings;
        member.xattrs.retain(|name, _| {
            let stays = attributes::is_of_a_package(name);
            if !stays {
                warnings.add(ATTRIBUTES_LEFT_OUT, &quoted(name));
            }
            stays
        });
    }

    fn header(&mut self) -> Result<Option<Box<tar::Header>>> {
        let Some(block) = self.block()? else { bail!(self.truncated("without the end-of-archive mark")) };
        if block == [0; BLOCK_BYTES] {
            self.check_end()?;
            return Ok(None);
        }
        let header = Box::new(tar::Header::from_byte_slice(&block).clone());
        if number::field(&header.as_old().cksum) != Number::Whole(checksum(&block)) {
            let start = self.position - BLOCK_BYTES as u64;
            bail!(
                "at byte {start} there is no tar header (its checksum is wrong): this is no tar archive, or it is damaged"
            );
        }
        Ok(Some(header))
    }

    /// After the first zero block: a second one, then zeros to the end.
    fn check_end(&mut self) -> Result<()> {
        let second = self.block()?.with_context(|| self.truncated("in the middle of the end-of-archive mark"))?;
        let mut rest_is_zero = second == [0; BLOCK_BYTES];
        while rest_is_zero {
            let buffer = self.source.fill_buf().context("reading the tar stream")?;
            if buffer.is_empty() {
                return Ok(());
            }
            rest_is_zero = buffer.iter().all(|byte| *byte == 0);
            let count = buffer.len();
            self.source.consume(count);
            self.position += count as u64;
        }
        bail!("the tar stream goes on after its end-of-archive mark; of joined archives only the first would be read")
    }

    /// The next block, or `None` if the stream ends exactly before it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>> {
        let mut block = [0; BLOCK_BYTES];
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            let count = self.source.read(&mut block[filled..]).context("reading the tar stream")?;
            self.position += count as u64;
            match (count, filled) {
                (0, 0) => return Ok(None),
                (0, _) => bail!(self.truncated("in the middle of a header")),
                _ => filled += count,
            }
        }
        Ok(Some(block))
    }

    fn skip_pending(&mut self) -> Result<()> {
        let skipped = self.source.skip(self.pending).context("reading the tar stream")?;
        self.position += skipped;
        if skipped < self.pending {
            bail!(self.truncated("in the middle of its content"));
        }
        self.pending = 0;
        Ok(())
    }

    /// The content of an extension header.
    fn record(&mut self, size_bytes: u64) -> Result<Vec<u8>> {
        ensure!(
            size_bytes <= LARGEST_RECORD_BYTES,
            "a header record of {size_bytes} bytes after {}",
            quoted(&self.last_path)
        );
        let mut record = Vec::new();
        (&mut self.source).take(size_bytes).read_to_end(&mut record).context("reading the tar stream")?;
        self.position += record.len() as u64;
        if (record.len() as u64) < size_bytes {
            bail!(self.truncated("in the middle of an extension header"));
        }
        self.pending = size_bytes.next_multiple_of(BLOCK_BYTES as u64) - size_bytes;
        Ok(record)
    }

    fn pax_records(&mut self, size_bytes: u64) -> Result<Vec<pax::Record>> {
        let record = self.record(size_bytes)?;
        pax::parse(&record)
            .with_context(|| format!("reading the pax header after the entry {}", quoted(&self.last_path)))
    }

    /// A global header speaks of all members that follow. What would decide on what they are is refused rather than
    /// ignored; git's comment is harmless, other keywords are reported.
    fn note_global(&mut self, size_bytes: u64) -> Result<()> {
        for (key, _) in self.pax_records(size_bytes)? {
            let decides = matches!(&key[..], b"path" | b"linkpath" | b"size" | b"uid" | b"gid")
                || [pax::SPARSE_PREFIX, pax::XATTR_PREFIX, pax::DEVICE_PREFIX]
                    .iter()
                    .any(|prefix| key.starts_with(prefix));
            ensure!(
                !decides,
                "the archive's global header sets {} for all entries, which is not supported: make the archive without it",
                quoted(&key)
            );
            if key != b"comment" {
                self.warnings
                    .add("the archive's global header sets keywords for all entries, which are ignored", &quoted(&key));
            }
        }
        Ok(())
    }

    fn truncated(&self, place: &str) -> String {
        let after = match self.last_path.as_slice() {
            [] => "before any entry".to_owned(),
            path => format!("at the entry {}", quoted(path)),
        };
        format!(
            "the tar stream is truncated: it ends at byte {}, {after}, {place}; export or fetch it again",
            self.position
        )
    }

    fn bad_field(&self, field: &str, reason: number::Reason) -> anyhow::Error {
        anyhow!("reading the tar header before byte {}: its {field} {reason}", self.position)
    }
}

const ATTRIBUTES_LEFT_OUT: &str =
    "left out extended attributes that belong to the machine where the archive was made, such as labels";

const NAMED_TWICE: &str =
    "it has a name in a GNU header and another in a pax header; make the archive anew in one format";

/// What the headers before a member's own say of it.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link_target: Option<Vec<u8>>,
    records: Option<Vec<pax::Record>>,
}

impl Extension {
    fn is_empty(&self) -> bool {
        self.path.is_none() && self.link_target.is_none() && self.records.is_none()
    }
}

/// The numbers of a member: those of its header, until a pax record says another.
struct Fields {
    size: Number,
    mode: Number,
    uid: Number,
    gid: Number,
    mtime: Number,
    major: Number,
    minor: Number,
}

impl Fields {
    fn of(header: &tar::Header) -> Self {
        let old = header.as_old();
        let (major, minor) = device(header);
        Fields {
            size: number::field(&old.size),
            mode: number::field(&old.mode),
            uid: number::field(&old.uid),
            gid: number::field(&old.gid),
            mtime: number::field(&old.mtime),
            major,
            minor,
        }
    }

    /// Fills in the numbers; else says which cannot be taken, and why.
    fn read_into(&self, member: &mut Member) -> Result<(), (&'static str, number::Reason)> {
        let field = |number: &Number, name| number.whole().map_err(|reason| (name, reason));
        member.size_bytes = field(&self.size, "a size")?;
        member.mode = field(&self.mode, "a mode")?;
        member.uid = field(&self.uid, "an owner")?;
        member.gid = field(&self.gid, "a group")?;
        // No initrd holds a time before 1970, and none is lost with it: archives of images have the year 1 for "unknown".
        member.mtime = if self.mtime == Number::Negative { 0 } else { field(&self.mtime, "a time")? };
        if matches!(member.typeflag, b'3' | b'4') {
            member.device = (field(&self.major, "a device number")?, field(&self.minor, "a device number")?);
        }
        Ok(())
    }
}

fn apply(member: &mut Member, fields: &mut Fields, key: &[u8], value: Vec<u8>) -> Result<()> {
    let number = match key {
        b"size" => &mut fields.size,
        b"uid" => &mut fields.uid,
        b"gid" => &mut fields.gid,
        b"mtime" => &mut fields.mtime,
        b"SCHILY.devmajor" => &mut fields.major,
        b"SCHILY.devminor" => &mut fields.minor,
        b"path" | b"linkpath" => {
            // POSIX has it delete what the header says; an entry without a path is none.
            ensure!(!value.is_empty(), "its pax record {} is empty", quoted(key));
            let text = if key == b"path" { &mut member.path } else { &mut member.link_target };
            *text = value;
            return Ok(());
        }
        _ if key.starts_with(pax::SPARSE_PREFIX) => {
            bail!("it is stored sparse; make the archive without tar's --sparse")
        }
        _ => {
            if let Some(name) = key.strip_prefix(pax::XATTR_PREFIX) {
                ensure!(
                    !name.is_empty() && !name.contains(&0),
                    "it has an extended attribute with the name {}",
                    quoted(name)
                );
                member.xattrs.insert(name.to_vec(), value);
            }
            return Ok(());
        }
    };
    *number = if key == b"mtime" { pax::seconds(&value) } else { pax::number(&value) };
    Ok(())
}

/// The name of a header; `prefix` belongs to it in POSIX headers only, GNU's have times there.
fn name(header: &tar::Header) -> Vec<u8> {
    let name = until_nul(&header.as_old().name);
    match header.as_ustar().map(|ustar| until_nul(&ustar.prefix)) {
        None | Some(b"") => name.to_vec(),
        Some(prefix) => [prefix, name].join(&b'/'),
    }
}

/// Major and minor number; the oldest format has no devices.
fn device(header: &tar::Header) -> (Number, Number) {
    let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
        (None, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
        (None, None) => return (Number::Malformed, Number::Malformed),
    };
    (number::field(major), number::field(minor))
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The sum of a header's bytes with its checksum field (bytes 148 to 155) taken as blanks.
fn checksum(block: &[u8; BLOCK_BYTES]) -> u64 {
    let field_as_blanks = 8 * u64::from(b' ');
    let bytes = block[..148].iter().chain(&block[156..]);
    bytes.map(|byte| u64::from(*byte)).sum::<u64>() + field_as_blanks
}
