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
    /// Where packages stay that the repository has replaced: an address with the variables of [`crate::fetch`].
    pub archive: Option<String>,
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
        let addresses = [&self.metalink, &self.mirrorlist, &self.archive].into_iter().flatten();
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

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
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
