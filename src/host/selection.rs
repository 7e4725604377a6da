//! Which modules, firmware and microcode of the machine go in.
//!
//! For any machine they are what the base was built for. For this one they are those of them that are loaded now or that
//! `modules-load.d` names, what its root, its volumes and its swap need, and what may come into use before the next kernel
//! ([`super::families`]).

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use super::bases::Base;
use super::configuration::{Configuration, Scope};
use super::families::{self, Family};
use super::files::{self, Follow};
use super::kernel::MachineKernel;
use crate::analysis::needs::{Demand, Derived};
use crate::image::microcode;
use crate::image::modules::{self, FirmwarePatterns, KernelModules, Patterns};
use crate::image::tree::{Kind, Tree, file_name};
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// Which modules are chosen, before those that they need.
#[derive(Debug)]
pub(super) struct Chosen {
    /// The patterns that select them.
    pub(super) patterns: Patterns,
    /// The names of those that are in use now, or that the administrator names; `None` where all may be.
    pub(super) in_use: Option<BTreeSet<String>>,
    /// What else went in, and why: a line each.
    pub(super) remarks: Vec<String>,
}

/// Chooses modules.
///
/// # Errors
/// Fails when a pattern cannot be meant, and when what is loaded cannot be told.
pub(super) fn choose(
    root: &Path,
    kernel: &MachineKernel,
    base: &Base,
    configuration: &Configuration,
    needs: &Derived,
) -> Result<Chosen> {
    let available = &kernel.available;
    let of_base = base.manifest.options.modules.clone();
    let own = Patterns::parse(&configuration.modules).context("reading the patterns of modules of /etc/ocinitrd")?;
    let mut remarks = Vec::new();
    let (names, in_use) = match configuration.scope {
        Scope::Generic => (of_base, None),
        Scope::Host => {
            let candidates: BTreeSet<String> =
                modules::chosen(available, &Patterns::parse(&of_base)?).into_iter().collect();
            let mut in_use = in_use(root, kernel, &candidates, needs)?;
            let mut names = in_use.clone();
            for family in families::of(needs) {
                let added = members(family, available, &candidates)?;
                let added: Vec<String> = added.into_iter().filter(|name| names.insert(name.clone())).collect();
                if !added.is_empty() {
                    remarks.push(format!("for {}: {}", family.purpose, added.join(", ")));
                }
            }
            in_use.extend(modules::chosen(available, &own));
            (names.into_iter().collect(), Some(in_use))
        }
    };
    let all: Vec<String> = names.into_iter().chain(configuration.modules.iter().cloned()).collect();
    let patterns = Patterns::parse(&all).context("reading the patterns of modules of the base and of /etc/ocinitrd")?;
    Ok(Chosen { patterns, in_use, remarks })
}

/// What is loaded of that which the base was built for, and what the machine needs or would miss.
fn in_use(
    root: &Path,
    kernel: &MachineKernel,
    candidates: &BTreeSet<String>,
    needs: &Derived,
) -> Result<BTreeSet<String>> {
    let mut loaded = loaded(root)?;
    loaded.extend(kernel.loaded());
    let mut names: BTreeSet<String> = candidates.intersection(&loaded).cloned().collect();
    // Of alternatives, those that this kernel has.
    let needed = needs.wants.iter().flat_map(|wanted| wanted.modules());
    let wished = needs.wishes.iter().filter_map(|wish| match &wish.demand {
        Demand::Module(name) => Some(name.as_str()),
        _ => None,
    });
    names.extend(needed.chain(wished).filter(|name| kernel.available.get(name).is_some()).map(str::to_owned));
    Ok(names)
}

fn members(family: &Family, available: &KernelModules, candidates: &BTreeSet<String>) -> Result<Vec<String>> {
    let patterns: Vec<String> = family.patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    let members = modules::chosen(available, &Patterns::parse(&patterns)?);
    Ok(members.into_iter().filter(|name| !family.is_of_base || candidates.contains(name)).collect())
}

/// The patterns of firmware beside what the modules name.
pub(super) fn firmware_patterns(base: &Base, configuration: &Configuration) -> Result<FirmwarePatterns> {
    let all = base.manifest.options.firmware.iter().chain(&configuration.firmware).cloned().collect::<Vec<_>>();
    FirmwarePatterns::parse(&all).context("reading the patterns of firmware of the base and of /etc/ocinitrd")
}

/// The names of the modules that are loaded, with `_`.
fn loaded(root: &Path) -> Result<BTreeSet<String>> {
    let path = files::place(root, Path::new("proc/modules"))?;
    let text = regular_file::read_text(&path, TEXT_LIMIT_BYTES).with_context(|| {
        format!(
            "reading {}: say scope = \"generic\" in /etc/ocinitrd/host.toml where the machine does not run",
            path.display()
        )
    })?;
    Ok(text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

/// A tree with the microcode of all processors, or of this machine's.
pub(super) fn microcode(root: &Path, scope: Scope) -> Result<Tree> {
    let mut tree = Tree::new();
    for directory in microcode::directories() {
        files::add_directory(&mut tree, root, directory.as_bytes(), Follow::Files)?;
    }
    if scope == Scope::Host {
        let cpuinfo = files::place(root, Path::new("proc/cpuinfo"))?;
        let text = regular_file::read_text(&cpuinfo, TEXT_LIMIT_BYTES)
            .with_context(|| format!("reading {}", cpuinfo.display()))?;
        let wanted = microcode::updates_of(&text);
        let is_wanted = |path: &[u8]| wanted.iter().any(|update| file_name(path).starts_with(update.as_bytes()));
        tree.retain(|path, entry| matches!(entry.kind, Kind::Directory) || is_wanted(path));
    }
    tree.add_missing_parents(0)?;
    Ok(tree)
}
