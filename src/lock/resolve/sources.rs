//! The repositories of a definition: where they are, what they have now, and the keys that vouch for it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Error, Result};

use super::{ResolveContext, State};
use crate::definition::dnf;
use crate::definition::{Definition, Repository, Selection};
use crate::lock::file::{self, Key};
use crate::packages::download::Unobtainable;
use crate::packages::fetch::{Archives, Places};
use crate::packages::repository::{self, Location, Metadata, Source, Variables, substitute};
use ocinitrd_format::openpgp::{Fingerprint, PublicKey};
use ocinitrd_support::progress::Progress;

/// The keys of each repository, by its id.
pub(super) type Keys = BTreeMap<String, Vec<PublicKey>>;

/// What may stand for other text in addresses and key paths.
fn variables(definition: &Definition) -> Variables {
    let mut variables = archive_variables(definition);
    variables.insert("arch".to_owned(), std::env::consts::ARCH.to_owned());
    variables
}

/// The same of archives, where `$arch` is a package's.
fn archive_variables(definition: &Definition) -> Variables {
    Variables::from([
        ("basearch".to_owned(), std::env::consts::ARCH.to_owned()),
        ("releasever".to_owned(), definition.releasever.clone()),
    ])
}

/// The repositories that packages of `selections` and of kernels may come from.
pub(super) fn with_variables(
    definition: &Definition,
    selections: &[Selection],
) -> Result<BTreeMap<String, Repository>> {
    let variables = variables(definition);
    let used = selections.iter().chain([&definition.selection]).flat_map(|one| definition.repositories_of(one));
    let mut substituted: BTreeMap<String, Repository> =
        used.map(|(id, repository)| (id.to_owned(), repository.clone())).collect();
    for (id, repository) in &mut substituted {
        let texts = repository
            .baseurl
            .iter_mut()
            .chain(&mut repository.gpg_keys)
            .chain(&mut repository.metalink)
            .chain(&mut repository.mirrorlist);
        for text in texts {
            *text = substitute(text, &variables).with_context(|| format!("in [repos.{id}]"))?;
        }
    }
    Ok(substituted)
}

pub(super) async fn fetch_metadata(
    context: &ResolveContext<'_>,
    repositories: &BTreeMap<String, Repository>,
    state: Option<&State<'_>>,
) -> Result<Vec<Metadata>> {
    let mut metadata = Vec::new();
    for (id, repository) in repositories {
        let locked = state.and_then(|state| state.repos.get(id));
        let source = Source {
            id: id.clone(),
            location: location(context.definition, repository, locked),
            // The lock vouches for an earlier state, whose signature is not kept.
            repo_gpgcheck: repository.repo_gpgcheck && locked.is_none(),
            pinned: locked.map(|locked| locked.repomd),
            filelists: repository.filelists,
        };
        let fetching = repository::fetch(&source, context.store, context.downloader, context.progress);
        let fetched = context.cancellation.unless(fetching).await;
        let fetched = match state.filter(|_| locked.is_some()) {
            None => fetched,
            Some(state) => fetched.map_err(|error| of_locked_state(error, id, state.remedy)),
        };
        metadata.push(fetched?);
    }
    Ok(metadata)
}

/// Says what was wanted, and behind what went wrong what to do about it.
fn of_locked_state(error: Error, id: &str, remedy: &str) -> Error {
    let error = match error.downcast::<Unobtainable>() {
        Ok(error) => Error::from(error.advise(remedy)),
        Err(error) => error,
    };
    error.context(format!(
        "what is added to a lock is taken from the repositories as the lock names them, and the repository {id} cannot be had so \
         from the store, the repository or an archive"
    ))
}

/// The definition was checked to give exactly one; a lock knows where it was.
fn location(definition: &Definition, repository: &Repository, locked: Option<&file::Repository>) -> Location {
    let base_urls = |urls: &[String]| urls.iter().map(|url| definition.base_url(url)).collect();
    match (locked, &repository.metalink, &repository.mirrorlist) {
        (Some(locked), ..) => {
            let copies = copies(&locked.archive, &archive_variables(definition));
            Location::BaseUrls([base_urls(&locked.base_urls), copies].concat())
        }
        (_, Some(url), _) => Location::Metalink(url.clone()),
        (_, _, Some(url)) => Location::MirrorList(url.clone()),
        _ => Location::BaseUrls(base_urls(&repository.baseurl)),
    }
}

/// The archives that are laid out as the repository is, which may have its metadata too.
fn copies(archives: &[String], variables: &Variables) -> Vec<String> {
    let directory = |archive: &String| {
        let directory = archive.strip_suffix("/$location").or_else(|| archive.strip_suffix("/${location}"))?;
        substitute(directory, variables).ok()
    };
    archives.iter().filter_map(directory).collect()
}

/// Returns the keys of each repository, from the files that its definition names. A key that cannot be read is a warning, or an
/// error if the repository has no other.
pub(super) fn keys(
    repositories: &BTreeMap<String, Repository>,
    files: &BTreeMap<String, Vec<u8>>,
    progress: &Progress,
) -> Result<Keys> {
    let mut keys = Keys::new();
    for (id, repository) in repositories {
        let found: &mut Vec<PublicKey> = keys.entry(id.clone()).or_default();
        let mut unreadable = Vec::new();
        for (position, name) in repository.gpg_keys.iter().enumerate() {
            let reading = || format!("reading the key {name} of [repos.{id}]");
            let text = files.get(&dnf::key_file_name(id, position)).with_context(reading)?;
            let (readable, errors) = PublicKey::parse_readable(text).with_context(reading)?;
            found.extend(readable);
            unreadable.extend(errors.into_iter().map(|error| error.context(reading())));
        }
        match unreadable.pop() {
            Some(error) if found.is_empty() => return Err(error),
            last => unreadable.extend(last),
        }
        for error in unreadable {
            progress.warn(&format!("{error:#}; signatures by it do not count"));
        }
    }
    Ok(keys)
}

/// Warns of keys that the builder's rpm cannot import; `refused` has its words, by the name of the key file in the container.
pub(super) fn warn_of_refused_keys(
    repositories: &BTreeMap<String, Repository>,
    refused: &BTreeMap<String, String>,
    progress: &Progress,
) {
    for (id, repository) in repositories {
        for (position, name) in repository.gpg_keys.iter().enumerate() {
            if let Some(words) = refused.get(&dnf::key_file_name(id, position)) {
                progress.warn(&format!(
                    "the builder image's rpm cannot import a key in {name} of [repos.{id}], so signatures by it do not count: \
                     {words}"
                ));
            }
        }
    }
}

pub(super) fn locked_keys(keys: &Keys) -> BTreeMap<Fingerprint, Key> {
    let keys = keys.values().flatten();
    keys.map(|key| (key.fingerprint.clone(), Key { user_ids: key.user_ids.clone(), armored: key.armored.clone() }))
        .collect()
}

pub(super) fn locked_repositories(
    definition: &Definition,
    repositories: &BTreeMap<String, Repository>,
    metadata: &[Metadata],
    keys: &Keys,
) -> BTreeMap<String, file::Repository> {
    let locked = |one: &Metadata| {
        let repository = &repositories[&one.id];
        let local = |url: &String| {
            let written = repository.baseurl.iter().find(|baseurl| definition.base_url(baseurl) == *url);
            written.unwrap_or(url).clone()
        };
        file::Repository {
            // The first had the metadata; a few more are enough to fall back to.
            base_urls: one.base_urls.iter().take(BASE_URLS_MAX).map(local).collect(),
            archive: repository.archive.clone(),
            repomd: one.repomd,
            priority: repository.priority,
            repo_gpgcheck: repository.repo_gpgcheck,
            keys: keys[&one.id].iter().map(|key| key.fingerprint.clone()).collect(),
        }
    };
    metadata.iter().map(|one| (one.id.clone(), locked(one))).collect()
}

fn archives(repository: &file::Repository) -> Archives {
    Archives { addresses: repository.archive.clone(), keys: repository.keys.iter().cloned().collect() }
}

/// How many mirrors a lock names for each repository.
const BASE_URLS_MAX: usize = 5;

/// Where the rpms of locked repositories may be.
pub fn places(
    definition: &Definition,
    repos: &BTreeMap<String, file::Repository>,
    rpm_directories: &[PathBuf],
) -> Places {
    let base_urls = |repository: &file::Repository| -> Vec<String> {
        repository.base_urls.iter().map(|url| definition.base_url(url)).collect()
    };
    Places {
        directories: rpm_directories.to_vec(),
        base_urls: repos.iter().map(|(id, repository)| (id.clone(), base_urls(repository))).collect(),
        archives: repos.iter().map(|(id, repository)| (id.clone(), archives(repository))).collect(),
        variables: archive_variables(definition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_with_the_layout_of_the_repository_may_have_its_metadata() {
        let variables = Variables::from([("releasever".to_owned(), "44".to_owned())]);
        let archives = [
            "https://a.example/$releasever/$file",
            "https://b.example/$releasever/${location}",
            "file:///srv/copy/$location",
            "https://c.example/$name/$location",
        ];
        assert_eq!(copies(&archives.map(str::to_owned), &variables), ["https://b.example/44", "file:///srv/copy"]);
    }
}
