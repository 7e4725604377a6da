//! Definition and metadata to the packages that dnf chooses, and the rpms of the kernels.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::container::engine::{Builder, Job};
use crate::definition::dnf::{self, Chosen};
use crate::definition::{Definition, Repository, Selection};
use ocinitrd_support::progress::Progress;

use super::input::Input;
use super::versions;

/// What is to be solved.
#[derive(Debug)]
pub struct Request<'a> {
    /// The definition, for its keys and kernel packages.
    pub definition: &'a Definition,
    /// The repositories by id, their variables replaced.
    pub repositories: &'a BTreeMap<String, Repository>,
    /// The files of each repository's metadata: repository id, path below it, where it lies on this host.
    pub metadata: &'a [(String, String, PathBuf)],
    /// What is to be installed, each for itself.
    pub selections: &'a [Selection],
    /// The kernels wanted: a version, or none for the newest.
    pub kernels: &'a [Option<String>],
}

/// What dnf chose, and what the builder image has.
#[derive(Debug)]
pub struct Solution {
    /// For each selection.
    pub sets: Vec<Set>,
    /// For each kernel its packages.
    pub kernels: Vec<BTreeSet<Chosen>>,
    /// What the builder's rpm and dnf say of their versions, a line each.
    pub builder_tools: Vec<String>,
    /// Key files, by [`dnf::key_file_name`], with a key that the builder's rpm cannot import, and its words.
    pub refused_keys: BTreeMap<String, String>,
    /// The keys of the repositories, those of the builder image too, by [`dnf::key_file_name`].
    pub keys: BTreeMap<String, Vec<u8>>,
}

/// What dnf chose for one selection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Set {
    /// All packages.
    pub packages: BTreeSet<Chosen>,
    /// The names of those that were asked for; the others are their dependencies.
    pub requested: BTreeSet<String>,
}

/// Lets dnf solve in the builder.
///
/// # Errors
/// Fails with dnf's own words when it finds no solution, and when the container cannot be run.
pub async fn solve(builder: &Builder, request: &Request<'_>, progress: &Progress) -> Result<Solution> {
    let input = input(request)?;
    let (mut kernel, mut tools) = (Vec::new(), Vec::new());
    let (mut keys, mut refused_keys) = (Vec::new(), Vec::new());
    let mut sets: Vec<(Vec<u8>, Vec<u8>)> = vec![(Vec::new(), Vec::new()); request.selections.len()];
    let mut outputs = vec![
        super::output("kernel", &mut kernel),
        super::output("builder", &mut tools),
        super::output("keys.tar", &mut keys),
        super::output("refused-keys", &mut refused_keys),
    ];
    for (position, (solution, log)) in sets.iter_mut().enumerate() {
        outputs.push(super::output(&format!("{position}.solution"), solution));
        outputs.push(super::output(&format!("{position}.log"), log));
    }
    let job = Job {
        name: "solve",
        command: super::command("/bin/sh", "solve.sh"),
        environment: super::environment(None),
        capabilities: Vec::new(),
        memory_limit_bytes: None,
        input: Box::new(move |writer| input.write(writer)),
        outputs,
    };
    let result = builder.run(job, progress).await?;
    if result.exit_code != 0 {
        let answer = |log: &str| {
            super::no_usable_key(log).unwrap_or_else(|| {
                format!("dnf found no solution for the packages of the image:\n{}", dnf::complaints(log))
            })
        };
        return Err(super::failure::error(&result, "solving for the packages of the image", answer));
    }
    Ok(Solution {
        sets: sets.into_iter().map(set).collect::<Result<_>>()?,
        kernels: dnf::parse_kernel_packages(&super::text(kernel)?, request.kernels.len())?,
        builder_tools: super::text(tools)?.lines().map(str::to_owned).collect(),
        refused_keys: super::text(refused_keys)?.lines().filter_map(|line| line.split_once(' ')).map(owned).collect(),
        keys: read_keys(&keys).context("reading the keys of the repositories")?,
    })
}

fn owned((name, words): (&str, &str)) -> (String, String) {
    (name.to_owned(), words.trim().to_owned())
}

fn set((solution, log): (Vec<u8>, Vec<u8>)) -> Result<Set> {
    Ok(Set { packages: dnf::parse_solution(&super::text(solution)?)?, requested: dnf::requested(&super::text(log)?) })
}

fn read_keys(archive: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut keys = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        if let Some(name) = entry.path()?.file_name().and_then(|name| name.to_str()).map(str::to_owned) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            keys.insert(name, bytes);
        }
    }
    Ok(keys)
}

fn input(request: &Request<'_>) -> Result<Input> {
    let Request { definition, repositories, .. } = request;
    let mut input = Input::with_script("solve.sh", include_str!("solve.sh"));
    versions::add_tools(&mut input);
    super::add_rpm_settings(&mut input);
    input.bytes("dnf.conf", dnf::configuration(&[]));
    input.bytes("releasever", definition.releasever.as_str());
    input.bytes("kernel-packages", dnf::kernel_packages(&definition.kernel_packages, request.kernels));
    input.directory("sets");
    for (position, selection) in request.selections.iter().enumerate() {
        input.directory(&format!("sets/{position}"));
        input.bytes(&format!("sets/{position}/dnf.conf"), dnf::configuration(&selection.exclude));
        let used = super::repositories_of(definition, selection, repositories);
        super::add_repository_file(&mut input, &format!("sets/{position}/repos.d"), &used);
        input.bytes(
            &format!("sets/{position}/packages"),
            super::lines(&selection.install.iter().map(ToString::to_string).collect()),
        );
    }
    let of_image = super::repositories_of(definition, &definition.selection, repositories);
    super::add_repository_file(&mut input, "image-repos.d", &of_image);
    super::add_repositories(&mut input, definition, repositories, request.metadata)?;
    Ok(input)
}
