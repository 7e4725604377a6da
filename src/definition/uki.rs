//! What a definition says of its unified kernel images.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::names::check_line;

/// What becomes part of a unified kernel image beside the kernel, the initrd and the name of the system.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Uki {
    /// The kernel's command line.
    pub cmdline: Option<String>,
    /// A picture in the format BMP, relative to the definition's directory.
    pub splash: Option<PathBuf>,
    /// The public key that signatures of PCR 11 are checked with, a file in PEM relative to the definition's directory.
    pub pcrpkey: Option<PathBuf>,
    /// Lines of SBAT beside those of stub and kernel.
    pub sbat: Vec<String>,
}

impl Uki {
    /// Puts `directory` before the paths.
    pub fn resolve_paths(&mut self, directory: &Path) {
        for path in self.splash.iter_mut().chain(&mut self.pcrpkey) {
            *path = directory.join(&*path);
        }
    }

    pub(super) fn extend(&mut self, later: Uki) {
        self.cmdline = later.cmdline.or(self.cmdline.take());
        self.splash = later.splash.or(self.splash.take());
        self.pcrpkey = later.pcrpkey.or(self.pcrpkey.take());
        self.sbat.extend(later.sbat);
    }

    /// Each text is one line.
    pub(super) fn check(&self) -> Result<()> {
        self.cmdline.iter().filter(|line| !line.is_empty()).chain(&self.sbat).try_for_each(|line| check_line(line))
    }

    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.splash.iter().chain(&self.pcrpkey)
    }
}
