//! `images/NAME.toml` to a checked [`Definition`].
//!
//! Enters: the text of a definition and of the files it includes. Leaves: one value whose paths are relative to the
//! definition's directory, so that it says the same wherever a checkout lies.
//! The format is TOML and strict: an unknown key is an error that names the nearest right one. An included file comes
//! before the file that includes it: lists are joined in that order, single values are replaced, tables are merged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::format::compress::Compression;

/// What goes into an image, with its profiles not yet chosen.
#[derive(Clone, Debug)]
pub struct Definition {
    /// How it was named: for the commands in messages.
    pub argument: String,
    /// The image's name: the file name without `.toml`.
    pub name: String,
    /// The builder image as written, `registry/name[:tag]@sha256:...`.
    pub builder_image: String,
    /// What dnf calls `releasever`.
    pub releasever: String,
    /// Repositories by id.
    pub repositories: BTreeMap<String, Repository>,
    /// What is installed and removed whatever the profile.
    pub selection: Selection,
    /// The packages whose payload is the kernel and its modules.
    pub kernel_packages: Vec<String>,
    /// Whether modules stay compressed as the distribution ships them.
    pub keep_module_compression: bool,
    /// Profiles by name.
    pub profiles: BTreeMap<String, Selection>,
    /// Those of them that are part of the image and already in its selection.
    pub default_profiles: Vec<String>,
    /// How the initrd is compressed unless the command line says otherwise.
    pub compression: Compression,
    /// Every file that was read, in the order of reading: this file is the last.
    pub files: Vec<PathBuf>,
    /// The directory of this file, absolute: what the definition's paths are relative to.
    pub directory: PathBuf,
}

/// What an image or one of its profiles adds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// One line for people.
    pub description: String,
    /// Of a profile: the profiles that it takes, which are chosen with it.
    pub include_profiles: Vec<String>,
    /// Packages to install, as dnf takes them.
    pub install: Vec<String>,
    /// Packages that dnf must not choose.
    pub exclude: Vec<String>,
    /// Glob patterns of files left out of the initrd, each with a leading slash; a directory goes with all below it.
    pub remove_files: Vec<String>,
    /// Units that systemd takes for not being there, whatever else asks for them.
    pub mask_units: Vec<String>,
    /// Patterns of kernel modules; the last that matches decides, `-` excludes.
    pub modules: Vec<String>,
    /// Glob patterns of firmware files beside those that the modules name.
    pub firmware: Vec<String>,
    /// Directories whose files are copied over the installed tree before units are enabled, relative to the definition's.
    pub extra_trees: Vec<PathBuf>,
}

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

impl Definition {
    /// Reads the definition `image`: a name looked up as `images/NAME.toml` below `directory`, or a path to a file.
    ///
    /// # Errors
    /// Fails when there is no such definition (naming those there are), or when it or an included file cannot be read,
    /// holds an unknown key, lacks a required one, or includes itself.
    pub fn load(image: &str, directory: &Path) -> Result<Definition> {
        let path = find(image, directory)?;
        let mut files = Vec::new();
        let merged = read_with_includes(&path, &mut Vec::new(), &mut files)?;
        merged.check(image, &path, files).with_context(|| format!("checking the definition {}", path.display()))
    }

    /// Where a path of the definition leads.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.directory.join(path)
    }

    /// The address of a repository that a `baseurl` names: an URL as it stands, or the path of a directory.
    pub fn base_url(&self, baseurl: &str) -> String {
        if baseurl.contains("://") { baseurl.to_owned() } else { self.path(baseurl).to_string_lossy().into_owned() }
    }

    /// Where the image's lock belongs: beside its definition.
    pub fn lock_path(&self) -> PathBuf {
        self.path(format!("{}.lock", self.name))
    }

    /// The image's own selection with those of `profiles` added in the given order, each behind those that it includes.
    ///
    /// # Errors
    /// Fails when a profile is not defined, naming those that are.
    pub fn select<'p>(&self, profiles: impl IntoIterator<Item = &'p String>) -> Result<Selection> {
        let mut selection = self.selection.clone();
        for name in self.with_included(profiles)? {
            if !self.default_profiles.contains(&name) {
                selection.extend(self.profile(&name)?.clone());
            }
        }
        Ok(selection)
    }

    /// `profiles` in the given order, each once and behind those that it includes.
    ///
    /// # Errors
    /// Fails when a profile is not defined, naming those that are, or includes itself.
    pub fn with_included<'p>(&self, profiles: impl IntoIterator<Item = &'p String>) -> Result<Vec<String>> {
        let mut chosen = Vec::new();
        for name in profiles {
            self.choose(name, &mut Vec::new(), &mut chosen)?;
        }
        Ok(chosen)
    }

    /// Adds a profile and what it includes to `chosen`; `open` is the chain of profiles that led here.
    fn choose(&self, name: &String, open: &mut Vec<String>, chosen: &mut Vec<String>) -> Result<()> {
        if open.contains(name) {
            bail!("the profile includes itself: {} -> {name}", open.join(" -> "));
        }
        let profile = self.profile(name)?;
        open.push(name.clone());
        for included in &profile.include_profiles {
            self.choose(included, open, chosen).with_context(|| format!("in include_profiles of [profiles.{name}]"))?;
        }
        open.pop();
        if !chosen.contains(name) {
            chosen.push(name.clone());
        }
        Ok(())
    }

    /// The profile `name`.
    ///
    /// # Errors
    /// Fails when it is not defined, naming those that are.
    pub fn profile(&self, name: &str) -> Result<&Selection> {
        self.profiles.get(name).with_context(|| {
            let known: Vec<&str> = self.profiles.keys().map(String::as_str).collect();
            format!("image {} has no profile {name:?}; its profiles are: {}", self.name, known.join(", "))
        })
    }
}

impl Selection {
    fn extend(&mut self, other: Selection) {
        if !other.description.is_empty() {
            self.description = other.description;
        }
        self.include_profiles.extend(other.include_profiles);
        self.install.extend(other.install);
        self.exclude.extend(other.exclude);
        self.remove_files.extend(other.remove_files);
        self.mask_units.extend(other.mask_units);
        self.modules.extend(other.modules);
        self.firmware.extend(other.firmware);
        self.extra_trees.extend(other.extra_trees);
    }

    fn resolve_paths(&mut self, directory: &Path) {
        for tree in &mut self.extra_trees {
            *tree = directory.join(&*tree);
        }
    }
}

/// One file as written: everything is optional until all files are merged.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawDefinition {
    include: Vec<PathBuf>,
    releasever: Option<String>,
    builder: RawBuilder,
    repos: BTreeMap<String, Repository>,
    packages: RawPackages,
    kernel: RawKernel,
    extra_trees: Vec<PathBuf>,
    mask_units: Vec<String>,
    profiles: BTreeMap<String, Selection>,
    default_profiles: Vec<String>,
    output: RawOutput,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawBuilder {
    image: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawPackages {
    install: Vec<String>,
    exclude: Vec<String>,
    remove_files: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawKernel {
    packages: Vec<String>,
    modules: Vec<String>,
    firmware: Vec<String>,
    keep_compression: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawOutput {
    compression: Option<String>,
}

impl RawDefinition {
    fn parse(text: &str) -> Result<RawDefinition> {
        toml::from_str(text).map_err(|error| match nearest_key(error.message()) {
            Some(nearest) => anyhow::anyhow!("{error}did you mean `{nearest}`?"),
            None => anyhow::anyhow!("{error}"),
        })
    }

    /// Puts `directory`, that of the file, before what the file says relative to itself.
    fn resolve_paths(&mut self, directory: &Path) {
        for tree in &mut self.extra_trees {
            *tree = directory.join(&*tree);
        }
        for profile in self.profiles.values_mut() {
            profile.resolve_paths(directory);
        }
        for repository in self.repos.values_mut() {
            for location in repository.baseurl.iter_mut().filter(|url| !url.contains("://")) {
                *location = directory.join(&*location).to_string_lossy().into_owned();
            }
            for key in repository.gpg_keys.iter_mut().filter(|key| !key.starts_with(BUILDER_FILE)) {
                *key = directory.join(&*key).to_string_lossy().into_owned();
            }
        }
    }

    /// Adds what a later file says: it wins where only one can.
    fn extend(&mut self, later: RawDefinition) {
        self.releasever = later.releasever.or(self.releasever.take());
        self.builder.image = later.builder.image.or(self.builder.image.take());
        self.repos.extend(later.repos);
        self.packages.install.extend(later.packages.install);
        self.packages.exclude.extend(later.packages.exclude);
        self.packages.remove_files.extend(later.packages.remove_files);
        self.kernel.packages.extend(later.kernel.packages);
        self.kernel.modules.extend(later.kernel.modules);
        self.kernel.firmware.extend(later.kernel.firmware);
        self.kernel.keep_compression = later.kernel.keep_compression.or(self.kernel.keep_compression);
        self.extra_trees.extend(later.extra_trees);
        self.mask_units.extend(later.mask_units);
        for (name, profile) in later.profiles {
            self.profiles.entry(name).or_default().extend(profile);
        }
        self.default_profiles.extend(later.default_profiles);
        self.output.compression = later.output.compression.or(self.output.compression.take());
    }

    /// Checks the merged definition of the file `path`; `files` were read.
    fn check(self, argument: &str, path: &Path, files: Vec<PathBuf>) -> Result<Definition> {
        for (id, repository) in &self.repos {
            repository.check().with_context(|| format!("in [repos.{id}]"))?;
        }
        if self.repos.is_empty() {
            bail!("there is no [repos.ID]: name at least one repository to install from");
        }
        if self.packages.install.is_empty() {
            bail!("[packages] install is empty: name at least systemd");
        }
        let compression = self.output.compression.as_deref().unwrap_or("zstd");
        let file = files.last().context("a definition is at least one file")?;
        let mut definition = Definition {
            argument: argument.to_owned(),
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            directory: file.parent().unwrap_or(Path::new("/")).to_owned(),
            builder_image: self.builder.image.context("[builder] image is missing")?,
            releasever: self.releasever.context("releasever is missing, such as releasever = \"44\"")?,
            repositories: self.repos,
            selection: Selection {
                description: String::new(),
                include_profiles: Vec::new(),
                install: self.packages.install,
                exclude: self.packages.exclude,
                remove_files: self.packages.remove_files,
                mask_units: self.mask_units,
                modules: self.kernel.modules,
                firmware: self.kernel.firmware,
                extra_trees: self.extra_trees,
            },
            kernel_packages: self.kernel.packages,
            keep_module_compression: self.kernel.keep_compression.unwrap_or(true),
            profiles: self.profiles,
            default_profiles: Vec::new(),
            compression: compression.parse().context("in [output] compression")?,
            files,
        };
        definition.with_included(definition.profiles.keys())?;
        let default_profiles = definition.with_included(&self.default_profiles).context("in default_profiles")?;
        let selection = definition.select(&default_profiles)?;
        definition.selection = Selection { description: String::new(), include_profiles: Vec::new(), ..selection };
        definition.default_profiles = default_profiles;
        Ok(definition)
    }
}

/// What a key's path starts with when the key is a file of the builder image.
pub const BUILDER_FILE: &str = "builder:";

impl Repository {
    fn check(&self) -> Result<()> {
        let kinds = [!self.baseurl.is_empty(), self.metalink.is_some(), self.mirrorlist.is_some()];
        if kinds.iter().filter(|given| **given).count() != 1 {
            bail!("give exactly one of baseurl, metalink and mirrorlist");
        }
        if self.gpg_keys.is_empty() {
            bail!("gpg_keys is empty: packages are installed only when a key verifies them");
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

/// The path of the definition that a user named.
fn find(image: &str, directory: &Path) -> Result<PathBuf> {
    if image.contains('/') || image.ends_with(".toml") {
        return Ok(directory.join(image));
    }
    let images = directory.join("images");
    let path = images.join(format!("{image}.toml"));
    if path.is_file() {
        return Ok(path);
    }
    let known = names_in(&images)?;
    if known.is_empty() {
        bail!(
            "there is no image {image:?}: {} holds no definition; run in a directory that has images/NAME.toml, \
             or give the path of a definition",
            images.display()
        );
    }
    bail!("there is no image {image:?} in {}; those there are: {}", images.display(), known.join(", "));
}

/// The images of a directory; what they share lies in folders below it.
fn names_in(images: &Path) -> Result<Vec<String>> {
    let Ok(listing) = fs::read_dir(images) else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in listing {
        let path = entry.with_context(|| format!("listing {}", images.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            names.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Reads `path` and, before it, what it includes. `open` is the chain of includes that led here.
fn read_with_includes(path: &Path, open: &mut Vec<PathBuf>, files: &mut Vec<PathBuf>) -> Result<RawDefinition> {
    let path = fs::canonicalize(path).with_context(|| format!("reading the definition {}", path.display()))?;
    if open.contains(&path) {
        let chain: Vec<String> = open.iter().chain([&path]).map(|file| file.display().to_string()).collect();
        bail!("the definition includes itself: {}", chain.join(" -> "));
    }
    let text = fs::read_to_string(&path).with_context(|| format!("reading the definition {}", path.display()))?;
    let mut own = RawDefinition::parse(&text).with_context(|| format!("reading the definition {}", path.display()))?;
    let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
    open.push(path.clone());
    own.resolve_paths(&way_between(&open[0], &path)?);
    let mut merged = RawDefinition::default();
    for include in &own.include {
        let included = read_with_includes(&directory.join(include), open, files)
            .with_context(|| format!("including {} in {}", include.display(), path.display()))?;
        merged.extend(included);
    }
    open.pop();
    merged.extend(own);
    files.push(path);
    Ok(merged)
}

/// The way from the directory of the file `main` to that of `included`; both are canonical.
fn way_between(main: &Path, included: &Path) -> Result<PathBuf> {
    let directory = |file: &Path| file.parent().unwrap_or(Path::new("/")).to_owned();
    pathdiff::diff_paths(directory(included), directory(main))
        .with_context(|| format!("there is no way from {} to {}", main.display(), included.display()))
}

/// The right key nearest to the unknown one that a message of serde's speaks of.
fn nearest_key(message: &str) -> Option<String> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let wrong = quoted.next()?;
    quoted
        .map(|right| (strsim::damerau_levenshtein(wrong, right), right))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, right)| right.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
releasever = "44"
[builder]
image = "registry.example/fedora@sha256:00"
[repos.fedora]
baseurl = "repo"
gpg_keys = ["keys/a.asc", "builder:/etc/key"]
[packages]
install = ["systemd"]
[profiles.lvm]
install = ["lvm2"]
modules = ["dm-thin-pool"]
"#;

    fn images(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("images")).unwrap();
        for (name, text) in files {
            fs::write(directory.path().join("images").join(name), text).unwrap();
        }
        directory
    }

    fn error_of(files: &[(&str, &str)], image: &str) -> String {
        let directory = images(files);
        format!("{:#}", Definition::load(image, directory.path()).unwrap_err())
    }

    #[test]
    fn paths_are_relative_to_the_file_and_builder_keys_stay() {
        let directory = images(&[("a.toml", MINIMAL)]);
        let definition = Definition::load("a", directory.path()).unwrap();
        let base = fs::canonicalize(directory.path()).unwrap().join("images");
        let repository = &definition.repositories["fedora"];
        assert_eq!(repository.baseurl, ["repo"]);
        assert_eq!(definition.base_url("repo"), base.join("repo").to_str().unwrap());
        assert_eq!(definition.base_url("https://a.example/repo"), "https://a.example/repo");
        assert_eq!(repository.gpg_keys, ["keys/a.asc", "builder:/etc/key"]);
        assert_eq!(repository.priority, 99);
        assert_eq!(definition.lock_path(), base.join("a.lock"));
    }

    #[test]
    fn paths_of_included_files_lead_from_the_definition_to_them() {
        let directory = images(&[("a.toml", "include = [\"../other/b.toml\"]\n")]);
        fs::create_dir(directory.path().join("other")).unwrap();
        fs::write(directory.path().join("other/b.toml"), MINIMAL).unwrap();
        let definition = Definition::load("a", directory.path()).unwrap();
        assert_eq!(definition.repositories["fedora"].baseurl, ["../other/repo"]);
    }

    #[test]
    fn includes_come_first_lists_join_and_values_are_replaced() {
        let directory = images(&[
            ("a.toml", MINIMAL),
            ("b.toml", "include = [\"a.toml\"]\nreleasever = \"45\"\n[packages]\ninstall = [\"bash\"]\n"),
        ]);
        let definition = Definition::load("b", directory.path()).unwrap();
        assert_eq!(definition.selection.install, ["systemd", "bash"]);
        assert_eq!((definition.releasever.as_str(), definition.name.as_str()), ("45", "b"));
        assert_eq!(definition.files.len(), 2);
    }

    #[test]
    fn profiles_add_to_the_image_and_unknown_ones_are_refused() {
        let directory = images(&[("a.toml", MINIMAL)]);
        let definition = Definition::load("a", directory.path()).unwrap();
        let selection = definition.select(&["lvm".to_owned()]).unwrap();
        assert_eq!(selection.install, ["systemd", "lvm2"]);
        let error = definition.select(&["lvn".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "image a has no profile \"lvn\"; its profiles are: lvm");
    }

    #[test]
    fn default_profiles_are_part_of_the_image_and_are_not_added_twice() {
        let with = |names: &str| format!("default_profiles = [{names}]\n{MINIMAL}");
        let directory = images(&[("a.toml", &with("\"lvm\"")), ("b.toml", &with("\"lvn\""))]);
        let definition = Definition::load("a", directory.path()).unwrap();
        assert_eq!(definition.selection.install, ["systemd", "lvm2"]);
        let selection = definition.select(&["lvm".to_owned()]).unwrap();
        assert_eq!(
            (selection.install, selection.modules),
            (definition.selection.install, vec!["dm-thin-pool".to_owned()])
        );
        let error = format!("{:#}", Definition::load("b", directory.path()).unwrap_err());
        assert!(error.contains("in default_profiles: image b has no profile \"lvn\""), "{error}");
    }

    #[test]
    fn a_profile_comes_behind_those_that_it_includes_each_once() {
        let nfs = "[profiles.nfs]\ninclude_profiles = [\"network\"]\ninstall = [\"nfs-utils\"]\n";
        let network = "[profiles.network]\ninstall = [\"networkd\"]\n";
        let directory = images(&[
            ("a.toml", &format!("{MINIMAL}{nfs}{network}")),
            ("b.toml", "include = [\"a.toml\"]\ndefault_profiles = [\"nfs\"]\n"),
        ]);
        let definition = Definition::load("a", directory.path()).unwrap();
        let names = ["nfs", "lvm", "network"].map(str::to_owned);
        assert_eq!(definition.with_included(&names).unwrap(), ["network", "nfs", "lvm"]);
        let selection = definition.select(&names[..1]).unwrap();
        assert_eq!(selection.install, ["systemd", "networkd", "nfs-utils"]);
        let by_default = Definition::load("b", directory.path()).unwrap();
        assert_eq!(by_default.default_profiles, ["network", "nfs"]);
        assert_eq!(by_default.select(&names[2..]).unwrap().install, ["systemd", "networkd", "nfs-utils"]);
    }

    #[test]
    fn a_profile_that_includes_itself_or_one_that_is_not_there_is_refused_when_it_is_read() {
        let with = |nfs: &str, network: &str| {
            format!(
                "{MINIMAL}[profiles.nfs]\ninclude_profiles = [\"{nfs}\"]\n[profiles.network]\ninclude_profiles = [{network}]\n"
            )
        };
        let error = error_of(&[("a.toml", &with("network", "\"nfs\""))], "a");
        assert!(error.contains("the profile includes itself: network -> nfs -> network"), "{error}");
        let error = error_of(&[("a.toml", &with("netwrk", ""))], "a");
        assert!(error.contains("in include_profiles of [profiles.nfs]: image a has no profile \"netwrk\""), "{error}");
    }

    #[test]
    fn unknown_key_names_the_place_and_the_nearest_right_one() {
        let error = error_of(&[("a.toml", &MINIMAL.replace("install = [\"systemd\"]", "instal = []"))], "a");
        assert!(error.contains("unknown field `instal`") && error.contains("did you mean `install`?"), "{error}");
        assert!(error.contains("line 9"), "{error}");
    }

    #[test]
    fn include_loop_names_the_chain() {
        let error = error_of(&[("a.toml", "include = [\"b.toml\"]"), ("b.toml", "include = [\"a.toml\"]")], "a");
        assert!(error.contains("the definition includes itself: "), "{error}");
        assert!(error.matches("a.toml").count() >= 2, "{error}");
    }

    #[test]
    fn missing_image_lists_those_there_are() {
        let error = error_of(&[("a.toml", MINIMAL), ("b.toml", MINIMAL)], "c");
        assert!(error.ends_with("those there are: a, b"), "{error}");
    }

    #[test]
    fn repository_needs_one_location_and_a_key() {
        let error = error_of(&[("a.toml", &MINIMAL.replace("baseurl = \"repo\"\n", ""))], "a");
        assert!(error.contains("in [repos.fedora]: give exactly one of baseurl"), "{error}");
        let keyless = MINIMAL.replace("[\"keys/a.asc\", \"builder:/etc/key\"]", "[]");
        assert!(error_of(&[("a.toml", &keyless)], "a").contains("gpg_keys is empty"));
    }
}
