//! Verified rpms to the base layer and its inventory.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::definition::Selection;
use crate::dnf::{self, InstalledPackage};
use crate::engine::{Engine, Image, Job, Output};
use crate::layer::{self, Layer};
use crate::progress::Progress;

use super::input::Input;

/// What the install step leaves.
#[derive(Debug)]
pub struct Installed {
    /// The tree as tar exported it.
    pub layer: Layer,
    /// Every package, sorted by name.
    pub packages: Vec<InstalledPackage>,
}

/// Installs `rpms` (file name in the container, path on this host) with dnf into a new root, in a container of `image`,
/// with every time that packages record set to `epoch` (seconds).
///
/// # Errors
/// Fails with the step's own words when dnf or a scriptlet fails, and when the exported tree is refused.
pub async fn install(
    engine: &Engine,
    image: &Image,
    selection: &Selection,
    releasever: &str,
    rpms: &[(String, PathBuf)],
    epoch: u64,
    progress: &Progress,
) -> Result<Installed> {
    let input = input(selection, releasever, rpms)?;
    let (reader, writer) = io::pipe().context("making a pipe for the exported tree")?;
    let reading = tokio::task::spawn_blocking(move || layer::read(reader, &layer::Options::default()));
    let job = Job::new(image, "install", ["/bin/bash", "/ocinitrd/install.sh"])
        .environment(super::environment(Some(epoch)))
        // To mount /proc and /dev into the new root, and to chroot into it.
        .capabilities(["SYS_ADMIN", "SYS_CHROOT"])
        .input(move |writer| input.write(writer))
        .output(Output::new("/ocinitrd/out/base.tar", writer));
    let (job, inventory) = super::capture(job, "out/inventory")?;
    let result = engine.run(job, progress).await?;
    if result.exit_code != 0 {
        bail!("installing the packages failed; the container said:\n{}", result.log.trim_end());
    }
    let layer = reading.await.context("reading the exported tree")?.context("reading the exported tree")?;
    Ok(Installed { layer, packages: dnf::parse_inventory(&inventory.text()?)? })
}

fn input(selection: &Selection, releasever: &str, rpms: &[(String, PathBuf)]) -> Result<Input> {
    let mut input = Input::with_script("install.sh", include_str!("install.sh"));
    input.bytes_at("etc/rpm/macros.ocinitrd", super::RPM_MACROS);
    input.bytes("dnf.conf", dnf::configuration(selection));
    input.bytes("releasever", releasever);
    input.directory("extra");
    let trees: BTreeSet<&PathBuf> = selection.extra_trees.iter().collect();
    for tree in trees {
        input.tree("extra", tree)?;
    }
    super::add_rpms(&mut input, rpms);
    Ok(input)
}
