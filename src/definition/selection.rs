//! What an image or one of its profiles adds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::names::{FileGlob, PackageGlob, PackageSpec, RepositoryId, UnitName, line_lists, lines};

/// What an image or one of its profiles adds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// One line for people.
    pub description: String,
    /// Of a profile: the profiles that it takes, which are chosen with it.
    pub include_profiles: Vec<String>,
    /// Of a profile: why the image cannot have it, for people; the empty text takes back what an included file says.
    pub unavailable: Option<String>,
    /// Repositories that are not enabled, and that packages may come from all the same.
    pub repos: Vec<RepositoryId>,
    /// Packages to install, as dnf takes them.
    pub install: Vec<PackageSpec>,
    /// Packages that dnf must not choose.
    pub exclude: Vec<PackageGlob>,
    /// Glob patterns of files left out of the initrd, each with a leading slash; a directory goes with all below it.
    #[serde(deserialize_with = "lines")]
    pub remove_files: Vec<String>,
    /// Whether what nothing reaches is left out: [`crate::image::trim`]. Profiles have no say in it.
    #[serde(skip)]
    pub trim: bool,
    /// Programs that stay, with what they need: globs of their names.
    #[serde(deserialize_with = "lines")]
    pub programs: Vec<String>,
    /// Glob patterns of files that stay, also those that `remove_files` names, and those that nothing leads to.
    #[serde(deserialize_with = "lines")]
    pub keep_files: Vec<String>,
    /// Data and its only readers: globs of files, each with globs of the names of programs and libraries. Where none of these
    /// is reached the data is left out.
    #[serde(deserialize_with = "line_lists")]
    pub read_by: BTreeMap<String, Vec<String>>,
    /// Patterns of the features for which programs load libraries if they are there; the last that matches decides, `-`
    /// excludes.
    #[serde(deserialize_with = "lines")]
    pub dlopen: Vec<String>,
    /// Glob patterns of the files of `/usr/lib/udev/hwdb.d` that do not become part of the hardware database.
    pub hwdb_exclude: Vec<FileGlob>,
    /// Units that systemd takes for not being there, whatever else asks for them.
    pub mask_units: Vec<UnitName>,
    /// Patterns of kernel modules; the last that matches decides, `-` excludes.
    #[serde(deserialize_with = "lines")]
    pub modules: Vec<String>,
    /// Glob patterns of firmware files beside those that the modules name.
    #[serde(deserialize_with = "lines")]
    pub firmware: Vec<String>,
    /// Directories whose files are copied over the installed tree before units are enabled, relative to the definition's.
    pub extra_trees: Vec<PathBuf>,
}

impl Selection {
    pub(super) fn extend(&mut self, other: Selection) {
        if !other.description.is_empty() {
            self.description = other.description;
        }
        self.include_profiles.extend(other.include_profiles);
        self.unavailable = other.unavailable.or(self.unavailable.take());
        self.repos.extend(other.repos);
        self.install.extend(other.install);
        self.exclude.extend(other.exclude);
        self.remove_files.extend(other.remove_files);
        self.programs.extend(other.programs);
        self.keep_files.extend(other.keep_files);
        extend_lists(&mut self.read_by, other.read_by);
        self.dlopen.extend(other.dlopen);
        self.hwdb_exclude.extend(other.hwdb_exclude);
        self.mask_units.extend(other.mask_units);
        self.modules.extend(other.modules);
        self.firmware.extend(other.firmware);
        self.extra_trees.extend(other.extra_trees);
    }

    pub(super) fn resolve_paths(&mut self, directory: &Path) {
        for tree in &mut self.extra_trees {
            *tree = directory.join(&*tree);
        }
    }
}

/// Joins lists of the same name.
pub(super) fn extend_lists(lists: &mut BTreeMap<String, Vec<String>>, later: BTreeMap<String, Vec<String>>) {
    for (name, list) in later {
        lists.entry(name).or_default().extend(list);
    }
}
