//! `images/NAME.lock`: exactly which builder, repositories, keys and packages an image is made from.
//!
//! Enters: the text of a lock file, or what was solved. Leaves: a checked [`Lock`], or its text: TOML, sorted, made to be
//! read in a difference. One file an image, with a section for each architecture. A lock says the same wherever a
//! checkout lies: what is local is named relative to the definition's directory.

mod difference;
mod inputs;
mod package;
mod section;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};

use crate::definition::mistake_without_content;
use ocinitrd_format::digest::Digest;
use ocinitrd_support::output::{MODE_PUBLIC, OutputFile};
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

pub use difference::Difference;
pub use inputs::{Changes, Inputs};
pub use package::{LockedPackage, Reason};
pub use section::{Builder, Kernel, Key, Repository, Section, Solution};

/// The version of the lock's form; raised when a reader of the old one would misread it.
pub const SCHEMA: u32 = 1;

const HEADER: &str = "# Made by ocinitrd from the definition beside it; not to be edited by hand.\n\
                      # To renew it: ocinitrd update IMAGE [PACKAGE...]\n";

/// A lock file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The image's name.
    pub image: String,
    /// The digest of what is locked for each architecture. It tells edits by hand from what was solved and verified; who must not be
    /// trusted can write it as well.
    #[serde(default)]
    digests: BTreeMap<String, Digest>,
    /// What is locked, by architecture in rpm's spelling.
    #[serde(default)]
    pub arch: BTreeMap<String, Section>,
}

impl Lock {
    /// A lock of nothing yet.
    pub fn new(image: &str) -> Lock {
        Lock { schema: SCHEMA, image: image.to_owned(), digests: BTreeMap::new(), arch: BTreeMap::new() }
    }

    /// Reads the text of a lock.
    ///
    /// # Errors
    /// Fails on a lock of another schema, and on one that was damaged or edited.
    pub fn parse(text: &str) -> Result<Lock> {
        check_schema(text)?;
        let mut lock: Lock = toml::from_str(text)
            .map_err(|error| anyhow!("it is not a lock: {}", mistake_without_content(&error, text)))?;
        for (arch, section) in &lock.arch {
            section.check().with_context(|| format!("it contradicts itself in [arch.{arch}]"))?;
            let stated = lock.digests.get(arch);
            ensure!(
                stated.is_some(),
                "[digests] has none of [arch.{arch}]: an earlier version made it, or it was edited"
            );
            ensure!(
                stated == Some(&digest(section)?),
                "what is below [arch.{arch}] is not what its digest in [digests] is of: it was edited, or merged line by line"
            );
        }
        // What was read may be added to; the digests are computed when it is written.
        lock.digests.clear();
        Ok(lock)
    }

    /// Reads the lock at `path` of the image `image`, which commands name by `argument`; none if there is no such file.
    ///
    /// # Errors
    /// As [`Lock::parse`]; and when the file cannot be read or is another image's.
    pub fn load(path: &Path, image: &str, argument: &str) -> Result<Option<Lock>> {
        let text = match regular_file::read_text(path, TEXT_LIMIT_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("reading {}", path.display()))?,
        };
        check_schema(&text).with_context(|| format!("reading {}", path.display()))?;
        let lock = Lock::parse(&text).map_err(|error| {
            anyhow!(
                "reading {}: {error:#}\nit is made by ocinitrd and not to be edited: take the last good one from version \
                 control, or remove it and run: ocinitrd lock {argument}",
                path.display()
            )
        })?;
        ensure!(
            lock.image == image,
            "{} is the lock of the image {}, not of {image}: remove it, and run: ocinitrd lock {argument}",
            path.display(),
            lock.image
        );
        Ok(Some(lock))
    }

    /// The lock's text.
    ///
    /// # Errors
    /// Fails only where a value cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String> {
        let digests = self.arch.iter().map(|(arch, section)| Ok((arch.clone(), digest(section)?)));
        let lock = Lock { digests: digests.collect::<Result<_>>()?, ..self.clone() };
        Ok(HEADER.to_owned() + &toml::to_string_pretty(&lock).context("writing the lock as TOML")?)
    }

    /// Writes the lock to `path`, whole or not at all.
    ///
    /// # Errors
    /// Fails when the file cannot be written; what was there is there still.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut file = OutputFile::create(path, MODE_PUBLIC)?;
        file.write_all(self.to_toml()?.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
        file.commit()
    }
}

/// Of the values, not of how they are written.
fn digest(section: &Section) -> Result<Digest> {
    Ok(Digest::of(&serde_json::to_vec(section).context("reading the lock's values")?))
}

/// Refuses the lock of another version of the program; what is no lock at all is not judged here.
fn check_schema(text: &str) -> Result<()> {
    #[derive(Deserialize)]
    struct Schema {
        schema: u32,
    }
    let Ok(Schema { schema }) = toml::from_str(text) else { return Ok(()) };
    ensure!(
        schema == SCHEMA,
        "it has schema {schema}, this ocinitrd ({}) reads schema {SCHEMA}: use the version that wrote it",
        env!("CARGO_PKG_VERSION")
    );
    Ok(())
}

#[cfg(test)]
mod tests;
