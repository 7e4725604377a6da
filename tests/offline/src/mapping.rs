//! The mapping file `map.json`: which of Fedora's packages is made from which of Debian's.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;

/// The mapping that the project has.
const MAP: &str = include_str!("../map.json");

/// Everything that tells one distribution's packages from the other's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// What the file is, for who opens it.
    #[serde(rename = "about")]
    _about: String,
    /// The suites that packages are taken from; the newest version of them all is.
    pub suites: Vec<String>,
    /// Packages that a newer suite has with what the tests need.
    pub newer: Newer,
    /// The images that run dnf, by name.
    pub builders: BTreeMap<String, Builder>,
    /// The kernels.
    pub kernels: Vec<Kernel>,
    /// Directories and name beginnings, below a kernel's `kernel/`, of what `kernel-modules-core` holds.
    pub kernel_core_modules: Vec<String>,
    /// Packages that Fedora divides and Debian does not.
    pub splits: Vec<Split>,
    /// How the paths begin that no package of Fedora has.
    pub left_out: Vec<String>,
    /// Debian's packages that nothing needs in Fedora, where scriptlets and maintainers' tools differ.
    pub ignored_dependencies: BTreeSet<String>,
    /// Fedora's packages by name.
    pub packages: BTreeMap<String, Rule>,
}

/// Packages taken from another suite, all of them or none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Newer {
    /// The suite.
    pub suite: String,
    /// Debian's names.
    pub packages: Vec<String>,
}

/// The image that runs one kind of dnf.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Builder {
    /// Debian's suite that has this dnf.
    pub suite: String,
    /// Packages beside the minimal system.
    pub include: Vec<String>,
}

/// A kernel, of which every version that the suites hold becomes a package.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Debian's package that depends on the kernel of the day.
    pub metapackage: String,
    /// How the package names begin.
    pub name: String,
    /// Whether `NAME-core` leaves its modules to `NAME-modules-core` and `NAME-modules`, as Fedora's does.
    pub split: bool,
}

/// Files of one package that another one gets.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The package that has them in Debian.
    pub from: String,
    /// The package that has them in Fedora.
    pub to: String,
    /// Parts of the paths that move.
    pub paths: Vec<String>,
}

/// How one of Fedora's packages is made.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Debian's packages that it is made from; the first gives version, source and texts.
    pub from: Vec<String>,
    /// What it provides beside.
    #[serde(default)]
    pub provides: Vec<String>,
    /// What it requires beside.
    #[serde(default)]
    pub requires: Vec<String>,
    /// Debian's packages that these depend on and Fedora's do not.
    #[serde(default)]
    pub ignore: BTreeSet<String>,
    /// Accounts that Debian's scripts would make, as lines of sysusers.d(5).
    #[serde(default)]
    pub accounts: Vec<String>,
    /// Links by path that Debian's scripts would make.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    /// Capabilities by path that Debian's scripts would set.
    #[serde(default)]
    pub capabilities: BTreeMap<String, String>,
}

impl Mapping {
    /// The project's mapping.
    ///
    /// # Errors
    /// Fails when the file is not what [`Mapping`] describes.
    pub fn load() -> Result<Mapping> {
        serde_json::from_str(MAP).context("reading tests/offline/map.json")
    }

    /// The suites to read, the newer one included.
    pub fn all_suites(&self) -> BTreeSet<&str> {
        self.suites.iter().map(String::as_str).chain([self.newer.suite.as_str()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mapping_is_readable_and_gives_no_package_away_twice() {
        let mapping = Mapping::load().unwrap();
        let mut owners = BTreeMap::new();
        for (name, rule) in &mapping.packages {
            assert!(!rule.from.is_empty(), "{name} is made from nothing");
            for debian in &rule.from {
                assert_eq!(owners.insert(debian, name), None, "{debian} belongs to {name} and another");
                assert!(!mapping.ignored_dependencies.contains(debian), "{debian} is mapped and ignored");
            }
        }
    }
}
