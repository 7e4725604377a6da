//! Which modules, firmware and microcode of the machine go in.
//!
//! For any machine they are what the base was built for. For this one they are those of them that are loaded now, and what its
//! root, its volumes and its swap need.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::bases::Base;
use super::configuration::{Configuration, Scope};
use super::files;
use crate::modules::{self, FirmwarePatterns, KernelModules, Patterns};
use crate::needs::Derived;
use crate::tree::Tree;

const MICROCODE_DIRECTORIES: [&str; 2] = ["usr/lib/firmware/intel-ucode", "usr/lib/firmware/amd-ucode"];

/// The patterns that select the modules.
pub(super) fn patterns(
    root: &Path,
    available: &KernelModules,
    base: &Base,
    configuration: &Configuration,
    needs: &Derived,
) -> Result<Patterns> {
    let of_base = base.manifest.options.modules.clone();
    let chosen = match configuration.scope {
        Scope::Generic => of_base,
        Scope::Host => {
            let loaded = loaded(root)?;
            let candidates = modules::chosen(available, &Patterns::parse(&of_base)?);
            let mut chosen: BTreeSet<String> = candidates.into_iter().filter(|name| loaded.contains(name)).collect();
            // Of alternatives, those that this kernel has.
            let needed = needs.wants.iter().flat_map(|wanted| wanted.modules());
            chosen.extend(needed.filter(|name| available.get(name).is_some()).map(str::to_owned));
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
    let text = fs::read_to_string(&path).with_context(|| {
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
    for directory in MICROCODE_DIRECTORIES.iter().filter(|directory| root.join(directory).is_dir()) {
        files::add_directory(&mut tree, root, directory.as_bytes(), |_| true)?;
    }
    if scope == Scope::Host {
        let cpuinfo = root.join("proc/cpuinfo");
        let text = fs::read_to_string(&cpuinfo).with_context(|| format!("reading {}", cpuinfo.display()))?;
        let wanted = updates_of(&text);
        tree.retain(|path, entry| {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            matches!(entry.kind, crate::tree::Kind::Directory)
                || wanted.iter().any(|update| name.starts_with(update.as_bytes()))
        });
    }
    tree.add_missing_parents(0)?;
    Ok(tree)
}

/// How the files with the updates of a machine's processors begin: the text of `/proc/cpuinfo` in.
fn updates_of(cpuinfo: &str) -> BTreeSet<String> {
    let field = |name: &str| {
        let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        let values = lines.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned());
        values.collect::<Vec<_>>()
    };
    let number = |text: &String| text.parse::<u32>().ok();
    let ids = ["cpu family", "model", "stepping"].map(|name| field(name).iter().filter_map(number).collect::<Vec<_>>());
    let [families, models, steppings] = ids;
    let is_amd = field("vendor_id").iter().any(|vendor| vendor == "AuthenticAMD");
    let update = |((family, model), stepping): ((&u32, &u32), &u32)| match (is_amd, family) {
        (false, _) => format!("{family:02x}-{model:02x}-{stepping:02x}"),
        // Families before 15h are in one file.
        (true, ..0x15) => "microcode_amd.bin".to_owned(),
        (true, _) => format!("microcode_amd_fam{family:x}h.bin"),
    };
    families.iter().zip(&models).zip(&steppings).map(update).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_are_named_by_the_numbers_of_the_processors() {
        let text = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 158\nmodel name\t: X\nstepping\t: 10\n\n";
        assert_eq!(updates_of(text), BTreeSet::from(["06-9e-0a".to_owned()]));
        let text = "vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 33\nstepping\t: 0\n";
        assert_eq!(updates_of(text), BTreeSet::from(["microcode_amd_fam19h.bin".to_owned()]));
        assert!(updates_of("").is_empty());
    }
}
