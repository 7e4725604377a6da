//! What is in an initrd, anyone's: a byte stream in, a [`Report`] out.
//!
//! An initrd is a sequence of segments, each a cpio archive, plain or compressed, with zeros between them. The segments are
//! found as the kernel finds them ([`mod@segments`]) and unpacked into a picture of what the kernel would make of them ([`view`]),
//! in which later entries override earlier ones. Linux:
//! [initramfs buffer format](https://docs.kernel.org/driver-api/early-userspace/buffer-format.html).

mod archived;
mod report;
mod segments;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Seek, Write};

use anyhow::{Context, Result, bail};

use crate::format::cpio::{Entry, PATH_MAX_BYTES};
use crate::format::digest::Digest;
use crate::format::text::Escaped;

pub use archived::{Archived, Archives};
pub use report::{Listed, Report, Usage};
pub use segments::{Problem, Segment};
pub use view::{Content, Inode, View};

use archived::Collector;
use segments::{Item, Walked};

/// Reads a whole initrd. What is wrong with it stands in the report's `problems`; reading goes on as far as it can.
///
/// # Errors
/// Fails when reading does.
pub fn inspect(reader: impl Read) -> Result<Report> {
    let (view, walked) = unpack(reader, skip)?;
    Ok(Report::new(view, walked))
}

/// What is in files, by their paths.
pub type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// As [`inspect`], and in the same pass what is in the regular files at paths that are `wanted`.
///
/// # Errors
/// Fails when reading does.
pub fn inspect_and_read(reader: impl Read, wanted: impl Fn(&[u8]) -> bool) -> Result<(Report, Contents)> {
    let mut contents = Contents::new();
    let (view, walked) = unpack(reader, |entry, data| {
        if entry.is_file() && wanted(&entry.path) {
            let mut content = Vec::new();
            data.read_to_end(&mut content)?;
            contents.insert(entry.path.clone(), content);
        }
        Ok(None)
    })?;
    Ok((Report::new(view, walked), contents))
}

/// The digest of every regular file that the kernel would unpack, by path. Symlinks and devices are not in it.
///
/// # Errors
/// Fails on an initrd that [`inspect`] finds a problem in, since the kernel may then unpack less, and when reading fails.
pub fn file_digests(reader: impl Read) -> Result<BTreeMap<Vec<u8>, Digest>> {
    let (view, walked) = unpack(reader, digest)?;
    refuse_problems(&walked)?;
    let digest = |inode: &Inode| inode.content.and_then(|content| content.digest);
    Ok(view.iter().filter_map(|(path, inode)| Some((path.to_vec(), digest(inode)?))).collect())
}

/// Every entry of every segment, with the digests of the contents, and what the kernel makes of them together.
///
/// # Errors
/// As [`file_digests`].
pub fn archives(reader: impl Read) -> Result<Archives> {
    let mut collector = Collector::default();
    let (view, walked) = unpack_and(reader, digest, |seen| match seen {
        Seen::Entry(entry, target, content) => collector.add(entry, target.to_vec(), content),
        Seen::ArchiveEnd => collector.end_archive(),
    })?;
    refuse_problems(&walked)?;
    Ok(Archives { size_bytes: walked.size_bytes, segments: collector.finish(walked.segments), view })
}

/// Whether the initrd is sound: fails as [`file_digests`] does, in less time.
///
/// # Errors
/// Fails on an initrd that [`inspect`] finds a problem in, and when reading fails.
pub fn check(reader: impl Read) -> Result<()> {
    refuse_problems(&unpack(reader, skip)?.1)
}

/// Shows the data of the entries whose numbers ([`Content::entry`]) are `wanted`, in the order of the initrd. What comes
/// after the last of them is not read.
///
/// # Errors
/// Fails when reading or `visit` does.
pub fn visit_contents(
    reader: impl Read,
    wanted: &BTreeSet<u64>,
    mut visit: impl FnMut(u64, &mut dyn Read) -> io::Result<()>,
) -> Result<()> {
    let Some(last) = wanted.last() else { return Ok(()) };
    let (mut count, mut visited) = (0, Ok(()));
    segments::walk(reader, |item| {
        let Item::Entry(_, data) = item else { return Ok(()) };
        if wanted.contains(&count) {
            visited = visit(count, data);
        }
        count += 1;
        // Nothing after it matters: the error ends the walk.
        if visited.is_err() || count > *last { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    })
    .context("reading the initrd")?;
    Ok(visited?)
}

/// Writes the regular file that a program in the initrd would find at `path`, symlinks followed, to `output`. Reads the initrd twice.
/// Returns the length in bytes.
///
/// # Errors
/// Fails when there is no such file, on an initrd that [`inspect`] finds a problem in, and when reading or writing fails.
pub fn extract(mut reader: impl Read + Seek, path: &[u8], mut output: impl Write) -> Result<u64> {
    let (view, walked) = unpack(&mut reader, skip)?;
    refuse_problems(&walked)?;
    let Some(inode) = view.get(path) else { bail!("the initrd has no file {}", Escaped(path)) };
    let Some(content) = inode.content else { bail!("{} is no regular file", Escaped(path)) };
    reader.rewind().context("rewinding the initrd")?;
    let mut written = 0;
    visit_contents(reader, &BTreeSet::from([content.entry]), |_, data| {
        written = io::copy(data, &mut output)?;
        Ok(())
    })
    .with_context(|| format!("extracting {}", Escaped(path)))?;
    Ok(written)
}

/// What an observer gets to see beside the view: an entry with the target of a symlink and its data's description.
enum Seen<'a> {
    Entry(&'a Entry, &'a [u8], Content),
    ArchiveEnd,
}

/// `read` gets the data of each entry, but for the target of a symlink.
fn unpack(
    reader: impl Read,
    read: impl FnMut(&Entry, &mut dyn Read) -> io::Result<Option<Digest>>,
) -> Result<(View, Walked)> {
    unpack_and(reader, read, |_| {})
}

fn unpack_and(
    reader: impl Read,
    mut read: impl FnMut(&Entry, &mut dyn Read) -> io::Result<Option<Digest>>,
    mut observe: impl FnMut(Seen<'_>),
) -> Result<(View, Walked)> {
    let mut view = View::default();
    let mut dropped = Vec::new();
    let mut count = 0;
    let mut walked = segments::walk(reader, |item| {
        match item {
            Item::Entry(entry, data) => {
                let target = target(entry, data)?;
                let digest = read(entry, data)?;
                let content = Content { size_bytes: entry.size_bytes, entry: count, digest };
                observe(Seen::Entry(entry, &target, content));
                match view.apply(entry, target, content) {
                    Err(reason) if !segments::is_microcode(&entry.path) => {
                        dropped.push((count, entry.path.clone(), reason));
                    }
                    _ => {}
                }
                count += 1;
            }
            Item::Trailer => {
                observe(Seen::ArchiveEnd);
                view.forget_links();
            }
        }
        Ok(())
    })
    .context("reading the initrd")?;
    walked.note_dropped(&dropped);
    Ok((view, walked))
}

/// The target of a symlink.
fn target(entry: &Entry, data: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut target = Vec::new();
    if entry.is_symlink() {
        data.take(PATH_MAX_BYTES as u64).read_to_end(&mut target)?;
    }
    Ok(target)
}

/// The digest of a file.
fn digest(entry: &Entry, data: &mut dyn Read) -> io::Result<Option<Digest>> {
    entry.is_file().then(|| Digest::of_reader(data)).transpose().map(|read| read.map(|(digest, _)| digest))
}

/// What is to be read of a file where its data do not matter.
fn skip(_: &Entry, _: &mut dyn Read) -> io::Result<Option<Digest>> {
    Ok(None)
}

fn refuse_problems(walked: &Walked) -> Result<()> {
    match walked.problems.first() {
        Some(problem) => bail!("{problem}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
