//! Solved sets, metadata and the names of some packages to what has to change in each set so that these are renewed or added.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::container::engine::{Builder, Job};
use crate::definition::dnf::{self, Change};
use crate::definition::{Definition, Repository, Selection};
use ocinitrd_support::progress::Progress;

use super::input::Input;
use super::versions;

/// What is to be renewed.
#[derive(Debug)]
pub struct Request<'a> {
    /// The definition, for its keys.
    pub definition: &'a Definition,
    /// The repositories by id, their variables replaced.
    pub repositories: &'a BTreeMap<String, Repository>,
    /// The files of each repository's metadata: repository id, path below it, where it lies on this host.
    pub metadata: &'a [(String, String, PathBuf)],
    /// The sets.
    pub sets: &'a [Set<'a>],
    /// The rpms of all sets: file name in the container, path on this host.
    pub rpms: &'a [(String, PathBuf)],
}

/// A set of packages.
#[derive(Debug)]
pub struct Set<'a> {
    /// What it was solved for.
    pub selection: &'a Selection,
    /// The names of its rpms in the container.
    pub installed: BTreeSet<String>,
    /// The packages of it that are to be renewed.
    pub names: BTreeSet<String>,
    /// The packages that are to be added to it.
    pub added: BTreeSet<String>,
}

/// Lets dnf find out in the builder. Returns what changes in each set.
///
/// # Errors
/// Fails with dnf's own words when it finds no solution, and when the container cannot be run.
pub async fn renew(builder: &Builder, request: &Request<'_>, progress: &Progress) -> Result<Vec<Change>> {
    let input = input(request)?;
    let mut solutions: Vec<Vec<u8>> = vec![Vec::new(); request.sets.len()];
    let outputs = solutions.iter_mut().enumerate();
    let outputs =
        outputs.map(|(position, solution)| super::output(&format!("{position}.solution"), solution)).collect();
    let job = Job {
        name: "renew",
        command: super::command("/bin/sh", "renew.sh"),
        environment: super::environment(None),
        capabilities: vec!["SYS_CHROOT".to_owned()],
        memory_limit_bytes: None,
        input: Box::new(move |writer| input.write(writer)),
        outputs,
    };
    let result = builder.run(job, progress).await?;
    if result.exit_code != 0 {
        let answer = |log: &str| {
            super::no_usable_key(log).unwrap_or_else(|| {
                format!("dnf found no solution that renews or adds the packages:\n{}", dnf::complaints(log))
            })
        };
        return Err(super::failure::error(&result, "looking for newer packages", answer));
    }
    let read = |solution: Vec<u8>| dnf::parse_change(&super::text(solution)?);
    solutions.into_iter().map(read).collect::<Result<_>>().context("reading what dnf would change")
}

fn input(request: &Request<'_>) -> Result<Input> {
    let Request { definition, repositories, .. } = request;
    let mut input = Input::with_script("renew.sh", include_str!("renew.sh"));
    versions::add_tools(&mut input);
    super::add_rpm_settings(&mut input);
    input.bytes("releasever", definition.releasever.as_str());
    input.directory("sets");
    for (position, set) in request.sets.iter().enumerate() {
        input.directory(&format!("sets/{position}"));
        input.bytes(&format!("sets/{position}/dnf.conf"), dnf::configuration(&set.selection.exclude));
        let used = super::repositories_of(definition, set.selection, repositories);
        super::add_repository_file(&mut input, &format!("sets/{position}/repos.d"), &used);
        input.bytes(&format!("sets/{position}/installed"), super::lines(&set.installed));
        input.bytes(&format!("sets/{position}/names"), super::lines(&set.names));
        input.bytes(&format!("sets/{position}/added"), super::lines(&set.added));
    }
    super::add_repositories(&mut input, definition, repositories, request.metadata)?;
    super::add_rpms(&mut input, request.rpms)?;
    Ok(input)
}
