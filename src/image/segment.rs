//! Trees to cpio segments, and segments to an initrd.
//!
//! An initrd is a sequence of segments, which the kernel unpacks one over the other: early microcode, which must be
//! first and plain; the base; the kernel's modules; each a cpio archive, each compressed or not on its own. The bytes
//! depend on the trees and the compression alone. Format: Linux, Documentation/driver-api/early-userspace/buffer-format.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};

use anyhow::{Context, Result};

use crate::image::tree::{Content, Entry, Kind, Tree};
use ocinitrd_format::background::BackgroundHasher;
use ocinitrd_format::compress::{Compression, Encoder};
use ocinitrd_format::cpio::{self, Header, Writer};
use ocinitrd_format::digest::{Digest, Hasher};

/// The name of systemd-stub beside a base segment.
pub const BASE_STUB: &str = "linux.efi.stub";

/// Segments begin at multiples of this: a plain one elsewhere is not found by the kernel.
pub const ALIGNMENT_BYTES: u64 = 4;
/// There are at least so many zeros before each segment but the first. lz4's format has no mark of its end: the kernel reads what
/// follows as the length of a block, and only a zero ends it.
const LEAST_GAP_BYTES: u64 = 4;

const BUFFER_BYTES: usize = 256 << 10;

/// What one segment came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SegmentFacts {
    /// Entries, the archive's trailer not counted.
    pub entries: usize,
    /// The length of the archive before compression, in bytes.
    pub unpacked_bytes: u64,
    /// The length as written, in bytes.
    pub size_bytes: u64,
    /// The digest as written.
    pub digest: Digest,
    /// How many extended attributes were left out, which cpio cannot hold; those of a file with several names count once.
    pub dropped_xattrs: usize,
}

/// Writes `tree` as one cpio archive with `compression`. Parents must be entries ([`Tree::add_missing_parents`]).
///
/// # Errors
/// Refuses a file of 4 GiB or more by name; fails when the spool cannot be read or the output not be written.
pub fn write_segment(tree: &Tree, compression: Compression, output: impl Write) -> Result<SegmentFacts> {
    let hasher = BackgroundHasher::new(output).context("starting a thread")?;
    let encoder = Encoder::new(hasher, compression).context("starting the compressor")?;
    let mut writer = Writer::new(CountingWriter { inner: encoder, bytes: 0 });
    let mut names = Names::of(tree);
    for (path, entry) in tree.iter() {
        append(&mut writer, tree, &mut names, path, entry)?;
    }
    let CountingWriter { inner: encoder, bytes: unpacked_bytes } = writer.finish().context("finishing the segment")?;
    let (_, digest, size_bytes) = encoder.finish().context("finishing the segment")?.finish();
    let is_link = |entry: &Entry| matches!(entry.kind, Kind::HardLink { .. });
    let dropped_xattrs = tree.iter().filter(|(_, entry)| !is_link(entry)).map(|(_, entry)| entry.xattrs.len()).sum();
    Ok(SegmentFacts { entries: tree.len(), unpacked_bytes, size_bytes, digest, dropped_xattrs })
}

/// Where the next segment begins, of an initrd whose last one ends there; none beyond what can be counted.
pub fn next_offset(end: u64) -> Option<u64> {
    if end == 0 { Some(0) } else { end.checked_add(LEAST_GAP_BYTES)?.checked_next_multiple_of(ALIGNMENT_BYTES) }
}

/// One segment's place in an initrd.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Segment {
    /// What it is called in the manifest: `base`, `modules`, ...
    pub name: String,
    /// Where it starts in the initrd, in bytes; a multiple of 4.
    pub offset: u64,
    /// Its length in bytes, without the zeros that follow it.
    pub size_bytes: u64,
    /// Its digest.
    pub digest: Digest,
}

/// A complete initrd.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Initrd {
    /// In the order of the file.
    pub segments: Vec<Segment>,
    /// The length in bytes.
    pub size_bytes: u64,
    /// The digest of all of it.
    pub digest: Digest,
}

/// Puts segments one after the other, each at a multiple of 4 bytes behind at least 4 zeros. Early microcode comes first.
pub struct Assembler<W: Write> {
    output: CountingWriter<Hasher<W>>,
    segments: Vec<Segment>,
}

impl<W: Write> Assembler<W> {
    /// An initrd that is written to `output`.
    pub fn new(output: W) -> Self {
        Assembler { output: CountingWriter { inner: Hasher::new(output), bytes: 0 }, segments: Vec::new() }
    }

    /// Appends `tree` as a segment.
    ///
    /// # Errors
    /// As [`write_segment`].
    pub fn add_tree(&mut self, name: &str, tree: &Tree, compression: Compression) -> Result<SegmentFacts> {
        let offset = self.align().with_context(|| format!("writing the segment {name}"))?;
        let facts = write_segment(tree, compression, &mut self.output)
            .with_context(|| format!("writing the segment {name}"))?;
        let (size_bytes, digest) = (facts.size_bytes, facts.digest);
        self.segments.push(Segment { name: name.to_owned(), offset, size_bytes, digest });
        Ok(facts)
    }

    /// Appends a segment that exists already and has `digest`, as [`write_segment`] made it. It is not verified here.
    ///
    /// # Errors
    /// Fails when it cannot be read or the output not be written.
    pub fn add_finished(&mut self, name: &str, digest: Digest, segment: impl Read) -> Result<()> {
        let offset = self.align().with_context(|| format!("writing the segment {name}"))?;
        let mut segment = BufReader::with_capacity(BUFFER_BYTES, segment);
        let size_bytes =
            io::copy(&mut segment, &mut self.output).with_context(|| format!("copying the segment {name}"))?;
        self.segments.push(Segment { name: name.to_owned(), offset, size_bytes, digest });
        Ok(())
    }

    /// What the initrd is written to.
    pub fn output(&self) -> &W {
        self.output.inner.get_ref()
    }

    /// Ends the initrd: the output, and what is in it.
    pub fn finish(self) -> (W, Initrd) {
        let (output, digest, size_bytes) = self.output.inner.finish();
        (output, Initrd { segments: self.segments, size_bytes, digest })
    }

    fn align(&mut self) -> io::Result<u64> {
        let offset = next_offset(self.output.bytes).ok_or(io::ErrorKind::FileTooLarge)?;
        while self.output.bytes < offset {
            self.output.write_all(&[0])?;
        }
        Ok(offset)
    }
}

/// The inode number and the further names of each file that has several.
struct Names<'a> {
    groups: BTreeMap<&'a [u8], Group>,
    last_inode: u32,
}

struct Group {
    inode: u32,
    links: u32,
    unwritten: u32,
}

impl<'a> Names<'a> {
    fn of(tree: &'a Tree) -> Self {
        let mut groups: BTreeMap<&[u8], Group> = BTreeMap::new();
        for (_, entry) in tree.iter() {
            if let Kind::HardLink { target } = &entry.kind {
                let group = groups.entry(target).or_insert(Group { inode: 0, links: 1, unwritten: 1 });
                group.links += 1;
                group.unwritten += 1;
            }
        }
        Names { groups, last_inode: 0 }
    }

    /// Inode number, count of names, and whether this name is the last of its file to be written.
    fn next(&mut self, path: &[u8], kind: &Kind) -> (u32, u32, bool) {
        let file = if let Kind::HardLink { target } = kind { target } else { path };
        let Some(group) = self.groups.get_mut(file) else {
            self.last_inode += 1;
            return (self.last_inode, 1, true);
        };
        if group.inode == 0 {
            self.last_inode += 1;
            group.inode = self.last_inode;
        }
        group.unwritten -= 1;
        (group.inode, group.links, group.unwritten == 0)
    }
}

fn append(
    writer: &mut Writer<impl Write>,
    tree: &Tree,
    names: &mut Names<'_>,
    path: &[u8],
    entry: &Entry,
) -> io::Result<()> {
    let (inode, links, last_name) = names.next(path, &entry.kind);
    let directory_links = if matches!(entry.kind, Kind::Directory) { 2 } else { links };
    let header = Header {
        path,
        mode: file_type(&entry.kind) | entry.permissions,
        uid: entry.uid,
        gid: entry.gid,
        mtime: u32::try_from(entry.mtime).unwrap_or(u32::MAX),
        inode,
        links: directory_links,
        ..Header::default()
    };
    match &entry.kind {
        Kind::File(_) | Kind::HardLink { .. } => {
            let content = tree.content(path).ok_or_else(|| io::Error::other("a hard link leads to no file"))?;
            // The data of a file with several names goes with the last, as GNU cpio has it.
            let content = if last_name { content } else { &Content::from_bytes([]) };
            let size_bytes = cpio::size_field(path, content.size_bytes())?;
            writer.append(&Header { size_bytes, ..header }, content.reader())
        }
        Kind::Symlink { target } => {
            let size_bytes = cpio::size_field(path, target.len() as u64)?;
            writer.append(&Header { size_bytes, ..header }, target.as_slice())
        }
        Kind::CharacterDevice(major, minor) | Kind::BlockDevice(major, minor) => {
            writer.append(&Header { device: (*major, *minor), ..header }, io::empty())
        }
        Kind::Directory | Kind::Fifo => writer.append(&header, io::empty()),
    }
}

fn file_type(kind: &Kind) -> u32 {
    match kind {
        Kind::Directory => cpio::TYPE_DIRECTORY,
        Kind::File(_) | Kind::HardLink { .. } => cpio::TYPE_FILE,
        Kind::Symlink { .. } => cpio::TYPE_SYMLINK,
        Kind::CharacterDevice(..) => cpio::TYPE_CHARACTER_DEVICE,
        Kind::BlockDevice(..) => cpio::TYPE_BLOCK_DEVICE,
        Kind::Fifo => cpio::TYPE_FIFO,
    }
}

/// Counts what goes through.
struct CountingWriter<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for CountingWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;
    use crate::image::tree::arbitrary;
    use ocinitrd_format::compress::{Decoder, Input};
    use ocinitrd_format::cpio::{Next, Reader};

    fn file(content: &str) -> Entry {
        Entry::of_root(Kind::File(Content::from_bytes(content.as_bytes())), 0o644, 7)
    }

    fn plain(tree: &Tree) -> (Vec<u8>, SegmentFacts) {
        let mut bytes = Vec::new();
        let facts = write_segment(tree, Compression::None, &mut bytes).unwrap();
        (bytes, facts)
    }

    /// Entries with their data, read back by the format's own reader.
    fn read(bytes: &[u8]) -> Vec<(cpio::Entry, Vec<u8>)> {
        let mut reader = Reader::new(Cursor::new(bytes));
        let mut entries = Vec::new();
        loop {
            match reader.next_item().unwrap() {
                Next::Entry(entry) => {
                    let mut data = Vec::new();
                    reader.read_to_end(&mut data).unwrap();
                    entries.push((entry, data));
                }
                Next::ArchiveEnd { trailer } => assert!(trailer),
                Next::Foreign => panic!("what was written is cpio"),
                Next::End => return entries,
            }
        }
    }

    #[test]
    fn names_of_one_file_share_an_inode_and_the_last_has_the_data() {
        let mut tree = Tree::new();
        tree.add_directory(b"d", 0o755, 7).unwrap();
        tree.insert(b"d/a".to_vec(), file("content"));
        tree.add_hard_link(b"d/c".to_vec(), b"d/a").unwrap();
        tree.add_hard_link(b"e".to_vec(), b"d/a").unwrap();
        tree.insert(b"d/b".to_vec(), file("other"));
        let (bytes, facts) = plain(&tree);
        let seen: Vec<_> = read(&bytes)
            .into_iter()
            .map(|(entry, data)| {
                let path = String::from_utf8(entry.path).unwrap();
                (path, entry.inode, entry.links, String::from_utf8(data).unwrap())
            })
            .collect();
        let row = |path: &str, inode, links, data: &str| (path.to_owned(), inode, links, data.to_owned());
        let expected = [
            row("d", 1, 2, ""),
            row("d/a", 2, 3, ""),
            row("d/b", 3, 1, "other"),
            row("d/c", 2, 3, ""),
            row("e", 2, 3, "content"),
        ];
        assert_eq!(seen, expected);
        assert_eq!((facts.entries, facts.unpacked_bytes), (5, bytes.len() as u64));
        assert_eq!((facts.size_bytes, facts.digest), (bytes.len() as u64, Digest::of(&bytes)));
    }

    #[test]
    fn what_cpio_cannot_hold_is_counted_clamped_or_refused() {
        let mut tree = Tree::new();
        let xattrs =
            BTreeMap::from([(b"security.capability".to_vec(), b"x".to_vec()), (b"user.a".to_vec(), Vec::new())]);
        tree.insert(b"a".to_vec(), Entry { xattrs, mtime: 1 << 33, ..file("x") });
        tree.add_hard_link(b"b".to_vec(), b"a").unwrap();
        let (bytes, facts) = plain(&tree);
        assert_eq!(facts.dropped_xattrs, 2);
        assert_eq!(read(&bytes)[0].0.mtime, u32::MAX);

        let spool = std::sync::Arc::new(tempfile::tempfile().unwrap());
        let content = Content::Spooled { file: spool, offset: 0, length_bytes: 1 << 32 };
        tree.add_file(b"usr/big", content, 0o644, 0).unwrap();
        let error = write_segment(&tree, Compression::None, io::sink()).unwrap_err();
        assert!(format!("{error:#}").contains("\"usr/big\" refused: it has 4294967296 bytes"), "{error:#}");
    }

    #[test]
    fn segments_start_at_multiples_of_four_and_are_found_again() {
        let mut tree = Tree::new();
        tree.insert(b"a".to_vec(), file("x"));
        let mut assembler = Assembler::new(Vec::new());
        let microcode = plain(&tree).0;
        assembler.add_finished("microcode", Digest::of(&microcode), &microcode[..]).unwrap();
        let base = assembler.add_tree("base", &tree, Compression::Gzip(6)).unwrap();
        assert_ne!(base.size_bytes % 4, 0, "the test needs a segment that ends between words");
        assembler.add_tree("modules", &tree, Compression::None).unwrap();
        let (bytes, initrd) = assembler.finish();
        assert_eq!((initrd.size_bytes, initrd.digest), (bytes.len() as u64, Digest::of(&bytes)));
        let names: Vec<_> = initrd.segments.iter().map(|segment| segment.name.as_str()).collect();
        assert_eq!(names, ["microcode", "base", "modules"]);
        for segment in &initrd.segments {
            assert_eq!(segment.offset % 4, 0);
            let start = usize::try_from(segment.offset).unwrap();
            let range = &bytes[start..start + usize::try_from(segment.size_bytes).unwrap()];
            assert_eq!(Digest::of(range), segment.digest);
            let mut cpio = range.to_vec();
            if segment.name == "base" {
                cpio.clear();
                Decoder::new(Input::new(range)).unwrap().read_to_end(&mut cpio).unwrap();
            }
            assert_eq!(read(&cpio).len(), 1);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_tree_reads_back_as_it_was(tree in arbitrary::tree()) {
            let (bytes, facts) = plain(&tree);
            prop_assert_eq!(&bytes, &plain(&tree).0);
            let entries = read(&bytes);
            prop_assert_eq!(entries.len(), facts.entries);
            let with_data: BTreeMap<u32, Vec<u8>> =
                entries.iter().filter(|(entry, data)| entry.is_file() && !data.is_empty()).map(|(entry, data)| (entry.inode, data.clone())).collect();
            for ((entry, data), (path, expected)) in entries.iter().zip(tree.iter()) {
                prop_assert_eq!(&entry.path, path);
                prop_assert_eq!(entry.mode, file_type(&expected.kind) | expected.permissions);
                prop_assert_eq!((entry.uid, entry.gid), (expected.uid, expected.gid));
                match &expected.kind {
                    Kind::Symlink { target } => prop_assert_eq!(data, target),
                    Kind::CharacterDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                        prop_assert_eq!(entry.device, (*major, *minor));
                    }
                    _ => {}
                }
                if let Some(content) = tree.content(path) {
                    let data = with_data.get(&entry.inode).cloned().unwrap_or_default();
                    prop_assert_eq!(data, content.read_all().unwrap());
                }
            }
        }
    }
}
