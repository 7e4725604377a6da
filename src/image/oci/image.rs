//! An OCI image, in a layout directory or an archive of one, to the tree that its layers stack up to.
//!
//! Sizes and digests are verified before anything is parsed, the digests of unpacked layers after.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail, ensure};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType, OciLayout, Os, RootFs};
use serde::Deserialize;

use super::document::{LIMIT_BYTES, MOST_LAYERS, parse, sha256, shown};
use super::layout::{LAYOUT_VERSION, MARKER};
use crate::image::layer::{Contents, Layer, Rules, TooLong};
use crate::image::tree::{Content, Tree};
use ocinitrd_format::digest::Digest;
use ocinitrd_format::tally::Tally;
use ocinitrd_format::text::{Escaped, quoted};
use ocinitrd_support::regular_file;

/// An index may name an index (as `skopeo` copies of all platforms do), hardly more than once.
const DEEPEST_INDEX: usize = 3;
/// All indexes together may name so many images; several times the platforms there are.
const MOST_IMAGES: usize = 10_000;
/// Of images in a message.
const SHOWN_IMAGES: usize = 20;
const DAMAGED: &str = "the image is damaged: fetch or export it again";

/// An image whose manifest and config were verified; its layers are when they are read.
#[derive(Debug)]
pub struct Image {
    source: Source,
    /// The digest of its manifest.
    pub digest: Digest,
    layers: Vec<(Descriptor, Digest)>,
}

#[derive(Debug)]
enum Source {
    Directory(PathBuf),
    Archive(Tree),
}

/// All that matters here of an image's configuration.
#[derive(Deserialize)]
struct Configuration {
    rootfs: RootFs,
}

impl Image {
    /// Whether the entries of an archive are those of an image layout.
    pub fn is_archive(tree: &Tree) -> bool {
        tree.content(MARKER.as_bytes()).is_some() && tree.content(b"index.json").is_some()
    }

    /// Whether `directory` is an image layout.
    pub fn is_directory(directory: &Path) -> bool {
        directory.join(MARKER).is_file()
    }

    /// Reads the layout in `directory`; of several images the one for `architecture` (`amd64`).
    ///
    /// # Errors
    /// Fails on what is damaged, and when not exactly one image fits, listing those there are.
    pub fn open_directory(directory: &Path, architecture: &str) -> Result<Self> {
        Image::open(Source::Directory(directory.to_owned()), architecture)
            .with_context(|| format!("reading the image in {}", directory.display()))
    }

    /// Reads the layout whose files are the entries of an archive, as [`Image::open_directory`] does.
    ///
    /// # Errors
    /// As [`Image::open_directory`].
    pub fn open_archive(tree: Tree, architecture: &str) -> Result<Self> {
        Image::open(Source::Archive(tree), architecture).context("reading the image in the archive")
    }

    fn open(source: Source, architecture: &str) -> Result<Self> {
        let marker: OciLayout = parse(MARKER, &source.read_small(MARKER)?)?;
        let version = marker.image_layout_version();
        ensure!(
            version == LAYOUT_VERSION,
            "the layout has the version {}; only {LAYOUT_VERSION} is known",
            quoted(version.as_bytes())
        );
        let index: ImageIndex = parse("index.json", &source.read_small("index.json")?)?;
        let mut images = Images::default();
        images.collect(&source, &index, DEEPEST_INDEX)?;
        let chosen = choose(images.found, architecture)?;
        let manifest: ImageManifest = parse("the manifest", &source.read_document("manifest", &chosen)?)?;
        let config: Configuration = parse("the config", &source.read_document("config", manifest.config())?)?;
        let diff_ids = config.rootfs.diff_ids();
        let (layers, ids) = (manifest.layers().len(), diff_ids.len());
        ensure!(layers == ids, "the manifest has {layers} layers, the config {ids}; {DAMAGED}");
        ensure!(layers <= MOST_LAYERS, "the image has {layers} layers, and at most {MOST_LAYERS} are stacked");
        let mut described = Vec::new();
        for (descriptor, diff_id) in manifest.layers().iter().zip(diff_ids) {
            check_layer_type(descriptor)?;
            described.push((descriptor.clone(), parse_digest(diff_id)?));
        }
        Ok(Image { digest: sha256(&chosen)?, source, layers: described })
    }

    /// Stacks the layers; their unpacked bytes, of all together at most `limit_bytes`, go into unnamed files in
    /// `spool_directory`.
    ///
    /// # Errors
    /// Fails when a layer is damaged, when its digests differ, and as [`Layer::read`] does.
    pub fn flatten(&self, spool_directory: &Path, limit_bytes: u64) -> Result<Contents> {
        let mut flattened = Contents { tree: Tree::new(), warnings: Tally::default() };
        let mut rules = Rules { unpacked_limit_bytes: limit_bytes, ..Rules::image_layer() };
        for (descriptor, diff_id) in &self.layers {
            let name = shown(descriptor);
            let layer = self.source.read_layer(descriptor, spool_directory, &rules);
            let too_long =
                || Error::from(TooLong { limit_bytes }).context(format!("reading the image up to the layer {name}"));
            let layer = layer.map_err(|error| match TooLong::is_cause_of(&error) {
                true => too_long(),
                false => error.context(format!("reading the layer {name}")),
            })?;
            ensure!(
                layer.diff_id == *diff_id,
                "the unpacked layer {name} has the digest {}, the config says {diff_id}; {DAMAGED}",
                layer.diff_id
            );
            let left_bytes = rules.unpacked_limit_bytes.checked_sub(layer.unpacked_bytes.max(layer.size_bytes));
            rules.unpacked_limit_bytes = left_bytes.ok_or_else(too_long)?;
            flattened.warnings.merge(layer.warnings);
            flattened.tree.apply_layer(layer.tree);
        }
        flattened.tree.add_missing_parents(0).context("stacking the image's layers")?;
        Ok(flattened)
    }
}

impl Source {
    fn read_small(&self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(name)?.take(LIMIT_BYTES + 1).read_to_end(&mut bytes).with_context(|| format!("reading {name}"))?;
        ensure!(bytes.len() as u64 <= LIMIT_BYTES, "{name} is larger than 4 MiB; {DAMAGED}");
        Ok(bytes)
    }

    fn read_document(&self, what: &str, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let bytes = self.read_small(&blob_path(descriptor)?)?;
        verify(what, descriptor, Digest::of(&bytes), bytes.len() as u64)?;
        Ok(bytes)
    }

    /// Two passes: the digest first, so that no decoder sees what is not what the manifest names.
    fn read_layer(&self, descriptor: &Descriptor, spool_directory: &Path, rules: &Rules) -> Result<Layer> {
        let path = blob_path(descriptor)?;
        let (digest, size_bytes) = Digest::of_reader(self.open(&path)?).with_context(|| format!("reading {path}"))?;
        verify("layer", descriptor, digest, size_bytes)?;
        match self {
            Source::Directory(directory) => {
                let file = regular_file::open(&directory.join(&path)).with_context(|| format!("opening {path}"))?;
                Layer::read_file(file, spool_directory, rules)
            }
            Source::Archive(_) => Layer::read(self.open(&path)?, spool_directory, rules),
        }
    }

    fn open(&self, name: &str) -> Result<Box<dyn Read>> {
        match self {
            Source::Directory(directory) => {
                let path = directory.join(name);
                let file = regular_file::open(&path).with_context(|| format!("opening {}; {DAMAGED}", path.display()));
                Ok(Box::new(file?))
            }
            Source::Archive(tree) => {
                let content = tree.content(name.as_bytes()).map(Content::reader);
                Ok(Box::new(content.with_context(|| format!("there is no {name} in the archive; {DAMAGED}"))?))
            }
        }
    }
}

/// The manifests that an index names, also through further indexes.
#[derive(Default)]
struct Images {
    found: Vec<Descriptor>,
    /// The digests of images and indexes so far: each counts once, however often it is named.
    seen: BTreeSet<String>,
}

impl Images {
    fn collect(&mut self, source: &Source, index: &ImageIndex, depth: usize) -> Result<()> {
        for descriptor in index.manifests() {
            if !self.seen.insert(descriptor.digest().to_string()) {
                continue;
            }
            ensure!(self.seen.len() <= MOST_IMAGES, "its indexes name more than {MOST_IMAGES} images");
            if *descriptor.media_type() == MediaType::ImageIndex {
                ensure!(depth > 0, "the image's indexes are nested too deeply");
                let nested: ImageIndex = parse("an index", &source.read_document("index", descriptor)?)?;
                self.collect(source, &nested, depth - 1)?;
            } else {
                self.found.push(descriptor.clone());
            }
        }
        Ok(())
    }
}

/// The only image, else the only one for Linux on `architecture`.
fn choose(mut images: Vec<Descriptor>, architecture: &str) -> Result<Descriptor> {
    let fits = |descriptor: &Descriptor| {
        let platform = descriptor.platform().as_ref();
        platform
            .is_some_and(|platform| *platform.os() == Os::Linux && platform.architecture().to_string() == architecture)
    };
    let mut listing: Vec<String> = images.iter().take(SHOWN_IMAGES).map(describe).collect();
    if images.len() > SHOWN_IMAGES {
        listing.push(format!("... ({} in all)", images.len()));
    }
    if images.len() > 1 {
        images.retain(fits);
    }
    match <[Descriptor; 1]>::try_from(images) {
        Ok([image]) => Ok(image),
        Err(images) => bail!(
            "{} of the images in it are for linux/{architecture}, and exactly one is needed; copy one out first \
             (skopeo copy oci:DIR:NAME oci:ONE); there are: {}",
            images.len(),
            if listing.is_empty() { "none".to_owned() } else { listing.join(", ") }
        ),
    }
}

fn describe(descriptor: &Descriptor) -> String {
    match descriptor.platform() {
        Some(platform) => {
            let (os, architecture) = (platform.os().to_string(), platform.architecture().to_string());
            format!("{} ({}/{})", shown(descriptor), Escaped::text(&os), Escaped::text(&architecture))
        }
        None => shown(descriptor),
    }
}

fn check_layer_type(descriptor: &Descriptor) -> Result<()> {
    let media_type = descriptor.media_type().to_string();
    let family = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];
    let known = family.iter().any(|prefix| media_type.starts_with(prefix)) && media_type.contains("tar");
    ensure!(
        known && !media_type.contains("encrypted"),
        "the layer {} is of the type {}, which is no readable tar archive",
        shown(descriptor),
        quoted(media_type.as_bytes())
    );
    Ok(())
}

fn parse_digest(diff_id: &str) -> Result<Digest> {
    diff_id.parse().with_context(|| format!("reading the digest {} in the config", quoted(diff_id.as_bytes())))
}

fn blob_path(descriptor: &Descriptor) -> Result<String> {
    Ok(format!("blobs/sha256/{}", sha256(descriptor)?.hex()))
}

fn verify(what: &str, descriptor: &Descriptor, digest: Digest, size_bytes: u64) -> Result<()> {
    let expected = sha256(descriptor)?;
    let expected_bytes = descriptor.size();
    ensure!(
        size_bytes == expected_bytes,
        "the {what} {expected} has {size_bytes} bytes instead of {expected_bytes}; {DAMAGED}"
    );
    ensure!(digest == expected, "the {what} {expected} has the digest {digest} instead; {DAMAGED}");
    Ok(())
}
