//! One segment of an initrd, made or taken from the cache.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::image::segment::write_segment;
use crate::image::tree::{Content, Tree};
use crate::lock::context::BuildContext;
use crate::packages::cache::{Cache, Kind};
use ocinitrd_format::compress::Compression;
use ocinitrd_format::digest::Digest;

/// A segment that may be made.
#[derive(Clone, Copy, Debug)]
pub struct SegmentSpec {
    /// What it is called: `base`, `modules`.
    pub name: &'static str,
    /// The digest of what it is made from.
    pub key: Digest,
    /// How it is compressed.
    pub compression: Compression,
}

/// A finished segment.
#[derive(Debug)]
pub struct Part {
    /// What it is called.
    pub name: &'static str,
    /// How it is compressed.
    pub compression: Compression,
    /// What is known of it.
    pub facts: SegmentMeta,
    /// Its bytes.
    pub content: Content,
}

/// What the cache keeps of a segment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SegmentMeta {
    /// How many entries it has.
    pub entries: u64,
    /// Its size when unpacked by the kernel, in bytes.
    pub unpacked_size_bytes: u64,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its digest.
    pub sha256: Digest,
    /// The extended attributes that it cannot hold, a text each.
    pub lost_attributes: Vec<String>,
    /// What a person should know of how it was made, a line each.
    pub warnings: Vec<String>,
}

impl SegmentSpec {
    /// The segment, if an earlier build left it.
    ///
    /// # Errors
    /// Fails when the cache cannot be read.
    pub fn cached(&self, cache: &Cache) -> Result<Option<Part>> {
        let Some(facts) = cache.record::<SegmentMeta>(Kind::Segment, &self.key) else { return Ok(None) };
        let Some(file) = cache.data(&facts.sha256)? else { return Ok(None) };
        let content = Content::of_file(file).context("reading from the cache")?;
        Ok(Some(Part { name: self.name, compression: self.compression, facts, content }))
    }

    /// Makes the segment of its tree and leaves it in the cache; `warnings` tell of how the tree came about.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub fn make(&self, tree: &Tree, warnings: Vec<String>, context: &BuildContext<'_>) -> Result<Part> {
        let (name, compression, cache) = (self.name, self.compression, &context.results);
        let stage = context.progress.stage(&format!("compressing {name} ({compression})"), None);
        let mut data = cache.new_data()?;
        let written =
            write_segment(tree, compression, &mut data).with_context(|| format!("writing the segment {name}"))?;
        let (file, sha256, size_bytes) = data.finish()?;
        let facts = SegmentMeta {
            entries: written.entries as u64,
            unpacked_size_bytes: written.unpacked_bytes,
            size_bytes,
            sha256,
            lost_attributes: attributes(tree),
            warnings,
        };
        cache.keep(Kind::Segment, &self.key, &facts)?;
        stage.finish(&format!("{:.1} MB", size_bytes as f64 / 1e6));
        let content = Content::of_file(file).context("reading from the cache")?;
        Ok(Part { name, compression, facts, content })
    }
}

/// The extended attributes in a tree; those of a file with several names count once.
fn attributes(tree: &Tree) -> Vec<String> {
    tree.iter()
        .flat_map(|(path, entry)| entry.xattrs.keys().map(move |name| (path, name)))
        .map(|(path, name)| format!("{} of /{}", name.escape_ascii(), path.escape_ascii()))
        .collect()
}
