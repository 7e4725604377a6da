//! `manifest.json`: what went into an image and what came out of it.
//!
//! It holds no time of day, host name or path of the host: two builds of the same inputs write the same bytes.

mod path;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::definition::dnf::InstalledPackage;
use crate::image::segment::next_offset;
use crate::image::uki::Predictions;
use crate::packages::repository::Package;
use ocinitrd_format::digest::Digest;
use ocinitrd_format::text::{Escaped, escaped_error, quoted};
use ocinitrd_format::time::Timestamp;
pub use path::OutputPath;

/// What it is called in the output directory.
pub const FILE_NAME: &str = "manifest.json";

/// The version of the manifest's form; raised when a reader of the old one would misread it.
pub const SCHEMA: u32 = 1;

/// The record of one build.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The version of ocinitrd that wrote it.
    pub ocinitrd_version: String,
    /// A digest of that program's source.
    pub ocinitrd_source: Digest,
    /// The image's name.
    pub image: String,
    /// The architecture, in rpm's spelling.
    pub architecture: String,
    /// Whether the packages came from a lock file.
    pub locked: bool,
    /// A digest of all that decided on the outputs.
    pub inputs: Digest,
    /// The time stamp of everything, in seconds since 1970-01-01 UTC.
    pub epoch: Timestamp,
    /// The container that ran dnf.
    pub builder: Builder,
    /// What was asked for.
    pub options: Options,
    /// The digests of the repositories' `repomd.xml`, by repository id.
    pub repositories: BTreeMap<String, Digest>,
    /// The packages installed into the base, sorted by name.
    pub packages: Vec<InstalledPackage>,
    /// The kernels, sorted by version.
    pub kernels: Vec<Kernel>,
    /// Every file of the output directory but this one, sorted by path.
    pub outputs: Vec<Output>,
}

/// The container that ran dnf.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Builder {
    /// The image as the definition pins it.
    pub image: String,
    /// The digest it is pinned by: of an index over platforms, or of one platform's manifest.
    pub digest: Digest,
    /// The digest of the manifest of the architecture.
    pub platform_digest: Digest,
    /// What its rpm and dnf say of their versions, a line each.
    pub tools: Vec<String>,
}

/// What was asked for on the command line and in the definition.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Options {
    /// The profiles, in the order given.
    pub profiles: Vec<String>,
    /// The forms of the main output (`cpio`, `directory`, `oci`), sorted.
    pub formats: Vec<String>,
    /// Whether each segment was written as a file too.
    pub segments: bool,
    /// The name of the main output, where it is not the default one.
    pub output_name: Option<String>,
    /// How the initrd is compressed.
    pub compression: String,
    /// The patterns that chose the kernel modules.
    pub modules: Vec<String>,
    /// The patterns that chose firmware beside what the modules name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firmware: Vec<String>,
    /// Whether modules stay compressed as the distribution ships them.
    pub keep_module_compression: bool,
    /// The kernel's command line in unified kernel images, if there are any and it is not empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
}

/// A kernel, and the initrd for it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Kernel {
    /// What `uname -r` says under it.
    pub version: String,
    /// The path of its image.
    pub image: OutputPath,
    /// The path of its initrd, if one was asked for.
    pub initrd: Option<OutputPath>,
    /// Its unified kernel image, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uki: Option<Uki>,
    /// The segments of the initrd in their order.
    pub segments: Vec<Segment>,
    /// The packages whose payload it is, sorted by name.
    pub packages: Vec<InstalledPackage>,
}

/// A unified kernel image.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Uki {
    /// The path.
    pub path: OutputPath,
    /// What a TPM's PCR 11 will be when its kernel starts and in each phase behind, by bank.
    pub pcr11: Predictions,
}

/// One segment of the initrd.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Segment {
    /// `base`, `modules`, ...
    pub name: String,
    /// How it is compressed.
    pub compression: String,
    /// How many entries it has.
    pub entries: u64,
    /// Its size in the initrd, in bytes.
    pub size_bytes: u64,
    /// Its size when unpacked by the kernel, in bytes.
    pub unpacked_size_bytes: u64,
    /// The digest of its bytes in the initrd.
    pub sha256: Digest,
}

/// One file of the output directory.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Output {
    /// The path.
    pub path: OutputPath,
    /// The size in bytes.
    pub size_bytes: u64,
    /// The digest of its bytes.
    pub sha256: Digest,
}

impl Kernel {
    /// The files that are its own.
    fn paths(&self) -> impl Iterator<Item = &OutputPath> {
        [&self.image].into_iter().chain(&self.initrd).chain(self.uki.as_ref().map(|uki| &uki.path))
    }

    /// Where each segment starts in the initrd and where the last one ends, in bytes; none where the sizes are no sizes of
    /// one file.
    pub fn segment_offsets(&self) -> Option<(Vec<u64>, u64)> {
        let mut end: u64 = 0;
        let offsets = self.segments.iter().map(|segment| {
            let offset = next_offset(end)?;
            end = offset.checked_add(segment.size_bytes)?;
            Some(offset)
        });
        let offsets = offsets.collect::<Option<Vec<_>>>()?;
        Some((offsets, end))
    }
}

/// What a manifest of any version lists; none of what is no manifest of this program.
pub fn listed_paths(json: &[u8]) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Listed {
        path: String,
    }
    #[derive(Deserialize)]
    struct Any {
        #[serde(rename = "ocinitrd_version")]
        _version: String,
        outputs: Vec<Listed>,
    }
    let any: Any = serde_json::from_slice(json).ok()?;
    Some(any.outputs.into_iter().map(|output| output.path).collect())
}

/// A package that was not installed by rpm, as its repository describes it.
pub fn package(package: &Package) -> InstalledPackage {
    InstalledPackage {
        name: package.name.clone(),
        epoch: package.epoch,
        version: package.version.clone(),
        release: package.release.clone(),
        arch: package.arch.clone(),
        source_rpm: package.source_rpm.clone(),
        license: package.license.clone(),
        installed_size_bytes: package.installed_size_bytes,
        build_time: package.build_time,
    }
}

impl Manifest {
    /// The file's bytes: indented JSON with a final newline.
    ///
    /// # Errors
    /// Fails only where a value cannot be written as JSON.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self).context("writing the manifest as JSON")?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads what [`Manifest::to_json`] wrote.
    ///
    /// # Errors
    /// Fails when it is not a manifest, has another schema, or says what no build writes: paths that lead out of the output
    /// directory, files of kernels that it does not list, names that are not unique.
    pub fn parse(json: &[u8]) -> Result<Manifest> {
        let manifest: Manifest = serde_json::from_slice(json).map_err(escaped_error).context("reading the manifest")?;
        ensure!(
            manifest.schema == SCHEMA,
            "the manifest has schema {}, this ocinitrd reads {SCHEMA}: use the version that wrote it ({})",
            manifest.schema,
            Escaped::text(&manifest.ocinitrd_version)
        );
        manifest.check().context("checking the manifest, which ocinitrd did not write so")?;
        Ok(manifest)
    }

    /// Checks what all who read a manifest rely on.
    fn check(&self) -> Result<()> {
        let mut paths = BTreeSet::new();
        for Output { path, .. } in &self.outputs {
            ensure!(paths.insert(path), "it lists {path} twice");
            ensure!(path.as_str() != FILE_NAME, "it lists itself");
        }
        let mut versions = BTreeSet::new();
        for kernel in &self.kernels {
            let version = quoted(kernel.version.as_bytes());
            ensure!(path::is_name(&kernel.version), "{version} is not the version of a kernel");
            ensure!(versions.insert(&kernel.version), "it has the kernel {version} twice");
            for path in kernel.paths() {
                ensure!(paths.contains(path), "the file {path} of the kernel {version} is not one of its outputs");
            }
            let mut names = BTreeSet::new();
            for Segment { name, .. } in &kernel.segments {
                ensure!(names.insert(name), "the kernel {version} has the segment {} twice", quoted(name.as_bytes()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_beyond_what_an_initrd_holds_is_refused_where_the_manifest_is_read() {
        let minimal = |epoch: &str| {
            let digest = Digest::of(b"");
            format!(
                "{{\"schema\":1,\"ocinitrd_version\":\"0\",\"ocinitrd_source\":\"{digest}\",\"image\":\"x\",\
                 \"architecture\":\"x86_64\",\"locked\":true,\"inputs\":\"{digest}\",\"epoch\":{epoch},\"builder\":{{\
                 \"image\":\"x\",\"digest\":\"{digest}\",\"platform_digest\":\"{digest}\",\"tools\":[]}},\"options\":{{\
                 \"profiles\":[],\"formats\":[],\"segments\":false,\"output_name\":null,\"compression\":\"none\",\
                 \"modules\":[],\"keep_module_compression\":true}},\"repositories\":{{}},\"packages\":[],\"kernels\":[],\
                 \"outputs\":[]}}"
            )
        };
        assert_eq!(Manifest::parse(minimal("7").as_bytes()).unwrap().epoch, Timestamp::from_seconds(7));
        for epoch in ["18446744073709551615", "9223372036854775807", "100000000000"] {
            let message = format!("{:#}", Manifest::parse(minimal(epoch).as_bytes()).unwrap_err());
            assert!(message.contains(&format!("the time {epoch} is after the year 2106")), "{message}");
        }
        assert!(Manifest::parse(minimal("-1").as_bytes()).is_err());
    }
}
