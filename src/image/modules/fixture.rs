//! Trees with modules for tests: real modules' `.modinfo`, recorded in `tests/fixtures/modules`, or written by hand, in
//! ELF objects that have nothing else.

use std::io::Write as _;

use super::name::{Compression, split_suffix};
use crate::image::tree::{Content, Entry, Kind, Tree};

/// The version under which the modules of a fixture lie.
pub(super) const VERSION: &str = "6.12";

const RECORDED: &str = include_str!("../../../tests/fixtures/modules/modules.txt");

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
    add_file(tree, &module_path(path), module(path, fields, &Symbols::default()));
}

/// The symbols of a module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Symbols {
    /// What others may use.
    pub exported: Vec<String>,
    /// What it needs of others.
    pub needed: Vec<String>,
}

/// The bytes of a module, compressed as its path says.
pub(crate) fn module(path: &str, fields: &[&str], symbols: &Symbols) -> Vec<u8> {
    let (_, compression) = split_suffix(path).unwrap();
    let fields: String = fields.iter().map(|field| format!("{field}\0")).collect();
    compressed(&elf(&fields, symbols), compression)
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

/// A section of an object: its name, its type and its bytes.
struct Section {
    name: &'static str,
    kind: u32,
    bytes: Vec<u8>,
    /// The number of the section with its names, and the size of its entries.
    link_and_size: (u32, u64),
}

/// A 64-bit little-endian relocatable object with the sections that kmod reads (elf(5)).
fn elf(modinfo: &str, symbols: &Symbols) -> Vec<u8> {
    const HEADER_BYTES: u64 = 64;
    let section = |name, kind, bytes| Section { name, kind, bytes, link_and_size: (0, 0) };
    let mut sections = vec![section("", 0, Vec::new()), section(".modinfo", 1, modinfo.as_bytes().to_vec())];
    if !symbols.exported.is_empty() {
        let names: String = symbols.exported.iter().map(|symbol| format!("{symbol}\0")).collect();
        sections.push(section("__ksymtab_strings", 1, names.into_bytes()));
    }
    if !symbols.needed.is_empty() {
        // The table begins with a symbol without a name; those that are needed are global and belong to no section.
        let (mut table, mut names) = (vec![0; 24], b"\0".to_vec());
        for symbol in &symbols.needed {
            table.extend(u32::try_from(names.len()).unwrap().to_le_bytes());
            table.extend([0x10, 0, 0, 0]);
            table.extend([0; 16]);
            names.extend(format!("{symbol}\0").bytes());
        }
        let strings = u32::try_from(sections.len() + 1).unwrap();
        sections.push(Section { name: ".symtab", kind: 2, bytes: table, link_and_size: (strings, 24) });
        sections.push(section(".strtab", 3, names));
    }
    let names: String =
        sections.iter().map(|section| format!("{}\0", section.name)).chain([".shstrtab\0".into()]).collect();
    sections.push(section(".shstrtab", 3, names.clone().into_bytes()));
    let contents_bytes: usize = sections.iter().map(|section| section.bytes.len()).sum();
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend([1, 0, 62, 0, 1, 0, 0, 0]);
    bytes.extend([0; 16]);
    bytes.extend((HEADER_BYTES + contents_bytes as u64).to_le_bytes());
    let count = u8::try_from(sections.len()).unwrap();
    bytes.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0, count, 0, count - 1, 0]);
    sections.iter().for_each(|section| bytes.extend(&section.bytes));
    let (mut name, mut offset) = (0, HEADER_BYTES);
    for Section { name: text, kind, bytes: content, link_and_size: (link, size) } in &sections {
        let words = [name | u64::from(*kind) << 32, 0, 0, offset, content.len() as u64, u64::from(*link), 1, *size];
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        name += text.len() as u64 + 1;
        offset += content.len() as u64;
    }
    bytes
}
