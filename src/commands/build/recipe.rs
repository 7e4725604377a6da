//! The plan and the lock as what decides about each result: the packages, the kernels, and the keys of the cache.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cache::{self, Kind};
use crate::format::digest::Digest;
use crate::lock::{Kernel, LockedPackage, Section, Solution};

use super::plan::{Kernels, Plan};

/// What a build is made of.
#[derive(Debug)]
pub struct Recipe<'s> {
    /// The packages of the base.
    pub packages: Vec<&'s LockedPackage>,
    /// The kernels with their packages.
    pub kernels: Vec<(&'s Kernel, Vec<&'s LockedPackage>)>,
    /// The time stamp of everything, in seconds.
    pub epoch: u64,
    /// The key of the installed base.
    pub layer: Digest,
    /// The key of the base segment.
    pub base: Digest,
    /// A digest of all that decides on the outputs.
    pub inputs: Digest,
}

impl<'s> Recipe<'s> {
    /// What `plan` takes from `section`, which has all of it.
    ///
    /// # Errors
    /// Fails when the lock has no kernel.
    pub fn new(plan: &Plan, section: &'s Section) -> Result<Self> {
        let solution = section.solution(&plan.needs().profiles).context("the lock has no packages for the profiles")?;
        let epoch = plan.explicit_epoch.unwrap_or(solution.epoch);
        let packages = section.packages(&solution.packages);
        let kernels: Vec<_> =
            kernels(plan, section)?.into_iter().map(|kernel| (kernel, section.packages(&kernel.packages))).collect();
        let layer = cache::key(Kind::Layer, &layer_inputs(plan, section, solution, &packages, epoch));
        let base = cache::key(
            Kind::Segment,
            &json!({
                "layer": layer,
                "remove_files": plan.selection.remove_files,
                "compression": plan.compression.to_string(),
            }),
        );
        let mut recipe = Recipe { packages, kernels, epoch, layer, base, inputs: layer };
        recipe.inputs = recipe.all_inputs(plan, section);
        Ok(recipe)
    }

    /// The key of the modules segment of a kernel; `firmware` is the digest of the firmware that the base's packages bring.
    pub fn modules(&self, plan: &Plan, kernel: usize, firmware: Option<Digest>) -> Digest {
        let (kernel, packages) = &self.kernels[kernel];
        cache::key(
            Kind::Segment,
            &json!({
                "kernel": kernel.version,
                "packages": digests(packages),
                "base_firmware": firmware,
                "remove_files": firmware.map(|_| &plan.selection.remove_files),
                "modules": plan.selection.modules,
                "firmware": plan.selection.firmware,
                "keep_compression": plan.keep_module_compression,
                "compression": plan.modules_compression().to_string(),
                "epoch": self.epoch,
            }),
        )
    }

    /// The key of a kernel's image, with which it is known whether there is microcode; `firmware` as for the modules.
    pub fn image(&self, kernel: usize, firmware: Option<Digest>) -> Digest {
        let (kernel, packages) = &self.kernels[kernel];
        let inputs = json!({ "kernel": kernel.version, "packages": digests(packages), "base_firmware": firmware });
        cache::key(Kind::Kernel, &inputs)
    }

    /// The key of the microcode segment beside the kernel's image of that key.
    pub fn microcode(&self, image: &Digest) -> Digest {
        cache::key(Kind::Segment, &json!({ "microcode": image, "epoch": self.epoch }))
    }

    /// The kernel's version where outputs of several kernels have to be told apart.
    pub fn suffix(&self, kernel: usize) -> Option<&str> {
        (self.kernels.len() > 1).then(|| self.kernels[kernel].0.version.as_str())
    }

    fn all_inputs(&self, plan: &Plan, section: &Section) -> Digest {
        let repos: Vec<_> = section.repos.iter().map(|(id, repository)| (id, repository.repomd)).collect();
        let modules: Vec<Digest> = (0..self.kernels.len()).map(|kernel| self.modules(plan, kernel, None)).collect();
        let formats: Vec<String> = plan.formats.iter().map(|format| format!("{format:?}")).collect();
        // How a kernel was asked for is no input.
        let kernels: Vec<_> = self.kernels.iter().map(|(kernel, packages)| (&kernel.version, packages)).collect();
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
        });
        Digest::of(inputs.to_string().as_bytes())
    }
}

fn layer_inputs(plan: &Plan, section: &Section, solution: &Solution, packages: &[&LockedPackage], epoch: u64) -> Value {
    let tree = |tree: &std::path::PathBuf| &section.inputs.contents[&format!("the extra tree {}", tree.display())];
    json!({
        "architecture": crate::commands::workshop::architecture(),
        "builder": section.builder.platform_digest,
        "releasever": plan.releasever,
        "solution": solution.packages,
        "packages": digests(packages),
        "extra_trees": plan.extra_trees.iter().map(|one| (one, tree(one))).collect::<std::collections::BTreeMap<_, _>>(),
        "epoch": epoch,
    })
}

fn digests(packages: &[&LockedPackage]) -> Vec<Digest> {
    packages.iter().map(|package| package.sha256).collect()
}

fn kernels<'s>(plan: &Plan, section: &'s Section) -> Result<Vec<&'s Kernel>> {
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
            bail!("the lock of {0} has no kernel yet: ocinitrd lock {0}", plan.image)
        }
        Kernels::All => Ok(distinct(&section.kernels)),
    }
}

/// The newest kernel may also have been asked for by its version.
fn distinct(kernels: &[Kernel]) -> Vec<&Kernel> {
    let mut seen = std::collections::BTreeSet::new();
    kernels.iter().filter(|kernel| seen.insert(&kernel.version)).collect()
}
