//! Which module needs which, and in what order `modules.dep` lists them.
//!
//! In: modules in the order of `modules.order` with their symbols. Out: for each, all that it needs, those that are
//! loaded last first. The order is depmod's: a topological sort in which modules that nobody needs come first and a
//! stack decides among those that are ready (`depmod_calculate_dependencies` in kmod's `tools/depmod.c`). It hangs on
//! the order of symbols in the modules' symbol tables, which is why `depends=` alone would not give it.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::IndexedModule;

/// The dependencies of modules, which are numbered in the order of `modules.order`.
pub(super) struct Graph {
    /// Direct dependencies, in the order in which a module's symbols ask for them.
    direct: Vec<Vec<usize>>,
    /// The place of each module in the topological order.
    places: Vec<usize>,
}

/// Which module exports each symbol. Where several do, the last one counts.
pub(super) fn symbol_owners<'a>(modules: &[IndexedModule<'a>]) -> BTreeMap<&'a str, usize> {
    let symbols = modules
        .iter()
        .enumerate()
        .flat_map(|(number, module)| module.info.exported_symbols.iter().map(move |symbol| (symbol.as_str(), number)));
    symbols.collect()
}

impl Graph {
    /// Builds the graph from the symbols that modules export and need.
    ///
    /// # Errors
    /// Fails when modules need each other in a circle: none of them could be loaded.
    pub(super) fn new(modules: &[IndexedModule], owners: &BTreeMap<&str, usize>) -> Result<Self> {
        let direct: Vec<Vec<usize>> = modules.iter().map(|module| direct_dependencies(module, owners)).collect();
        let places = topological_places(&direct);
        if places.contains(&None) {
            bail!("these modules need each other in a circle: {}", circle(modules, &places).join(", "));
        }
        Ok(Graph { direct, places: places.into_iter().flatten().collect() })
    }

    /// All modules that module `number` needs, in the order of `modules.dep`.
    pub(super) fn dependencies(&self, number: usize) -> Vec<usize> {
        let mut all: BTreeMap<usize, usize> = BTreeMap::new();
        let mut stack = vec![number];
        while let Some(module) = stack.pop() {
            for dependency in &self.direct[module] {
                if all.insert(self.places[*dependency], *dependency).is_none() {
                    stack.push(*dependency);
                }
            }
        }
        all.into_values().collect()
    }
}

fn direct_dependencies(module: &IndexedModule, owners: &BTreeMap<&str, usize>) -> Vec<usize> {
    let mut dependencies = Vec::new();
    for symbol in &module.info.needed_symbols {
        // On 64-bit PowerPC a function's entry point is the symbol with a dot in front.
        let symbol = symbol.strip_prefix('.').unwrap_or(symbol);
        if let Some(owner) = owners.get(symbol)
            && !dependencies.contains(owner)
        {
            dependencies.push(*owner);
        }
    }
    dependencies
}

/// The place of every module; none for those that need each other in a circle and for what these need.
fn topological_places(direct: &[Vec<usize>]) -> Vec<Option<usize>> {
    let mut users = vec![0_usize; direct.len()];
    direct.iter().flatten().for_each(|dependency| users[*dependency] += 1);
    let mut ready: Vec<usize> = (0..direct.len()).filter(|module| users[*module] == 0).collect();
    let mut places = vec![None; direct.len()];
    let mut next = 0;
    while let Some(module) = ready.pop() {
        places[module] = Some(next);
        next += 1;
        for dependency in &direct[module] {
            users[*dependency] -= 1;
            if users[*dependency] == 0 {
                ready.push(*dependency);
            }
        }
    }
    places
}

fn circle<'a>(modules: &[IndexedModule<'a>], places: &[Option<usize>]) -> Vec<&'a str> {
    let without_place = modules.iter().zip(places).filter(|(_, place)| place.is_none());
    without_place.map(|(module, _)| module.info.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::modules::ModuleInfo;

    fn info(name: &str, exports: &[&str], needs: &[&str]) -> ModuleInfo {
        ModuleInfo {
            name: name.to_owned(),
            exported_symbols: exports.iter().map(|symbol| (*symbol).to_owned()).collect(),
            needed_symbols: needs.iter().map(|symbol| (*symbol).to_owned()).collect(),
            ..ModuleInfo::default()
        }
    }

    fn graph(infos: &[ModuleInfo]) -> Result<Graph> {
        let modules: Vec<_> =
            infos.iter().map(|info| IndexedModule { relative_path: info.name.clone(), info }).collect();
        Graph::new(&modules, &symbol_owners(&modules))
    }

    #[test]
    fn dependencies_are_transitive_with_the_deepest_last() {
        let infos = [
            info("base", &["b"], &["printk"]),
            info("middle", &["m"], &["b", "printk"]),
            info("top", &[], &[".b", "m", "b"]),
        ];
        let graph = graph(&infos).unwrap();
        assert_eq!(graph.dependencies(2), [1, 0]);
        assert_eq!(graph.dependencies(1), [0]);
        assert!(graph.dependencies(0).is_empty());
    }

    #[test]
    fn first_symbol_needed_decides_among_equals() {
        let first = [info("a", &["a"], &[]), info("b", &["b"], &[]), info("top", &[], &["a", "b"])];
        assert_eq!(graph(&first).unwrap().dependencies(2), [1, 0]);
        let second = [info("a", &["a"], &[]), info("b", &["b"], &[]), info("top", &[], &["b", "a"])];
        assert_eq!(graph(&second).unwrap().dependencies(2), [0, 1]);
    }

    #[test]
    fn circles_are_refused_by_name() {
        let error = graph(&[info("a", &["a"], &["b"]), info("b", &["b"], &["a"])]).err().unwrap();
        assert_eq!(error.to_string(), "these modules need each other in a circle: a, b");
    }
}
