//! The store's files and findings as text and JSON.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use indicatif::DecimalBytes;
use serde::Serialize;

use crate::lock::transfer::Content;
use crate::packages::store::{Item, Kind};
use ocinitrd_format::digest::Digest;
use ocinitrd_format::json;
use ocinitrd_format::text::one_line;
use ocinitrd_format::time::Timestamp;

/// A file of the store, as it is listed: sorted by kind and name.
#[derive(Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(super) struct Listed {
    kind: String,
    /// Of an rpm, its NEVRA; of what has no digest, the name of the file.
    name: Option<String>,
    /// Of its content; of what builds keep, the digest of what it was made from.
    digest: Option<Digest>,
    size_bytes: u64,
    /// In UTC, RFC 3339.
    last_use: String,
}

impl Listed {
    /// All of `items`, sorted.
    pub(super) fn all(items: &[Item]) -> Vec<Self> {
        let mut all: Vec<Self> = items.iter().map(Listed::of).collect();
        all.sort();
        all
    }

    fn of(item: &Item) -> Self {
        let (kind, digest, name) = match &item.kind {
            // What cannot be opened is listed all the same; `verify` tells why.
            Kind::Blob(digest) => match Content::of(&item.path).unwrap_or(Content::Other) {
                Content::Rpm(identity) => ("rpm", Some(*digest), Some(identity.nevra())),
                Content::DamagedRpm => ("rpm", Some(*digest), Some("(damaged)".to_owned())),
                Content::Metadata => ("metadata", Some(*digest), None),
                Content::Image => ("image", Some(*digest), None),
                Content::Other => ("other", Some(*digest), None),
            },
            Kind::Cached { kind, key } => (kind.as_str(), Some(*key), None),
            Kind::Partial(name) => ("partial", None, Some(name.clone())),
            Kind::Temporary(name) => ("temporary", None, Some(name.clone())),
        };
        let last_use = Timestamp::from(item.last_use).to_rfc3339();
        Listed { kind: kind.to_owned(), digest, name, size_bytes: item.size_bytes, last_use }
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Listed { kind, digest, name, size_bytes, last_use } = self;
        let size = DecimalBytes(*size_bytes).to_string();
        let day = last_use.split('T').next().unwrap_or(last_use);
        write!(formatter, "{kind:<9} {size:>10}  {day}")?;
        let what = [digest.map(|digest| digest.to_string()), name.as_deref().map(one_line)];
        what.into_iter().flatten().try_for_each(|word| write!(formatter, "  {word}"))
    }
}

/// All files of the store.
#[derive(Serialize)]
pub(super) struct Listing {
    root: PathBuf,
    items: Vec<Listed>,
    size_bytes: u64,
}

impl Listing {
    pub(super) fn new(root: &Path, items: Vec<Listed>) -> Self {
        let size_bytes = items.iter().map(|item| item.size_bytes).sum();
        Listing { root: root.to_owned(), items, size_bytes }
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.items.iter().try_for_each(|item| writeln!(formatter, "{item}"))?;
        writeln!(formatter, "total {} in {}", sum(self.items.len(), self.size_bytes), self.root.display())
    }
}

/// What `verify` found.
#[derive(Serialize)]
pub(super) struct Verified {
    pub blobs: usize,
    pub size_bytes: u64,
    pub wrong: Vec<Wrong>,
}

/// A blob that is not what its name says.
#[derive(Serialize)]
pub(super) struct Wrong {
    pub digest: Digest,
    /// The digest of its content, or why it cannot be read.
    pub found: String,
    pub removed: bool,
}

impl fmt::Display for Verified {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Wrong { digest, found, removed } in &self.wrong {
            let done = if *removed { ", removed" } else { "" };
            writeln!(formatter, "{digest} is wrong: {found}{done}")?;
        }
        let count = self.wrong.len();
        writeln!(formatter, "{count} of {} wrong", sum(self.blobs, self.size_bytes))?;
        match self.wrong.iter().all(|wrong| wrong.removed) {
            true => Ok(()),
            false => writeln!(formatter, "remove what is wrong, to be fetched again: ocinitrd store verify --remove"),
        }
    }
}

pub(super) fn sum(files: usize, size_bytes: u64) -> String {
    format!("{files} files ({})", DecimalBytes(size_bytes))
}

pub(super) fn json(value: &impl Serialize) -> Result<String> {
    Ok(json::to_string(value).context("writing JSON")? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_rpm_is_one_line_that_steers_nothing() {
        let listed = Listed {
            kind: "rpm".to_owned(),
            name: Some("a\n\u{1b}[2Jtotal 0 files-1-1.noarch".to_owned()),
            digest: None,
            size_bytes: 1,
            last_use: "2026-01-01T00:00:00Z".to_owned(),
        };
        let line = listed.to_string();
        assert!(line.ends_with(r"  a\x0a\x1b[2Jtotal 0 files-1-1.noarch"), "{line:?}");
    }
}
