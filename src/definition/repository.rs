//! A repository as a definition writes it.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::names::{check_address, check_line};

/// Where packages come from; exactly one of the three kinds of location is given.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// Addresses of the repository itself; a value without a scheme is a directory relative to the definition's.
    #[serde(default, deserialize_with = "one_or_many")]
    pub baseurl: Vec<String>,
    /// Address of a metalink.
    pub metalink: Option<String>,
    /// Address of a list of mirrors.
    pub mirrorlist: Option<String>,
    /// Where packages stay that the repository has replaced, the preferred place first: addresses with the variables of
    /// [`crate::packages::fetch::Places::of`].
    #[serde(default, deserialize_with = "one_or_many", serialize_with = "none_one_or_many")]
    pub archive: Vec<String>,
    /// Files with armored public keys, relative to the definition's directory; `builder:/PATH` is a file of the builder
    /// image.
    pub gpg_keys: Vec<String>,
    /// Whether the metadata itself is signed and must verify.
    #[serde(default)]
    pub repo_gpgcheck: bool,
    /// Whether the lists of all files are fetched too; needed for packages that are asked for by uncommon paths.
    #[serde(default)]
    pub filelists: bool,
    /// dnf's `priority`: the lower number wins; 99 unless given.
    #[serde(default = "default_priority")]
    pub priority: u32,
    /// dnf's `enabled`: a repository that is not enabled is used only with what names it in `repos`. It is left out of what
    /// is written where it is true, as it was before there was such a key.
    #[serde(default = "default_enabled", skip_serializing_if = "is_true")]
    pub enabled: bool,
}

/// What a key's path starts with when the key is a file of the builder image.
pub const BUILDER_FILE: &str = "builder:";

impl Repository {
    pub(super) fn check(&self) -> Result<()> {
        let kinds = [!self.baseurl.is_empty(), self.metalink.is_some(), self.mirrorlist.is_some()];
        if kinds.iter().filter(|given| **given).count() != 1 {
            bail!("give exactly one of baseurl, metalink and mirrorlist");
        }
        if self.gpg_keys.is_empty() {
            bail!("gpg_keys is empty: packages are installed only when a key verifies them");
        }
        self.baseurl.iter().try_for_each(|url| check_address(url, true))?;
        let addresses = [&self.metalink, &self.mirrorlist].into_iter().flatten().chain(&self.archive);
        addresses.into_iter().try_for_each(|url| check_address(url, false))?;
        for key in &self.gpg_keys {
            check_line(key).context("in gpg_keys")?;
            let is_whole = key.strip_prefix(BUILDER_FILE).is_none_or(|path| path.starts_with('/'));
            ensure!(
                is_whole,
                "in gpg_keys: the path of a key in the builder image begins with a slash, as in builder:/etc/key"
            );
        }
        Ok(())
    }
}

fn default_priority() -> u32 {
    99
}

fn default_enabled() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_true(value: &bool) -> bool {
    *value
}

/// Writes a list as the value that it was before there could be several.
///
/// # Errors
/// As the serializer.
pub fn none_one_or_many<S: serde::Serializer>(values: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    match values {
        [] => serializer.serialize_none(),
        [value] => serializer.serialize_str(value),
        values => values.serialize(serializer),
    }
}

/// Reads one text or a list of them.
///
/// # Errors
/// Fails on what is neither.
pub fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(value) => vec![value],
        OneOrMany::Many(values) => values,
    })
}
