//! Two initrds, anyone's: which segments differ, in which entries, or in which bytes if not in their entries.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Comparison;
use super::bytes::{EntryPair, content_offsets, first_difference, open, range};
use super::difference::{BYTES, Cause, Difference, PADDING, SegmentPlace, Subject};
use super::entries;
use super::entries::Sides;
use super::pairing::{Pair, pair};
use crate::analysis::inspect::{self, Archives, Limits, Segment};
use ocinitrd_format::compress::MultiDecoder;
use ocinitrd_format::digest::Digest;

/// Compares two initrds.
///
/// Each is read once or twice, and once more if contents differ. Of the contents only digests are in memory.
///
/// # Errors
/// Fails when a file cannot be read, and on an initrd that [`inspect::inspect`] finds a problem in: what lies behind it
/// could not be compared.
pub fn initrds(a: &Path, b: &Path, limits: &Limits) -> Result<Comparison> {
    let reading = || format!("reading {} and {}", a.display(), b.display());
    let Some(offset) = first_difference(open(a)?, open(b)?).with_context(reading)? else {
        inspect::check(open(a)?, limits).with_context(|| sound_only(a))?;
        return Ok(Comparison::new(Vec::new(), Some(true)));
    };
    let (a, b) = thread::scope(|scope| {
        let other = scope.spawn(|| Side::read(b, limits));
        (Side::read(a, limits), other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let (a, b) = (a?, b?);
    let differences = compare(&a, &b, offset)?;
    Ok(Comparison::new(differences, Some(a.archives.view.is_like(&b.archives.view))))
}

fn sound_only(path: &Path) -> String {
    format!("reading {0}, of which only a sound initrd can be compared: see ocinitrd inspect {0}", path.display())
}

struct Side<'a> {
    path: &'a Path,
    limits: &'a Limits,
    archives: Archives,
}

impl<'a> Side<'a> {
    fn read(path: &'a Path, limits: &'a Limits) -> Result<Self> {
        let archives = inspect::archives(open(path)?, limits).with_context(|| sound_only(path))?;
        Ok(Side { path, limits, archives })
    }

    fn segment(&self, index: usize) -> &Segment {
        &self.archives.segments[index].0
    }

    /// The segment as it lies in the initrd.
    fn stored(&self, index: usize) -> Result<impl Read + use<>> {
        let segment = self.segment(index);
        range(self.path, segment.offset, segment.stored_bytes)
    }

    /// How many zeros are before the segment.
    fn zeros_before(&self, index: usize) -> u64 {
        self.segment(index).offset - index.checked_sub(1).map_or(0, |before| self.end(before))
    }

    fn zeros_at_end(&self) -> u64 {
        self.archives.size_bytes - self.archives.segments.len().checked_sub(1).map_or(0, |last| self.end(last))
    }

    fn end(&self, index: usize) -> u64 {
        self.segment(index).offset + self.segment(index).stored_bytes
    }
}

/// `first_offset` is where the files as a whole part.
fn compare(a: &Side<'_>, b: &Side<'_>, first_offset: u64) -> Result<Vec<Difference>> {
    let sides = Sides::new(&a.archives, &b.archives);
    let pairs = pair(&sides);
    let mut found = Vec::new();
    for pair in &pairs {
        let place = place(a, b, *pair);
        match *pair {
            (Some(i), Some(j)) => found.extend(compare_segments(&sides, a, i, b, j, place)?),
            (i, j) => {
                let described = |side: &Side<'_>, index: usize| {
                    let Segment { entries, stored_bytes, .. } = side.segment(index);
                    format!("{entries} entries, {stored_bytes} bytes")
                };
                let (in_a, in_b) = (i.map(|i| described(a, i)), j.map(|j| described(b, j)));
                found.push((Difference::presence(Subject::Segment(place), in_a, in_b), None));
            }
        }
    }
    let mut differences = with_offsets(a, b, found)?;
    if differences.is_empty() {
        differences.push(padding(a, b, first_offset));
    }
    Ok(differences)
}

fn place(a: &Side<'_>, b: &Side<'_>, (i, j): Pair) -> SegmentPlace {
    SegmentPlace {
        segment_a: i.map(|index| index + 1),
        segment_b: j.map(|index| index + 1),
        codec_a: i.map(|index| a.segment(index).codec),
        codec_b: j.map(|index| b.segment(index).codec),
    }
}

fn compare_segments(
    sides: &Sides<'_>,
    a: &Side<'_>,
    i: usize,
    b: &Side<'_>,
    j: usize,
    place: SegmentPlace,
) -> Result<Vec<entries::Found>> {
    let facts = |segment: &Segment| -> [(&'static str, Value); 3] {
        let Segment { codec, entries, stored_bytes, .. } = segment;
        [("codec", codec.to_string().into()), ("entries", (*entries).into()), ("size_bytes", (*stored_bytes).into())]
    };
    let mut found = Vec::new();
    for ((field, value_a), (_, value_b)) in facts(a.segment(i)).into_iter().zip(facts(b.segment(j))) {
        if value_a != value_b {
            found.push((Difference::new(Subject::Segment(place), field, value_a, value_b), None));
        }
    }
    let entries = entries::compare(place, sides, i, j);
    if entries.is_empty() {
        found.extend(compare_bytes(sides, a, i, b, j, place)?.map(|difference| (difference, None)));
    }
    found.extend(entries);
    Ok(found)
}

/// The difference between segments whose entries are the same, if their bytes are not.
fn compare_bytes(
    sides: &Sides<'_>,
    a: &Side<'_>,
    i: usize,
    b: &Side<'_>,
    j: usize,
    place: SegmentPlace,
) -> Result<Option<Difference>> {
    let reading = || format!("reading {} and {}", a.path.display(), b.path.display());
    let Some(offset) = first_difference(a.stored(i)?, b.stored(j)?).with_context(reading)? else { return Ok(None) };
    let digest = |stored| anyhow::Ok(Digest::of_reader(stored).with_context(reading)?.0.to_string());
    let (digest_a, digest_b) = (digest(a.stored(i)?)?, digest(b.stored(j)?)?);
    let order_a = sides.a.segments[i].1.iter().map(|entry| sides.rank_a(entry));
    let order_b = sides.b.segments[j].1.iter().map(|entry| sides.rank_b(entry));
    let unpacked = |stored| MultiDecoder::new(stored);
    let cause = if !order_a.eq(order_b) {
        Cause::Order
    } else if first_difference(unpacked(a.stored(i)?), unpacked(b.stored(j)?)).with_context(reading)?.is_none() {
        Cause::Compression
    } else {
        Cause::Headers
    };
    let difference = Difference::new(Subject::Segment(place), BYTES, digest_a, digest_b);
    Ok(Some(Difference { offset: Some(offset), cause: Some(cause), ..difference }))
}

/// Adds to each difference in contents where they part.
fn with_offsets(a: &Side<'_>, b: &Side<'_>, found: Vec<entries::Found>) -> Result<Vec<Difference>> {
    let pairs: BTreeSet<EntryPair> = found.iter().filter_map(|(_, pair)| *pair).collect();
    let offsets = content_offsets(a.path, b.path, a.limits, &pairs)?;
    let complete = |(difference, pair): entries::Found| Difference {
        offset: pair.and_then(|pair| offsets.get(&pair).copied()),
        ..difference
    };
    // What has an offset already is no content.
    Ok(found.into_iter().map(|found| if found.1.is_some() { complete(found) } else { found.0 }).collect())
}

/// The difference between initrds whose segments are all the same: the zeros between or after them.
fn padding(a: &Side<'_>, b: &Side<'_>, first_offset: u64) -> Difference {
    let count = a.archives.segments.len();
    let zeros = |index: usize| (a.zeros_before(index), b.zeros_before(index));
    let differing = (0..count).map(|index| (index, zeros(index))).find(|(_, (in_a, in_b))| in_a != in_b);
    let (subject, (in_a, in_b)) = match differing {
        Some((index, zeros)) => (Subject::Segment(place(a, b, (Some(index), Some(index)))), zeros),
        None => (Subject::Initrd, (a.zeros_at_end(), b.zeros_at_end())),
    };
    Difference { offset: Some(first_offset), ..Difference::new(subject, PADDING, in_a, in_b) }
}
