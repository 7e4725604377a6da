//! `images/NAME.toml` to a checked [`Definition`].
//!
//! Enters: the text of a definition and of the files it includes. Leaves: one value whose paths are relative to the
//! definition's directory, so that it says the same wherever a checkout lies.
//! The format is TOML and strict: an unknown key is an error that names the nearest right one. An included file comes
//! before the file that includes it: lists are joined in that order, single values are replaced, tables are merged. A file that
//! is included more than once counts where it comes first.

pub mod dnf;
pub(crate) mod extra_tree;
mod pin;
mod raw;
mod repository;
mod selection;
mod uki;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::names::PackageName;
use ocinitrd_format::compress::Compression;

pub use pin::Pin;
pub(crate) use raw::mistake_without_content;
pub use repository::{BUILDER_FILE, Repository, none_one_or_many, one_or_many};
pub use selection::Selection;
pub use uki::Uki;

/// Each level takes stack; a profile is hardly more than two deep.
const DEEPEST_PROFILE: usize = 32;

/// What goes into an image, with its profiles not yet chosen.
#[derive(Clone, Debug)]
pub struct Definition {
    /// How it was named: for the commands in messages.
    pub argument: String,
    /// The image's name: the file name without `.toml`.
    pub name: String,
    /// The builder image as written, `registry/name[:tag]@sha256:...`.
    pub builder_image: String,
    /// The file that pins it: the definition's own, or one that it includes.
    pub builder_file: PathBuf,
    /// Further places that have the builder image: `registry/name`, without digest.
    pub builder_mirrors: Vec<String>,
    /// What dnf calls `releasever`.
    pub releasever: String,
    /// Repositories by id.
    pub repositories: BTreeMap<String, Repository>,
    /// What is installed and removed whatever the profile.
    pub selection: Selection,
    /// The packages whose payload is the kernel and its modules.
    pub kernel_packages: Vec<PackageName>,
    /// Whether modules stay compressed as the distribution ships them.
    pub keep_module_compression: bool,
    /// Profiles by name.
    pub profiles: BTreeMap<String, Selection>,
    /// Those of them that are part of the image and already in its selection.
    pub default_profiles: Vec<String>,
    /// How the initrd is compressed unless the command line says otherwise.
    pub compression: Compression,
    /// What becomes part of unified kernel images.
    pub uki: Uki,
    /// Every file that was read, in the order of reading: this file is the last.
    pub files: Vec<PathBuf>,
    /// The directory of this file, absolute: what the definition's paths are relative to.
    pub directory: PathBuf,
    /// Where its lock belongs.
    pub lock_directory: PathBuf,
}

/// Images that came with the program, into whose directory nobody else writes.
#[derive(Clone, Copy, Debug)]
pub struct Shipped<'a> {
    /// Where they are.
    pub images: &'a Path,
    /// Where their locks belong, absolute.
    pub locks: &'a Path,
}

impl Definition {
    /// Reads the definition `image`: a name looked up as `images/NAME.toml` below `directory`, or a path to a file.
    ///
    /// # Errors
    /// Fails when there is no such definition (naming those there are), or when it or an included file cannot be read,
    /// holds an unknown key, lacks a required one, or includes itself.
    pub fn load(image: &str, directory: &Path) -> Result<Definition> {
        Definition::load_or_shipped(image, directory, None)
    }

    /// The same; a name that is not there is looked up among those that are `shipped`.
    ///
    /// # Errors
    /// As [`Definition::load`].
    pub fn load_or_shipped(image: &str, directory: &Path, shipped: Option<Shipped<'_>>) -> Result<Definition> {
        let path = find(image, directory, shipped.map(|shipped| shipped.images))?;
        let mut files = Vec::new();
        let merged = raw::read_with_includes(&path, &mut Vec::new(), &mut files)?;
        let checked = merged.check(image, &path, files);
        let mut definition = checked.with_context(|| format!("checking the definition {}", path.display()))?;
        if let Some(Shipped { locks, .. }) = shipped.filter(|shipped| path.parent() == Some(shipped.images)) {
            definition.lock_directory = locks.to_owned();
        }
        Ok(definition)
    }

    /// Where a path of the definition leads.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.directory.join(path)
    }

    /// The address of a repository that a `baseurl` names: an URL as it stands, or the path of a directory.
    pub fn base_url(&self, baseurl: &str) -> String {
        if baseurl.contains("://") { baseurl.to_owned() } else { self.path(baseurl).to_string_lossy().into_owned() }
    }

    /// The image's lock: beside its definition, unless that came with the program.
    pub fn lock_path(&self) -> PathBuf {
        self.lock_directory.join(format!("{}.lock", self.name))
    }

    /// The image's own selection with those of `profiles` added in the given order, each behind those that it includes.
    ///
    /// # Errors
    /// Fails when a profile is not defined, naming those that are.
    pub fn select<'p>(&self, profiles: impl IntoIterator<Item = &'p String>) -> Result<Selection> {
        let mut selection = self.selection.clone();
        for name in self.added(profiles)? {
            selection.extend(self.profile(&name)?.clone());
        }
        Ok(selection)
    }

    /// What `profiles` add to the image: those of them and of what they include that are not part of it by default, in the
    /// given order.
    ///
    /// # Errors
    /// As [`Definition::with_included`].
    pub fn added<'p>(&self, profiles: impl IntoIterator<Item = &'p String>) -> Result<Vec<String>> {
        let mut chosen = self.with_included(profiles)?;
        let default: BTreeSet<&String> = self.default_profiles.iter().collect();
        chosen.retain(|name| !default.contains(name));
        Ok(chosen)
    }

    /// `profiles` in the given order, each once and behind those that it includes.
    ///
    /// # Errors
    /// Fails when a profile is not defined, naming those that are, includes itself, or cannot be part of the image.
    pub fn with_included<'p>(&self, profiles: impl IntoIterator<Item = &'p String>) -> Result<Vec<String>> {
        let chosen = self.chain(profiles)?;
        for name in &chosen {
            self.check_available(name)?;
        }
        Ok(chosen)
    }

    /// Whether the image can have the profile.
    pub fn offers(&self, profile: &String) -> bool {
        self.with_included([profile]).is_ok()
    }

    fn check_available(&self, profile: &str) -> Result<()> {
        match self.profile(profile)?.unavailable.as_deref() {
            None | Some("") => Ok(()),
            Some(reason) => bail!("the image {} cannot have the profile {profile}: {reason}", self.name),
        }
    }

    /// The repositories that packages of `selection` may come from: those that are enabled, and those that it names.
    pub fn repositories_of(&self, selection: &Selection) -> BTreeMap<&str, &Repository> {
        let is_used = |id: &str, repository: &Repository| {
            repository.enabled || selection.repos.iter().any(|named| **named == *id)
        };
        let used = self.repositories.iter().filter(|(id, repository)| is_used(id, repository));
        used.map(|(id, repository)| (id.as_str(), repository)).collect()
    }

    /// As [`Definition::with_included`], also of profiles that the image cannot have.
    fn chain<'p>(&self, profiles: impl IntoIterator<Item = &'p String>) -> Result<Vec<String>> {
        let mut chosen = Chosen::default();
        for name in profiles {
            self.choose(name, &mut Vec::new(), &mut chosen)?;
        }
        Ok(chosen.names)
    }

    /// Adds a profile and what it includes to `chosen`; `open` is the chain of profiles that led here.
    fn choose(&self, name: &String, open: &mut Vec<String>, chosen: &mut Chosen) -> Result<()> {
        if open.contains(name) {
            bail!("the profile includes itself: {} -> {name}", open.join(" -> "));
        }
        if chosen.known.contains(name) {
            return Ok(());
        }
        if open.len() == DEEPEST_PROFILE {
            bail!("profiles include each other more than {DEEPEST_PROFILE} deep: {} -> {name}", open.join(" -> "));
        }
        let profile = self.profile(name)?;
        open.push(name.clone());
        for included in &profile.include_profiles {
            self.choose(included, open, chosen).with_context(|| format!("in include_profiles of [profiles.{name}]"))?;
        }
        open.pop();
        chosen.known.insert(name.clone());
        chosen.names.push(name.clone());
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

/// Profiles in their order, each once.
#[derive(Default)]
struct Chosen {
    names: Vec<String>,
    known: BTreeSet<String>,
}

/// The path of the definition that a user named.
fn find(image: &str, directory: &Path, shipped: Option<&Path>) -> Result<PathBuf> {
    if image.contains('/') || image.ends_with(".toml") {
        return Ok(directory.join(image));
    }
    let images = directory.join("images");
    let places = [Some(images.as_path()), shipped];
    let mut paths = places.iter().flatten().map(|place| place.join(format!("{image}.toml")));
    if let Some(path) = paths.find(|path| path.is_file()) {
        return Ok(path);
    }
    let mut known = names_in(&images)?;
    if let Some(shipped) = shipped {
        known.extend(names_in(shipped)?);
        known.sort();
        known.dedup();
    }
    if known.is_empty() {
        bail!(
            "there is no image {image:?}: {} holds no definition; run in a directory that has images/NAME.toml, \
             or give the path of a definition",
            images.display()
        );
    }
    let places: Vec<String> = places.iter().flatten().map(|place| place.display().to_string()).collect();
    bail!("there is no image {image:?} in {}; those there are: {}", places.join(" or "), known.join(", "));
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

    /// The texts of names.
    fn words<W: AsRef<str>>(names: &[W]) -> Vec<&str> {
        names.iter().map(AsRef::as_ref).collect()
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
        assert_eq!(words(&definition.selection.install), ["systemd", "bash"]);
        assert_eq!((definition.releasever.as_str(), definition.name.as_str()), ("45", "b"));
        assert_eq!(definition.files.len(), 2);
    }

    #[test]
    fn readers_of_the_same_data_are_joined_over_files_and_profiles() {
        let lists = |list: &str| format!("[packages.read_by]\n\"/etc/a\" = [\"{list}\"]\n");
        let profile = "[profiles.one.read_by]\n\"/etc/a\" = [\"three\"]\n\"/etc/b\" = []\n";
        let directory = images(&[
            ("a.toml", &format!("{MINIMAL}{}", lists("one"))),
            ("b.toml", &format!("include = [\"a.toml\"]\n{}{profile}", lists("two"))),
        ]);
        let definition = Definition::load("b", directory.path()).unwrap();
        let read_by = definition.select(&["one".to_owned()]).unwrap().read_by;
        assert_eq!(
            (&read_by["/etc/a"][..], read_by["/etc/b"].len()),
            (&["one", "two", "three"].map(str::to_owned)[..], 0)
        );
        let error = error_of(&[("a.toml", &format!("{MINIMAL}{}", lists("a\\nb")))], "a");
        assert!(error.contains("has a control character"), "{error}");
    }

    #[test]
    fn profiles_add_to_the_image_and_unknown_ones_are_refused() {
        let directory = images(&[("a.toml", MINIMAL)]);
        let definition = Definition::load("a", directory.path()).unwrap();
        let selection = definition.select(&["lvm".to_owned()]).unwrap();
        assert_eq!(words(&selection.install), ["systemd", "lvm2"]);
        let error = definition.select(&["lvn".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "image a has no profile \"lvn\"; its profiles are: lvm");
    }

    #[test]
    fn default_profiles_are_part_of_the_image_and_are_not_added_twice() {
        let with = |names: &str| format!("default_profiles = [{names}]\n{MINIMAL}");
        let directory = images(&[("a.toml", &with("\"lvm\"")), ("b.toml", &with("\"lvn\""))]);
        let definition = Definition::load("a", directory.path()).unwrap();
        assert_eq!(words(&definition.selection.install), ["systemd", "lvm2"]);
        assert_eq!(definition.added(&["lvm".to_owned()]).unwrap(), Vec::<String>::new());
        let selection = definition.select(&["lvm".to_owned()]).unwrap();
        assert_eq!(
            (selection.install, selection.modules),
            (definition.selection.install, vec!["dm-thin-pool".to_owned()])
        );
        let error = format!("{:#}", Definition::load("b", directory.path()).unwrap_err());
        assert!(error.contains("in default_profiles: image b has no profile \"lvn\""), "{error}");
    }

    #[test]
    fn a_repository_that_is_not_enabled_is_used_with_the_selection_that_names_it() {
        let more =
            "[repos.more]\nenabled = false\nbaseurl = \"more\"\ngpg_keys = [\"k\"]\n[profiles.p]\nrepos = [\"more\"]\n";
        let whole = |text: &str| text.replace("[packages]\n", "[packages]\nrepos = [\"more\"]\n");
        let directory = images(&[
            ("a.toml", &format!("{MINIMAL}{more}")),
            ("b.toml", &whole(&format!("{MINIMAL}{more}"))),
            ("c.toml", &format!("{MINIMAL}{more}").replace("[repos.fedora]\n", "[repos.fedora]\nenabled = false\n")),
        ]);
        let definition = Definition::load("a", directory.path()).unwrap();
        let used = |definition: &Definition, profiles: &[&str]| -> Vec<String> {
            let profiles: Vec<String> = profiles.iter().map(|profile| (*profile).to_owned()).collect();
            let selection = definition.select(&profiles).unwrap();
            definition.repositories_of(&selection).into_keys().map(str::to_owned).collect()
        };
        assert_eq!(used(&definition, &[]), ["fedora"]);
        assert_eq!(used(&definition, &["lvm"]), ["fedora"]);
        assert_eq!(used(&definition, &["p"]), ["fedora", "more"]);
        assert_eq!(used(&Definition::load("b", directory.path()).unwrap(), &[]), ["fedora", "more"]);
        let error = format!("{:#}", Definition::load("c", directory.path()).unwrap_err());
        assert!(error.contains("no repository is enabled"), "{error}");
        let error = error_of(&[("a.toml", &format!("{MINIMAL}[profiles.p]\nrepos = [\"mor\"]\n"))], "a");
        assert!(error.contains("[profiles.p] repos names the repository mor, and there is no [repos.mor]"), "{error}");
    }

    #[test]
    fn a_profile_that_the_image_cannot_have_is_refused_with_the_reason_also_by_those_that_include_it() {
        let lvm = "unavailable = \"no lvm2\"\n[profiles.more]\ninclude_profiles = [\"lvm\"]\n";
        let text = format!("{MINIMAL}{lvm}");
        let directory = images(&[
            ("a.toml", &text),
            ("b.toml", &format!("default_profiles = [\"more\"]\n{text}")),
            ("c.toml", "include = [\"a.toml\"]\n[profiles.lvm]\nunavailable = \"\"\n"),
        ]);
        let definition = Definition::load("a", directory.path()).unwrap();
        for profile in ["lvm", "more"].map(str::to_owned) {
            let error = definition.added([&profile]).unwrap_err().to_string();
            assert_eq!(error, "the image a cannot have the profile lvm: no lvm2");
            assert!(definition.select([&profile]).is_err() && !definition.offers(&profile));
        }
        assert!(definition.select(&[]).is_ok());
        let error = format!("{:#}", Definition::load("b", directory.path()).unwrap_err());
        assert!(error.ends_with("in default_profiles: the image b cannot have the profile lvm: no lvm2"), "{error}");
        // A later file takes it back.
        assert!(Definition::load("c", directory.path()).unwrap().offers(&"more".to_owned()));
    }

    #[test]
    fn archives_are_one_or_several_and_what_was_written_before_stays_the_same() {
        let repository = |archive: &str| {
            let text = MINIMAL.replace("baseurl = \"repo\"\n", &format!("baseurl = \"repo\"\n{archive}"));
            let directory = images(&[("a.toml", &text)]);
            Definition::load("a", directory.path()).unwrap().repositories.remove("fedora").unwrap()
        };
        let written = |archive: &str| serde_json::to_value(repository(archive)).unwrap();
        assert!(written("")["archive"].is_null() && written("").get("enabled").is_none());
        assert_eq!(written("archive = \"https://a.example/$file\"\n")["archive"], "https://a.example/$file");
        assert_eq!(written("archive = [\"https://a.example/$file\"]\n")["archive"], "https://a.example/$file");
        let several = "archive = [\"https://a.example/$file\", \"https://b.example/$location\"]\n";
        assert_eq!(repository(several).archive.len(), 2);
        let error = error_of(
            &[("a.toml", &MINIMAL.replace("baseurl = \"repo\"\n", "baseurl = \"repo\"\narchive = [\"ftp://a\"]\n"))],
            "a",
        );
        assert!(error.contains("in [repos.fedora]"), "{error}");
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
        assert_eq!(words(&selection.install), ["systemd", "networkd", "nfs-utils"]);
        let by_default = Definition::load("b", directory.path()).unwrap();
        assert_eq!(by_default.default_profiles, ["network", "nfs"]);
        assert_eq!(words(&by_default.select(&names[2..]).unwrap().install), ["systemd", "networkd", "nfs-utils"]);
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
    fn a_file_that_is_included_twice_counts_where_it_comes_first() {
        let directory = images(&[
            ("a.toml", "include = [\"b.toml\", \"c.toml\"]\n"),
            ("b.toml", "include = [\"d.toml\"]\nreleasever = \"45\"\n"),
            ("c.toml", "include = [\"d.toml\"]\n[packages]\ninstall = [\"bash\"]\n"),
            ("d.toml", MINIMAL),
        ]);
        let definition = Definition::load("a", directory.path()).unwrap();
        assert_eq!(words(&definition.selection.install), ["systemd", "bash"]);
        assert_eq!((definition.releasever.as_str(), definition.files.len()), ("45", 4));
    }

    /// A chain of so many files, each of which includes the next one twice.
    fn chain(length: usize) -> tempfile::TempDir {
        let directory = images(&[]);
        for number in 0..length {
            let next = number + 1;
            let text = format!("include = [\"{next}.toml\", \"{next}.toml\"]\n");
            fs::write(directory.path().join(format!("images/{number}.toml")), text).unwrap();
        }
        fs::write(directory.path().join(format!("images/{length}.toml")), MINIMAL).unwrap();
        directory
    }

    #[test]
    fn includes_cost_what_there_is_to_read_and_have_a_limit() {
        let definition = Definition::load("0", chain(31).path()).unwrap();
        assert_eq!((definition.files.len(), definition.selection.install.len()), (32, 1));
        let error = format!("{:#}", Definition::load("0", chain(32).path()).unwrap_err());
        assert!(error.ends_with("definitions include each other more than 32 deep"), "{error}");

        let directory = images(&[]);
        let names: Vec<String> = (0..1000).map(|number| format!("\"{number}.toml\"")).collect();
        fs::write(directory.path().join("images/a.toml"), format!("include = [{}]", names.join(", "))).unwrap();
        (0..1000).for_each(|number| fs::write(directory.path().join(format!("images/{number}.toml")), "").unwrap());
        let error = format!("{:#}", Definition::load("a", directory.path()).unwrap_err());
        assert!(error.ends_with("the definition includes more than 1000 files"), "{error}");

        let long = format!("{MINIMAL}#{}", " ".repeat(1 << 20));
        assert!(
            error_of(&[("a.toml", &long)], "a")
                .contains("it has more than 1048576 bytes, the most that is read of such a file")
        );
        let key = "k".repeat(1 << 19);
        assert!(error_of(&[("a.toml", &format!("{key} = 1"))], "a").contains("unknown field"));
    }

    #[test]
    fn profiles_cost_what_there_is_to_include_and_have_a_limit() {
        let chain = |length: usize| {
            let profile = |number| {
                let next = number + 1;
                format!(
                    "[profiles.p{number}]\ninclude_profiles = [\"p{next}\", \"p{next}\"]\ninstall = [\"{number}\"]\n"
                )
            };
            let chain: String = (0..length).map(profile).collect();
            images(&[("a.toml", &format!("{MINIMAL}{chain}[profiles.p{length}]\n"))])
        };
        let definition = Definition::load("a", chain(31).path()).unwrap();
        assert_eq!(definition.with_included(&["p0".to_owned()]).unwrap().len(), 32);
        let error = format!("{:#}", Definition::load("a", chain(32).path()).unwrap_err());
        assert!(error.contains("profiles include each other more than 32 deep: p0 -> p1 -> "), "{error}");
        let flat: String = (0..20_000).map(|number| format!("[profiles.p{number}]\n")).collect();
        let directory = images(&[("a.toml", &format!("{MINIMAL}{flat}"))]);
        let definition = Definition::load("a", directory.path()).unwrap();
        assert_eq!(definition.added(definition.profiles.keys()).unwrap().len(), 20_001);
    }

    #[test]
    fn nesting_within_a_file_has_a_limit() {
        for text in [
            format!("default_profiles = {}{}", "[".repeat(100_000), "]".repeat(100_000)),
            format!("uki = {}{}", "{a=".repeat(100_000), "}".repeat(100_000)),
            format!("{}a = 1", "uki.".repeat(100_000)),
            format!("[{}a]", "uki.".repeat(100_000)),
        ] {
            assert!(error_of(&[("a.toml", &text)], "a").contains("reading the definition "));
        }
    }

    #[test]
    fn unknown_key_names_the_place_and_the_nearest_right_one() {
        let error = error_of(&[("a.toml", &MINIMAL.replace("install = [\"systemd\"]", "instal = []"))], "a");
        assert!(error.contains("unknown field `instal`") && error.contains("did you mean `install`?"), "{error}");
        assert!(error.contains("line 9"), "{error}");
    }

    #[test]
    fn names_that_could_be_options_further_lines_or_paths_are_refused_where_they_are_written() {
        for (from, to, word) in [
            (
                "install = [\"systemd\"]",
                "install = [\"bash --enablerepo=x\"]",
                "\"bash --enablerepo=x\" is not what dnf",
            ),
            ("install = [\"systemd\"]", "install = [\"*\"]", "\"*\" is not what dnf can be asked to install"),
            ("install = [\"systemd\"]", "install = [\"bash\\ninstall x\"]", "is not what dnf can be asked to install"),
            ("install = [\"lvm2\"]", "install = [\"-y\"]", "is not what dnf can be asked to install"),
            ("install = [\"lvm2\"]", "exclude = [\"a\\ngpgcheck=0\"]", "is not a pattern of packages"),
            (
                "install = [\"lvm2\"]",
                "hwdb_exclude = [\"x /etc/passwd\"]",
                "is not a pattern of files of one directory",
            ),
            ("install = [\"lvm2\"]", "hwdb_exclude = [\"../../../etc/passwd\"]", "is not a pattern of files"),
            ("install = [\"lvm2\"]", "mask_units = [\"../../x.service\"]", "is not the name of a unit"),
            ("install = [\"lvm2\"]", "remove_files = [\"/a\\n/b\"]", "has a control character"),
            ("install = [\"lvm2\"]", "keep_files = [\"\"]", "is empty"),
            ("install = [\"lvm2\"]", "extra_trees = [\"a\\nb\"]", "has a control character"),
            ("modules = [\"dm-thin-pool\"]", "modules = [\"a\\u001b[1m\"]", "has a control character"),
            ("[packages]", "[kernel]\npackages = [\"kernel-core --x\"]\n[packages]", "is not the name of a package"),
            ("[packages]", "[kernel]\npackages = [\"kernel*\"]\n[packages]", "is not the name of a package"),
            (
                "[packages]",
                "[uki]\ncmdline = \"a\\u0000b\"\n[packages]",
                "in [uki]: \"a\\x00b\" has a control character",
            ),
            ("releasever = \"44\"", "releasever = \"44 --setopt=x\"", "is not a releasever"),
            ("[repos.fedora]", "[repos.\"a]\\nb\"]", "is not the id of a repository"),
            ("[repos.fedora]", "[repos.main]", "a repository cannot be called main"),
            ("[profiles.lvm]", "[profiles.\"a,b\"]", "is not the name of a profile"),
            (
                "\"repo\"",
                "\"https://a\\nb\"",
                "in [repos.fedora]: the address \"https://a\\x0ab\" has a control character",
            ),
            ("\"repo\"", "\"ftp://a\"", "does not begin with http://"),
            ("baseurl = \"repo\"", "metalink = \"a\"", "\"a\" is not an address"),
            ("baseurl = \"repo\"", "baseurl = \"repo\"\narchive = \"x\"", "\"x\" is not an address"),
            ("\"builder:/etc/key\"", "\"builder:-x\"", "the path of a key in the builder image begins with a slash"),
            ("\"builder:/etc/key\"", "\"builder:/a\\nb /c\"", "has a control character"),
        ] {
            let text = MINIMAL.replacen(from, to, 1);
            assert_ne!(text, MINIMAL, "{from}");
            let error = error_of(&[("a.toml", &text)], "a");
            assert!(error.contains(word), "{to}: {error}");
        }
        let directory = images(&[("-x.toml", MINIMAL)]);
        let error = format!("{:#}", Definition::load("images/-x.toml", directory.path()).unwrap_err());
        assert!(error.contains("\"-x\" is no name for an image"), "{error}");
    }

    #[test]
    fn what_other_files_hold_is_not_shown() {
        let directory = images(&[
            ("a.toml", "include = [\"../shadow\"]"),
            ("b.toml", "include = [\"../outside.toml\"]"),
            ("c.toml", "include = [\"link.toml\"]"),
            ("d.toml", "include = [\"typed.toml\"]"),
            ("typed.toml", "releasever = [\"visible\"]"),
        ]);
        let secret = "root:$6$secret:20000::::::\n";
        fs::write(directory.path().join("shadow"), secret).unwrap();
        std::os::unix::fs::symlink("../shadow", directory.path().join("images/link.toml")).unwrap();
        let error_of = |name| format!("{:#}", Definition::load(name, directory.path()).unwrap_err());
        for name in ["a", "c"] {
            let error = error_of(name);
            assert!(error.ends_with("/shadow is no definition: its name does not end in .toml"), "{error}");
        }
        for content in
            [secret, "releasever = [\"secret\"]", "[uki]\ncmdline = 1\nsplash = \"secret\"\n", "include = \"secret\""]
        {
            fs::write(directory.path().join("outside.toml"), content).unwrap();
            let error = error_of("b");
            assert!(
                error.contains("line 1: it is not of the form") || error.contains("line 2: it is not of the form"),
                "{error}"
            );
            assert!(!error.contains("secret"), "{error}");
        }
        fs::write(directory.path().join("outside.toml"), "\ninstal = \"secret\"\n").unwrap();
        let error = error_of("b");
        assert!(error.contains("line 2: unknown field `instal`") && !error.contains("secret"), "{error}");
        // What lies beside the definition is its author's.
        assert!(error_of("d").contains("visible"), "{}", error_of("d"));
    }

    #[test]
    fn include_loop_names_the_chain() {
        let error = error_of(&[("a.toml", "include = [\"b.toml\"]"), ("b.toml", "include = [\"a.toml\"]")], "a");
        assert!(error.contains("the definition includes itself: "), "{error}");
        assert!(error.matches("a.toml").count() >= 2, "{error}");
    }

    #[test]
    fn an_image_that_comes_with_the_program_has_its_lock_where_the_user_is_and_one_s_own_goes_before_it() {
        let (own, shipped) = (images(&[("b.toml", MINIMAL)]), images(&[("a.toml", MINIMAL), ("b.toml", MINIMAL)]));
        let (here, place) = (fs::canonicalize(own.path()).unwrap(), shipped.path().join("images"));
        let shipped = Shipped { images: &place, locks: &here };
        let load = |name: &str| Definition::load_or_shipped(name, own.path(), Some(shipped));
        let of_program = load("a").unwrap();
        assert_eq!(of_program.directory, fs::canonicalize(&place).unwrap());
        assert_eq!(of_program.lock_path(), here.join("a.lock"));
        assert_eq!(load("b").unwrap().lock_path(), here.join("images/b.lock"));
        let error = format!("{:#}", load("c").unwrap_err());
        assert!(error.ends_with("/images; those there are: a, b"), "{error}");
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
