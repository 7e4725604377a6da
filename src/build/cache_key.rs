//! The plan and the lock as what decides about each result: the packages, the kernels, and the keys of the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::definition::Selection;
use crate::lock::file::{self, LockedPackage, Section, Solution};
use crate::packages::cache::{self, Kind};
use ocinitrd_format::architecture;
use ocinitrd_format::digest::Digest;
use ocinitrd_format::time::Timestamp;

use super::plan::{Format, Kernels, Plan};

/// What a build is made of.
#[derive(Debug)]
pub struct Recipe {
    /// The packages of the base.
    pub packages: Vec<LockedPackage>,
    /// The kernels.
    pub kernels: Vec<Kernel>,
    /// The time stamp of everything, in seconds.
    pub epoch: Timestamp,
    /// The key of the installed base.
    pub layer: Digest,
    /// The key of the base segment.
    pub base: Digest,
    /// A digest of all that decides on the outputs.
    pub inputs: Digest,
}

/// A kernel and the packages that it is made of.
#[derive(Debug)]
pub struct Kernel {
    /// What `uname -r` prints under it.
    pub version: String,
    /// Its packages.
    pub packages: Vec<LockedPackage>,
}

impl Recipe {
    /// What `plan` takes from `section`, which has all of it.
    ///
    /// # Errors
    /// Fails when the lock has no kernel.
    pub fn new(plan: &Plan, section: &Section) -> Result<Self> {
        let solution = section.solution(&plan.needs().profiles).context("the lock has no packages for the profiles")?;
        let epoch = plan.explicit_epoch.unwrap_or(solution.epoch);
        let packages = |nevras| -> Vec<LockedPackage> { section.packages(nevras).into_iter().cloned().collect() };
        let kernels = kernels(plan, section)?
            .into_iter()
            .map(|kernel| Kernel { version: kernel.version.clone(), packages: packages(&kernel.packages) })
            .collect();
        let packages = packages(&solution.packages);
        let layer = cache::key(Kind::Layer, &layer_inputs(plan, section, solution, &packages, epoch));
        let base = cache::key(
            Kind::Segment,
            &json!({
                "layer": layer,
                "remove_files": plan.selection.remove_files,
                "keep_files": plan.selection.keep_files,
                "mask_units": plan.selection.mask_units,
                "trim": trim_inputs(&plan.selection),
                "compression": plan.compression.to_string(),
            }),
        );
        let mut recipe = Recipe { packages, kernels, epoch, layer, base, inputs: layer };
        recipe.inputs = recipe.all_inputs(plan, section);
        Ok(recipe)
    }

    /// The key of the modules segment of a kernel; `firmware` is the digest of the firmware that the base's packages bring.
    pub fn modules(&self, plan: &Plan, kernel: &Kernel, firmware: Option<Digest>) -> Digest {
        cache::key(
            Kind::Segment,
            &json!({
                "kernel": kernel.version,
                "packages": described(&kernel.packages),
                "base_firmware": firmware,
                "remove_files": firmware.map(|_| (&plan.selection.remove_files, &plan.selection.keep_files)),
                "modules": plan.selection.modules,
                "firmware": plan.selection.firmware,
                "keep_compression": plan.keep_module_compression,
                "compression": plan.modules_compression().to_string(),
                "epoch": self.epoch,
            }),
        )
    }

    /// The key of a kernel's image, with which it is known whether there is microcode; `firmware` as for the modules.
    pub fn image(&self, kernel: &Kernel, firmware: Option<Digest>) -> Digest {
        let packages = described(&kernel.packages);
        cache::key(Kind::Kernel, &json!({ "kernel": kernel.version, "packages": packages, "base_firmware": firmware }))
    }

    /// The key of the microcode segment beside the kernel's image of that key.
    pub fn microcode(&self, image: &Digest) -> Digest {
        cache::key(Kind::Segment, &json!({ "microcode": image, "epoch": self.epoch }))
    }

    /// A kernel's version where outputs of several kernels have to be told apart.
    pub fn suffix<'v>(&self, version: &'v str) -> Option<&'v str> {
        (self.kernels.len() > 1).then_some(version)
    }

    fn all_inputs(&self, plan: &Plan, section: &Section) -> Digest {
        let repos: Vec<_> = section.repos.iter().map(|(id, repository)| (id, repository.repomd)).collect();
        let modules: Vec<Digest> = self.kernels.iter().map(|kernel| self.modules(plan, kernel, None)).collect();
        let formats: Vec<&str> = plan.formats.iter().map(|format| format.name()).collect();
        // How a kernel was asked for is no input.
        let kernels: Vec<_> = self.kernels.iter().map(|kernel| (&kernel.version, &kernel.packages)).collect();
        let inputs = json!({
            "source": cache::SOURCE_DIGEST,
            "image": plan.image,
            "builder": section.builder,
            "repos": repos,
            "base": self.base,
            "modules": modules,
            "packages": self.packages,
            "kernels": kernels,
            "profiles": plan.profiles,
            "formats": formats,
            "segments": plan.segments,
            "output_name": plan.output_name,
            // A host selects by these what no kernel here was selected by.
            "patterns": plan.formats.contains(&Format::Base).then_some(
                (&plan.selection.modules, &plan.selection.firmware, plan.keep_module_compression)
            ),
            "uki": plan.wants_ukis().then(|| (&plan.uki.cmdline, section.inputs.contents.get("[uki]"))),
        });
        Digest::of(inputs.to_string().as_bytes())
    }
}

/// What decides about what is left out, if anything is.
fn trim_inputs(selection: &Selection) -> Option<Value> {
    let Selection { programs, dlopen, read_by, .. } = selection;
    selection.trim.then(|| json!({ "programs": programs, "dlopen": dlopen, "read_by": read_by }))
}

fn layer_inputs(
    plan: &Plan,
    section: &Section,
    solution: &Solution,
    packages: &[LockedPackage],
    epoch: Timestamp,
) -> Value {
    let tree = |tree: &PathBuf| &section.inputs.contents[&format!("the extra tree {}", tree.display())];
    json!({
        "architecture": architecture::native(),
        "builder": (section.builder.platform_digest, &section.builder.tools),
        "releasever": plan.releasever,
        "solution": solution.packages,
        "packages": described(packages),
        "hwdb_exclude": plan.selection.hwdb_exclude,
        "extra_trees": plan.extra_trees.iter().map(|one| (one, tree(one))).collect::<BTreeMap<_, _>>(),
        "epoch": epoch,
    })
}

/// The packages with all that a manifest says of them: a lock that describes one otherwise finds nothing of another's, so its
/// packages are compared with their headers.
fn described(packages: &[LockedPackage]) -> Vec<Value> {
    let describe = |package: &LockedPackage| {
        let LockedPackage { sha256, build_time, source_rpm, license, installed_size, .. } = package;
        json!([package.nevra(), sha256, build_time, source_rpm, license, installed_size])
    };
    packages.iter().map(describe).collect()
}

fn kernels<'s>(plan: &Plan, section: &'s Section) -> Result<Vec<&'s file::Kernel>> {
    let find = |version: Option<&str>| {
        section.kernel(version).with_context(|| match version {
            Some(version) => format!("the lock has no kernel {version}"),
            None => "the lock does not have the newest kernel".to_owned(),
        })
    };
    match &plan.kernels {
        Kernels::Newest => Ok(vec![find(None)?]),
        Kernels::Versions(versions) => {
            versions.iter().try_for_each(|version| find(Some(version)).map(drop))?;
            // In the lock's order, as if all were asked for: however they are named, the outputs are the same.
            let mut kernels = distinct(&section.kernels);
            kernels.retain(|kernel| versions.contains(&kernel.version));
            Ok(kernels)
        }
        Kernels::All if section.kernels.is_empty() => {
            bail!("the lock of {} has no kernel yet: run ocinitrd lock {}", plan.image, plan.argument)
        }
        Kernels::All => Ok(distinct(&section.kernels)),
    }
}

/// The newest kernel may also have been asked for by its version.
fn distinct(kernels: &[file::Kernel]) -> Vec<&file::Kernel> {
    let mut seen = BTreeSet::new();
    kernels.iter().filter(|kernel| seen.insert(&kernel.version)).collect()
}
