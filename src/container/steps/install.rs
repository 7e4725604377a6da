//! Verified rpms to the base layer and its inventory.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::container::engine::{Builder, Job};
use crate::definition::Selection;
use crate::definition::dnf::{self, InstalledPackage};
use crate::image::layer::{Layer, Rules};
use crate::names::FileGlob;
use ocinitrd_format::time::Timestamp;
use ocinitrd_support::progress::Progress;

use super::input::Input;

/// What the install step leaves.
#[derive(Debug)]
pub struct Installed {
    /// The tree as tar exported it.
    pub layer: Layer,
    /// Every package, sorted by name.
    pub packages: Vec<InstalledPackage>,
}

/// What is to be installed.
#[derive(Debug)]
pub struct Request<'a> {
    /// The files laid over the tree and the settings of dnf.
    pub selection: &'a Selection,
    /// What dnf calls `releasever`.
    pub releasever: &'a str,
    /// The rpms: file name in the container, path on this host.
    pub rpms: &'a [(String, PathBuf)],
    /// The time that scriptlets and rpm's database record, in seconds.
    pub epoch: Timestamp,
    /// How the exported tree is read.
    pub rules: Rules,
    /// Where the tree's files are spooled.
    pub spool_directory: &'a Path,
}

/// Installs rpms with dnf into a new root, in the builder.
///
/// # Errors
/// Fails with the step's own words when dnf or a scriptlet fails, and when the exported tree is refused.
pub async fn install(builder: &Builder, request: &Request<'_>, progress: &Progress) -> Result<Installed> {
    let input = input(request)?;
    let mut inventory = Vec::new();
    let (reader, mut writer) = io::pipe().context("making a pipe for the exported tree")?;
    let spool_directory = request.spool_directory.to_owned();
    let rules = request.rules;
    let reading = tokio::task::spawn_blocking(move || Layer::read(reader, &spool_directory, &rules));
    let job = Job {
        name: "install",
        command: super::command("/bin/bash", "install.sh"),
        environment: super::environment(Some(request.epoch)),
        // To mount /proc and /dev into the new root, and to chroot into it.
        capabilities: vec!["SYS_ADMIN".to_owned(), "SYS_CHROOT".to_owned()],
        memory_limit_bytes: None,
        input: Box::new(move |writer| input.write(writer)),
        outputs: vec![super::output("base.tar", &mut writer), super::output("inventory", &mut inventory)],
    };
    let result = builder.run(job, progress).await;
    // The end of the stream for the reader.
    drop(writer);
    let layer = reading.await.context("reading the exported tree")?;
    let (result, layer) = match (result, layer) {
        // A refused tree closes the pipe: the reader's error is the cause, the engine's only follows.
        (Err(error), Err(refusal)) if is_broken_pipe(&error) => {
            return Err(refusal.context("reading the exported tree"));
        }
        (Err(error), _) => return Err(error),
        (Ok(result), layer) => (result, layer),
    };
    if result.exit_code != 0 {
        let answer = |log: &str| format!("not making an initrd that would be incomplete:\n{}", log.trim_end());
        return Err(super::failure::error(&result, "installing the packages", answer));
    }
    let packages = dnf::parse_inventory(&super::text(inventory)?)?;
    Ok(Installed { layer: layer.context("reading the exported tree")?, packages })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_ours = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    error.chain().any(is_ours)
}

fn input(request: &Request<'_>) -> Result<Input> {
    let mut input = Input::with_script("install.sh", include_str!("install.sh"));
    super::add_rpm_settings(&mut input);
    input.bytes("owners.sh", include_str!("owners.sh"));
    input.bytes("dnf.conf", dnf::configuration(&request.selection.exclude));
    input.bytes("releasever", request.releasever);
    input.bytes("hwdb-exclude", lines(&request.selection.hwdb_exclude));
    input.directory("extra");
    let trees: BTreeSet<&PathBuf> = request.selection.extra_trees.iter().collect();
    for tree in trees {
        input.tree("extra", tree)?;
    }
    super::add_rpms(&mut input, request.rpms)?;
    Ok(input)
}

/// A list as a script reads it.
fn lines(words: &[FileGlob]) -> String {
    words.iter().map(|word| format!("{word}\n")).collect()
}
