//! A tree to an OCI image layout: a directory with one canonical layer, its config, its manifest and an index.
//!
//! Equal trees and options give equal bytes. `podman pull oci:DIR`, `skopeo inspect oci:DIR` and the like take it.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, HistoryBuilder, ImageConfigurationBuilder, ImageIndexBuilder,
    ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, PlatformBuilder, RootFsBuilder, Sha256Digest,
};
use serde::Serialize;

use super::canonical_json;
use crate::image::layer::write_tar;
use crate::image::tree::Tree;
use ocinitrd_format::compress::{Compression, Encoder};
use ocinitrd_format::digest::{Digest, Hasher};
use ocinitrd_format::time::Timestamp;
use ocinitrd_support::output;
use ocinitrd_support::own_directory;

/// The file by which a directory is known as a layout.
pub const MARKER: &str = "oci-layout";
/// The version of the layout's format, which is not that of the specification.
pub const LAYOUT_VERSION: &str = "1.0.0";
/// The annotation that says what an image is called.
pub const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";
const CREATED: &str = "org.opencontainers.image.created";

/// What a layout says of its image besides the tree.
#[derive(Clone, Debug)]
pub struct LayoutOptions {
    /// As OCI spells it: `amd64` ([`ocinitrd_format::architecture`]).
    pub architecture: String,
    /// When the image was created, in seconds since 1970: the build's epoch.
    pub epoch: Timestamp,
    /// Of the layer: gzip, which everything takes, zstd, or none.
    pub compression: Compression,
    /// What `podman run` starts without a command of its own.
    pub command: Vec<String>,
    /// Annotations of the manifest besides the time of creation.
    pub annotations: BTreeMap<String, String>,
    /// The image's name in the layout, for `oci:DIR:NAME`.
    pub reference: Option<String>,
}

/// What a layout came to.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct LayoutFacts {
    /// Of the manifest: the image's digest.
    pub manifest: Digest,
    /// Of the image's configuration: what podman shows as the image's id.
    pub config: Digest,
    /// Of the layer as it lies there.
    pub layer: Digest,
    /// The length of the layer as it lies there, in bytes.
    pub layer_size_bytes: u64,
    /// Of the uncompressed layer.
    pub diff_id: Digest,
    /// The length of the uncompressed layer, in bytes.
    pub unpacked_bytes: u64,
}

/// Fills the empty `directory` with an image of `tree`, whose times are clamped ([`Tree::clamp_times`]).
///
/// # Errors
/// Refuses a compression that OCI has no media type for; fails when the spool cannot be read or the directory not be
/// written.
pub fn write_layout(tree: &Tree, options: &LayoutOptions, directory: &Path) -> Result<LayoutFacts> {
    let layer_type = layer_media_type(options.compression)?;
    let blobs = Blobs::create(directory)?;
    let created = options.epoch.to_rfc3339();
    let layer = blobs.write_layer(tree, options.compression)?;
    let config = blobs.write_json(MediaType::ImageConfig, &configuration(options, &created, layer.diff_id)?)?;
    let layer_descriptor = Descriptor::new(layer_type, layer.size_bytes, oci_digest(layer.digest)?);
    let mut annotations: HashMap<String, String> = options.annotations.clone().into_iter().collect();
    annotations.insert(CREATED.to_owned(), created);
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(config.descriptor)
        .layers(vec![layer_descriptor])
        .annotations(annotations)
        .build()
        .context("making the image manifest")?;
    let manifest = blobs.write_json(MediaType::ImageManifest, &manifest)?;
    write_index(directory, options, manifest.descriptor)?;
    Ok(LayoutFacts {
        manifest: manifest.digest,
        config: config.digest,
        layer: layer.digest,
        layer_size_bytes: layer.size_bytes,
        diff_id: layer.diff_id,
        unpacked_bytes: layer.unpacked_bytes,
    })
}

fn layer_media_type(compression: Compression) -> Result<MediaType> {
    Ok(match compression {
        Compression::Gzip(_) => MediaType::ImageLayerGzip,
        Compression::Zstd(_) => MediaType::ImageLayerZstd,
        Compression::None => MediaType::ImageLayer,
        Compression::Xz(_) | Compression::Lz4 => {
            bail!("an OCI layer cannot be compressed with {compression}; use gzip, zstd or none")
        }
    })
}

fn configuration(options: &LayoutOptions, created: &str, diff_id: Digest) -> Result<impl Serialize + use<>> {
    let config = ConfigBuilder::default().cmd(options.command.clone()).build().context("making the image config")?;
    let root =
        RootFsBuilder::default().diff_ids(vec![diff_id.to_string()]).build().context("making the image config")?;
    let history = HistoryBuilder::default().created(created).created_by("ocinitrd").build();
    ImageConfigurationBuilder::default()
        .created(created)
        .architecture(Arch::from(options.architecture.as_str()))
        .os(Os::Linux)
        .config(config)
        .rootfs(root)
        .history(vec![history.context("making the image config")?])
        .build()
        .context("making the image config")
}

fn write_index(directory: &Path, options: &LayoutOptions, mut manifest: Descriptor) -> Result<()> {
    let platform = PlatformBuilder::default().architecture(Arch::from(options.architecture.as_str())).os(Os::Linux);
    manifest.set_platform(Some(platform.build().context("making the image index")?));
    if let Some(reference) = &options.reference {
        manifest.set_annotations(Some(HashMap::from([(REFERENCE_NAME.to_owned(), reference.clone())])));
    }
    let index = ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests(vec![manifest])
        .build()
        .context("making the image index")?;
    write_file(&directory.join("index.json"), &canonical_json(&index)?)?;
    let marker = OciLayoutBuilder::default().image_layout_version(LAYOUT_VERSION).build();
    write_file(&directory.join(MARKER), &canonical_json(&marker.context("making the layout's marker")?)?)
}

fn oci_digest(digest: Digest) -> Result<Sha256Digest> {
    digest.hex().parse().context("making a descriptor")
}

struct Layer {
    digest: Digest,
    size_bytes: u64,
    diff_id: Digest,
    unpacked_bytes: u64,
}

struct Blob {
    digest: Digest,
    descriptor: Descriptor,
}

/// The directory `blobs/sha256`.
struct Blobs<'a> {
    layout: &'a Path,
}

impl<'a> Blobs<'a> {
    fn create(layout: &'a Path) -> Result<Self> {
        for directory in ["blobs", "blobs/sha256"] {
            let path = layout.join(directory);
            fs::create_dir(&path).with_context(|| format!("making the directory {}", path.display()))?;
            // Not left to the umask, here and below. The layer has what the initrd has, secrets too.
            fs::set_permissions(&path, Permissions::from_mode(own_directory::MODE))
                .with_context(|| format!("making the directory {}", path.display()))?;
        }
        Ok(Blobs { layout })
    }

    fn write_json(&self, media_type: MediaType, value: &impl Serialize) -> Result<Blob> {
        let json = canonical_json(value)?;
        let digest = Digest::of(&json);
        write_file(&self.path(&digest.hex()), &json)?;
        Ok(Blob { digest, descriptor: Descriptor::new(media_type, json.len() as u64, oci_digest(digest)?) })
    }

    fn write_layer(&self, tree: &Tree, compression: Compression) -> Result<Layer> {
        let partial = self.path("layer.partial");
        let layer = write_layer(tree, compression, &partial).map_err(|error| output::cannot_write(&partial, &error))?;
        let path = self.path(&layer.digest.hex());
        fs::rename(&partial, &path).with_context(|| format!("naming {}", path.display()))?;
        Ok(layer)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.layout.join("blobs/sha256").join(name)
    }
}

fn write_layer(tree: &Tree, compression: Compression, path: &Path) -> io::Result<Layer> {
    let file = create_file(path)?;
    let encoder = Encoder::new(Hasher::new(file), compression)?;
    let mut archive = Hasher::new(encoder);
    {
        let mut buffered = io::BufWriter::with_capacity(128 << 10, &mut archive);
        write_tar(tree, &mut buffered)?;
        buffered.flush()?;
    }
    let (encoder, diff_id, unpacked_bytes) = archive.finish();
    let (file, digest, size_bytes) = encoder.finish()?.finish();
    file.sync_all()?;
    Ok(Layer { digest, size_bytes, diff_id, unpacked_bytes })
}

fn write_file(path: &Path, content: &[u8]) -> Result<()> {
    let write = || {
        let mut file = create_file(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(|error| output::cannot_write(path, &error).into())
}

fn create_file(path: &Path) -> io::Result<File> {
    let file = File::create_new(path)?;
    file.set_permissions(Permissions::from_mode(output::MODE_PRIVATE))?;
    Ok(file)
}
