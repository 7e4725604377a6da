//! What a lock was made from: every input of a definition by name, with a digest of what it says.
//!
//! Two kinds are told apart. Some inputs decide which packages there are: if one of them changes, dnf has to solve
//! again. The others decide what is made of the packages: a lock that is out of date by these only is renewed without.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::definition::extra_tree;
use crate::definition::{BUILDER_FILE, Definition, Selection, Uki};
use ocinitrd_format::digest::Digest;
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// Digests by the name of the input: where it stands in the definition.
type Digests = BTreeMap<String, Digest>;

/// The inputs of a definition, with those of some of its profiles.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// Those that decide on the packages.
    pub packages: Digests,
    /// Those that decide on what is made of the packages.
    pub contents: Digests,
}

/// The names of the inputs in which two differ, sorted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// Of those that decide on the packages.
    pub packages: Vec<String>,
    /// Of those that decide on what is made of the packages.
    pub contents: Vec<String>,
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.contents.is_empty()
    }

    /// All names.
    pub fn names(&self) -> Vec<&str> {
        self.packages.iter().chain(&self.contents).map(String::as_str).collect()
    }
}

impl Inputs {
    /// The inputs of `definition` as it is now, with those of `profiles`.
    ///
    /// # Errors
    /// Fails when a key or an extra tree cannot be read, and on a profile that the definition does not have.
    pub fn of(definition: &Definition, profiles: &BTreeSet<String>) -> Result<Inputs> {
        let mut inputs = Inputs::default();
        inputs.package("[builder] image", &json!(definition.builder_image));
        inputs.package("releasever", &json!(definition.releasever));
        inputs.repositories(definition, profiles)?;
        inputs.package("[kernel] packages", &json!(sorted(&definition.kernel_packages)));
        inputs.content("[kernel] keep_compression", &json!(definition.keep_module_compression));
        inputs.content("[output] compression", &json!(definition.compression.to_string()));
        inputs.uki(definition)?;
        let places =
            Places { packages: "[packages]", kernel: "[kernel]", extra_trees: "extra_trees", mask_units: "mask_units" };
        inputs.selection(definition, &places, &definition.selection)?;
        for name in profiles {
            let place = format!("[profiles.{name}]");
            let profile = definition.profile(name)?;
            let key = |name: &str| format!("{place} {name}");
            let (extra_trees, mask_units) = (key("extra_trees"), key("mask_units"));
            let places =
                Places { packages: &place, kernel: &place, extra_trees: &extra_trees, mask_units: &mask_units };
            inputs.selection(definition, &places, profile)?;
        }
        Ok(inputs)
    }

    /// In what `other` differs from these.
    pub fn changes(&self, other: &Inputs) -> Changes {
        Changes {
            packages: differing(&self.packages, &other.packages),
            contents: differing(&self.contents, &other.contents),
        }
    }

    /// Only of those that packages may come from: a change of another one is none.
    fn repositories(&mut self, definition: &Definition, profiles: &BTreeSet<String>) -> Result<()> {
        for (id, repository) in definition.repositories_of(&definition.select(profiles)?) {
            self.package(&format!("[repos.{id}]"), &json!(repository));
            for key in repository.gpg_keys.iter().filter(|key| !key.starts_with(BUILDER_FILE)) {
                let text = regular_file::read(&definition.path(key), TEXT_LIMIT_BYTES);
                let text = text.with_context(|| format!("reading the key {key} of [repos.{id}]"))?;
                self.packages.insert(format!("the key {key}"), Digest::of(&text));
            }
        }
        Ok(())
    }

    /// Nothing, where the definition says nothing of unified kernel images.
    fn uki(&mut self, definition: &Definition) -> Result<()> {
        if definition.uki == Uki::default() {
            return Ok(());
        }
        let digest = |path: &PathBuf| -> Result<Digest> {
            let read = regular_file::open(&definition.path(path)).and_then(Digest::of_reader);
            Ok(read.with_context(|| format!("reading {} of [uki]", path.display()))?.0)
        };
        let files: Vec<Digest> = definition.uki.files().map(digest).collect::<Result<_>>()?;
        self.content("[uki]", &json!([definition.uki, files]));
        Ok(())
    }

    fn selection(&mut self, definition: &Definition, places: &Places<'_>, selection: &Selection) -> Result<()> {
        let Places { packages, kernel, .. } = places;
        self.package(&format!("{packages} install"), &json!(sorted(&selection.install)));
        self.package(&format!("{packages} exclude"), &json!(sorted(&selection.exclude)));
        // A lock that was made before there was such a key stays fresh.
        if !selection.repos.is_empty() {
            self.package(&format!("{packages} repos"), &json!(sorted(&selection.repos)));
        }
        self.content(&format!("{packages} remove_files"), &json!(sorted(&selection.remove_files)));
        self.content(places.mask_units, &json!(sorted(&selection.mask_units)));
        self.content(&format!("{packages} trim"), &json!(selection.trim));
        self.content(&format!("{packages} programs"), &json!(sorted(&selection.programs)));
        self.content(&format!("{packages} keep_files"), &json!(sorted(&selection.keep_files)));
        self.content(&format!("{packages} hwdb_exclude"), &json!(sorted(&selection.hwdb_exclude)));
        let read_by: BTreeMap<_, _> = selection.read_by.iter().map(|(data, readers)| (data, sorted(readers))).collect();
        self.content(&format!("{packages} read_by"), &json!(read_by));
        // The order of patterns counts.
        self.content(&format!("{packages} dlopen"), &json!(selection.dlopen));
        self.content(&format!("{kernel} modules"), &json!(selection.modules));
        self.content(&format!("{kernel} firmware"), &json!(selection.firmware));
        self.content(places.extra_trees, &json!(selection.extra_trees));
        for tree in &selection.extra_trees {
            let digest = extra_tree::digest(&definition.path(tree))?;
            self.contents.insert(format!("the extra tree {}", tree.display()), digest);
        }
        Ok(())
    }

    fn package(&mut self, name: &str, value: &Value) {
        self.packages.insert(name.to_owned(), Digest::of(value.to_string().as_bytes()));
    }

    fn content(&mut self, name: &str, value: &Value) {
        self.contents.insert(name.to_owned(), Digest::of(value.to_string().as_bytes()));
    }
}

/// How the places of a selection are called.
struct Places<'a> {
    packages: &'a str,
    kernel: &'a str,
    extra_trees: &'a str,
    mask_units: &'a str,
}

fn sorted<W: AsRef<str>>(words: &[W]) -> BTreeSet<&str> {
    words.iter().map(AsRef::as_ref).collect()
}

fn differing(one: &Digests, other: &Digests) -> Vec<String> {
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    names.into_iter().filter(|name| one.get(*name) != other.get(*name)).cloned().collect()
}
