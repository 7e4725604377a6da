//! Which modules, firmware and microcode of the machine go in.
//!
//! For any machine they are what the base was built for. For this one they are those of them that are loaded now or that
//! `modules-load.d` names, and what its root, its volumes and its swap need.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use super::bases::Base;
use super::configuration::{Configuration, Scope};
use super::files::{self, Follow};
use super::kernel::MachineKernel;
use crate::microcode;
use crate::modules::{self, FirmwarePatterns, Patterns};
use crate::needs::Derived;
use crate::regular_file::{self, TEXT_LIMIT_BYTES};
use crate::tree::{Kind, Tree, file_name};

/// The patterns that select the modules.
pub(super) fn patterns(
    root: &Path,
    kernel: &MachineKernel,
    base: &Base,
    configuration: &Configuration,
    needs: &Derived,
) -> Result<Patterns> {
    let of_base = base.manifest.options.modules.clone();
    let chosen = match configuration.scope {
        Scope::Generic => of_base,
        Scope::Host => {
            let mut loaded = loaded(root)?;
            loaded.extend(kernel.loaded());
            let candidates = modules::chosen(&kernel.available, &Patterns::parse(&of_base)?);
            let mut chosen: BTreeSet<String> = candidates.into_iter().filter(|name| loaded.contains(name)).collect();
            // Of alternatives, those that this kernel has.
            let needed = needs.wants.iter().flat_map(|wanted| wanted.modules());
            chosen.extend(needed.filter(|name| kernel.available.get(name).is_some()).map(str::to_owned));
            chosen.into_iter().collect()
        }
    };
    let all: Vec<String> = chosen.into_iter().chain(configuration.modules.iter().cloned()).collect();
    Patterns::parse(&all).context("reading the patterns of modules of the base and of /etc/ocinitrd")
}

/// The patterns of firmware beside what the modules name.
pub(super) fn firmware_patterns(base: &Base, configuration: &Configuration) -> Result<FirmwarePatterns> {
    let all = base.manifest.options.firmware.iter().chain(&configuration.firmware).cloned().collect::<Vec<_>>();
    FirmwarePatterns::parse(&all).context("reading the patterns of firmware of the base and of /etc/ocinitrd")
}

/// The names of the modules that are loaded, with `_`.
fn loaded(root: &Path) -> Result<BTreeSet<String>> {
    let path = root.join("proc/modules");
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
        let cpuinfo = root.join("proc/cpuinfo");
        let text = regular_file::read_text(&cpuinfo, TEXT_LIMIT_BYTES)
            .with_context(|| format!("reading {}", cpuinfo.display()))?;
        let wanted = microcode::updates_of(&text);
        let is_wanted = |path: &[u8]| wanted.iter().any(|update| file_name(path).starts_with(update.as_bytes()));
        tree.retain(|path, entry| matches!(entry.kind, Kind::Directory) || is_wanted(path));
    }
    tree.add_missing_parents(0)?;
    Ok(tree)
}
