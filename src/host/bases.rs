//! The bases on a machine: what `ocinitrd build -t base` wrote.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, ensure};

use super::configuration::Configuration;
use super::files;
use crate::image::manifest::{self, Manifest, Output};
use crate::image::segment::Assembler;
use crate::image::segment::BASE_STUB;
use ocinitrd_format::architecture;
use ocinitrd_format::digest::Digest;
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// Where bases are, each in a directory by its name; of one name the last counts.
const PLACES: [&str; 3] = ["usr/lib/ocinitrd/bases", BUILT, "etc/ocinitrd/bases"];

/// Where those are that are built on the machine.
const BUILT: &str = "var/lib/ocinitrd/bases";

const SECONDS_OF_A_DAY: u64 = 24 * 60 * 60;

/// What the file with the segment is called, but for the extension of its compression.
const SEGMENT: &str = "base.cpio";

/// A base whose segment was verified.
#[derive(Debug)]
pub struct Base {
    /// Its directory.
    pub directory: PathBuf,
    /// What was written beside it.
    pub manifest: Manifest,
    segment: File,
    digest: Digest,
}

/// What looking for a base came to.
#[derive(Debug)]
pub enum Search {
    /// One that serves.
    Found(Box<Base>),
    /// None serves; one that is built will.
    Wanting {
        /// Why none does.
        reason: Error,
        /// Whether that is its age: then one of the same packages would be no better.
        is_old: bool,
    },
}

/// The base that the configuration names, the only one there is, or of several that which is built here.
pub(super) fn find(root: &Path, configuration: &Configuration) -> Result<Search> {
    let bases = files::by_name(root, &PLACES, |path| path.join(manifest::FILE_NAME).exists())?;
    let names = || bases.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let wanting = |reason| Ok(Search::Wanting { reason, is_old: false });
    let directory = match (&configuration.base, bases.len()) {
        (_, 0) => return wanting(anyhow!("there is no base in /{}", PLACES.join(", /"))),
        (Some(name), _) => match bases.get(name) {
            Some(directory) => directory,
            None => return wanting(anyhow!("there is no base {name:?}; there are: {}", names())),
        },
        (None, 1) => bases.values().next().context("one base is there")?,
        (None, _) => configuration.built_base().and_then(|name| bases.get(name)).with_context(|| {
            format!("there are several bases, {}: say which with base = in /etc/ocinitrd/host.toml", names())
        })?,
    };
    let base = match Base::open(directory) {
        Ok(base) => base,
        Err(reason) => return wanting(reason),
    };
    let age_days = base.age_days()?;
    Ok(match configuration.max_age_days {
        Some(max) if age_days > max => {
            let place = directory.display();
            let reason = anyhow!("the base {place} is {age_days} days old, and max_age_days of /etc/ocinitrd is {max}");
            Search::Wanting { reason, is_old: true }
        }
        _ => Search::Found(Box::new(base)),
    })
}

/// Where a base of that name that is built on the machine is put.
pub(super) fn place_of_built(root: &Path, name: &str) -> PathBuf {
    root.join(BUILT).join(name)
}

impl Base {
    /// Opens the base in that directory and verifies its segment.
    ///
    /// # Errors
    /// Fails where there is none, and on one that is damaged, for another architecture, or that others may change: its
    /// manifest would say nothing then.
    pub fn open(directory: &Path) -> Result<Self> {
        let owner = fs::metadata(directory).and_then(|metadata| regular_file::check_owner(&metadata));
        owner.with_context(|| format!("using the base {}", directory.display()))?;
        let path = directory.join(manifest::FILE_NAME);
        let json = regular_file::open_own(&path).and_then(|file| regular_file::read_all(file, TEXT_LIMIT_BYTES));
        let json = json.with_context(|| format!("reading {}", path.display()))?;
        let manifest = Manifest::parse(&json).with_context(|| format!("reading {}", path.display()))?;
        ensure!(
            manifest.architecture == architecture::native(),
            "the base {} is for {}, and this machine is {}",
            directory.display(),
            manifest.architecture,
            architecture::native()
        );
        let segment = manifest.outputs.iter().find(|output| output.path.as_str().starts_with(SEGMENT));
        let segment =
            segment.with_context(|| format!("{} holds no base segment: build it with -t base", directory.display()))?;
        let (digest, segment) = (segment.sha256, open_verified(directory, segment)?);
        Ok(Base { directory: directory.to_owned(), manifest, segment, digest })
    }

    /// How long ago it was written, in days.
    fn age_days(&self) -> Result<u64> {
        let path = self.directory.join(manifest::FILE_NAME);
        let written = fs::metadata(&path).and_then(|metadata| metadata.modified());
        let written = written.with_context(|| format!("reading the time of {}", path.display()))?;
        // A clock that is behind makes nothing old.
        Ok(written.elapsed().map_or(0, |age| age.as_secs() / SECONDS_OF_A_DAY))
    }

    /// systemd-stub, which comes with a base of packages that have it.
    ///
    /// # Errors
    /// Fails where there is none, and where it is not what the base's manifest says.
    pub fn stub(&self) -> Result<PathBuf> {
        let listed = self.manifest.outputs.iter().find(|output| output.path.as_str() == BASE_STUB);
        let listed = listed.with_context(|| {
            let directory = self.directory.display();
            format!("the base {directory} has no systemd-stub: build it of packages with systemd-boot-unsigned")
        })?;
        open_verified(&self.directory, listed)?;
        Ok(listed.path.in_directory(&self.directory))
    }

    /// The digest of its segment.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Appends its segment to an initrd.
    pub(super) fn append(&self, assembler: &mut Assembler<impl Write>) -> Result<()> {
        let mut segment = &self.segment;
        segment.rewind().with_context(|| format!("reading the base {}", self.directory.display()))?;
        assembler.add_finished("base", self.digest, segment)
    }
}

fn open_verified(directory: &Path, output: &Output) -> Result<File> {
    let path = output.path.in_directory(directory);
    let reading = || format!("reading {}", path.display());
    let file = output.path.open(directory).with_context(reading)?;
    file.metadata().and_then(|metadata| regular_file::check_owner(&metadata)).with_context(reading)?;
    let (digest, _) = Digest::of_reader(&file).with_context(reading)?;
    ensure!(digest == output.sha256, "{} is not what its manifest says: install or build it again", path.display());
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::machine::fixture::Fixture;

    /// Whether nothing serves, and why.
    fn wanting(root: &Fixture, configuration: &Configuration) -> (String, bool) {
        match find(root.path(), configuration).unwrap() {
            Search::Wanting { reason, is_old } => (format!("{reason:#}"), is_old),
            Search::Found(base) => panic!("{} was found", base.directory.display()),
        }
    }

    #[test]
    fn what_others_may_change_is_not_used_for_a_base() {
        use std::os::unix::fs::PermissionsExt;

        let root = Fixture::new();
        root.write("var/lib/ocinitrd/bases/a/manifest.json", "{}");
        let directory = place_of_built(root.path(), "a");
        let told = || wanting(&root, &Configuration::default()).0;
        assert!(told().contains("reading the manifest: missing field"), "{}", told());
        for (path, mode) in [(directory.clone(), 0o775), (directory.join("manifest.json"), 0o666)] {
            let before = fs::metadata(&path).unwrap().permissions();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(told().contains("other users may write to it"), "{}", told());
            fs::set_permissions(&path, before).unwrap();
        }
    }

    #[test]
    fn what_serves_not_is_told_apart_from_what_cannot_be_told() {
        let root = Fixture::new();
        let mut configuration = Configuration::default();
        assert!(wanting(&root, &configuration).0.contains("there is no base in /usr/lib/ocinitrd/bases"));
        root.write("usr/lib/ocinitrd/bases/a/manifest.json", "{}");
        assert!(wanting(&root, &configuration).0.contains("/bases/a/manifest.json"));
        configuration.base = Some("b".to_owned());
        assert_eq!(wanting(&root, &configuration), ("there is no base \"b\"; there are: a".to_owned(), false));
        configuration.base = None;
        root.write("var/lib/ocinitrd/bases/b/manifest.json", "{}");
        assert!(find(root.path(), &configuration).unwrap_err().to_string().contains("several bases, a, b"));
        configuration.build = Some("/srv/b.toml".into());
        assert!(wanting(&root, &configuration).0.contains("/bases/b/manifest.json"), "that which is built");
    }
}
