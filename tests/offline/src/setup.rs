//! The set-up: builder names in, a directory with repositories, keys, images and definitions out.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};

use crate::archive::{Archive, Candidate};
use crate::convert::Conversion;
use crate::deb;
use crate::definition;
use crate::fedora;
use crate::handmade;
use crate::mapping::Mapping;
use crate::package::Package;
use crate::repository::{Repository, Signer};
use crate::resolve::Selection;
use crate::tools::Tools;
use crate::{builder, kernel, programs};

const USER: &str = "ocinitrd offline tests <offline@ocinitrd.invalid>";
const FOREIGN_USER: &str = "somebody else <foreign@ocinitrd.invalid>";
const SECOND_USER: &str = "ocinitrd offline tests, second key <second@ocinitrd.invalid>";
/// The directory of the secret keys.
const GNUPG: &str = "gnupg";
/// Says which program made a repository; written last.
const STAMP: &str = "repo.stamp";
/// The digest of this program's sources, from the build script.
const SOURCES: &str = env!("OFFLINE_REPO_SOURCES");

/// Where everything goes.
#[derive(Debug)]
pub struct Setup {
    directory: PathBuf,
    cache: PathBuf,
    started: Instant,
}

impl Setup {
    /// A set-up in `directory` with downloads below `cache`; both are made.
    ///
    /// # Errors
    /// Fails when a directory cannot be made.
    pub fn new(directory: &Path, cache: &Path) -> Result<Setup> {
        for path in [directory, cache] {
            fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))?;
        }
        let absolute = |path: &Path| fs::canonicalize(path).with_context(|| format!("finding {}", path.display()));
        Ok(Setup { directory: absolute(directory)?, cache: absolute(cache)?, started: Instant::now() })
    }

    /// Makes what is missing for `builders`, which the mapping has, and everything anew with `refresh`.
    ///
    /// # Errors
    /// Fails when a program is missing or fails, and when the archive cannot be reached.
    pub fn run(&self, mappings: &[Mapping], builders: &[String], refresh: bool) -> Result<()> {
        programs::require(&["podman"])?;
        let of_builders = &mappings[0].builders;
        let is_missing = |name: &&String| refresh || !builder::is_made(&self.directory, name, &of_builders[*name]);
        let unmade: Vec<&Mapping> =
            mappings.iter().filter(|mapping| refresh || !self.is_made_by_this_program(mapping)).collect();
        // The second repository is finished in its builder.
        let needed = unmade.iter().any(|mapping| mapping.is_fedora_shaped).then(|| definition::FEDORAS.to_owned());
        let wanted: BTreeSet<&String> = builders.iter().chain(&needed).collect();
        let missing: Vec<&String> = wanted.into_iter().filter(is_missing).collect();
        if !unmade.is_empty() || !missing.is_empty() {
            programs::require(&["apt-get", "mmdebstrap", "gpg", "rpmsign", "createrepo_c"])?;
            self.make(mappings, &unmade, &missing, refresh)?;
        }
        for name in builders {
            let digest = builder::load(&self.directory, name)?;
            for (path, text) in definition::fragments(name, &digest) {
                self.write(&path, &text)?;
            }
            self.say(&format!("builder {name}: {}@{digest}", builder::image_name(name)));
        }
        self.say(&format!("the offline repositories are ready in {}", self.directory.display()));
        Ok(())
    }

    /// Makes the repositories of the mappings `unmade` and the images of `builders`.
    fn make(&self, mappings: &[Mapping], unmade: &[&Mapping], builders: &[&String], refresh: bool) -> Result<()> {
        let mut archive = Archive::open(&self.cache)?;
        let selections =
            if unmade.is_empty() { Vec::new() } else { self.select(mappings, unmade, &mut archive, refresh)? };
        thread::scope(|scope| {
            let images = scope.spawn(|| self.make_builders(&mappings[0], &archive, builders, refresh));
            let keys = self.keys()?;
            let mut unfinished = Vec::new();
            for (mapping, selection) in unmade.iter().zip(&selections) {
                let directory = self.directory.join(&mapping.directory);
                fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
                self.write(&in_directory(mapping, STAMP), "unfinished")?;
                if mapping.is_fedora_shaped {
                    let repositories = self.convert_fedora_shaped(mapping, &archive, selection, &keys)?;
                    unfinished.push((mapping, selection, repositories));
                } else {
                    self.make_first(mapping, &archive, selection, &keys)?;
                    self.note(mapping, selection)?;
                }
            }
            images.join().map_err(|_| anyhow!("making the builder images: their thread panicked"))??;
            for (mapping, selection, repositories) in unfinished {
                self.finish_fedora_shaped(&archive, repositories)?;
                self.note(mapping, selection)?;
            }
            Ok(())
        })
    }

    /// Notes what a repository was made from, and that it is complete.
    fn note(&self, mapping: &Mapping, selection: &Selection<'_>) -> Result<()> {
        self.write(&in_directory(mapping, "resolved.json"), &format!("{:#}\n", selection.record()))?;
        self.write(&in_directory(mapping, STAMP), SOURCES)
    }

    fn select<'a>(
        &self,
        mappings: &[Mapping],
        unmade: &[&'a Mapping],
        archive: &mut Archive,
        refresh: bool,
    ) -> Result<Vec<Selection<'a>>> {
        match self.fetch(mappings, unmade, archive, refresh) {
            // The lists of last week may name what the archive has replaced since.
            Err(error) if !refresh => {
                self.say(&format!("reading the lists anew: {error:#}"));
                self.fetch(mappings, unmade, archive, true)
            }
            fetched => fetched,
        }
    }

    fn fetch<'a>(
        &self,
        mappings: &[Mapping],
        unmade: &[&'a Mapping],
        archive: &mut Archive,
        fresh: bool,
    ) -> Result<Vec<Selection<'a>>> {
        self.say("reading the lists of Debian's archive");
        let suites: BTreeSet<&str> = mappings.iter().flat_map(Mapping::all_suites).collect();
        let index = archive.index(&suites.into_iter().collect::<Vec<_>>(), fresh)?;
        let selections: Vec<Selection<'a>> =
            unmade.iter().map(|mapping| Selection::new(mapping, &index)).collect::<Result<_>>()?;
        for selection in &selections {
            let candidates = selection.candidates();
            self.say(&format!("fetching {} Debian packages", candidates.len()));
            archive.fetch(&candidates)?;
        }
        Ok(selections)
    }

    fn make_builders(&self, mapping: &Mapping, archive: &Archive, builders: &[&String], refresh: bool) -> Result<()> {
        for name in builders {
            let builder = &mapping.builders[*name];
            self.say(&format!("making the builder image {name} from {}", builder.suite));
            builder::make(&self.directory, &self.cache, archive, name, builder, refresh)?;
        }
        Ok(())
    }

    /// The keys, which are made once.
    fn keys(&self) -> Result<Keys> {
        let (gnupg, public) = (self.directory.join(GNUPG), self.directory.join("keys"));
        for (path, mode) in [(&gnupg, 0o700), (&public, 0o755)] {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(mode).create(path).with_context(|| format!("creating {}", path.display()))?;
        }
        let open = |name: &str, user: &str| {
            let signer = Signer::open(&gnupg.join(format!("{name}.secret.asc")), user)?;
            self.write(&format!("keys/{name}.asc"), &signer.public_key()?)?;
            anyhow::Ok(signer)
        };
        let packages = open("offline", USER)?;
        open("second", SECOND_USER)?;
        Ok(Keys { public_key: packages.public_key()?, packages, foreign: open("foreign", FOREIGN_USER)? })
    }

    /// `repo/` and the small ones beside it.
    fn make_first(&self, mapping: &Mapping, archive: &Archive, selection: &Selection<'_>, keys: &Keys) -> Result<()> {
        let signer = &keys.packages;
        let sample = handmade::signature_sample;
        self.make_samples("repo-scriptlet", &[handmade::scriptlet_failure()], Some(signer), signer)?;
        self.make_samples("repo-unsigned", &[sample("unsigned-sample")], None, signer)?;
        self.make_samples("repo-foreign", &[sample("foreign-key-sample")], Some(&keys.foreign), signer)?;
        self.make_samples("repo-update-1", &handmade::update_samples(1), Some(signer), signer)?;
        self.make_samples("repo-update-2", &handmade::update_samples(2), Some(signer), signer)?;

        let mut repository = Repository::begin(&self.directory.join("repo"))?;
        handmade::packages(&keys.public_key).iter().try_for_each(|package| repository.add(package))?;
        let conversion = Conversion { mapping, known: &selection.known };
        convert_all(&conversion, archive, selection, |package| repository.add(&package))?;
        self.say(&format!("signing {} packages", repository.len()));
        repository.finish(Some(signer), signer)
    }

    /// Writes the packages of `fedora/` and, beside it, of `updates/` with newer versions of some.
    fn convert_fedora_shaped(
        &self,
        mapping: &Mapping,
        archive: &Archive,
        selection: &Selection<'_>,
        keys: &Keys,
    ) -> Result<[Repository; 2]> {
        let directory = self.directory.join(&mapping.directory);
        let mut release = Repository::begin(&directory.join("fedora"))?;
        let mut updates = Repository::begin(&directory.join("updates"))?;
        let mut add = |package: Package| {
            if let Some(update) = fedora::update_of(&package) {
                updates.add(&update)?;
            }
            release.add(&package)
        };
        let made_up = fedora::made_up_keys(&self.directory.join(GNUPG).join("made-up.asc"))?;
        fedora::packages(&keys.public_key, &made_up)?.into_iter().try_for_each(&mut add)?;
        let conversion = Conversion { mapping, known: &selection.known };
        convert_all(&conversion, archive, selection, &mut add)?;
        Ok([release, updates])
    }

    /// Signs as rpm 6 does and makes metadata as Fedora has it, in a container.
    fn finish_fedora_shaped(&self, archive: &Archive, repositories: [Repository; 2]) -> Result<()> {
        let digest = builder::load(&self.directory, definition::FEDORAS)?;
        let tools = Tools::fetch(archive, &format!("{}@{digest}", builder::image_name(definition::FEDORAS)))?;
        let gnupg = self.directory.join(GNUPG);
        for repository in repositories {
            self.say(&format!("signing {} packages, some of them twice", repository.len()));
            repository.finish_by(|directory, names| {
                tools.finish(directory, &gnupg, [USER, SECOND_USER], &fedora::signed_twice(names))
            })?;
        }
        Ok(())
    }

    fn make_samples(
        &self,
        name: &str,
        samples: &[Package],
        packages: Option<&Signer>,
        metadata: &Signer,
    ) -> Result<()> {
        let mut repository = Repository::begin(&self.directory.join(name))?;
        samples.iter().try_for_each(|package| repository.add(package))?;
        repository.finish(packages, metadata)
    }

    fn say(&self, line: &str) {
        eprintln!("[{:4.0}s] {line}", self.started.elapsed().as_secs_f32());
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.directory.join(name);
        if fs::read_to_string(&path).is_ok_and(|current| current == text) {
            return Ok(());
        }
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    fn is_made_by_this_program(&self, mapping: &Mapping) -> bool {
        fs::read_to_string(self.directory.join(in_directory(mapping, STAMP))).is_ok_and(|stamp| stamp == SOURCES)
    }
}

/// A file of a mapping's repository, below the directory of the set-up.
fn in_directory(mapping: &Mapping, file: &str) -> String {
    Path::new(&mapping.directory).join(file).to_string_lossy().into_owned()
}

/// Makes the packages of a selection and gives each to `take`.
fn convert_all(
    conversion: &Conversion<'_>,
    archive: &Archive,
    selection: &Selection<'_>,
    mut take: impl FnMut(Package) -> Result<()>,
) -> Result<()> {
    let read = |candidates: &[Candidate]| {
        candidates.iter().map(|candidate| deb::read(&archive.read(candidate)?)).collect::<Result<Vec<_>>>()
    };
    for (name, (rule, candidates)) in &selection.packages {
        let debs = read(candidates).with_context(|| format!("making {name}"))?;
        conversion.packages(name, rule, &debs)?.into_iter().try_for_each(&mut take)?;
    }
    for (kernel, version, candidates) in &selection.kernels {
        kernel::packages(conversion, kernel, version, &read(candidates)?)?.into_iter().try_for_each(&mut take)?;
    }
    Ok(())
}

/// The keys that packages are signed with.
struct Keys {
    /// Of everything.
    packages: Signer,
    /// Its public half.
    public_key: String,
    /// Nobody's that a definition names.
    foreign: Signer,
}
