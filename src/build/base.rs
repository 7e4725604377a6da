//! The base of an initrd: all that does not depend on the kernel.
//!
//! Taken from the cache as far as an earlier build left it: the segment, or the installed tree, from which another segment
//! can be made without a container. Otherwise the packages are fetched, verified and installed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use indicatif::DecimalBytes;
use serde::{Deserialize, Serialize};

use crate::container::steps::install::{self, Installed};
use crate::definition::dnf::InstalledPackage;
use crate::image::finish;
use crate::image::layer::{Contents, Rules};
use crate::image::modules::FIRMWARE_DIRECTORY;
use crate::image::presets;
use crate::image::tree::Tree;
use crate::image::trim;
use crate::lock::file::LockedPackage;
use crate::lock::provision;
use crate::lock::signatures::rpm_file;
use crate::packages::cache::Kind;
use ocinitrd_format::digest::Digest;

use super::Build;
use super::part::{Part, SegmentSpec};
use super::stub::{self, Stub};

/// What the cache keeps of an installed tree.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LayerFacts {
    /// The tar archive of it.
    tar: Digest,
    /// A digest of the firmware in it, if there is any.
    firmware: Option<Digest>,
    /// What a person should know of how it was read, a line each.
    warnings: Vec<String>,
}

/// The base, with what is left to do.
#[derive(Debug)]
pub struct Base {
    /// What is known of the installed tree.
    layer: LayerFacts,
    /// The installed tree, where something is still to be made of it.
    tree: Option<Tree>,
    /// The segment, if it is there already.
    segment: Option<Part>,
    /// What unified kernel images are made with, if it is there already.
    stub: Option<Stub>,
}

/// The base, done.
#[derive(Debug)]
pub struct FinishedBase {
    /// The segment, if segments are asked for.
    pub segment: Option<Part>,
    /// The tree without its firmware, where it was needed.
    pub tree: Option<Tree>,
    /// The firmware that the base's packages bring: which of it is needed depends on the kernel.
    pub firmware: Tree,
    /// What unified kernel images are made with, if it is asked for and there.
    pub stub: Option<Stub>,
}

/// A base that an earlier build installed; what is left of that is still to be seen.
#[derive(Debug)]
pub struct Found(LayerFacts);

/// What the cache knows of the base.
pub fn find(build: &Build<'_>) -> Option<Found> {
    build.context.results.record(Kind::Layer, &build.recipe.layer).map(Found)
}

impl Found {
    /// A digest of the firmware that the base's packages bring, if there is any.
    pub fn firmware(&self) -> Option<Digest> {
        self.0.firmware
    }

    /// The segment, if it is needed and the cache has it. Reading it all takes a while: others may go on meanwhile.
    ///
    /// # Errors
    /// Fails when the cache cannot be read.
    pub async fn segment(&self, build: &Build<'_>) -> Result<Option<Part>> {
        if !build.plan.wants_segments() {
            return Ok(None);
        }
        let (draft, cache) = (draft(build), build.context.results.clone());
        tokio::task::spawn_blocking(move || draft.cached(&cache)).await.context("reading the base from the cache")?
    }

    /// The base with its segment, and with the tree if that is needed: from the cache, or installed once more.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn complete(self, build: &Build<'_>, segment: Option<Part>) -> Result<Base> {
        let stub = if build.plan.wants_stub() { stub::find(build)? } else { None };
        let lacks_stub = build.plan.wants_stub() && stub.is_none();
        let needs_tree = build.plan.wants_tree() || (build.plan.wants_segments() && segment.is_none()) || lacks_stub;
        let mut base = Base { layer: self.0, tree: None, segment, stub };
        if needs_tree {
            base.provide_tree(build).await?;
        }
        Ok(base)
    }
}

/// Installs the base.
///
/// # Errors
/// Fails when a package cannot be had, does not verify, or cannot be installed.
pub async fn install(build: &Build<'_>) -> Result<Base> {
    let (layer, tree) = install_tree(build).await?;
    Ok(Base { layer, tree: Some(tree), segment: None, stub: None })
}

fn draft(build: &Build<'_>) -> SegmentSpec {
    SegmentSpec { name: "base", key: build.recipe.base, compression: build.plan.compression }
}

/// How the installed tree is read.
fn rules(epoch: u64) -> Rules {
    Rules { add_missing_parents: Some(epoch), ..Rules::root_filesystem() }
}

/// Installs the packages, and leaves the tree in the cache. The kernels' packages are provided too: one that is missing
/// is told before the minutes that this may take.
async fn install_tree(build: &Build<'_>) -> Result<(LayerFacts, Tree)> {
    let Build { context, plan, section, recipe } = build;
    let of_kernels = recipe.kernels.iter().flat_map(|kernel| &kernel.packages);
    let packages: Vec<LockedPackage> = recipe.packages.iter().chain(of_kernels).cloned().collect();
    provision::provide(context, section, &packages).await?;
    let builder = context.builder().await?;
    let rpms: Vec<(String, PathBuf)> =
        recipe.packages.iter().map(|locked| rpm_file(&locked.package(), &context.store)).collect();
    let request = install::Request {
        selection: &plan.selection,
        releasever: &plan.releasever,
        rpms: &rpms,
        epoch: recipe.epoch,
        rules: rules(recipe.epoch.seconds()),
        spool_directory: context.store.root(),
    };
    let stage = context.progress.stage("installing", None);
    let Installed { layer, packages } = install::install(builder, &request, context.progress).await?;
    stage.finish(&format!("{} packages, {} entries", packages.len(), layer.tree.len()));
    check_installed(&recipe.packages, &packages)?;
    let cache = &context.results;
    cache.take(&layer.spool, &layer.diff_id)?;
    let firmware = layer.tree.clone().split_off(FIRMWARE_DIRECTORY.as_bytes());
    let firmware =
        (!firmware.is_empty()).then(|| firmware.digest()).transpose().context("reading the installed tree")?;
    let facts = LayerFacts { tar: layer.diff_id, firmware, warnings: layer.warnings.lines().collect() };
    cache.keep(Kind::Layer, &recipe.layer, &facts)?;
    Ok((facts, layer.tree))
}

/// dnf has no repository to take anything else from; this makes sure of it.
fn check_installed(locked: &[LockedPackage], installed: &[InstalledPackage]) -> Result<()> {
    let locked: BTreeSet<String> = locked.iter().map(LockedPackage::nevra).collect();
    let installed: BTreeSet<String> = installed.iter().map(InstalledPackage::nevra).collect();
    let differing: Vec<&str> = locked.symmetric_difference(&installed).map(String::as_str).collect();
    ensure!(
        differing.is_empty(),
        "the installed packages are not those of the lock; they differ in {}",
        differing.join(", ")
    );
    Ok(())
}

/// Leaves out what nothing reaches.
fn trim(tree: &mut Tree, build: &Build<'_>) -> Result<()> {
    let progress = build.context.progress;
    let stage = progress.stage("leaving out what nothing reaches", None);
    let trimmed = trim::trim(tree, &build.plan.selection)?;
    stage.finish(&format!("{} files, {}", trimmed.files, DecimalBytes(trimmed.size_bytes)));
    for program in trimmed.unknown_programs {
        progress.warn(&format!("no package brings {program:?}, which the definition names in programs"));
    }
    trimmed.remarks.iter().for_each(|remark| progress.warn(remark));
    Ok(())
}

impl Base {
    /// A digest of the firmware that the base's packages bring, if there is any.
    pub fn firmware(&self) -> Option<Digest> {
        self.layer.firmware
    }

    /// Provides the installed tree too: from the cache, or by installing once more.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn provide_tree(&mut self, build: &Build<'_>) -> Result<()> {
        if self.tree.is_some() {
            return Ok(());
        }
        let context = &build.context;
        if let Some(tar) = context.results.data(&self.layer.tar)? {
            let contents = Contents::read_file(tar, context.store.root(), &rules(build.recipe.epoch.seconds()));
            self.tree = Some(contents.context("reading the installed tree from the cache")?.tree);
            return Ok(());
        }
        let (layer, tree) = install_tree(build).await?;
        (self.layer, self.tree) = (layer, Some(tree));
        Ok(())
    }

    /// Makes of the installed tree what is still missing.
    ///
    /// # Errors
    /// Fails when the tree is no initrd, or something cannot be written.
    pub fn finish(self, build: &Build<'_>) -> Result<FinishedBase> {
        self.layer.warnings.iter().for_each(|warning| build.context.progress.warn(warning));
        let Some(mut tree) = self.tree else {
            return Ok(FinishedBase { segment: self.segment, tree: None, firmware: Tree::new(), stub: self.stub });
        };
        let stub = match self.stub {
            None if build.plan.wants_stub() => stub::take(build, &tree)?,
            stub => stub,
        };
        let remarks = presets::remarks(&tree, &build.plan.selection.extra_trees)?;
        remarks.iter().for_each(|remark| build.context.progress.warn(remark));
        finish::finish(&mut tree, &build.plan.selection, build.recipe.epoch.seconds())?;
        let firmware = tree.split_off(FIRMWARE_DIRECTORY.as_bytes());
        if build.plan.selection.trim {
            trim(&mut tree, build)?;
        }
        let segment = match self.segment {
            None if build.plan.wants_segments() => Some(draft(build).make(&tree, Vec::new(), &build.context)?),
            segment => segment,
        };
        Ok(FinishedBase { segment, tree: Some(tree), firmware, stub })
    }
}
