//! What is in an initrd, anyone's: a byte stream in, a [`Report`] out.
//!
//! An initrd is a sequence of segments, each a cpio archive, plain or compressed, with zeros between them. The segments are
//! found as the kernel finds them ([`mod@segments`]) and unpacked into a picture of what the kernel would make of them ([`view`]),
//! in which later entries override earlier ones. Linux:
//! [initramfs buffer format](https://docs.kernel.org/driver-api/early-userspace/buffer-format.html).

mod archived;
mod fault;
mod limits;
mod ranks;
mod report;
mod segments;
mod tree;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Seek, Write};

use anyhow::{Context, Result, bail};

use ocinitrd_format::cpio::{Entry, PATH_MAX_BYTES};
use ocinitrd_format::digest::Digest;
use ocinitrd_format::text::Escaped;

pub use archived::{Archived, Archives};
pub use limits::{LimitReached, Limits};
pub use ranks::Ranks;
pub use report::{Listed, Report, Usage};
pub use segments::{Problem, Segment};
pub use view::{Content, Inode, View};

use archived::Collector;
use fault::Fault;
use segments::{Item, Walked};
use view::Applied;

/// Reads a whole initrd. What is wrong with it stands in the report's `problems`; reading goes on as far as it can.
///
/// # Errors
/// Fails when reading does, and beyond the default [`Limits`].
pub fn inspect(reader: impl Read) -> Result<Report> {
    inspect_within(reader, &Limits::default())
}

/// As [`inspect`], with other limits.
///
/// # Errors
/// Fails when reading does, and beyond the limits.
pub fn inspect_within(reader: impl Read, limits: &Limits) -> Result<Report> {
    let (view, walked) = unpack(reader, limits, skip)?;
    Ok(Report::new(view, walked))
}

/// What is in files, by their paths.
pub type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// As [`inspect_within`], and in the same pass what is in the regular files at paths that are `wanted`: of all of them together up to
/// `contents_bytes`.
///
/// # Errors
/// Fails when reading does, and beyond the limits.
pub fn inspect_and_read(
    reader: impl Read,
    limits: &Limits,
    contents_bytes: u64,
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<(Report, Contents)> {
    let mut contents = Contents::new();
    let mut left_bytes = contents_bytes;
    let mut is_too_much = false;
    let unpacked = unpack(reader, limits, |entry, data| {
        if entry.is_file() && wanted(&entry.path) {
            let Some(left) = left_bytes.checked_sub(entry.size_bytes.into()) else {
                is_too_much = true;
                return Err(io::ErrorKind::Interrupted.into());
            };
            left_bytes = left;
            let mut content = Vec::new();
            data.read_to_end(&mut content)?;
            contents.insert(entry.path.clone(), content);
        }
        Ok(None)
    });
    if is_too_much {
        return Err(LimitReached::Contents(contents_bytes)).context("reading the initrd");
    }
    let (view, walked) = unpacked?;
    Ok((Report::new(view, walked), contents))
}

/// The digest of every regular file that the kernel would unpack, by path. Symlinks and devices are not in it.
///
/// # Errors
/// Fails on an initrd that [`inspect`] finds a problem in, since the kernel may then unpack less, and when reading fails.
pub fn file_digests(reader: impl Read) -> Result<BTreeMap<Vec<u8>, Digest>> {
    let (view, walked) = unpack(reader, &Limits::default(), digest)?;
    refuse_problems(&walked)?;
    let digest = |inode: &Inode| view.content(inode).and_then(|content| content.digest);
    Ok(view.iter().filter_map(|(path, inode)| Some((path, digest(inode)?))).collect())
}

/// Every entry of every segment, with the digests of the contents, and what the kernel makes of them together.
///
/// # Errors
/// As [`file_digests`], with these limits.
pub fn archives(reader: impl Read, limits: &Limits) -> Result<Archives> {
    let mut collector = Collector::default();
    let (view, walked) = unpack_and(reader, limits, digest, |seen, view| match seen {
        Seen::Entry(entry, target, applied) => {
            collector.add(entry, target, applied);
            collector.texts_bytes() as u64
        }
        Seen::ArchiveEnd => {
            collector.end_archive(view);
            0
        }
    })?;
    refuse_problems(&walked)?;
    Ok(collector.finish(walked.size_bytes, walked.segments, view))
}

/// Whether the initrd is sound: fails as [`file_digests`] does, in less time.
///
/// # Errors
/// Fails on an initrd that [`inspect`] finds a problem in, when reading fails, and beyond the limits.
pub fn check(reader: impl Read, limits: &Limits) -> Result<()> {
    refuse_problems(&unpack(reader, limits, skip)?.1)
}

/// Shows the data of the entries whose numbers ([`Content::entry`]) are `wanted`, in the order of the initrd. What comes
/// after the last of them is not read.
///
/// # Errors
/// Fails when reading or `visit` does.
pub fn visit_contents(
    reader: impl Read,
    limits: &Limits,
    wanted: &BTreeSet<u64>,
    mut visit: impl FnMut(u64, &mut dyn Read) -> io::Result<()>,
) -> Result<()> {
    let Some(last) = wanted.last() else { return Ok(()) };
    let (mut count, mut visited) = (0, Ok(()));
    segments::walk(reader, limits, |item| {
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
    let limits = Limits::default();
    let (view, walked) = unpack(&mut reader, &limits, skip)?;
    refuse_problems(&walked)?;
    let Some(inode) = view.get(path) else { bail!("the initrd has no file {}", Escaped(path)) };
    let Some(content) = view.content(inode) else { bail!("{} is no regular file", Escaped(path)) };
    reader.rewind().context("rewinding the initrd")?;
    let mut written = 0;
    visit_contents(reader, &limits, &BTreeSet::from([content.entry]), |_, data| {
        written = io::copy(data, &mut output)?;
        Ok(())
    })
    .with_context(|| format!("extracting {}", Escaped(path)))?;
    Ok(written)
}

/// What an observer gets to see beside the view: an entry that the kernel makes, with the target of a symlink, and where it went.
enum Seen<'a> {
    Entry(&'a Entry, &'a [u8], Applied),
    ArchiveEnd,
}

/// `read` gets the data of each entry, but for the target of a symlink.
fn unpack(
    reader: impl Read,
    limits: &Limits,
    read: impl FnMut(&Entry, &mut dyn Read) -> io::Result<Option<Digest>>,
) -> Result<(View, Walked)> {
    unpack_and(reader, limits, read, |_, _| 0)
}

/// What entries are found wrong by the view.
#[derive(Default)]
struct Faults(BTreeMap<Fault, Faulty>);

/// The entries that have a fault: the number of the first, its path, and how many others there are.
struct Faulty {
    first: u64,
    path: Vec<u8>,
    others: u64,
}

impl Faults {
    fn add(&mut self, fault: Fault, number: u64, path: &[u8]) {
        match self.0.get_mut(&fault) {
            Some(faulty) => faulty.others += 1,
            None => drop(self.0.insert(fault, Faulty { first: number, path: path.to_vec(), others: 0 })),
        }
    }
}

/// `observe` says how many bytes of texts it keeps.
fn unpack_and(
    reader: impl Read,
    limits: &Limits,
    mut read: impl FnMut(&Entry, &mut dyn Read) -> io::Result<Option<Digest>>,
    mut observe: impl FnMut(Seen<'_>, &View) -> u64,
) -> Result<(View, Walked)> {
    let mut view = View::default();
    let mut faults = Faults::default();
    let mut count = 0;
    let mut reached = None;
    let walked = segments::walk(reader, limits, |item| {
        match item {
            Item::Entry(entry, data) => {
                let target = target(entry, data)?;
                let digest = read(entry, data)?;
                let content = Content { size_bytes: entry.size_bytes, entry: count, digest };
                let kept_bytes = match view.apply(entry, &target, content) {
                    Ok(applied) => observe(Seen::Entry(entry, &target, applied), &view),
                    Err(Fault::NoParent) if segments::is_microcode(&entry.path) => 0,
                    Err(fault) => {
                        faults.add(fault, count, &entry.path);
                        0
                    }
                };
                count += 1;
                reached = limit_reached(limits, &view, count, kept_bytes);
            }
            Item::Trailer => {
                observe(Seen::ArchiveEnd, &view);
                view.forget_links();
            }
        }
        // The error ends the walk.
        if reached.is_some() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    });
    if let Some(reached) = reached {
        return Err(reached).context("reading the initrd");
    }
    let mut walked = walked.context("reading the initrd")?;
    for (fault, Faulty { first, path, others }) in faults.0 {
        walked.note_fault(first, fault.message(&Escaped(&path), others));
    }
    Ok((view, walked))
}

fn limit_reached(limits: &Limits, view: &View, entries: u64, kept_bytes: u64) -> Option<LimitReached> {
    if entries > limits.entries {
        Some(LimitReached::Entries(limits.entries))
    } else if view.texts_bytes() as u64 + kept_bytes > limits.texts_bytes() {
        Some(LimitReached::Texts(limits.texts_bytes()))
    } else {
        view.is_followed_too_far().then_some(LimitReached::Followed)
    }
}

/// The target of a symlink, with one byte more than the kernel takes.
fn target(entry: &Entry, data: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut target = Vec::new();
    if entry.is_symlink() {
        data.take(PATH_MAX_BYTES as u64 + 1).read_to_end(&mut target)?;
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
