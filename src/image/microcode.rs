//! Early microcode: the processors' updates of a tree, as the kernel finds them before it unpacks anything.
//!
//! Enters: a tree with `usr/lib/firmware/intel-ucode` and `amd-ucode`. Leaves: a tree with `kernel/x86/microcode`, for a
//! segment that must be the first of the initrd and not be compressed. All processors' updates are taken, so the result
//! does not depend on the host: dracut's choice without its `hostonly`, less what is no microcode.
//! See <https://docs.kernel.org/arch/x86/microcode.html>.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use anyhow::{Context, Result, bail, ensure};

use crate::image::tree::{Content, Tree, TreePath, file_name};
use ocinitrd_format::compress::MultiDecoder;
use ocinitrd_format::text::quoted;

/// The suffixes in the order in which the kernel's firmware loader looks for them.
const SUFFIXES: [&str; 3] = ["", ".zst", ".xz"];
const FILE_MODE: u32 = 0o644;

/// One maker's microcode.
struct Vendor {
    name: &'static str,
    directory: &'static str,
    target: &'static str,
    /// Whether a file of that name, without the suffix of a compression, is an update.
    is_update: fn(&str) -> bool,
    /// Whether bytes begin as an update and end where another one may follow.
    is_microcode: fn(&[u8]) -> bool,
}

const VENDORS: [Vendor; 2] = [
    Vendor {
        name: "AMD",
        directory: "usr/lib/firmware/amd-ucode",
        target: "kernel/x86/microcode/AuthenticAMD.bin",
        is_update: |name| name.starts_with("microcode_amd") && name.ends_with(".bin"),
        is_microcode: |bytes| bytes.starts_with(b"DMA\0"),
    },
    Vendor {
        name: "Intel",
        directory: "usr/lib/firmware/intel-ucode",
        target: "kernel/x86/microcode/GenuineIntel.bin",
        is_update: is_intel_name,
        // The version of the header, and the unit of the sizes in it.
        is_microcode: |bytes| bytes.starts_with(&[1, 0, 0, 0]) && bytes.len().is_multiple_of(1024),
    },
];

/// Family, model and stepping, two hexadecimal digits each. `.initramfs` marks what is to be loaded early only.
fn is_intel_name(name: &str) -> bool {
    let numbers: Vec<&str> = name.strip_suffix(".initramfs").unwrap_or(name).split('-').collect();
    let is_number = |digits: &&str| digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    numbers.len() == 3 && numbers.iter().all(is_number)
}

/// Where updates lie in a tree.
pub fn directories() -> impl Iterator<Item = &'static str> {
    VENDORS.iter().map(|vendor| vendor.directory)
}

/// How the files with the updates of a machine's processors begin: the text of `/proc/cpuinfo` in.
pub fn updates_of(cpuinfo: &str) -> BTreeSet<String> {
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

/// The microcode of `tree` for the machine `architecture` (as `uname -m` has it), with the time `epoch` in seconds since
/// 1970; `None` where there is none, as on everything but x86.
///
/// # Errors
/// Fails when a file that is named as an update cannot be read or decompressed, or is no microcode.
pub fn microcode(tree: &Tree, architecture: &str, epoch: u64) -> Result<Option<Tree>> {
    if !matches!(architecture, "x86_64" | "i386" | "i486" | "i586" | "i686") {
        return Ok(None);
    }
    let mut early = Tree::new();
    for vendor in &VENDORS {
        let mut all = Vec::new();
        for path in updates(tree, vendor) {
            let bytes = read(tree, &path).with_context(|| format!("reading the microcode {}", quoted(&path)))?;
            ensure!((vendor.is_microcode)(&bytes), "{} is no microcode of {}", quoted(&path), vendor.name);
            all.extend(bytes);
        }
        if !all.is_empty() {
            early.add_file(vendor.target.as_bytes(), Content::from_bytes(all), FILE_MODE, epoch)?;
        }
    }
    Ok((!early.is_empty()).then_some(early))
}

/// The paths of a maker's updates in byte order of their names without the suffix of a compression. Of one that is there
/// in several forms, the form that the kernel would take.
fn updates(tree: &Tree, vendor: &Vendor) -> Vec<TreePath> {
    let Some(directory) = tree.resolve(vendor.directory.as_bytes()) else { return Vec::new() };
    let mut updates: BTreeMap<String, (usize, TreePath)> = BTreeMap::new();
    for (path, _) in tree.children(&directory) {
        let Ok(name) = std::str::from_utf8(file_name(path)) else { continue };
        let Some((rank, stem)) = split_suffix(name) else { continue };
        if (vendor.is_update)(stem) {
            let found = (rank, path.clone());
            let kept = updates.entry(stem.to_owned()).or_insert_with(|| found.clone());
            *kept = found.min(kept.clone());
        }
    }
    updates.into_values().map(|(_, path)| path).collect()
}

/// The rank of a name's suffix and the name without it.
fn split_suffix(name: &str) -> Option<(usize, &str)> {
    SUFFIXES.iter().enumerate().rev().find_map(|(rank, suffix)| Some((rank, name.strip_suffix(suffix)?)))
}

/// The bytes of a file, decompressed if it is compressed.
fn read(tree: &Tree, path: &[u8]) -> Result<Vec<u8>> {
    let Some(resolved) = tree.resolve(path) else { bail!("it is a symlink that leads nowhere") };
    let content = tree.content(&resolved).context("it is no regular file")?;
    let mut bytes = Vec::new();
    MultiDecoder::new(content.reader()).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::image::tree::Kind;
    use ocinitrd_format::compress::Encoder;

    const EPOCH: u64 = 1_780_000_000;

    fn intel(fill: u8) -> Vec<u8> {
        let mut bytes = vec![fill; 2048];
        bytes[..4].copy_from_slice(&[1, 0, 0, 0]);
        bytes
    }

    fn amd(fill: u8) -> Vec<u8> {
        [b"DMA\0".to_vec(), vec![fill; 9]].concat()
    }

    fn compressed(bytes: &[u8], compression: &str) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), compression.parse().unwrap()).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn tree(files: &[(&str, Vec<u8>)]) -> Tree {
        let mut tree = Tree::new();
        for (path, bytes) in files {
            let path = format!("usr/lib/firmware/{path}");
            tree.add_file(path.as_bytes(), Content::from_bytes(bytes.clone()), 0o600, 7).unwrap();
        }
        tree
    }

    fn content(tree: &Tree, name: &str) -> Vec<u8> {
        tree.content(format!("kernel/x86/microcode/{name}").as_bytes()).unwrap().read_all().unwrap()
    }

    fn message(tree: &Tree) -> String {
        format!("{:#}", microcode(tree, "x86_64", EPOCH).unwrap_err())
    }

    #[test]
    fn updates_are_named_by_the_numbers_of_the_processors() {
        let text = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 158\nmodel name\t: X\nstepping\t: 10\n\n";
        assert_eq!(updates_of(text), BTreeSet::from(["06-9e-0a".to_owned()]));
        let text = "vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 33\nstepping\t: 0\n";
        assert_eq!(updates_of(text), BTreeSet::from(["microcode_amd_fam19h.bin".to_owned()]));
        assert!(updates_of("").is_empty());
    }

    #[test]
    fn updates_of_both_makers_are_joined_in_the_order_of_their_names() {
        let tree = tree(&[
            ("amd-ucode/microcode_amd_fam15h.bin.xz", compressed(&amd(2), "xz")),
            ("amd-ucode/microcode_amd.bin.zst", compressed(&amd(1), "zstd")),
            ("amd-ucode/microcode_amd.bin.asc", b"signature".to_vec()),
            ("amd-ucode/README", b"text".to_vec()),
            ("intel-ucode/06-4f-01.initramfs", intel(3)),
            ("intel-ucode/06-0f-02.xz", compressed(&intel(2), "xz")),
            ("intel-ucode/06-03-02", intel(1)),
            ("intel-ucode/list", b"text".to_vec()),
            ("iwlwifi.ucode", b"other".to_vec()),
        ]);
        let early = microcode(&tree, "x86_64", EPOCH).unwrap().unwrap();
        assert_eq!(content(&early, "AuthenticAMD.bin"), [amd(1), amd(2)].concat());
        assert_eq!(content(&early, "GenuineIntel.bin"), [intel(1), intel(2), intel(3)].concat());
        let listing: Vec<_> = early
            .iter()
            .map(|(path, entry)| (std::str::from_utf8(path).unwrap(), entry.permissions, entry.uid, entry.mtime))
            .collect();
        let expected = [
            ("kernel", 0o755, 0, EPOCH),
            ("kernel/x86", 0o755, 0, EPOCH),
            ("kernel/x86/microcode", 0o755, 0, EPOCH),
            ("kernel/x86/microcode/AuthenticAMD.bin", 0o644, 0, EPOCH),
            ("kernel/x86/microcode/GenuineIntel.bin", 0o644, 0, EPOCH),
        ];
        assert_eq!(listing, expected);
    }

    #[test]
    fn of_several_forms_of_an_update_the_kernels_choice_is_taken() {
        let forms = [
            ("intel-ucode/06-03-02.xz", compressed(&intel(1), "xz")),
            ("intel-ucode/06-03-02.zst", compressed(&intel(2), "zstd")),
            ("intel-ucode/06-03-02", intel(3)),
        ];
        for (count, fill) in [(1, 1), (2, 2), (3, 3)] {
            let early = microcode(&tree(&forms[..count]), "x86_64", EPOCH).unwrap().unwrap();
            assert_eq!(content(&early, "GenuineIntel.bin"), intel(fill));
            assert_eq!(early.iter().filter(|(_, entry)| matches!(entry.kind, Kind::File(_))).count(), 1);
        }
    }

    #[test]
    fn there_is_none_without_updates_and_on_other_machines() {
        let text = tree(&[("amd-ucode/README", b"text".to_vec()), ("intel-ucode/06-03", intel(1))]);
        assert!(microcode(&text, "x86_64", EPOCH).unwrap().is_none());
        assert!(microcode(&Tree::new(), "x86_64", EPOCH).unwrap().is_none());
        let one = tree(&[("intel-ucode/06-03-02", intel(1))]);
        assert!(microcode(&one, "aarch64", EPOCH).unwrap().is_none());
        assert!(microcode(&one, "i686", EPOCH).unwrap().is_some());
    }

    #[test]
    fn symlinks_are_followed_inside_the_tree() {
        let mut tree = tree(&[("store/update", intel(1))]);
        tree.add_symlink(b"usr/lib/firmware/intel-ucode/06-03-02", b"../store/update", 7).unwrap();
        assert_eq!(content(&microcode(&tree, "x86_64", EPOCH).unwrap().unwrap(), "GenuineIntel.bin"), intel(1));
        tree.add_symlink(b"usr/lib/firmware/intel-ucode/06-03-03", b"../absent", 7).unwrap();
        let expected =
            "reading the microcode \"usr/lib/firmware/intel-ucode/06-03-03\": it is a symlink that leads nowhere";
        assert_eq!(message(&tree), expected);
    }

    #[test]
    fn what_is_no_microcode_is_named() {
        let short = intel(1)[..1000].to_vec();
        for (path, bytes, vendor) in [
            ("intel-ucode/06-03-02", b"text".to_vec(), "Intel"),
            ("intel-ucode/06-03-02", short, "Intel"),
            ("amd-ucode/microcode_amd.bin", b"text".to_vec(), "AMD"),
        ] {
            assert_eq!(
                message(&tree(&[(path, bytes)])),
                format!("\"usr/lib/firmware/{path}\" is no microcode of {vendor}")
            );
        }
        let mut cut = compressed(&amd(1), "zstd");
        cut.pop();
        let message = message(&tree(&[("amd-ucode/microcode_amd.bin.zst", cut)]));
        assert!(message.starts_with("reading the microcode \"usr/lib/firmware/amd-ucode/microcode_amd.bin.zst\": "));
    }
}
