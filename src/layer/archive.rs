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

use anyhow::{Context, Result, bail, ensure};

use super::pax;
use crate::format::text::quoted;

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
    /// Whole seconds; fractions are cut off, times before 1970 are 0.
    pub(super) mtime: u64,
    pub(super) device: (u64, u64),
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
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
    ignored_global_keys: Vec<String>,
}

impl<R: Source> Archive<R> {
    pub(super) fn new(source: R) -> Self {
        Archive { source, position: 0, pending: 0, last_path: Vec::new(), ignored_global_keys: Vec::new() }
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
            let size_bytes = number(&header.as_old().size).with_context(|| self.bad_field("size"))?;
            match header.as_old().linkflag[0] {
                b'L' => extension.path = Some(until_nul(&self.record(size_bytes)?).to_vec()),
                b'K' => extension.link_target = Some(until_nul(&self.record(size_bytes)?).to_vec()),
                b'x' => extension.records = self.pax_records(size_bytes)?,
                b'g' => self.note_global(size_bytes)?,
                _ => return self.member(&header, extension).map(Some),
            }
        }
    }

    /// The wrapped source and the keywords of global pax headers that were passed over.
    pub(super) fn finish(self) -> (R, Vec<String>) {
        (self.source, self.ignored_global_keys)
    }

    fn member(&mut self, header: &tar::Header, extension: Extension) -> Result<Member> {
        let old = header.as_old();
        let mut member = Member {
            path: extension.path.unwrap_or_else(|| name(header)),
            link_target: extension.link_target.unwrap_or_else(|| until_nul(&old.linkname).to_vec()),
            typeflag: old.linkflag[0],
            size_bytes: number(&old.size).with_context(|| self.bad_field("size"))?,
            offset: self.position,
            mode: number(&old.mode).with_context(|| self.bad_field("mode"))?,
            uid: number(&old.uid).with_context(|| self.bad_field("uid"))?,
            gid: number(&old.gid).with_context(|| self.bad_field("gid"))?,
            mtime: number(&old.mtime).with_context(|| self.bad_field("mtime"))?,
            ..Member::default()
        };
        if matches!(member.typeflag, b'3' | b'4') {
            member.device = device(header).with_context(|| self.bad_field("device"))?;
        }
        for (key, value) in extension.records {
            apply_record(&mut member, &key, value)
                .with_context(|| format!("reading the entry {}", quoted(&member.path)))?;
        }
        if header_only(member.typeflag) {
            member.size_bytes = 0;
        }
        self.pending = member.size_bytes.next_multiple_of(BLOCK_BYTES as u64);
        self.last_path.clone_from(&member.path);
        Ok(member)
    }

    fn header(&mut self) -> Result<Option<Box<tar::Header>>> {
        let Some(block) = self.block()? else { bail!(self.truncated("without the end-of-archive mark")) };
        if block == [0; BLOCK_BYTES] {
            self.check_end()?;
            return Ok(None);
        }
        let header = Box::new(tar::Header::from_byte_slice(&block).clone());
        let recorded = number(&header.as_old().cksum).unwrap_or_default();
        if recorded != checksum(&block) {
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

    /// A global header speaks of all members that follow; git's comment is harmless, other keywords are reported.
    fn note_global(&mut self, size_bytes: u64) -> Result<()> {
        let keys = self.pax_records(size_bytes)?.into_iter().map(|(key, _)| String::from_utf8_lossy(&key).into_owned());
        self.ignored_global_keys.extend(keys.filter(|key| key != "comment"));
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

    fn bad_field(&self, field: &str) -> String {
        format!("reading the tar header before byte {}: its {field} is no number", self.position)
    }
}

/// What the headers before a member's own say of it.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link_target: Option<Vec<u8>>,
    records: Vec<pax::Record>,
}

impl Extension {
    fn is_empty(&self) -> bool {
        self.path.is_none() && self.link_target.is_none() && self.records.is_empty()
    }
}

fn apply_record(member: &mut Member, key: &[u8], value: Vec<u8>) -> Result<()> {
    match key {
        b"path" => member.path = value,
        b"linkpath" => member.link_target = value,
        b"size" => member.size_bytes = pax::decimal(&value)?,
        b"uid" => member.uid = pax::decimal(&value)?,
        b"gid" => member.gid = pax::decimal(&value)?,
        b"mtime" => member.mtime = pax::seconds(&value)?,
        _ if key.starts_with(b"GNU.sparse.") => bail!("it is stored sparse; make the archive without tar's --sparse"),
        _ => {
            if let Some(name) = key.strip_prefix(pax::XATTR_PREFIX) {
                member.xattrs.insert(name.to_vec(), value);
            }
        }
    }
    Ok(())
}

/// Links, devices, directories and pipes: a size that some writers record for them stands for no content.
fn header_only(typeflag: u8) -> bool {
    matches!(typeflag, b'1'..=b'6')
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
fn device(header: &tar::Header) -> Option<(u64, u64)> {
    let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
        (None, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
        (None, None) => return None,
    };
    Some((number(major)?, number(minor)?))
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A numeric field: octal with blanks around, base-256 if its first bit is set; blank and negative are 0.
fn number(field: &[u8]) -> Option<u64> {
    match field {
        [0xff, ..] => return Some(0),
        [first, rest @ ..] if first & 0x80 != 0 => {
            return rest
                .iter()
                .try_fold(u64::from(first & 0x7f), |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)));
        }
        _ => {}
    }
    let text = until_nul(field).trim_ascii();
    text.iter().try_fold(0_u64, |sum, digit| match digit {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// The sum of a header's bytes with its checksum field (bytes 148 to 155) taken as blanks.
fn checksum(block: &[u8; BLOCK_BYTES]) -> u64 {
    let field_as_blanks = 8 * u64::from(b' ');
    let bytes = block[..148].iter().chain(&block[156..]);
    bytes.map(|byte| u64::from(*byte)).sum::<u64>() + field_as_blanks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256_and_may_be_blank() {
        for (field, expected) in [
            (&b"0000755\0"[..], Some(0o755)),
            (b"   755 \0", Some(0o755)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"\x80\0\0\0\0\0\0\x01\0\0\0\0", Some(1 << 32)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(0)),
            (b"000089\0\0", None),
            (b"\x80\x01\0\0\0\0\0\0\0\0\0\0", None),
        ] {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }
}
