//! The bases on a machine: what `ocinitrd build -t base` wrote.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::files;
use crate::build::BASE_STUB;
use crate::format::digest::Digest;
use crate::manifest::{self, Manifest};
use crate::segment::Assembler;
use crate::workshop::architecture;

/// Where bases are, each in a directory by its name; of one name the last counts.
const PLACES: [&str; 3] = ["usr/lib/ocinitrd/bases", "var/lib/ocinitrd/bases", "etc/ocinitrd/bases"];

/// What the file with the segment is called, but for the extension of its compression.
const SEGMENT: &str = "base.cpio";

/// A base.
#[derive(Clone, Debug)]
pub struct Base {
    /// Its directory.
    pub directory: PathBuf,
    /// What was written beside it.
    pub manifest: Manifest,
    segment: PathBuf,
    digest: Digest,
}

/// The base of that name, or the only one there is.
pub(super) fn find(root: &Path, name: Option<&str>) -> Result<Base> {
    let bases = files::by_name(root, &PLACES, |path| path.join(manifest::FILE_NAME).exists())?;
    let names = || bases.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let directory = match (name, bases.len()) {
        (_, 0) => bail!(
            "there is no base in /{}: run `ocinitrd build IMAGE -t base -O /var/lib/ocinitrd/bases/IMAGE`",
            PLACES.join(", /")
        ),
        (Some(name), _) => {
            bases.get(name).with_context(|| format!("there is no base {name:?}; there are: {}", names()))?
        }
        (None, 1) => bases.values().next().context("one base is there")?,
        (None, _) => bail!("there are several bases, {}: say which with base = in /etc/ocinitrd/host.toml", names()),
    };
    Base::open(directory)
}

impl Base {
    fn open(directory: &Path) -> Result<Self> {
        let path = directory.join(manifest::FILE_NAME);
        let json = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let manifest = Manifest::parse(&json).with_context(|| format!("reading {}", path.display()))?;
        ensure!(
            manifest.architecture == architecture(),
            "the base {} is for {}, and this machine is {}",
            directory.display(),
            manifest.architecture,
            architecture()
        );
        let segment = manifest.outputs.iter().find(|output| output.path.starts_with(SEGMENT));
        let segment =
            segment.with_context(|| format!("{} holds no base segment: build it with -t base", directory.display()))?;
        let (digest, segment) = (segment.sha256, directory.join(&segment.path));
        Ok(Base { directory: directory.to_owned(), manifest, segment, digest })
    }

    /// systemd-stub, which comes with a base of packages that have it.
    ///
    /// # Errors
    /// Fails where there is none, and where it is not what the base's manifest says.
    pub fn stub(&self) -> Result<PathBuf> {
        let listed = self.manifest.outputs.iter().find(|output| output.path == BASE_STUB);
        let listed = listed.with_context(|| {
            let directory = self.directory.display();
            format!("the base {directory} has no systemd-stub: build it of packages with systemd-boot-unsigned")
        })?;
        let path = self.directory.join(BASE_STUB);
        let file = File::open(&path).with_context(|| format!("reading {}", path.display()))?;
        verify(&file, &path, &listed.sha256)?;
        Ok(path)
    }

    /// Appends its segment to an initrd.
    pub(super) fn append(&self, assembler: &mut Assembler<impl Write>) -> Result<()> {
        let reading = || format!("reading {}", self.segment.display());
        let mut file = File::open(&self.segment).with_context(reading)?;
        verify(&file, &self.segment, &self.digest)?;
        file.rewind().with_context(reading)?;
        assembler.add_finished("base", self.digest, file)
    }
}

fn verify(file: &File, path: &Path, expected: &Digest) -> Result<()> {
    let (digest, _) = Digest::of_reader(file).with_context(|| format!("reading {}", path.display()))?;
    ensure!(digest == *expected, "{} is not what its manifest says: install or build it again", path.display());
    Ok(())
}
