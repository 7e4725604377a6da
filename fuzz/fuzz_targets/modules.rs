//! A kernel's lists beside its modules, and a module: what an initrd gets of them, with its index.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocinitrd::image::modules::{FirmwarePatterns, KernelModules, Patterns, index, select};
use ocinitrd::image::tree::{Content, Entry, Kind, Tree};
use ocinitrd_fuzz::parts;

fuzz_target!(|bytes: &[u8]| {
    let [builtin, modinfo, order, one, other] = parts(bytes);
    let mut tree = Tree::new();
    for (name, bytes) in [
        ("modules.builtin", builtin),
        ("modules.builtin.modinfo", modinfo),
        ("modules.order", order),
        ("kernel/one.ko", one),
        ("kernel/other.ko", other),
    ] {
        let content = Kind::File(Content::from_bytes(bytes));
        tree.insert(format!("usr/lib/modules/6.12/{name}").into_bytes(), Entry::of_root(content, 0o644, 0));
    }
    let Ok(modules) = KernelModules::open(&tree, "6.12") else { return };
    let patterns = Patterns::parse(&["*".to_owned()]).expect("it is a pattern");
    let firmware = FirmwarePatterns::parse(&[]).expect("no patterns are patterns");
    if let Ok(selection) = select(&modules, &tree, &patterns, &firmware) {
        let _ = index(&modules, &selection);
    }
});
