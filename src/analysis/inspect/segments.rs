//! Finds the segments of an initrd: a byte stream in, every entry of every archive to a visitor, a description of each segment out.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use anyhow::Result;
use serde::Serialize;

use super::limits::{LimitReached, Limits, SEGMENTS_MAX};
use ocinitrd_format::compress::{Codec, Decoder, Input};
use ocinitrd_format::cpio::{Entry, Next, Reader};
use ocinitrd_format::text::Escaped;

const UNPACKED_BUFFER_BYTES: usize = 256 << 10;
const STALE_CHECKSUM: &str =
    "the kernel takes that for damage (GNU cpio writes it so; use the format newc in place of crc)";
const BEGINS_BADLY: &str = "the first segment that is compressed begins with no archive, and the kernel takes that for damage where nothing is before it";
/// Archives begin at multiples of it; behind one that is not compressed, everything does.
const ALIGNMENT_BYTES: u64 = 4;

/// One segment: a plain archive, or a compressed member with one or several archives in it.
#[derive(Clone, Debug, Serialize)]
pub struct Segment {
    /// Where it starts in the file, in bytes.
    pub offset: u64,
    /// How it is compressed.
    pub codec: Codec,
    /// Its length in the file, in bytes, without the zeros that may follow.
    pub stored_bytes: u64,
    /// Its length when decompressed, in bytes.
    pub unpacked_bytes: u64,
    /// How many archives follow each other in it.
    pub archives: u64,
    /// How many entries the archives have, trailers not counted.
    pub entries: u64,
    /// How many of the entries are regular files.
    pub files: u64,
    /// Whether it holds early microcode, which the kernel looks for before it unpacks anything.
    pub microcode: bool,
    /// The kernel versions whose modules are in it.
    pub kernel_versions: BTreeSet<String>,
}

/// Something that the kernel would stumble over.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// Where in the file, in bytes: of a compressed segment its start.
    pub offset: u64,
    /// The path of the last entry that was read before it, escaped; none at the start.
    pub last_entry: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "at byte {}: {}", self.offset, self.message)?;
        match &self.last_entry {
            Some(path) => write!(formatter, " (last good entry: {path})"),
            None => Ok(()),
        }
    }
}

/// What a visitor gets to see.
pub(super) enum Item<'a> {
    Entry(&'a Entry, &'a mut dyn Read),
    Trailer,
}

/// What a walk has found.
pub(super) struct Walked {
    pub segments: Vec<Segment>,
    pub problems: Vec<Problem>,
    pub size_bytes: u64,
    last_entry: Option<Vec<u8>>,
}

impl Walked {
    fn note_padding(&mut self, offset: u64) {
        let message = "behind an archive that is not compressed, the kernel takes what does not start at a multiple of 4 bytes for damage";
        self.size_bytes = offset;
        self.problem(offset, message.to_owned());
    }

    fn problem(&mut self, offset: u64, message: String) {
        let last_entry = self.last_entry.take();
        self.problem_after(last_entry.as_deref(), offset, message);
        self.last_entry = last_entry;
    }

    fn problem_after(&mut self, last_entry: Option<&[u8]>, offset: u64, message: String) {
        let last_entry = last_entry.map(|path| Escaped(path).to_string());
        self.problems.push(Problem { offset, last_entry, message });
    }

    /// Adds what is wrong with an entry, counted from 0, and maybe others: one mistake usually concerns many.
    pub(super) fn note_fault(&mut self, number: u64, message: String) {
        let mut before = 0;
        let segment = self.segments.iter().find(|segment| {
            before += segment.entries;
            before > number
        });
        let offset = segment.map_or(0, |segment| segment.offset);
        self.problems.push(Problem { offset, last_entry: None, message });
    }

    /// Whether anything was unpacked yet: the kernel takes no zeros, and no end, for the beginning of the first archive.
    fn has_begun(&self) -> bool {
        self.segments.iter().any(|segment| segment.archives + segment.entries > 0)
    }

    /// Whether the kernel still looks for microcode there: it reads plain archives only, up to what is none.
    fn is_early(&self) -> bool {
        self.segments.iter().all(|segment| segment.codec == Codec::None)
    }

    fn ends_plain(&self) -> bool {
        self.segments.last().is_some_and(|segment| segment.codec == Codec::None)
    }
}

/// Visits every entry in order. Reading ends at the first damage, as the kernel's does, or when the visitor fails.
///
/// # Errors
/// Fails when `reader` does, and beyond the limits; all else is a problem of the initrd.
pub(super) fn walk<R: Read>(
    reader: R,
    limits: &Limits,
    mut visit: impl FnMut(Item<'_>) -> io::Result<()>,
) -> Result<Walked> {
    let mut watched = Watched { inner: reader, failure: None };
    let mut walked = Walked { segments: Vec::new(), problems: Vec::new(), size_bytes: 0, last_entry: None };
    let unpackable = Cell::new(Some(limits.unpacked_bytes));
    let mut rest = Some(Input::new(&mut watched));
    while let Some(mut input) = rest {
        rest = match next_start(&mut input)? {
            Some(_) if walked.segments.len() == SEGMENTS_MAX => return Err(LimitReached::Segments.into()),
            Some(_) if walked.ends_plain() && !input.position().is_multiple_of(ALIGNMENT_BYTES) => {
                walked.note_padding(input.position());
                None
            }
            Some(b'0') => walk_plain(input, &mut walked, &mut visit),
            Some(_) => walk_compressed(input, &unpackable, &mut walked, &mut visit),
            None => {
                walked.size_bytes = input.position();
                None
            }
        };
        if unpackable.get().is_none() {
            return Err(LimitReached::UnpackedBytes(limits.unpacked_bytes).into());
        }
    }
    if walked.segments.is_empty() && walked.problems.is_empty() {
        walked.problem(0, "there is no cpio archive in it".to_owned());
    }
    Ok(watched.failure.map_or(Ok(walked), Err)?)
}

/// Lets through as many bytes as may be unpacked, and remembers when there would be more.
struct Limited<'a, R> {
    inner: R,
    /// None once it was not enough.
    left_bytes: &'a Cell<Option<u64>>,
}

impl<R: Read> Read for Limited<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let left_bytes = self.left_bytes.get().and_then(|left_bytes| left_bytes.checked_sub(count as u64));
        self.left_bytes.set(left_bytes);
        left_bytes.map(|_| count).ok_or_else(|| io::Error::other("it unpacks to too much"))
    }
}

/// Remembers that reading itself failed, which decoders do not tell apart from damage.
struct Watched<R> {
    inner: R,
    failure: Option<io::Error>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.failure = Some(io::Error::new(error.kind(), error.to_string()));
            }
        })
    }
}

/// Skips zeros; the byte that a segment starts with, or none at the end.
fn next_start(input: &mut Input<impl Read>) -> io::Result<Option<u8>> {
    loop {
        let buffer = input.fill_buf()?;
        let (zeros, length) = (buffer.iter().take_while(|byte| **byte == 0).count(), buffer.len());
        let next = buffer.get(zeros).copied();
        input.consume(zeros);
        if next.is_some() || length == 0 {
            return Ok(next);
        }
    }
}

/// One archive that is not compressed. Returns the input after it, if that can be read.
fn walk_plain<R: Read>(
    mut input: Input<R>,
    walked: &mut Walked,
    visit: &mut impl FnMut(Item<'_>) -> io::Result<()>,
) -> Option<Input<R>> {
    let offset = input.position();
    let mut segment = Segment::new(offset, Codec::None);
    let mut reader = Reader::at(&mut input, offset);
    let result = walk_archive(&mut reader, &mut segment, walked, visit);
    let end = reader.position();
    segment.stored_bytes = end - offset;
    segment.unpacked_bytes = segment.stored_bytes;
    walked.size_bytes = end;
    walked.segments.push(segment);
    match result {
        Ok(End::Trailer) => Some(input),
        Ok(_) => {
            walked.problem(end, "the archive has no trailer: it may be cut off".to_owned());
            Some(input)
        }
        Err(error) => {
            walked.problem(end, error.to_string());
            None
        }
    }
}

/// One compressed member. Returns the input after it, if that can be read.
fn walk_compressed<R: Read>(
    input: Input<R>,
    unpackable: &Cell<Option<u64>>,
    walked: &mut Walked,
    visit: &mut impl FnMut(Item<'_>) -> io::Result<()>,
) -> Option<Input<R>> {
    let offset = input.position();
    walked.size_bytes = offset;
    let decoder = match Decoder::new(input) {
        Ok(decoder) => decoder,
        Err(error) => {
            walked.problem(offset, error.to_string());
            return None;
        }
    };
    let mut segment = Segment::new(offset, decoder.codec());
    let limited = Limited { inner: decoder, left_bytes: unpackable };
    let mut unpacked = BufReader::with_capacity(UNPACKED_BUFFER_BYTES, limited);
    let before = walked.last_entry.clone();
    let begins_badly = !walked.has_begun() && matches!(unpacked.fill_buf(), Ok([] | [0, ..]));
    let mut reader = Reader::new(unpacked);
    let result = walk_member(&mut reader, &mut segment, walked, visit);
    segment.unpacked_bytes = reader.position();
    let decoder = reader.into_inner().into_inner().inner;
    segment.stored_bytes = decoder.consumed_bytes();
    let place = format!("in the {} segment, byte {} unpacked", segment.codec, segment.unpacked_bytes);
    walked.size_bytes = offset + segment.stored_bytes;
    if begins_badly {
        walked.problem_after(before.as_deref(), offset, BEGINS_BADLY.to_owned());
    }
    if let Some(objection) = decoder.objection() {
        walked.problem_after(before.as_deref(), offset, objection.to_owned());
    }
    walked.segments.push(segment);
    let rest = result.and_then(|()| decoder.finish());
    match rest {
        Ok((input, _)) => Some(input),
        Err(error) => {
            walked.problem(offset, format!("{place}: {error}"));
            None
        }
    }
}

/// All archives of one compressed member.
fn walk_member(
    reader: &mut Reader<impl BufRead>,
    segment: &mut Segment,
    walked: &mut Walked,
    visit: &mut impl FnMut(Item<'_>) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        match walk_archive(reader, segment, walked, visit)? {
            End::Trailer => {}
            End::NoTrailer => {
                let message = format!("an archive in the {} segment has no trailer: it may be cut off", segment.codec);
                walked.problem(segment.offset, message);
            }
            End::Foreign => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "what follows there is no cpio archive"));
            }
            End::Stream => return Ok(()),
        }
    }
}

enum End {
    Trailer,
    NoTrailer,
    Foreign,
    Stream,
}

/// The entries up to the end of one archive, or what stands in place of an archive.
fn walk_archive(
    reader: &mut Reader<impl BufRead>,
    segment: &mut Segment,
    walked: &mut Walked,
    visit: &mut impl FnMut(Item<'_>) -> io::Result<()>,
) -> io::Result<End> {
    loop {
        match reader.next_item()? {
            Next::Entry(entry) => {
                segment.count(&entry, walked.is_early());
                visit(Item::Entry(&entry, reader))?;
                reader.skip_data()?;
                if entry.has_stale_checksum {
                    let message =
                        format!("the entry {} has a checksum and no data: {STALE_CHECKSUM}", Escaped(&entry.path));
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
                walked.last_entry = Some(entry.path);
            }
            Next::ArchiveEnd { trailer: true } => {
                segment.archives += 1;
                visit(Item::Trailer)?;
                return Ok(End::Trailer);
            }
            Next::ArchiveEnd { trailer: false } => {
                segment.archives += 1;
                return Ok(End::NoTrailer);
            }
            Next::Foreign => return Ok(End::Foreign),
            Next::End => return Ok(End::Stream),
        }
    }
}

impl Segment {
    fn new(offset: u64, codec: Codec) -> Self {
        Segment {
            offset,
            codec,
            stored_bytes: 0,
            unpacked_bytes: 0,
            archives: 0,
            entries: 0,
            files: 0,
            microcode: false,
            kernel_versions: BTreeSet::new(),
        }
    }

    /// `is_early` says whether the kernel would look for microcode here, were the segment not compressed.
    fn count(&mut self, entry: &Entry, is_early: bool) {
        self.entries += 1;
        self.files += u64::from(entry.is_file());
        self.microcode |= self.codec == Codec::None && is_early && is_microcode(&entry.path);
        if let Some(version) = kernel_version(relative(&entry.path)) {
            self.kernel_versions.insert(Escaped(version).to_string());
        }
    }
}

/// Whether the kernel finds the entry before it unpacks anything: there parents do not matter.
pub(super) fn is_microcode(path: &[u8]) -> bool {
    relative(path).starts_with(b"kernel/x86/microcode/")
}

fn relative(path: &[u8]) -> &[u8] {
    let path = path.strip_prefix(b".").filter(|rest| rest.starts_with(b"/")).unwrap_or(path);
    path.strip_prefix(b"/").unwrap_or(path)
}

/// The version in `[usr/]lib/modules/VERSION/...`. Something must be below it: a lone file is no version.
fn kernel_version(path: &[u8]) -> Option<&[u8]> {
    let path = path.strip_prefix(b"usr/").unwrap_or(path).strip_prefix(b"lib/modules/")?;
    let end = path.iter().position(|byte| *byte == b'/')?;
    Some(&path[..end])
}
