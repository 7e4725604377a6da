//! The repositories of a definition: where they are, what they have now, and the keys that vouch for it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Site;
use crate::definition::{Definition, Repository};
use crate::dnf;
use crate::fetch::Places;
use crate::format::openpgp::{Fingerprint, PublicKey};
use crate::lock::{self, Key, Section};
use crate::repository::{self, Location, Metadata, Source, Variables, substitute};

/// The keys of each repository, by its id.
pub(super) type Keys = BTreeMap<String, Vec<PublicKey>>;

/// What may stand for other text in addresses and key paths.
fn variables(definition: &Definition) -> Variables {
    let architecture = std::env::consts::ARCH.to_owned();
    Variables::from([
        ("arch".to_owned(), architecture.clone()),
        ("basearch".to_owned(), architecture),
        ("releasever".to_owned(), definition.releasever.clone()),
    ])
}

pub(super) fn with_variables(definition: &Definition) -> Result<BTreeMap<String, Repository>> {
    let variables = variables(definition);
    let mut substituted = definition.repositories.clone();
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
    site: &Site<'_>,
    repositories: &BTreeMap<String, Repository>,
    state: Option<&Section>,
) -> Result<Vec<Metadata>> {
    let mut metadata = Vec::new();
    for (id, repository) in repositories {
        let locked = state.and_then(|state| state.repos.get(id));
        let source = Source {
            id: id.clone(),
            location: location(site.definition, repository, locked),
            // The lock vouches for an earlier state, whose signature is not kept.
            repo_gpgcheck: repository.repo_gpgcheck && locked.is_none(),
            pinned: locked.map(|locked| locked.repomd),
            filelists: repository.filelists,
        };
        let fetching = repository::fetch(&source, site.store, site.downloader, site.progress);
        let fetched = site.cancellation.unless(fetching).await;
        let fetched = match locked {
            None => fetched,
            Some(_) => fetched.with_context(|| {
                format!(
                    "the repository {id} has changed since the lock was made, so nothing can be added to it; renew all of it \
                     with: ocinitrd update {}",
                    site.definition.argument
                )
            }),
        };
        metadata.push(fetched?);
    }
    Ok(metadata)
}

/// The definition was checked to give exactly one; a lock knows where it was.
fn location(definition: &Definition, repository: &Repository, locked: Option<&lock::Repository>) -> Location {
    let base_urls = |urls: &[String]| Location::BaseUrls(urls.iter().map(|url| definition.base_url(url)).collect());
    match (locked, &repository.metalink, &repository.mirrorlist) {
        (Some(locked), ..) => base_urls(&locked.base_urls),
        (_, Some(url), _) => Location::Metalink(url.clone()),
        (_, _, Some(url)) => Location::MirrorList(url.clone()),
        _ => base_urls(&repository.baseurl),
    }
}

/// The keys of each repository, in the files that its definition names.
pub(super) fn keys(repositories: &BTreeMap<String, Repository>, files: &BTreeMap<String, Vec<u8>>) -> Result<Keys> {
    let mut keys = Keys::new();
    for (id, repository) in repositories {
        let found: &mut Vec<PublicKey> = keys.entry(id.clone()).or_default();
        for (position, name) in repository.gpg_keys.iter().enumerate() {
            let reading = || format!("reading the key {name} of [repos.{id}]");
            let text = files.get(&dnf::key_file_name(id, position)).with_context(reading)?;
            found.extend(PublicKey::parse_all(text).with_context(reading)?);
        }
    }
    Ok(keys)
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
) -> BTreeMap<String, lock::Repository> {
    let locked = |one: &Metadata| {
        let repository = &repositories[&one.id];
        let local = |url: &String| {
            let written = repository.baseurl.iter().find(|baseurl| definition.base_url(baseurl) == *url);
            written.unwrap_or(url).clone()
        };
        lock::Repository {
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

/// How many mirrors a lock names for each repository.
const BASE_URLS_MAX: usize = 5;

/// Where the rpms of locked repositories may be.
pub fn places(
    definition: &Definition,
    repos: &BTreeMap<String, lock::Repository>,
    rpm_directories: &[PathBuf],
) -> Places {
    let base_urls = |repository: &lock::Repository| -> Vec<String> {
        repository.base_urls.iter().map(|url| definition.base_url(url)).collect()
    };
    Places {
        directories: rpm_directories.to_vec(),
        base_urls: repos.iter().map(|(id, repository)| (id.clone(), base_urls(repository))).collect(),
        archives: repos.iter().filter_map(|(id, repository)| Some((id.clone(), repository.archive.clone()?))).collect(),
    }
}
