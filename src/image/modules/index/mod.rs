//! The module index: what depmod(8) would write for the modules that are left.
//!
//! In: the modules selected with what they say of themselves, and the lists of what is built in. Out: the contents of
//! `modules.dep`, `.alias`, `.softdep`, `.weakdep`, `.symbols`, `.devname`, and of the binary files that modprobe and
//! udev read. All are byte for byte those of depmod from kmod 34 on, except `modules.symbols`, which depmod writes in
//! the order of a hash table and which is sorted here. Earlier versions of kmod lay the same binary index out in
//! another order; they read this one too.

mod graph;
mod text;
mod trie;

use std::collections::BTreeMap;

use anyhow::Result;

use self::graph::{Graph, symbol_owners};
use self::text::device_name;
use self::trie::Trie;
use super::builtin::BuiltinField;
use super::kernel_modules::KernelModules;
use super::module_info::ModuleInfo;
use super::name::{base_name, module_name, normalize_alias};
use super::selection::Selection;

/// A module as the index has it: its place in a list of these is its priority.
struct IndexedModule<'a> {
    relative_path: String,
    info: &'a ModuleInfo,
}

/// The index files by name, for the modules in `selection`.
///
/// # Errors
/// Fails when a path in `selection` is not one of `modules`' directory, and when modules need each other in a circle.
pub fn index(modules: &KernelModules, selection: &Selection) -> Result<BTreeMap<String, Vec<u8>>> {
    let indexed = in_order(modules, selection)?;
    let owners = symbol_owners(&indexed);
    let dependencies = dependency_lines(&indexed, &Graph::new(&indexed, &owners)?);
    let mut files = BTreeMap::from([
        ("modules.dep", dependencies.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>().into_bytes()),
        ("modules.dep.bin", dependencies_trie(&indexed, &dependencies)),
        ("modules.alias", text::aliases(&indexed).into_bytes()),
        ("modules.alias.bin", aliases_trie(&indexed)),
        ("modules.softdep", text::soft_dependencies(&indexed).into_bytes()),
        ("modules.weakdep", text::weak_dependencies(&indexed).into_bytes()),
        ("modules.symbols", text::symbols(&indexed, &owners).into_bytes()),
        ("modules.symbols.bin", symbols_trie(&indexed, &owners)),
        ("modules.devname", indexed.iter().filter_map(device_name).fold(String::new(), text::device_line).into_bytes()),
        ("modules.builtin.bin", builtin_trie(modules.builtin().paths())),
    ]);
    if let Some(fields) = modules.builtin().fields() {
        files.insert("modules.builtin.alias.bin", builtin_aliases_trie(fields));
    }
    Ok(files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect())
}

fn in_order<'a>(modules: &KernelModules, selection: &'a Selection) -> Result<Vec<IndexedModule<'a>>> {
    let mut indexed = Vec::with_capacity(selection.modules.len());
    for (path, info) in &selection.modules {
        indexed.push(IndexedModule { relative_path: modules.relative_path(path)?, info });
    }
    indexed.sort_by(|one, other| modules.position(&one.relative_path).cmp(&modules.position(&other.relative_path)));
    Ok(indexed)
}

/// `path: dependency dependency`, as both `modules.dep` and `modules.dep.bin` have it.
fn dependency_lines(modules: &[IndexedModule], graph: &Graph) -> Vec<String> {
    let line = |(number, module): (usize, &IndexedModule)| {
        let mut line = format!("{}:", module.relative_path);
        for dependency in graph.dependencies(number) {
            line.push(' ');
            line.push_str(&modules[dependency].relative_path);
        }
        line
    };
    modules.iter().enumerate().map(line).collect()
}

fn dependencies_trie(modules: &[IndexedModule], lines: &[String]) -> Vec<u8> {
    let mut trie = Trie::default();
    for (number, (module, line)) in modules.iter().zip(lines).enumerate() {
        trie.insert(&module.info.name, line, priority(number));
    }
    trie.to_bytes()
}

fn aliases_trie(modules: &[IndexedModule]) -> Vec<u8> {
    let mut trie = Trie::default();
    for (number, module) in modules.iter().enumerate() {
        for alias in module.info.aliases.iter().filter_map(|alias| normalize_alias(alias)) {
            trie.insert(&alias, &module.info.name, priority(number));
        }
    }
    trie.to_bytes()
}

fn symbols_trie(modules: &[IndexedModule], owners: &BTreeMap<&str, usize>) -> Vec<u8> {
    let mut trie = Trie::default();
    for (symbol, owner) in owners {
        trie.insert(&format!("symbol:{symbol}"), &modules[*owner].info.name, priority(*owner));
    }
    trie.to_bytes()
}

fn builtin_trie(paths: &[String]) -> Vec<u8> {
    let mut trie = Trie::default();
    for path in paths {
        trie.insert(&module_name(base_name(path)), "", 0);
    }
    trie.to_bytes()
}

fn builtin_aliases_trie(fields: &[BuiltinField]) -> Vec<u8> {
    let mut trie = Trie::default();
    for field in fields.iter().filter(|field| field.key == "alias" && !field.value.is_empty()) {
        if let Some(alias) = normalize_alias(&field.value) {
            trie.insert(&alias, &field.module, 0);
        }
    }
    trie.to_bytes()
}

fn priority(number: usize) -> u32 {
    u32::try_from(number).expect("a kernel has far fewer than 2^32 modules")
}
