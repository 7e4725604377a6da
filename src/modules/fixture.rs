//! Trees with modules for tests: real modules' `.modinfo`, recorded in `tests/fixtures/modules`, or written by hand, in
//! ELF objects that have nothing else.

use std::io::Write as _;

use super::name::{Compression, split_suffix};
use crate::tree::{Content, Entry, Kind, Tree};

/// The version under which the modules of a fixture lie.
pub(super) const VERSION: &str = "6.12";

const RECORDED: &str = include_str!("../../tests/fixtures/modules/modules.txt");

/// The recorded modules.
pub(super) fn recorded() -> Tree {
    let (modules, builtin) = RECORDED.split_once("\nbuiltin\n").unwrap();
    let mut tree = Tree::new();
    for module in modules.trim_start_matches('/').split("\n/") {
        let mut lines = module.lines();
        add_module(&mut tree, lines.next().unwrap(), &lines.collect::<Vec<_>>());
    }
    let paths: Vec<&str> = builtin.lines().filter_map(|line| line.strip_prefix("path=")).collect();
    let fields: Vec<&str> = builtin.lines().filter(|line| !line.starts_with("path=")).collect();
    add_builtin(&mut tree, &paths, &fields);
    tree
}

/// Modules by their paths below the kernel's directory, each with lines of `.modinfo`.
pub(super) fn tree(modules: &[(&str, &[&str])]) -> Tree {
    let mut tree = Tree::new();
    modules.iter().for_each(|(path, fields)| add_module(&mut tree, path, fields));
    tree
}

/// Adds the lists of built-in modules.
pub(super) fn add_builtin(tree: &mut Tree, paths: &[&str], fields: &[&str]) {
    add_file(tree, &module_path("modules.builtin"), paths.join("\n") + "\n");
    add_file(tree, &module_path("modules.builtin.modinfo"), fields.join("\0") + "\0");
}

/// Adds a file with that content.
pub(super) fn add_file(tree: &mut Tree, path: &str, content: impl Into<Vec<u8>>) {
    let content = Content::from_bytes(content.into());
    tree.insert(path.as_bytes().to_vec(), Entry::of_root(Kind::File(content), 0o644, 0));
}

/// Where a file of the kernel lies in the tree.
pub(super) fn module_path(relative_path: &str) -> String {
    format!("usr/lib/modules/{VERSION}/{relative_path}")
}

fn add_module(tree: &mut Tree, path: &str, fields: &[&str]) {
    let (_, compression) = split_suffix(path).unwrap();
    add_file(tree, &module_path(path), compressed(&elf(&(fields.join("\0") + "\0")), compression));
}

fn compressed(bytes: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Xz => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(bytes, 1).unwrap(),
    }
}

/// A 64-bit little-endian relocatable object with one section, `.modinfo` (elf(5)).
fn elf(modinfo: &str) -> Vec<u8> {
    const HEADER_BYTES: u64 = 64;
    const NAMES: &[u8] = b"\0.modinfo\0.shstrtab\0";
    let names_offset = HEADER_BYTES + modinfo.len() as u64;
    let sections_offset = names_offset + NAMES.len() as u64;
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend([1, 0, 62, 0, 1, 0, 0, 0]);
    bytes.extend([0; 16]);
    bytes.extend(sections_offset.to_le_bytes());
    bytes.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
    bytes.extend(modinfo.as_bytes());
    bytes.extend(NAMES);
    bytes.extend(section(0, 0, 0, 0));
    bytes.extend(section(1, 1, HEADER_BYTES, modinfo.len() as u64));
    bytes.extend(section(10, 3, names_offset, NAMES.len() as u64));
    bytes
}

/// A section header: the offset of its name, its type, where it is and how long.
fn section(name: u32, kind: u32, offset: u64, size: u64) -> Vec<u8> {
    let words = [u64::from(name) | u64::from(kind) << 32, 0, 0, offset, size, 0, 1, 0];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
