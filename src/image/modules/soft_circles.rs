//! Soft dependencies that run in a circle because of a line of `modprobe.d`.
//!
//! In: a selection and the configuration of modprobe. Out: a line for each circle. modprobe loads each module of it once, so that
//! it does no harm but that the order depends on which module is asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::kmod::modprobe::ModprobeConfiguration;
use super::module_info::{ModuleInfo, dependency_words};
use super::selection::Selection;

/// The circles among the selected modules, a line each.
pub fn soft_circles(selection: &Selection, modprobe: &ModprobeConfiguration) -> Vec<String> {
    let infos: BTreeMap<&str, &ModuleInfo> =
        selection.modules.values().map(|info| (info.name.as_str(), info)).collect();
    let edges: BTreeMap<&str, BTreeSet<&str>> =
        infos.iter().map(|(name, info)| (*name, targets(info, &infos, modprobe))).collect();
    let (mut lines, mut seen) = (Vec::new(), BTreeSet::new());
    for name in infos.keys() {
        let Some((origin, words)) = modprobe.soft_dependencies(name) else { continue };
        for next in words.iter().flat_map(|word| meant(word, &infos, modprobe)) {
            if let Some(way) = shortest_way(next, name, &edges)
                && seen.insert(way.iter().copied().collect::<BTreeSet<_>>())
            {
                lines.push(format!(
                    "soft dependencies run in a circle, {name} -> {}, by {origin}: modprobe loads each of them once, in an order \
                     that depends on which is asked for; remove one of the lines",
                    way.join(" -> ")
                ));
            }
        }
    }
    lines
}

/// The selected modules that are loaded before or after a module.
fn targets<'a>(
    info: &ModuleInfo,
    infos: &BTreeMap<&'a str, &'a ModuleInfo>,
    modprobe: &ModprobeConfiguration,
) -> BTreeSet<&'a str> {
    let configured = modprobe.soft_dependencies(&info.name).map(|(_, words)| words).unwrap_or_default();
    let own = info.softdeps.iter().flat_map(|value| dependency_words(value));
    own.chain(configured.iter().map(String::as_str)).flat_map(|word| meant(word, infos, modprobe)).collect()
}

fn meant<'a>(word: &str, infos: &BTreeMap<&'a str, &'a ModuleInfo>, modprobe: &ModprobeConfiguration) -> Vec<&'a str> {
    modprobe.meant(word).filter_map(|name| infos.get_key_value(name.as_str()).map(|(name, _)| *name)).collect()
}

/// The modules from one to another, both included.
fn shortest_way<'a>(from: &'a str, to: &str, edges: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Option<Vec<&'a str>> {
    let mut before: BTreeMap<&str, Option<&str>> = BTreeMap::from([(from, None)]);
    let mut ahead = VecDeque::from([from]);
    while let Some(name) = ahead.pop_front() {
        if name == to {
            let mut way: Vec<&str> = std::iter::successors(Some(name), |name| before[name]).collect();
            way.reverse();
            return Some(way);
        }
        for next in edges.get(name).into_iter().flatten() {
            if !before.contains_key(next) {
                before.insert(next, Some(name));
                ahead.push_back(next);
            }
        }
    }
    None
}
