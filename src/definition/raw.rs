//! The files of a definition as they are written, and what they are together.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;

use super::selection::extend_lists;
use super::{BUILDER_FILE, Definition, Repository, Selection, Uki};
use crate::names::{
    FileGlob, PackageGlob, PackageName, PackageSpec, ProfileName, ReleaseVersion, RepositoryId, UnitName,
    check_image_name, check_line, line_lists, lines,
};
use ocinitrd_support::regular_file;

/// One file as written: everything is optional until all files are merged.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawDefinition {
    include: Vec<PathBuf>,
    releasever: Option<ReleaseVersion>,
    builder: RawBuilder,
    repos: BTreeMap<RepositoryId, Repository>,
    packages: RawPackages,
    kernel: RawKernel,
    extra_trees: Vec<PathBuf>,
    mask_units: Vec<UnitName>,
    profiles: BTreeMap<ProfileName, Selection>,
    default_profiles: Vec<String>,
    output: RawOutput,
    uki: Uki,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawBuilder {
    image: Option<String>,
    #[serde(deserialize_with = "lines")]
    mirrors: Vec<String>,
    /// The file that has `image`.
    #[serde(skip)]
    file: PathBuf,
}

impl RawBuilder {
    fn extend(&mut self, later: RawBuilder) {
        if later.image.is_some() {
            (self.image, self.file) = (later.image, later.file);
        }
        self.mirrors.extend(later.mirrors);
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawPackages {
    repos: Vec<RepositoryId>,
    install: Vec<PackageSpec>,
    exclude: Vec<PackageGlob>,
    #[serde(deserialize_with = "lines")]
    remove_files: Vec<String>,
    trim: Option<bool>,
    #[serde(deserialize_with = "lines")]
    programs: Vec<String>,
    #[serde(deserialize_with = "lines")]
    keep_files: Vec<String>,
    #[serde(deserialize_with = "line_lists")]
    read_by: BTreeMap<String, Vec<String>>,
    #[serde(deserialize_with = "lines")]
    dlopen: Vec<String>,
    hwdb_exclude: Vec<FileGlob>,
}

impl RawPackages {
    fn extend(&mut self, later: RawPackages) {
        self.repos.extend(later.repos);
        self.install.extend(later.install);
        self.exclude.extend(later.exclude);
        self.remove_files.extend(later.remove_files);
        self.trim = later.trim.or(self.trim);
        self.programs.extend(later.programs);
        self.keep_files.extend(later.keep_files);
        extend_lists(&mut self.read_by, later.read_by);
        self.dlopen.extend(later.dlopen);
        self.hwdb_exclude.extend(later.hwdb_exclude);
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawKernel {
    packages: Vec<PackageName>,
    #[serde(deserialize_with = "lines")]
    modules: Vec<String>,
    #[serde(deserialize_with = "lines")]
    firmware: Vec<String>,
    keep_compression: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawOutput {
    compression: Option<String>,
}

impl RawDefinition {
    /// Reads the text of a file; `is_own` says whether its lines may be shown.
    fn parse(text: &str, is_own: bool) -> Result<RawDefinition> {
        toml::from_str(text).map_err(|error: toml::de::Error| match nearest_key(error.message()) {
            Some(nearest) => anyhow!("{}did you mean `{nearest}`?", described(&error, text, is_own)),
            None => anyhow!("{}", described(&error, text, is_own).trim_end()),
        })
    }

    /// Whatever is a path is one line, and not empty.
    fn check_paths(&self) -> Result<()> {
        let of_profiles = self.profiles.values().flat_map(|profile| &profile.extra_trees);
        let trees = self.extra_trees.iter().chain(of_profiles);
        for path in self.include.iter().chain(trees).chain(self.uki.files()) {
            check_line(&path.to_string_lossy()).context("in a path")?;
        }
        self.uki.check().context("in [uki]")
    }

    /// Puts `directory`, that of the file, before what the file says relative to itself.
    fn resolve_paths(&mut self, directory: &Path) {
        for tree in &mut self.extra_trees {
            *tree = directory.join(&*tree);
        }
        for profile in self.profiles.values_mut() {
            profile.resolve_paths(directory);
        }
        self.uki.resolve_paths(directory);
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
        self.builder.extend(later.builder);
        self.repos.extend(later.repos);
        self.packages.extend(later.packages);
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
        self.uki.extend(later.uki);
    }

    /// The repositories that the image and its profiles name, with where they do.
    fn named_repositories(&self) -> impl Iterator<Item = (String, &RepositoryId)> {
        let of_image = self.packages.repos.iter().map(|id| ("[packages] repos".to_owned(), id));
        let of_profiles = self
            .profiles
            .iter()
            .flat_map(|(name, profile)| profile.repos.iter().map(move |id| (format!("[profiles.{name}] repos"), id)));
        of_image.chain(of_profiles)
    }

    /// Checks the merged definition of the file `path`; `files` were read.
    pub(super) fn check(self, argument: &str, path: &Path, files: Vec<PathBuf>) -> Result<Definition> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        check_image_name(&name)?;
        for (id, repository) in &self.repos {
            repository.check().with_context(|| format!("in [repos.{id}]"))?;
        }
        if self.repos.is_empty() {
            bail!("there is no [repos.ID]: name at least one repository to install from");
        }
        for (place, wanted) in self.named_repositories() {
            ensure!(
                self.repos.contains_key(wanted),
                "{place} names the repository {wanted}, and there is no [repos.{wanted}]"
            );
        }
        if self.packages.install.is_empty() {
            bail!("[packages] install is empty: name at least systemd");
        }
        let compression = self.output.compression.as_deref().unwrap_or("zstd");
        let file = files.last().context("a definition is at least one file")?;
        let directory = file.parent().unwrap_or(Path::new("/")).to_owned();
        let mut definition = Definition {
            argument: argument.to_owned(),
            name,
            lock_directory: directory.clone(),
            directory,
            builder_image: self.builder.image.context("[builder] image is missing")?,
            builder_file: self.builder.file,
            builder_mirrors: self.builder.mirrors,
            releasever: self.releasever.context("releasever is missing, such as releasever = \"44\"")?.into(),
            repositories: self.repos.into_iter().map(|(id, repository)| (id.into(), repository)).collect(),
            selection: Selection {
                description: String::new(),
                include_profiles: Vec::new(),
                unavailable: None,
                repos: self.packages.repos,
                install: self.packages.install,
                exclude: self.packages.exclude,
                remove_files: self.packages.remove_files,
                trim: self.packages.trim.unwrap_or(false),
                programs: self.packages.programs,
                keep_files: self.packages.keep_files,
                read_by: self.packages.read_by,
                dlopen: self.packages.dlopen,
                hwdb_exclude: self.packages.hwdb_exclude,
                mask_units: self.mask_units,
                modules: self.kernel.modules,
                firmware: self.kernel.firmware,
                extra_trees: self.extra_trees,
            },
            kernel_packages: self.kernel.packages,
            keep_module_compression: self.kernel.keep_compression.unwrap_or(true),
            profiles: self.profiles.into_iter().map(|(name, profile)| (name.into(), profile)).collect(),
            default_profiles: Vec::new(),
            compression: compression.parse().context("in [output] compression")?,
            uki: self.uki,
            files,
        };
        definition.chain(definition.profiles.keys())?;
        let default_profiles = definition.with_included(&self.default_profiles).context("in default_profiles")?;
        let selection = definition.select(&default_profiles)?;
        definition.selection =
            Selection { description: String::new(), include_profiles: Vec::new(), unavailable: None, ..selection };
        ensure!(
            !definition.repositories_of(&definition.selection).is_empty(),
            "no repository is enabled: take `enabled = false` out of one, or name one in [packages] repos"
        );
        definition.default_profiles = default_profiles;
        Ok(definition)
    }
}

/// Each level takes stack; a definition is hardly more than three deep.
const DEEPEST_INCLUDE: usize = 32;
const MOST_FILES: usize = 1000;
/// A hundred times what a person writes.
pub(super) const LONGEST_FILE_BYTES: u64 = 1 << 20;

/// Reads `path` and, before it, what it includes; of a file that was read already, nothing. `open` is the chain of includes that
/// led here.
pub fn read_with_includes(path: &Path, open: &mut Vec<PathBuf>, files: &mut Vec<PathBuf>) -> Result<RawDefinition> {
    let path = fs::canonicalize(path).with_context(|| format!("reading the definition {}", path.display()))?;
    ensure!(
        path.extension().is_some_and(|extension| extension == "toml"),
        "{} is no definition: its name does not end in .toml",
        path.display()
    );
    if open.contains(&path) {
        let chain: Vec<String> = open.iter().chain([&path]).map(|file| file.display().to_string()).collect();
        bail!("the definition includes itself: {}", chain.join(" -> "));
    }
    if files.contains(&path) {
        return Ok(RawDefinition::default());
    }
    ensure!(open.len() < DEEPEST_INCLUDE, "definitions include each other more than {DEEPEST_INCLUDE} deep");
    ensure!(files.len() + open.len() < MOST_FILES, "the definition includes more than {MOST_FILES} files");
    let text = regular_file::read_text(&path, LONGEST_FILE_BYTES)
        .with_context(|| format!("reading the definition {}", path.display()))?;
    let is_own = open.first().is_none_or(|main| main.parent().is_some_and(|directory| path.starts_with(directory)));
    let parsed = RawDefinition::parse(&text, is_own).and_then(|own| own.check_paths().map(|()| own));
    let mut own = parsed.with_context(|| format!("reading the definition {}", path.display()))?;
    let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
    open.push(path.clone());
    own.resolve_paths(&way_between(&open[0], &path)?);
    own.builder.file.clone_from(&path);
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

/// What is wrong in a definition. Of a file that it includes from elsewhere no content is shown: who wrote the definition may not
/// be who can read the file.
fn described(error: &toml::de::Error, text: &str, is_own: bool) -> String {
    if is_own { error.to_string() } else { mistake_without_content(error, text) + "\n" }
}

/// The line of a mistake in a TOML file, and what it is as far as that shows no content.
pub(crate) fn mistake_without_content(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let is_of_keys = ["unknown field", "missing field"].iter().any(|start| error.message().starts_with(start));
    let message = if is_of_keys { error.message() } else { "it is not of the form that is expected there" };
    format!("line {}: {message}", before.matches('\n').count() + 1)
}

/// Longer than any right one.
const LONGEST_KEY_BYTES: usize = 64;

/// The right key nearest to the unknown one that a message of serde's speaks of.
fn nearest_key(message: &str) -> Option<String> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    // The search takes as long as the product of the lengths.
    let wrong = quoted.next().filter(|wrong| wrong.len() <= LONGEST_KEY_BYTES)?;
    quoted
        .map(|right| (strsim::damerau_levenshtein(wrong, right), right))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, right)| right.to_owned())
}
