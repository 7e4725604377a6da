//! The set-up: builder names in, a directory with repositories, keys, images and definitions out.

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
use crate::handmade;
use crate::mapping::Mapping;
use crate::package::Package;
use crate::repository::{Repository, Signer};
use crate::resolve::Selection;
use crate::{builder, kernel, programs};

const USER: &str = "ocinitrd offline tests <offline@ocinitrd.invalid>";
const FOREIGN_USER: &str = "somebody else <foreign@ocinitrd.invalid>";
/// Says which program made the repositories; written last.
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
    pub fn run(&self, mapping: &Mapping, builders: &[String], refresh: bool) -> Result<()> {
        programs::require(&["podman"])?;
        let needs_repository = refresh || !self.is_made_by_this_program();
        let is_missing = |name: &&String| refresh || !builder::is_made(&self.directory, name, &mapping.builders[*name]);
        let missing: Vec<&String> = builders.iter().filter(is_missing).collect();
        if needs_repository || !missing.is_empty() {
            programs::require(&["apt-get", "mmdebstrap", "gpg", "rpmsign", "createrepo_c"])?;
            self.make(mapping, needs_repository, &missing, refresh)?;
        }
        for name in builders {
            let digest = builder::load(&self.directory, name)?;
            self.write(&definition::file_name(name), &definition::fragment(name, &digest))?;
            self.say(&format!("builder {name}: {}@{digest}", builder::image_name(name)));
        }
        self.say(&format!("the offline repository is ready in {}", self.directory.display()));
        Ok(())
    }

    fn make(&self, mapping: &Mapping, repository: bool, builders: &[&String], refresh: bool) -> Result<()> {
        let mut archive = Archive::open(&self.cache)?;
        let selection = repository.then(|| self.select(mapping, &mut archive, refresh)).transpose()?;
        thread::scope(|scope| {
            let images = scope.spawn(|| self.make_builders(mapping, &archive, builders, refresh));
            if let Some(selection) = &selection {
                self.make_repositories(mapping, &archive, selection)?;
            }
            images.join().map_err(|_| anyhow!("making the builder images: their thread panicked"))?
        })
    }

    fn select<'a>(&self, mapping: &'a Mapping, archive: &mut Archive, refresh: bool) -> Result<Selection<'a>> {
        match self.fetch(mapping, archive, refresh) {
            // The lists of last week may name what the archive has replaced since.
            Err(error) if !refresh => {
                self.say(&format!("reading the lists anew: {error:#}"));
                self.fetch(mapping, archive, true)
            }
            fetched => fetched,
        }
    }

    fn fetch<'a>(&self, mapping: &'a Mapping, archive: &mut Archive, fresh: bool) -> Result<Selection<'a>> {
        self.say("reading the lists of Debian's archive");
        let suites: Vec<&str> = mapping.all_suites().into_iter().collect();
        let selection = Selection::new(mapping, &archive.index(&suites, fresh)?)?;
        let candidates = selection.candidates();
        self.say(&format!("fetching {} Debian packages", candidates.len()));
        archive.fetch(&candidates)?;
        Ok(selection)
    }

    fn make_builders(&self, mapping: &Mapping, archive: &Archive, builders: &[&String], refresh: bool) -> Result<()> {
        for name in builders {
            let builder = &mapping.builders[*name];
            self.say(&format!("making the builder image {name} from {}", builder.suite));
            builder::make(&self.directory, &self.cache, archive, name, builder, refresh)?;
        }
        Ok(())
    }

    fn make_repositories(&self, mapping: &Mapping, archive: &Archive, selection: &Selection<'_>) -> Result<()> {
        self.write(STAMP, "unfinished")?;
        let (gnupg, keys) = (self.directory.join("gnupg"), self.directory.join("keys"));
        for (path, mode) in [(&gnupg, 0o700), (&keys, 0o755)] {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(mode).create(path).with_context(|| format!("creating {}", path.display()))?;
        }
        let signer = Signer::open(&gnupg.join("offline.secret.asc"), USER)?;
        let foreign = Signer::open(&gnupg.join("foreign.secret.asc"), FOREIGN_USER)?;
        let public_key = signer.public_key()?;
        self.write("keys/offline.asc", &public_key)?;
        self.write("keys/foreign.asc", &foreign.public_key()?)?;

        let sample = handmade::signature_sample;
        self.make_samples("repo-scriptlet", &[handmade::scriptlet_failure()], Some(&signer), &signer)?;
        self.make_samples("repo-unsigned", &[sample("unsigned-sample")], None, &signer)?;
        self.make_samples("repo-foreign", &[sample("foreign-key-sample")], Some(&foreign), &signer)?;
        self.make_samples("repo-update-1", &handmade::update_samples(1), Some(&signer), &signer)?;
        self.make_samples("repo-update-2", &handmade::update_samples(2), Some(&signer), &signer)?;
        self.make_main(mapping, archive, selection, &public_key, &signer)?;

        self.write("resolved.json", &format!("{:#}\n", selection.record()))?;
        self.write(STAMP, SOURCES)
    }

    fn make_main(
        &self,
        mapping: &Mapping,
        archive: &Archive,
        selection: &Selection<'_>,
        public_key: &str,
        signer: &Signer,
    ) -> Result<()> {
        let conversion = Conversion { mapping, known: &selection.known };
        let mut repository = Repository::begin(&self.directory.join("repo"))?;
        let mut add_all = |packages: Vec<Package>| packages.iter().try_for_each(|package| repository.add(package));
        add_all(handmade::packages(public_key))?;
        let read = |candidate: &Candidate| deb::read(&archive.read(candidate)?);
        for (name, (rule, candidates)) in &selection.packages {
            let debs = candidates.iter().map(read).collect::<Result<Vec<_>>>();
            add_all(conversion.packages(name, rule, &debs.with_context(|| format!("making {name}"))?)?)?;
        }
        for (kernel, version, candidate) in &selection.kernels {
            add_all(kernel::packages(&conversion, kernel, version, read(candidate)?)?)?;
        }
        self.say(&format!("signing {} packages", repository.len()));
        repository.finish(Some(signer), signer)
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

    fn is_made_by_this_program(&self) -> bool {
        fs::read_to_string(self.directory.join(STAMP)).is_ok_and(|stamp| stamp == SOURCES)
    }
}
