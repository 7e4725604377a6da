//! What is in an initrd, anyone's: a byte stream in, a [`Report`] out.
//!
//! An initrd is a sequence of segments, each a cpio archive, plain or compressed, with zeros between them. The segments are
//! found as the kernel finds them ([`mod@segments`]) and unpacked into a picture of what the kernel would make of them ([`view`]),
//! in which later entries override earlier ones. Linux:
//! [initramfs buffer format](https://docs.kernel.org/driver-api/early-userspace/buffer-format.html).

mod report;
mod segments;
mod view;

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, Write};

use anyhow::{Context, Result, bail};

use crate::format::cpio::{Entry, Escaped, PATH_MAX_BYTES};
use crate::format::digest::Digest;

pub use report::{Listed, Report, Usage};
pub use segments::{Problem, Segment};
pub use view::{Content, Inode, View};

use segments::{Item, Walked};

/// Reads a whole initrd. What is wrong with it stands in the report's `problems`; reading goes on as far as it can.
///
/// # Errors
/// Fails when reading does.
pub fn inspect(reader: impl Read) -> Result<Report> {
    let (view, walked) = unpack(reader, Digests::Skip)?;
    Ok(Report::new(view, walked))
}

/// The digest of every regular file that the kernel would unpack, by path. Symlinks and devices are not in it.
///
/// # Errors
/// Fails on an initrd that [`inspect`] finds a problem in, since the kernel may then unpack less, and when reading fails.
pub fn file_digests(reader: impl Read) -> Result<BTreeMap<Vec<u8>, Digest>> {
    let (view, walked) = unpack(reader, Digests::Compute)?;
    refuse_problems(&walked)?;
    let digest = |inode: &Inode| inode.content.and_then(|content| content.digest);
    Ok(view.iter().filter_map(|(path, inode)| Some((path.to_vec(), digest(inode)?))).collect())
}

/// Writes the regular file that a program in the initrd would find at `path`, symlinks followed, to `output`. Reads the initrd twice.
/// Returns the length in bytes.
///
/// # Errors
/// Fails when there is no such file, on an initrd that [`inspect`] finds a problem in, and when reading or writing fails.
pub fn extract(mut reader: impl Read + Seek, path: &[u8], mut output: impl Write) -> Result<u64> {
    let (view, walked) = unpack(&mut reader, Digests::Skip)?;
    refuse_problems(&walked)?;
    let Some(inode) = view.get(path) else { bail!("the initrd has no file {}", Escaped(path)) };
    let Some(content) = inode.content else { bail!("{} is no regular file", Escaped(path)) };
    reader.rewind().context("rewinding the initrd")?;
    let mut count = 0;
    let mut written = Ok(0);
    segments::walk(reader, |item| {
        if let Item::Entry(_, data) = item {
            if count == content.entry {
                written = io::copy(data, &mut output);
                // Nothing after it matters: this ends the walk.
                return Err(io::ErrorKind::Interrupted.into());
            }
            count += 1;
        }
        Ok(())
    })
    .context("reading the initrd")?;
    written.with_context(|| format!("extracting {}", Escaped(path)))
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Digests {
    Compute,
    Skip,
}

fn unpack(reader: impl Read, digests: Digests) -> Result<(View, Walked)> {
    let mut view = View::default();
    let mut dropped = Vec::new();
    let mut count = 0;
    let mut walked = segments::walk(reader, |item| {
        match item {
            Item::Entry(entry, data) => {
                let (target, digest) = read_data(entry, data, digests)?;
                let content = Content { size_bytes: entry.size_bytes, entry: count, digest };
                match view.apply(entry, target, content) {
                    Err(reason) if !segments::is_microcode(&entry.path) => {
                        dropped.push((count, entry.path.clone(), reason));
                    }
                    _ => {}
                }
                count += 1;
            }
            Item::Trailer => view.forget_links(),
        }
        Ok(())
    })
    .context("reading the initrd")?;
    walked.note_dropped(&dropped);
    Ok((view, walked))
}

/// The target of a symlink; the digest of a file, if wanted.
fn read_data(entry: &Entry, data: &mut dyn Read, digests: Digests) -> io::Result<(Vec<u8>, Option<Digest>)> {
    let mut target = Vec::new();
    if entry.is_symlink() {
        data.take(PATH_MAX_BYTES as u64).read_to_end(&mut target)?;
    }
    let digest = match digests {
        Digests::Compute if entry.is_file() => Some(Digest::of_reader(data)?.0),
        _ => None,
    };
    Ok((target, digest))
}

fn refuse_problems(walked: &Walked) -> Result<()> {
    match walked.problems.first() {
        Some(problem) => bail!("{problem}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
