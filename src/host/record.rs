//! The manifest of a machine's initrd: what went in of its kernel and of the configuration of its modules. It lies in the initrd.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Serialize;

use ocinitrd_format::digest::Digest;
use ocinitrd_support::progress::Progress;

/// Where it lies in the initrd.
pub(super) const PATH: &str = "usr/lib/ocinitrd/manifest.json";

/// What a file without a module is there for.
const HIDES: &str = "hides another";

/// The version of its form.
const SCHEMA: u32 = 1;

/// What went into an initrd.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Record {
    schema: u32,
    ocinitrd_version: String,
    /// The kernel, as `uname -r` prints it.
    kernel: String,
    /// The name of the image that the base was built of.
    base: String,
    /// A digest of all that decided on the base.
    base_inputs: Digest,
    /// The modules, by name.
    pub modules: BTreeMap<String, RecordedModule>,
    /// The paths of firmware, links included.
    pub firmware: Vec<String>,
    /// The files of `modprobe.d`.
    pub modprobe: Vec<ModprobeFile>,
    /// The files of `modules-load.d`.
    pub modules_load: Vec<LoadedFile>,
}

/// A module.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct RecordedModule {
    /// Its path.
    pub path: String,
    /// The paths of modules of its name that do not count, as depmod reads `depmod.d`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub in_place_of: Vec<String>,
    /// The line of `modprobe.d` that brought it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brought_by: Option<String>,
    /// The line of `modprobe.d` that keeps it from being loaded by an alias of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blacklisted: Option<String>,
    /// The line of `modprobe.d` that runs a command in place of loading it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install: Option<String>,
}

/// A file of `modprobe.d`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ModprobeFile {
    /// Its path in the initrd.
    pub path: String,
    /// The modules in the initrd that it is about; none if it is there to hide another.
    pub modules: Vec<String>,
}

/// A file of `modules-load.d`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LoadedFile {
    /// Its path in the initrd.
    pub path: String,
    /// What it has loaded, as written.
    pub modules: Vec<String>,
    /// The lines on the machine.
    pub lines: Vec<String>,
}

impl ModprobeFile {
    /// What it is there for, behind "it".
    pub(super) fn said(&self) -> String {
        if self.modules.is_empty() { HIDES.to_owned() } else { format!("is about {}", self.modules.join(", ")) }
    }
}

impl LoadedFile {
    /// What it is there for, behind "it".
    pub(super) fn said(&self) -> String {
        if self.modules.is_empty() { HIDES.to_owned() } else { format!("loads {}", self.modules.join(", ")) }
    }
}

impl Record {
    /// One of no module yet.
    pub(super) fn new(kernel: &str, base: &str, base_inputs: Digest) -> Self {
        Record {
            schema: SCHEMA,
            ocinitrd_version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: kernel.to_owned(),
            base: base.to_owned(),
            base_inputs,
            modules: BTreeMap::new(),
            firmware: Vec::new(),
            modprobe: Vec::new(),
            modules_load: Vec::new(),
        }
    }

    /// The file's bytes: indented JSON with a final newline.
    ///
    /// # Errors
    /// Fails only where a value cannot be written as JSON.
    pub(super) fn to_json(&self) -> Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self).context("writing the manifest of the initrd as JSON")?;
        json.push(b'\n');
        Ok(json)
    }

    /// Says what the configuration of the machine brings and changes.
    pub(super) fn tell(&self, progress: &Progress) {
        for (name, module) in &self.modules {
            for other in &module.in_place_of {
                progress.detail(&format!(
                    "the module {name} is {}, in place of {other}, as depmod prefers it",
                    module.path
                ));
            }
            if let Some(line) = &module.brought_by {
                progress.detail(&format!("the module {name} comes by {line}"));
            }
            if let Some(line) = &module.blacklisted {
                progress.detail(&format!("the module {name} is blacklisted by {line}: no alias of its own loads it"));
            }
        }
        for file in &self.modprobe {
            progress.detail(&format!("{} goes in: it {}", file.path, file.said()));
        }
        for file in &self.modules_load {
            progress.detail(&format!("{} goes in: it {}", file.path, file.said()));
        }
        for path in self.firmware.iter() {
            progress.detail(&format!("the firmware {path} goes in"));
        }
    }
}
