//! Definition and metadata to the packages that dnf chooses, and the rpms of the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::definition::{Repository, Selection};
use crate::dnf::{self, Chosen};
use crate::engine::{Engine, Image, Job};
use crate::progress::Progress;

use super::input::Input;

/// What is to be solved.
#[derive(Debug)]
pub struct Request<'a> {
    /// The repositories by id.
    pub repositories: &'a BTreeMap<String, Repository>,
    /// The files of each repository's metadata: repository id, path below it, where it lies on this host.
    pub metadata: &'a [(String, String, PathBuf)],
    /// What dnf calls `releasever`.
    pub releasever: &'a str,
    /// What is to be installed.
    pub selection: &'a Selection,
    /// The packages of the kernel.
    pub kernel_packages: &'a [String],
    /// The kernel wanted; the newest if none is.
    pub kernel_version: Option<&'a str>,
}

/// What dnf chose.
#[derive(Debug)]
pub struct Solution {
    /// The packages of the base.
    pub packages: BTreeSet<Chosen>,
    /// The packages of the kernel.
    pub kernel_packages: BTreeSet<Chosen>,
    /// What the builder's rpm and dnf say of their versions, a line each.
    pub builder_tools: Vec<String>,
}

/// Lets dnf solve in a container of `image`.
///
/// # Errors
/// Fails with dnf's own words when it finds no solution, and when the container cannot be run.
pub async fn solve(engine: &Engine, image: &Image, request: &Request<'_>, progress: &Progress) -> Result<Solution> {
    let input = input(request)?;
    let (mut solution, mut kernel, mut tools) = (Vec::new(), Vec::new(), Vec::new());
    let job = Job {
        image,
        name: "solve",
        command: super::command("/bin/sh", "solve.sh"),
        environment: super::environment(None),
        capabilities: Vec::new(),
        memory_limit_bytes: None,
        input: Box::new(move |writer| input.write(writer)),
        outputs: vec![
            super::output("solution", &mut solution),
            super::output("kernel", &mut kernel),
            super::output("builder", &mut tools),
        ],
    };
    let result = engine.run(job, progress).await?;
    if result.exit_code != 0 {
        bail!("dnf found no solution for the packages of the image:\n{}", dnf::complaints(&result.log));
    }
    Ok(Solution {
        packages: dnf::parse_solution(&super::text(solution)?)?,
        kernel_packages: dnf::parse_kernel_packages(&super::text(kernel)?)?,
        builder_tools: super::text(tools)?.lines().map(str::to_owned).collect(),
    })
}

fn input(request: &Request<'_>) -> Result<Input> {
    let mut input = Input::with_script("solve.sh", include_str!("solve.sh"));
    input.bytes_at("etc/rpm/macros.ocinitrd", super::RPM_MACROS);
    input.bytes("dnf.conf", dnf::configuration(request.selection));
    input.bytes("releasever", request.releasever);
    input.bytes("packages", lines(&request.selection.install));
    input.bytes("kernel-packages", dnf::kernel_packages(request.kernel_packages, request.kernel_version));
    input.directory("repos.d");
    input.bytes("repos.d/ocinitrd.repo", dnf::repositories_file(request.repositories));
    super::add_keys(&mut input, request.repositories)?;
    input.directory("repos");
    for id in request.repositories.keys() {
        input.directory(&format!("repos/{id}"));
        input.directory(&format!("repos/{id}/repodata"));
    }
    for (id, path, host_path) in request.metadata {
        input.file(&format!("repos/{id}/{path}"), host_path);
    }
    Ok(input)
}

/// Each word once and sorted: the order of a definition must not matter to dnf.
fn lines(words: &[String]) -> String {
    let sorted: BTreeSet<&str> = words.iter().map(String::as_str).collect();
    sorted.into_iter().map(|word| format!("{word}\n")).collect()
}
