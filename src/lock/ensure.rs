//! The lock that a command works from: the one that is there, if it is fresh, or else one that is made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use crate::container::builder_image;
use crate::lock::context::BuildContext;
use crate::lock::file::{self, Changes, Difference, Inputs, Lock, LockedPackage, Reason, Section};
use crate::lock::resolve::{self, Request, State};
use crate::names::PackageName;
use crate::packages::repository;
use crate::packages::store::Store;
use ocinitrd_format::architecture;
use ocinitrd_format::time::Timestamp;
use ocinitrd_support::regular_file;

/// What of a lock a command needs.
#[derive(Clone, Debug, Default)]
pub struct LockRequest {
    /// The profiles.
    pub profiles: BTreeSet<String>,
    /// The kernels by version; none stands for the newest.
    pub kernels: BTreeSet<Option<String>>,
}

impl LockRequest {
    /// What a section has: nothing more is needed.
    pub fn of(section: &Section) -> LockRequest {
        let profiles = section.solutions.first().map(|solution| solution.profiles.clone());
        LockRequest { profiles: profiles.unwrap_or_default(), kernels: BTreeSet::new() }
    }
}

/// What may be done about a lock that does not serve.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LockMode {
    /// Nothing.
    Forbidden,
    /// It is made or renewed, and used even where it cannot be written.
    Used,
    /// It is made or renewed, and must be written.
    Written,
}

/// Why a lock does not serve.
#[derive(Debug)]
pub struct Staleness {
    no_lock: bool,
    changes: Changes,
    profiles: Option<BTreeSet<String>>,
    kernels: BTreeSet<Option<String>>,
}

impl Staleness {
    /// Whether it serves as it is.
    pub fn is_empty(&self) -> bool {
        !self.no_lock && self.changes.is_empty() && self.only_contents()
    }

    /// Whether dnf needs not solve.
    fn only_contents(&self) -> bool {
        !self.no_lock && self.changes.packages.is_empty() && self.profiles.is_none() && self.kernels.is_empty()
    }

    /// What is wrong with the lock of `image`, for people.
    pub fn reasons(&self) -> String {
        if self.no_lock {
            return format!("there is none for {}", architecture::native());
        }
        let mut reasons: Vec<String> = self.changes.names().iter().map(|name| format!("{name} changed")).collect();
        if let Some(profiles) = &self.profiles {
            reasons.push(format!("it has no packages for {}", profiles_text(profiles)));
        }
        for kernel in &self.kernels {
            reasons.push(match kernel {
                Some(version) => format!("it has no kernel {version}"),
                None => "it does not have the newest kernel".to_owned(),
            });
        }
        reasons.join(", ")
    }

    /// The command that makes up for it.
    pub fn cure(&self, image: &str) -> String {
        let mut cure = format!("ocinitrd lock {image}");
        if let Some(profiles) = self.profiles.as_ref().filter(|profiles| !profiles.is_empty()) {
            let _ = write!(cure, " --profile {}", words(profiles));
        }
        for version in self.kernels.iter().flatten() {
            let _ = write!(cure, " --kernel-version {version}");
        }
        cure
    }
}

fn words(profiles: &BTreeSet<String>) -> String {
    profiles.iter().map(String::as_str).collect::<Vec<_>>().join(",")
}

fn profiles_text(profiles: &BTreeSet<String>) -> String {
    match profiles.len() {
        0 => "the image without profiles".to_owned(),
        1 => format!("the profile {}", words(profiles)),
        _ => format!("the profiles {} together", words(profiles)),
    }
}

/// The lock file of the image as it is.
///
/// # Errors
/// As [`Lock::load`].
pub fn load(context: &BuildContext<'_>) -> Result<Lock> {
    let definition = &context.definition;
    Ok(Lock::load(&definition.lock_path(), &definition.name, &definition.argument)?
        .unwrap_or_else(|| Lock::new(&definition.name)))
}

/// What a section lacks of the needs.
///
/// # Errors
/// Fails when an input of the definition cannot be read.
pub fn lacks(context: &BuildContext<'_>, section: Option<&Section>, needs: &LockRequest) -> Result<Staleness> {
    let Some(section) = section else {
        let (profiles, kernels) = (Some(needs.profiles.clone()), needs.kernels.clone());
        return Ok(Staleness { no_lock: true, changes: Changes::default(), profiles, kernels });
    };
    let current = Inputs::of(&context.definition, &known_profiles(context, section.profiles()))?;
    let missing = |kernel: &&Option<String>| section.kernel(kernel.as_deref()).is_none();
    let no_solution = section.solution(&needs.profiles).is_none();
    Ok(Staleness {
        no_lock: false,
        changes: section.inputs.changes(&current),
        profiles: no_solution.then(|| needs.profiles.clone()),
        kernels: wanted_kernels(context, needs).iter().filter(missing).cloned().collect(),
    })
}

/// An image without kernel packages has no kernel.
fn wanted_kernels(context: &BuildContext<'_>, needs: &LockRequest) -> BTreeSet<Option<String>> {
    if context.definition.kernel_packages.is_empty() { BTreeSet::new() } else { needs.kernels.clone() }
}

/// A profile that the image has no more changes the inputs, and is not solved for again.
fn known_profiles(context: &BuildContext<'_>, profiles: BTreeSet<String>) -> BTreeSet<String> {
    profiles.into_iter().filter(|profile| context.definition.offers(profile)).collect()
}

/// The section of the lock that serves `needs`; the lock is made or renewed if need be and `renewal` allows it.
///
/// # Errors
/// Fails when the lock does not serve and is not to be renewed, and when it cannot be made.
pub async fn provide(context: &BuildContext<'_>, needs: &LockRequest, renewal: LockMode) -> Result<Section> {
    let section = find_or_make(context, needs, renewal).await?;
    builder_image::touch(&context.store, section.builder.digest, architecture::oci_name(architecture::native()));
    section.repos.values().for_each(|repository| repository::touch(&context.store, &repository.repomd));
    section.packages.iter().for_each(|package| Store::touch(&context.store.path(&package.sha256)));
    warn_of_clock(context, &section)?;
    Ok(section)
}

/// A clock that is behind makes certificates and signatures look as if they were from the future.
fn warn_of_clock(context: &BuildContext<'_>, section: &Section) -> Result<()> {
    let now = Timestamp::from(SystemTime::now());
    let newest = section.packages.iter().map(|package| package.build_time).max().unwrap_or_default();
    if now < newest {
        context.progress.warn(&format!(
            "the clock of this machine says {}, before the newest package was built ({}): set it, or certificates and \
             signatures may be refused",
            now.to_rfc3339(),
            newest.to_rfc3339()
        ));
    }
    Ok(())
}

async fn find_or_make(context: &BuildContext<'_>, needs: &LockRequest, renewal: LockMode) -> Result<Section> {
    let (definition, progress) = (&context.definition, context.progress);
    let path = context.lock_name();
    let mut lock = load(context)?;
    let before = lock.arch.remove(architecture::native());
    let lacks = lacks(context, before.as_ref(), needs)?;
    let before = match before {
        Some(section) if lacks.is_empty() => return Ok(section),
        before => before,
    };
    if renewal == LockMode::Forbidden {
        bail!(
            "the lock {path} does not serve: {}; it is not renewed here: run {}",
            lacks.reasons(),
            lacks.cure(&definition.argument)
        );
    }
    let section = match &before {
        Some(section) if lacks.only_contents() => {
            let inputs = Inputs::of(definition, &known_profiles(context, section.profiles()))?;
            progress.note(&format!("{path}: renewed without solving, since {}", lacks.reasons()));
            Section { inputs, ..section.clone() }
        }
        _ => solve(context, before.as_ref(), needs, &lacks).await?,
    };
    match save(context, lock, section.clone()) {
        Err(error) if renewal == LockMode::Used => progress.warn(&format!("the lock is used, but not kept: {error:#}")),
        saved => saved?,
    }
    Ok(section)
}

/// Solves for what is needed and for what the lock has already, from the repositories as the lock has them.
async fn solve(
    context: &BuildContext<'_>,
    before: Option<&Section>,
    needs: &LockRequest,
    lacks: &Staleness,
) -> Result<Section> {
    let request = request(context, before, needs);
    let repos = before.map(|before| unchanged_repositories(before, &lacks.changes));
    let remedy = match before {
        Some(before) => remedy(context, before, lacks)?,
        None => String::new(),
    };
    let state = repos.as_ref().map(|repos| State { repos, remedy: &remedy });
    let resolving = context.resolve_context().await?;
    let section = resolve::resolve(&resolving, &request, state.as_ref()).await?;
    let path = context.lock_name();
    context.progress.note(&match before {
        None => format!("{path}: made, {} packages", section.packages.len()),
        Some(before) => {
            let difference = Difference::between(Some(before), &section);
            format!("{path}: renewed, since {}\n{difference}", lacks.reasons())
        }
    });
    Ok(section)
}

/// All that `needs` and the lock's earlier state ask for.
pub fn request(context: &BuildContext<'_>, before: Option<&Section>, needs: &LockRequest) -> Request {
    let mut request = Request { profiles: BTreeSet::from([needs.profiles.clone()]), kernels: needs.kernels.clone() };
    if let Some(section) = before {
        let profiles = section.solutions.iter().map(|solution| &solution.profiles);
        let is_known = |profiles: &&BTreeSet<String>| profiles.iter().all(|profile| context.definition.offers(profile));
        request.profiles.extend(profiles.filter(is_known).cloned());
        request.kernels.extend(section.kernels.iter().map(|one| one.by_version.then(|| one.version.clone())));
    }
    if context.definition.kernel_packages.is_empty() {
        request.kernels.clear();
    }
    request
}

/// The repositories of a lock without those that the definition describes otherwise now: these are taken as they are.
fn unchanged_repositories(before: &Section, changes: &Changes) -> BTreeMap<String, file::Repository> {
    let mut repos = before.repos.clone();
    repos.retain(|id, _| !changes.packages.contains(&format!("[repos.{id}]")));
    repos
}

/// What makes up for the lack of a lock without the repositories as it has them.
fn remedy(context: &BuildContext<'_>, before: &Section, lacks: &Staleness) -> Result<String> {
    let image = &context.definition.argument;
    Ok(match additions(context, before, lacks)? {
        Some(added) => {
            let names: BTreeSet<String> = added.into_iter().flatten().collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            format!(
                "to take from the repositories as they are what is added and what that forces, and keep the rest, run: ocinitrd \
                 update {image} {}",
                names.join(" ")
            )
        }
        None => format!("renew all of the lock with: ocinitrd update {image}"),
    })
}

/// The packages that each set of `section` lacks of what the definition asks for now, where that is all that it lacks.
///
/// # Errors
/// Fails when the definition's profiles cannot be put together.
pub fn additions(
    context: &BuildContext<'_>,
    section: &Section,
    lacks: &Staleness,
) -> Result<Option<Vec<BTreeSet<String>>>> {
    let is_more = !lacks.no_lock && lacks.profiles.is_none() && lacks.kernels.is_empty();
    let is_offered = section.profiles().iter().all(|profile| context.definition.offers(profile));
    if !is_more || !is_offered || lacks.changes.packages.iter().any(|name| !name.ends_with(" install")) {
        return Ok(None);
    }
    let mut added = Vec::new();
    for solution in &section.solutions {
        let selection = context.definition.select(&solution.profiles)?;
        let asked_for: BTreeSet<String> = selection.install.iter().map(ToString::to_string).collect();
        let Some(lacking) = lacking(&asked_for, &section.packages(&solution.packages)) else { return Ok(None) };
        added.push(lacking);
    }
    Ok(Some(added).filter(|added| added.iter().any(|set| !set.is_empty())))
}

/// What of `asked_for` a set of packages lacks by its name; none where that is not all in which the two differ, as far as can be
/// told: a file or a capability may be any package's, and what is asked for no more would stay.
fn lacking(asked_for: &BTreeSet<String>, packages: &[&LockedPackage]) -> Option<BTreeSet<String>> {
    let is_name = |text: &String| text.parse::<PackageName>().is_ok();
    let is_left = |package: &&LockedPackage| package.reason == Reason::User && !asked_for.contains(&package.name);
    if !asked_for.iter().all(is_name) || packages.iter().any(is_left) {
        return None;
    }
    let there: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    Some(asked_for.iter().filter(|name| !there.contains(name.as_str())).cloned().collect())
}

/// Writes the lock with this section.
///
/// # Errors
/// Fails when the file cannot be written.
pub fn save(context: &BuildContext<'_>, mut lock: Lock, section: Section) -> Result<()> {
    lock.arch.insert(architecture::native().to_owned(), section);
    let path = context.definition.lock_path();
    if regular_file::is_read_only(&path).unwrap_or(false) {
        bail!(
            "writing the lock: {} is read-only\nhint: make it writable, or use it as it is with --locked",
            path.display()
        );
    }
    lock.save(&path).context("writing the lock")
}
