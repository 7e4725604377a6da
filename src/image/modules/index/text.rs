//! The text files of the index, for people and for tools that do not link libkmod.
//!
//! In: modules in the order of `modules.order`. Out: lines as depmod(8) writes them, with its headings.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::IndexedModule;

/// A device node that loads a module when it is opened.
pub(super) struct DeviceName<'a> {
    module: &'a str,
    node: &'a str,
    kind: char,
    major: u32,
    minor: u32,
}

pub(super) fn aliases(modules: &[IndexedModule]) -> String {
    lines("# Aliases extracted from modules themselves.\n", "alias", modules, |module| {
        module.info.aliases.iter().map(|alias| (alias.as_str(), module.info.name.as_str())).collect()
    })
}

pub(super) fn soft_dependencies(modules: &[IndexedModule]) -> String {
    lines("# Soft dependencies extracted from modules themselves.\n", "softdep", modules, |module| {
        module.info.softdeps.iter().map(|value| (module.info.name.as_str(), value.as_str())).collect()
    })
}

pub(super) fn weak_dependencies(modules: &[IndexedModule]) -> String {
    lines("# Weak dependencies extracted from modules themselves.\n", "weakdep", modules, |module| {
        module.info.weakdeps.iter().map(|value| (module.info.name.as_str(), value.as_str())).collect()
    })
}

fn lines<'a>(
    heading: &str,
    command: &str,
    modules: &[IndexedModule<'a>],
    pairs: impl Fn(&IndexedModule<'a>) -> Vec<(&'a str, &'a str)>,
) -> String {
    let mut text = heading.to_owned();
    for (left, right) in modules.iter().flat_map(pairs) {
        text.extend([command, " ", left, " ", right, "\n"]);
    }
    text
}

pub(super) fn symbols(modules: &[IndexedModule], owners: &BTreeMap<&str, usize>) -> String {
    let mut text = "# Aliases for symbols, used by symbol_request().\n".to_owned();
    for (symbol, owner) in owners {
        text.extend(["alias symbol:", symbol, " ", &modules[*owner].info.name, "\n"]);
    }
    text
}

/// The device node of a module, if its aliases name both the node and its numbers.
pub(super) fn device_name<'a>(module: &IndexedModule<'a>) -> Option<DeviceName<'a>> {
    let (mut node, mut device) = (None, None);
    for alias in &module.info.aliases {
        if let Some(name) = alias.strip_prefix("devname:") {
            node = Some(name);
        } else if let Some(numbers) = device_numbers(alias) {
            device = Some(numbers);
        }
        if let (Some(node), Some((kind, major, minor))) = (node, device) {
            return Some(DeviceName { module: &module.info.name, node, kind, major, minor });
        }
    }
    None
}

/// Adds a line to `modules.devname`, which has its heading only if there is any.
pub(super) fn device_line(mut text: String, device: DeviceName) -> String {
    if text.is_empty() {
        text.push_str("# Device nodes to trigger on-demand module loading.\n");
    }
    let DeviceName { module, node, kind, major, minor } = device;
    writeln!(text, "{module} {node} {kind}{major}:{minor}").expect("a string takes all that is written");
    text
}

fn device_numbers(alias: &str) -> Option<(char, u32, u32)> {
    let (kind, numbers) = match alias.strip_prefix("char-major-") {
        Some(numbers) => ('c', numbers),
        None => ('b', alias.strip_prefix("block-major-")?),
    };
    let (major, minor) = numbers.split_once('-')?;
    Some((kind, major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::modules::ModuleInfo;

    fn devnames(aliases: &[&str]) -> String {
        let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
        let info = ModuleInfo { name: "m".to_owned(), aliases, ..ModuleInfo::default() };
        let module = IndexedModule { relative_path: "kernel/m.ko".to_owned(), info: &info };
        device_name(&module).into_iter().fold(String::new(), device_line)
    }

    #[test]
    fn device_nodes_need_a_name_and_numbers() {
        let line = "# Device nodes to trigger on-demand module loading.\nm loop-control c10:237\n";
        assert_eq!(devnames(&["block-major-7-*", "char-major-10-237", "devname:loop-control"]), line);
        assert_eq!(devnames(&["devname:loop-control", "char-major-10-237"]), line);
        assert_eq!(devnames(&["devname:x"]), "");
        assert_eq!(devnames(&["block-major-7-1"]), "");
    }
}
