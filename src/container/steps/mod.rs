//! What runs in a container of the builder image: solving, verifying signatures, installing. None has a network.
//!
//! Each step is a script of its own beside this file, the files that it finds below `/ocinitrd`, and the files that it
//! leaves there. The files are sent as a tar stream, so that the engine may be on another host.

pub(crate) mod install;
pub(crate) mod renew;
pub(crate) mod solve;
pub(crate) mod verify;
pub(crate) mod versions;

mod failure;
mod input;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::container::engine::Output;
use crate::definition::dnf;
use crate::definition::{BUILDER_FILE, Definition, Repository, Selection};
use crate::packages::rpm_file;
use ocinitrd_format::time::Timestamp;
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

use input::Input;

/// How a script of [`Input::with_script`] is started.
fn command(shell: &str, script: &str) -> Vec<String> {
    vec![shell.to_owned(), format!("/{}/{script}", dnf::CONTAINER_DIRECTORY)]
}

/// The file `name` that a script leaves in its `out`.
fn output<'a>(name: &str, sink: &'a mut (dyn Write + Send)) -> Output<'a> {
    Output { path: format!("/{}/out/{name}", dnf::CONTAINER_DIRECTORY), sink }
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).context("reading what the container wrote")
}

/// What every script runs under: nothing of the host's language, time zone or clock.
fn environment(epoch: Option<Timestamp>) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([
        ("HOME".to_owned(), HOME.to_owned()),
        ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
        ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("TZ".to_owned(), "UTC".to_owned()),
    ]);
    if let Some(epoch) = epoch {
        environment.insert("SOURCE_DATE_EPOCH".to_owned(), epoch.to_string());
    }
    environment
}

/// Where a step finds rpm's settings, in a container.
const HOME: &str = "/ocinitrd/home";

/// rpm's settings for all steps.
///
/// `_netsharedpath` keeps packages from changing the mode of what is mounted; without `__transaction_unshare` nothing is
/// unshared, which would need rights that a container does not have; the path of the database is Fedora's.
const RPM_MACROS: &str = "%__transaction_unshare %{nil}\n\
                          %_dbpath /usr/lib/sysimage/rpm\n\
                          %_netsharedpath /proc:/sys:/dev\n\
                          %_pkgverify_level none\n";

/// Adds rpm's settings as those of the user whose home is [`HOME`].
fn add_rpm_settings(input: &mut Input) {
    input.directory("home");
    input.bytes("home/.rpmmacros", RPM_MACROS);
}

/// Adds the keys that the definition names: files of the host by content, those of the builder image by their path in it.
fn add_definition_keys(
    input: &mut Input,
    definition: &Definition,
    repositories: &BTreeMap<String, Repository>,
) -> Result<()> {
    input.directory("keys");
    input.bytes("keys.sh", include_str!("keys.sh"));
    input.bytes("builder-keys", dnf::builder_keys(repositories));
    input.bytes("repository-keys", dnf::repository_keys(repositories));
    for (id, repository) in repositories {
        for (position, key) in repository.gpg_keys.iter().enumerate() {
            if !key.starts_with(BUILDER_FILE) {
                let armored = regular_file::read(&definition.path(key), TEXT_LIMIT_BYTES);
                let armored = armored.with_context(|| format!("reading the key {key} of [repos.{id}]"))?;
                input.bytes(&format!("keys/{}", dnf::key_file_name(id, position)), armored);
            }
        }
    }
    Ok(())
}

/// The error of a step that ended in `keys.sh`, by its log: a repository has no key that the builder's rpm can import.
fn no_usable_key(log: &str) -> Option<String> {
    let (words, repository) = log.trim_end().rsplit_once("no usable key of ")?;
    Some(format!(
        "the builder image's rpm cannot import any key in gpg_keys of [repos.{repository}]:\n{}\n\
         use a builder image with a newer rpm, or add another key of the repository to gpg_keys",
        words.trim_end()
    ))
}

/// Adds repositories with their metadata (repository id, path below it, where it lies on this host) and keys.
fn add_repositories(
    input: &mut Input,
    definition: &Definition,
    repositories: &BTreeMap<String, Repository>,
    metadata: &[(String, String, PathBuf)],
) -> Result<()> {
    add_repository_file(input, "repos.d", repositories);
    add_definition_keys(input, definition, repositories)?;
    input.directory("repos");
    for id in repositories.keys() {
        input.directory(&format!("repos/{id}"));
        input.directory(&format!("repos/{id}/repodata"));
    }
    for (id, path, host_path) in metadata {
        input.file(&format!("repos/{id}/{path}"), host_path);
    }
    Ok(())
}

/// Adds a directory that dnf can be given as `reposdir`.
fn add_repository_file(input: &mut Input, directory: &str, repositories: &BTreeMap<String, Repository>) {
    input.directory(directory);
    input.bytes(&format!("{directory}/ocinitrd.repo"), dnf::repositories_file(repositories));
}

/// Those of `repositories` that packages of `selection` may come from.
fn repositories_of(
    definition: &Definition,
    selection: &Selection,
    repositories: &BTreeMap<String, Repository>,
) -> BTreeMap<String, Repository> {
    let used = definition.repositories_of(selection);
    let used = repositories.iter().filter(|(id, _)| used.contains_key(id.as_str()));
    used.map(|(id, repository)| (id.clone(), repository.clone())).collect()
}

/// Each word once and sorted: the order of a definition must not matter to dnf.
fn lines(words: &BTreeSet<String>) -> String {
    words.iter().map(|word| format!("{word}\n")).collect()
}

/// Adds rpms below `rpms`: file name in the container, path on this host. Their signatures were verified before.
fn add_rpms(input: &mut Input, rpms: &[(String, PathBuf)]) -> Result<()> {
    input.directory("rpms");
    for (name, path) in rpms {
        input.rpm(&format!("rpms/{name}"), path, rpm_file::without_several_signatures(path)?);
    }
    Ok(())
}
