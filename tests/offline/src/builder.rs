//! The images that run dnf: a suite's packages in, an OCI archive and an image in podman out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::archive::Archive;
use crate::digest::sha256_hex;
use crate::handmade::EPOCH;
use crate::mapping::Builder;
use crate::oci;
use crate::programs::run;

/// A shell text for the root directory `$1`: settings of rpm that Fedora's packages have and Debian's lack, and programs under Fedora's names.
const CUSTOMIZE: &str = "\
set -eu
mkdir -p \"$1/usr/lib/rpm/macros.d\" \"$1/etc/yum.repos.d\"
echo '%_dbpath /usr/lib/sysimage/rpm' > \"$1/usr/lib/rpm/macros.d/macros.fedora\"
[ -e \"$1/usr/bin/dnf\" ] || ln -s dnf5 \"$1/usr/bin/dnf\"
[ -e \"$1/usr/bin/dnf5\" ] || [ -e \"$1/usr/bin/dnf4\" ] || ln -s dnf \"$1/usr/bin/dnf4\"
rm -rf \"$1/var/cache/debconf\"/* \"$1/var/lib/dpkg/info\"/*.md5sums
";

/// Files that no container needs.
const EXCLUDED: [&str; 5] =
    ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*"];

/// The name of the image of the builder `name`.
pub fn image_name(name: &str) -> String {
    format!("localhost/ocinitrd/offline-{name}")
}

/// Where the archive of the builder `name` lies in `directory`.
pub fn archive_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("builder-{name}.oci.tar"))
}

/// Makes the archive of the builder `name` in `directory`, from the root filesystem in `cache` if it is there and no
/// `refresh` is asked for; returns the manifest's digest.
///
/// # Errors
/// Fails when mmdebstrap does or a file cannot be written.
pub fn make(
    directory: &Path,
    cache: &Path,
    archive: &Archive,
    name: &str,
    builder: &Builder,
    refresh: bool,
) -> Result<String> {
    let recipe = recipe_digest(builder);
    let root = cache.join(format!("builder-{name}-{recipe}.tar"));
    if refresh || !root.is_file() {
        let unfinished = root.with_extension("unfinished.tar");
        make_root(&unfinished, archive, builder).with_context(|| format!("making the root filesystem of {name}"))?;
        fs::rename(&unfinished, &root).with_context(|| format!("renaming to {}", root.display()))?;
    }
    let digest = oci::write_archive(&root, &image_name(name), &archive_path(directory, name))?;
    let stamp = stamp_path(directory, name);
    fs::write(&stamp, recipe).with_context(|| format!("writing {}", stamp.display()))?;
    Ok(digest)
}

/// Whether `directory` has the archive that this program would make.
pub fn is_made(directory: &Path, name: &str, builder: &Builder) -> bool {
    archive_path(directory, name).is_file()
        && fs::read_to_string(stamp_path(directory, name)).is_ok_and(|stamp| stamp == recipe_digest(builder))
}

fn stamp_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("builder-{name}.stamp"))
}

/// Changes with everything that the root filesystem is made by, but for what the archive has.
fn recipe_digest(builder: &Builder) -> String {
    sha256_hex(format!("{EPOCH} {CUSTOMIZE} {EXCLUDED:?} {builder:?}").as_bytes())[..16].to_owned()
}

fn make_root(tar: &Path, archive: &Archive, builder: &Builder) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command.env("SOURCE_DATE_EPOCH", EPOCH.to_string()).args(["--quiet", "--variant=minbase", "--architectures=amd64"]);
    command.arg(format!("--include={}", builder.include.join(",")));
    command.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
    command.arg(format!("--keyring={}", archive.keyring().display()));
    for pattern in EXCLUDED {
        command.arg(format!("--dpkgopt=path-exclude={pattern}"));
    }
    command.arg(format!("--customize-hook={CUSTOMIZE}"));
    run(command.arg(&builder.suite).arg(tar).arg(archive.source(&builder.suite)))?;
    Ok(())
}

/// Loads the archive in `directory` into the current user's podman, unless the image is there; returns its digest.
///
/// # Errors
/// Fails when there is no archive, or podman does not know the image by the digest that the archive has.
pub fn load(directory: &Path, name: &str) -> Result<String> {
    let archive = archive_path(directory, name);
    let digest = manifest_digest(&archive)?;
    let image = format!("{}@{digest}", image_name(name));
    if is_loaded(&image) {
        return Ok(digest);
    }
    run(Command::new("podman").args(["load", "--quiet", "--input"]).arg(&archive))
        .with_context(|| format!("loading {} into podman", archive.display()))?;
    if !is_loaded(&image) {
        bail!("loading {}: podman does not know {image} afterwards", archive.display());
    }
    Ok(digest)
}

fn is_loaded(image: &str) -> bool {
    run(Command::new("podman").args(["image", "exists", image])).is_ok()
}

/// The digest in the index at the beginning of the archive.
fn manifest_digest(archive: &Path) -> Result<String> {
    let file = fs::File::open(archive)
        .with_context(|| format!("opening {}: run `offline-repo setup` first", archive.display()))?;
    for entry in tar::Archive::new(file).entries()? {
        let entry = entry.with_context(|| format!("reading {}", archive.display()))?;
        if entry.path()?.as_os_str() == "index.json" {
            let index: serde_json::Value = serde_json::from_reader(entry)?;
            let digest = index["manifests"][0]["digest"].as_str().context("finding the digest in index.json")?;
            return Ok(digest.to_owned());
        }
    }
    bail!("reading {}: it has no index.json", archive.display())
}
