//! An image of the store as an OCI archive (a tar of an
//! [image layout](https://github.com/opencontainers/image-spec/blob/main/image-layout.md)), and back.
//!
//! The layout's own index names the pinned document, be it an index over several platforms: an engine that loads the archive then
//! knows the image by that digest as well as by its platform's.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::image::{ImageIndex, MediaType};
use serde_json::json;

use super::documents::{Document, Manifest};
use super::{StoredImage, read};
use crate::image::oci::canonical_json;
use crate::image::oci::document::{LIMIT_BYTES, parse, sha256};
use crate::image::oci::layout::{LAYOUT_VERSION, MARKER, REFERENCE_NAME};
use crate::packages::store::Store;
use ocinitrd_format::digest::Digest;
use ocinitrd_format::text::quoted;
use ocinitrd_support::regular_file;

const INDEX: &str = "index.json";
const BLOBS: &str = "blobs/sha256/";
/// The extension of an exported image.
const EXTENSION: &str = ".oci.tar";
/// How many digits of a digest tell exported images apart.
const DIGITS: usize = 12;

impl StoredImage {
    /// Writes the archive. An engine that loads it calls the image by the digest that it is pinned to.
    ///
    /// # Errors
    /// Fails when a blob cannot be read, and when the writer fails.
    pub fn write_archive(&self, store: &Store, writer: impl Write) -> Result<()> {
        let mut tar = tar::Builder::new(writer);
        append(&mut tar, MARKER, &canonical_json(&json!({"imageLayoutVersion": LAYOUT_VERSION}))?)?;
        append(&mut tar, INDEX, &self.layout_index(store)?)?;
        for digest in self.digests() {
            let file = store.read(&digest)?;
            let mut header = header(store.size_bytes(&digest)?);
            tar.append_data(&mut header, format!("{BLOBS}{}", digest.hex()), file)
                .with_context(|| format!("writing the blob {digest}"))?;
        }
        tar.finish().context("writing the archive's end")
    }

    fn layout_index(&self, store: &Store) -> Result<Vec<u8>> {
        let descriptor = json!({
            "mediaType": self.media_type,
            "digest": self.pinned.to_string(),
            "size": store.size_bytes(&self.pinned)?,
            "annotations": {REFERENCE_NAME: format!("localhost/ocinitrd/builder:{}", digits(&self.pinned))},
        });
        let index =
            json!({"schemaVersion": 2, "mediaType": MediaType::ImageIndex.to_string(), "manifests": [descriptor]});
        canonical_json(&index)
    }
}

/// What tells images of different digests apart in names.
fn digits(pinned: &Digest) -> String {
    pinned.hex()[..DIGITS].to_owned()
}

fn header(size_bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size_bytes);
    header.set_mode(0o644);
    header.set_mtime(0);
    header
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> Result<()> {
    tar.append_data(&mut header(bytes.len() as u64), name, bytes).with_context(|| format!("writing {name}"))
}

/// Whether a file is one by its name.
pub fn is_archive(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(EXTENSION))
}

/// Takes the blobs of an archive into the store, each verified by its name. Returns the digest that the archive's image is pinned to,
/// and how many blobs were new.
///
/// # Errors
/// Fails on a file that is no such archive, holds what is no part of an image, or lacks a part. The blobs that were read until then
/// stay: each is what its name says.
pub fn import(path: &Path, store: &Store) -> Result<(Digest, usize)> {
    let file = regular_file::open(path).with_context(|| format!("opening {}", path.display()))?;
    take(file, store).with_context(|| format!("reading the image in {}", path.display()))
}

fn take(file: File, store: &Store) -> Result<(Digest, usize)> {
    let mut archive = tar::Archive::new(file);
    let (mut index, mut new) = (None, 0);
    for entry in archive.entries().context("reading the archive")? {
        let mut entry = entry.context("reading the archive")?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let hex = name.strip_prefix(BLOBS);
        match hex.map(Digest::from_hex) {
            Some(Some(digest)) => new += usize::from(take_blob(digest, &mut entry, store)?),
            Some(None) => bail!("{} is not a digest", quoted(name.as_bytes())),
            None if name == INDEX => index = Some(regular_file::read_all(&mut entry, LIMIT_BYTES)?),
            None => {}
        }
    }
    let index: ImageIndex = parse(INDEX, &index.context("there is no index.json in it")?)?;
    let [descriptor] = &index.manifests()[..] else {
        bail!("its index.json names {} images, and one is taken", index.manifests().len())
    };
    let pinned = sha256(descriptor)?;
    check_whole(pinned, store)?;
    Ok((pinned, new))
}

/// Whether the blob is new to the store.
fn take_blob(digest: Digest, content: &mut impl Read, store: &Store) -> Result<bool> {
    if store.contains_whole(&digest)? {
        return Ok(false);
    }
    store.insert_stream(&digest, content).with_context(|| format!("the archive is damaged at the blob {digest}"))?;
    Ok(true)
}

/// Of an index at least one image has to be there, with all its parts.
fn check_whole(pinned: Digest, store: &Store) -> Result<()> {
    ensure!(store.contains_whole(&pinned)?, "{pinned}, which its index.json names, is not in it");
    let first = read(&store.path(&pinned))?;
    let (document, _) = Document::parse(&first)?;
    let manifests = match &document {
        Document::Index(index) => {
            let digests = index.manifests().iter().filter_map(|one| sha256(one).ok());
            digests.filter(|digest| store.contains(digest)).collect()
        }
        Document::Manifest => vec![pinned],
    };
    ensure!(!manifests.is_empty(), "none of the images that its index names is in it");
    for digest in manifests {
        for blob in Manifest::parse(&read(&store.path(&digest))?)?.blobs {
            ensure!(store.contains(&blob.digest), "the part {} of the image is not in it", blob.digest);
        }
    }
    Ok(())
}

/// The name of an exported image's file: by what is pinned, so that files of other images are others.
pub fn file_name(pinned: &Digest) -> String {
    format!("builder-{}{EXTENSION}", digits(pinned))
}
