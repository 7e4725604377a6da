//! The mapping files: which of Fedora's packages is made from which of Debian's.
//!
//! `map.json` describes the first repository. Each further one is a merge patch of it (RFC 7396), so that its file holds
//! only what differs: a member replaces the one of the same name, and `null` removes it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// The mapping of the first repository.
const MAP: &str = include_str!("../map.json");
/// What differs in the second, which is shaped like Fedora 44.
const FEDORA44: &str = include_str!("../map-fedora44.json");

/// Everything that tells one distribution's packages from the other's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// What the file is, for who opens it.
    #[serde(rename = "about")]
    _about: String,
    /// The directory of the repository below that of the set-up; empty for the first.
    #[serde(default)]
    pub directory: String,
    /// Whether packages get the weight and the quirks of Fedora's; see [`crate::fedora`].
    #[serde(default)]
    pub is_fedora_shaped: bool,
    /// The suites that packages are taken from; the newest version of them all is.
    pub suites: Vec<String>,
    /// Packages that a newer suite has with what the tests need.
    pub newer: Option<Newer>,
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
    /// Further ones in a mapping that differs from the first.
    #[serde(default)]
    pub also_ignored: BTreeSet<String>,
    /// Fedora's packages by name.
    pub packages: BTreeMap<String, Rule>,
    /// What the packages that come of a split provide and require beside, by name.
    #[serde(default)]
    pub parts: BTreeMap<String, Rule>,
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
    /// Whether its modules are compressed with zstd in place of xz.
    #[serde(default)]
    pub zstd_modules: bool,
}

/// Files of one package that another one gets.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The package that has them in Debian.
    pub from: String,
    /// The package that has them in Fedora.
    pub to: String,
    /// Parts of the paths that move. One that ends with `$` has to end the path.
    pub paths: Vec<String>,
    /// Whether the new package is the basis of the other, which then requires it: it takes over the dependencies.
    #[serde(default)]
    pub is_base: bool,
    /// Whether the new package does without the other, which else it requires.
    #[serde(default)]
    pub is_independent: bool,
    /// Debian's packages that the new one stands for.
    #[serde(default)]
    pub debs: Vec<String>,
}

impl Split {
    /// Whether the file at `path` moves.
    pub fn moves(&self, path: &str) -> bool {
        self.paths.iter().any(|part| match part.strip_suffix('$') {
            Some(end) => path.ends_with(end),
            None => path.contains(part.as_str()),
        })
    }
}

/// How one of Fedora's packages is made.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Debian's packages that it is made from; the first gives version, source and texts.
    #[serde(default)]
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
    /// Directories that lie elsewhere in Fedora: where by whence.
    #[serde(default)]
    pub moved: BTreeMap<String, String>,
    /// How the paths begin that Fedora's package does not have.
    #[serde(default)]
    pub without: Vec<String>,
}

impl Mapping {
    /// The mapping of every repository, the first one first.
    ///
    /// # Errors
    /// Fails when a file is not what [`Mapping`] describes.
    pub fn load_all() -> Result<Vec<Mapping>> {
        let first: Value = serde_json::from_str(MAP).context("reading tests/offline/map.json")?;
        let mut second = first.clone();
        merge(&mut second, serde_json::from_str(FEDORA44).context("reading tests/offline/map-fedora44.json")?);
        let read = |value, file: &str| serde_json::from_value(value).with_context(|| format!("reading {file}"));
        Ok(vec![read(first, "tests/offline/map.json")?, read(second, "tests/offline/map-fedora44.json")?])
    }

    /// The suites to read, the newer one included.
    pub fn all_suites(&self) -> BTreeSet<&str> {
        let newer = self.newer.iter().map(|newer| newer.suite.as_str());
        self.suites.iter().map(String::as_str).chain(newer).collect()
    }

    /// Whether nothing in Fedora needs a package of Debian's.
    pub fn ignores(&self, debian: &str) -> bool {
        self.ignored_dependencies.contains(debian) || self.also_ignored.contains(debian)
    }
}

/// Applies the merge patch `patch` (RFC 7396).
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(members) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, value) in members {
        if value.is_null() {
            fields.remove(&name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_mappings_are_readable_and_give_no_package_away_twice() {
        for mapping in Mapping::load_all().unwrap() {
            let mut owners = BTreeMap::new();
            for (name, rule) in &mapping.packages {
                assert!(!rule.from.is_empty(), "{name} is made from nothing");
                for debian in &rule.from {
                    assert_eq!(owners.insert(debian, name), None, "{debian} belongs to {name} and another");
                    assert!(!mapping.ignores(debian), "{debian} is mapped and ignored");
                }
            }
        }
    }

    #[test]
    fn a_patch_replaces_adds_and_removes_members() {
        let mut value = json!({"a": {"kept": 1, "replaced": [1, 2]}, "gone": 1});
        merge(&mut value, json!({"a": {"replaced": [3], "added": {"x": null, "y": 1}}, "gone": null}));
        assert_eq!(value, json!({"a": {"kept": 1, "replaced": [3], "added": {"y": 1}}}));
    }

    #[test]
    fn a_split_moves_paths_by_their_middle_or_their_end() {
        let paths = vec!["networkd".to_owned(), "/bin/mount$".to_owned()];
        let split = Split { paths, ..Split::default() };
        assert!(split.moves("/usr/lib/systemd/networkd.conf") && split.moves("/usr/bin/mount"));
        assert!(!split.moves("/usr/bin/mountpoint"));
    }
}
