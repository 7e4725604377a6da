//! What the administrator says: files `*.toml` in `/usr/lib/ocinitrd` and `/etc/ocinitrd`.
//!
//! They are read in the order of their names; one in `/etc` takes the place of that of the same name in `/usr/lib`. Lists are
//! joined, single values replaced. A symlink to `/dev/null` in `/etc` hides its like in `/usr/lib`. An unknown key is an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::files::{self, Named};
use super::uki::Uki;
use crate::names;
use ocinitrd_format::compress::Compression;
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

const PLACES: [&str; 2] = ["usr/lib/ocinitrd", "etc/ocinitrd"];

/// What the administrator says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Configuration {
    /// Which base; where it is not said, the one that is there.
    pub base: Option<String>,
    /// The image that a base is built of in a container where none serves: its name, or the path of its definition.
    pub build: Option<String>,
    /// After how many days a base serves no more.
    pub max_age_days: Option<u64>,
    /// For which machine the modules are.
    pub scope: Scope,
    /// Patterns of modules beside those.
    pub modules: Vec<String>,
    /// Patterns of firmware beside what the modules name.
    pub firmware: Vec<String>,
    /// How the modules are compressed as a whole; they come compressed each.
    pub compression: Option<Compression>,
    /// Files and directories of the machine that go in, as absolute paths.
    pub files: Vec<PathBuf>,
    /// The same, of which each goes in if it is there.
    pub optional_files: Vec<PathBuf>,
    /// What happens when no initrd can be made.
    pub on_failure: OnFailure,
    /// What becomes part of unified kernel images, and who signs them.
    pub uki: Uki,
}

/// For which machine modules are.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// This one.
    #[default]
    Host,
    /// Any.
    Generic,
}

/// What happens when no initrd can be made.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// kernel-install fails, and the entries that are there stay.
    #[default]
    Fail,
    /// dracut makes one, as if we were not there.
    Dracut,
}

/// One file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    base: Option<String>,
    build: Option<String>,
    max_age_days: Option<u64>,
    scope: Option<Scope>,
    modules: Vec<String>,
    firmware: Vec<String>,
    compression: Option<String>,
    files: Vec<PathBuf>,
    optional_files: Vec<PathBuf>,
    on_failure: Option<OnFailure>,
    uki: Uki,
}

impl Configuration {
    /// Reads the files of the machine whose root is `root`.
    ///
    /// # Errors
    /// Fails on a file that cannot be read, and on what cannot be meant.
    pub fn read(root: &Path) -> Result<Self> {
        Configuration::read_with(root, BTreeMap::new())
    }

    /// The same as if `/etc/ocinitrd` had these files, each a name and a text, or lacked those without a text, so that one of that
    /// name in `/usr/lib` counts.
    ///
    /// # Errors
    /// As [`Configuration::read`].
    pub fn read_with(root: &Path, planned: BTreeMap<String, Option<String>>) -> Result<Self> {
        let [_, own] = PLACES;
        let mut files = BTreeMap::new();
        for directory in PLACES {
            for Named { name, path, hides } in files::in_directory(root, directory)? {
                let is_ours = Path::new(&name).extension().is_some_and(|extension| extension == "toml");
                if !is_ours || (directory == own && planned.contains_key(&name)) {
                    continue;
                }
                if hides {
                    files.remove(&name);
                } else {
                    files.insert(name, path);
                }
            }
        }
        let mut texts = BTreeMap::new();
        for (name, path) in files.into_iter().filter(|(name, _)| planned.get(name).is_none_or(Option::is_none)) {
            let text = regular_file::read_text(&path, TEXT_LIMIT_BYTES);
            texts.insert(name, (text.with_context(|| format!("reading {}", path.display()))?, path));
        }
        for (name, text) in planned {
            texts.extend(text.map(|text| (name.clone(), (text, root.join(own).join(name)))));
        }
        let mut configuration = Configuration::default();
        for (text, path) in texts.into_values() {
            let reading = || format!("reading {}", path.display());
            configuration.add(toml::from_str(&text).with_context(reading)?).with_context(reading)?;
        }
        Ok(configuration)
    }

    /// What the base is called that is built on the machine.
    pub fn built_base(&self) -> Option<&str> {
        let image = self.build.as_deref()?;
        self.base.as_deref().or_else(|| Path::new(image.strip_suffix(".toml").unwrap_or(image)).file_name()?.to_str())
    }

    fn add(&mut self, raw: Raw) -> Result<()> {
        if let Some(base) = &raw.base {
            names::check_image_name(base).context("in base, which names a directory of bases")?;
        }
        self.base = raw.base.or(self.base.take());
        self.build = raw.build.or(self.build.take());
        self.max_age_days = raw.max_age_days.or(self.max_age_days);
        self.scope = raw.scope.unwrap_or(self.scope);
        self.modules.extend(raw.modules);
        self.firmware.extend(raw.firmware);
        if let Some(compression) = raw.compression {
            self.compression = Some(compression.parse().context("in compression")?);
        }
        for (key, added, files) in
            [("files", raw.files, &mut self.files), ("optional_files", raw.optional_files, &mut self.optional_files)]
        {
            if let Some(file) = added.iter().find(|file| !file.is_absolute()) {
                bail!("{key} has {}, which is no absolute path", file.display());
            }
            files.extend(added);
        }
        self.on_failure = raw.on_failure.unwrap_or(self.on_failure);
        raw.uki.check_paths()?;
        self.uki.extend(raw.uki);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::machine::fixture::Fixture;

    fn machine(files: &[(&str, &str)]) -> Fixture {
        let machine = Fixture::new();
        files.iter().for_each(|(path, text)| _ = machine.write(path, text));
        machine
    }

    #[test]
    fn later_names_win_lists_are_joined_and_a_file_in_etc_takes_the_place_of_its_like() {
        let root = machine(&[
            ("usr/lib/ocinitrd/10-vendor.toml", "base = \"a\"\nmodules = [\"one\"]\n"),
            ("usr/lib/ocinitrd/20-more.toml", "modules = [\"two\"]\n"),
            ("etc/ocinitrd/20-more.toml", "modules = [\"three\"]\non_failure = \"dracut\"\n"),
            ("etc/ocinitrd/host.toml", "scope = \"generic\"\nfiles = [\"/etc/x\"]\n"),
            ("etc/ocinitrd/notes.txt", "no configuration"),
        ]);
        let read = Configuration::read(root.path()).unwrap();
        assert_eq!(read.modules, ["one", "three"]);
        assert_eq!((read.base.as_deref(), read.scope, read.on_failure), (Some("a"), Scope::Generic, OnFailure::Dracut));
        assert_eq!(read.files, [PathBuf::from("/etc/x")]);
    }

    #[test]
    fn a_file_that_goes_uncovers_that_of_usr_lib_and_a_link_to_dev_null_hides_it() {
        let root = machine(&[
            ("usr/lib/ocinitrd/host.toml", "base = \"vendor\"\n"),
            ("etc/ocinitrd/host.toml", "base = \"mine\"\n"),
        ]);
        let base = |planned: &[(&str, Option<&str>)]| {
            let planned = planned.iter().map(|(name, text)| ((*name).to_owned(), text.map(str::to_owned))).collect();
            Configuration::read_with(root.path(), planned).unwrap().base
        };
        assert_eq!(base(&[]).as_deref(), Some("mine"));
        assert_eq!(base(&[("host.toml", None)]).as_deref(), Some("vendor"));
        assert_eq!(base(&[("host.toml", Some("base = \"new\"\n")), ("none.toml", None)]).as_deref(), Some("new"));
        std::fs::remove_file(root.path().join("etc/ocinitrd/host.toml")).unwrap();
        root.link("etc/ocinitrd/host.toml", "/dev/null");
        assert_eq!(base(&[]), None);
        assert_eq!(base(&[("host.toml", None)]).as_deref(), Some("vendor"), "the link goes");
    }

    #[test]
    fn files_behind_absolute_symlinks_are_those_of_the_machine() {
        let root = machine(&[("srv/host.toml", "base = \"mine\"\n")]);
        root.link("etc/ocinitrd/host.toml", "/srv/host.toml");
        assert_eq!(Configuration::read(root.path()).unwrap().base.as_deref(), Some("mine"));
    }

    #[test]
    fn a_base_that_is_built_is_called_as_the_configuration_says_or_by_its_image() {
        let of = |base: Option<&str>, build: Option<&str>| {
            let (base, build) = (base.map(str::to_owned), build.map(str::to_owned));
            Configuration { base, build, ..Configuration::default() }.built_base().map(str::to_owned)
        };
        assert_eq!(of(None, Some("fedora-44")).as_deref(), Some("fedora-44"));
        assert_eq!(of(None, Some("/srv/images/mine.toml")).as_deref(), Some("mine"));
        assert_eq!(of(Some("generic"), Some("fedora-44")).as_deref(), Some("generic"));
        assert_eq!(of(Some("generic"), None), None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_the_name_of_its_file() {
        for (text, expected) in [
            ("scope = \"mine\"\n", "unknown variant"),
            ("module = []\n", "unknown field"),
            ("files = [\"etc/x\"]\n", "files has etc/x, which is no absolute path"),
            ("optional_files = [\"/a\", \"x\"]\n", "optional_files has x, which is no absolute path"),
            ("compression = \"zip\"\n", "in compression"),
            ("base = \"../x\"\n", "in base, which names a directory of bases: \"../x\" is no name"),
            ("base = \"..\"\n", "in base, which names a directory of bases: \"..\" is no name"),
            ("base = \"\"\n", "in base, which names a directory of bases: \"\" is no name"),
            ("[uki]\nsplash = \"logo.bmp\"\n", "no absolute path"),
            ("[uki]\ncmdline = \"rw\"\n", "unknown field `cmdline`"),
        ] {
            let root = machine(&[("etc/ocinitrd/host.toml", text)]);
            let error = format!("{:#}", Configuration::read(root.path()).unwrap_err());
            assert!(error.contains("etc/ocinitrd/host.toml") && error.contains(expected), "{error}");
        }
        assert_eq!(Configuration::read(machine(&[]).path()).unwrap(), Configuration::default());
    }
}
