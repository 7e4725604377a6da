//! Our module index against depmod's and modprobe's, on all modules of a real kernel.
//!
//! The kernel is that of `OCINITRD_TEST_KERNEL_TREE`, a directory with `usr/lib/modules/KVER`; without it, the newest
//! `linux-image-amd64` of the machine's own apt sources, kept in `OCINITRD_TEST_CACHE` or `~/.cache/ocinitrd-tests`.
//! `OCINITRD_TEST_DEPMOD` names another depmod than that of `PATH`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Seek};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use ocinitrd::image::modules::{
    FirmwarePatterns, KernelModules, Patterns, Selection, decompress, index, kernel_versions, prune, select,
};
use ocinitrd::image::tree::{Content, Entry, Kind, Tree};

const EPOCH: u64 = 1_700_000_000;
/// The file that depmod writes in the order of a hash table and we write sorted.
const SORTED_BY_US: &str = "modules.symbols";

#[test]
fn index_of_all_modules_is_depmods() {
    let (mut tree, version) = kernel();
    let selection = selected(&tree, &version, &["*"]);
    assert!(selection.modules.len() > 2000, "a generic kernel has thousands of modules");
    let written = pruned(&mut tree, &version, &selection);
    compare(&written, &depmod(&tree, &version));
}

#[test]
fn index_of_the_default_selection_is_depmods_and_modprobe_takes_it() {
    let (mut tree, version) = kernel();
    let selection = selected(&tree, &version, &["default"]);
    let written = pruned(&mut tree, &version, &selection);
    compare(&written, &depmod(&tree, &version));
    modprobe_loads_from(&tree, &version);
}

#[test]
fn decompressed_modules_have_an_index_of_their_own_names() {
    let (mut tree, version) = kernel();
    let modules = KernelModules::open(&tree, &version).unwrap();
    let mut selection = selected(&tree, &version, &["default", "-/drivers/"]);
    let directory = tempfile::tempdir().unwrap();
    decompress(&mut tree, &modules, &mut selection, directory.path()).unwrap();
    assert!(selection.modules.keys().all(|path| path.ends_with(b".ko")));
    let written = pruned(&mut tree, &version, &selection);
    compare(&written, &depmod(&tree, &version));
}

#[test]
fn closure_brings_what_mounting_needs() {
    let (tree, version) = kernel();
    let modules = KernelModules::open(&tree, &version).unwrap();
    let selection = selected(&tree, &version, &["btrfs", "ext4", "-kernel/lib/", "no_such_modul", "usb_storag"]);
    for name in ["btrfs", "raid6_pq", "xor", "xxhash_generic", "blake2b_generic"] {
        let Some(file) = modules.get(name) else { continue };
        assert!(selection.modules.contains_key(&modules.tree_path(file)), "{name}");
    }
    let unmatched: Vec<_> = selection.unmatched.iter().map(|unmatched| unmatched.pattern.as_str()).collect();
    assert_eq!(unmatched, ["no_such_modul", "usb_storag"]);
    assert_eq!(selection.unmatched[1].nearest.as_deref(), Some("usb-storage"));
    assert!(selection.missing_dependencies.is_empty(), "{:?}", selection.missing_dependencies);
}

/// Prints what `tests/bench/modules.sh` tabulates, and leaves the two forms of the default selection in directories.
#[test]
#[ignore = "a measurement, not a test: run by tests/bench/modules.sh"]
fn measure() {
    let output =
        PathBuf::from(std::env::var_os("OCINITRD_BENCH_OUTPUT").expect("OCINITRD_BENCH_OUTPUT names a directory"));
    let (mut tree, version) = kernel();
    let modules = KernelModules::open(&tree, &version).unwrap();
    for (name, patterns) in [("all", "*"), ("default", "default"), ("ext4", "ext4")] {
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        let selection = selected(&tree, &version, &[patterns]);
        let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        println!("select {name}: {} modules, {wall:.2} s, {cpu:.2} CPU s", selection.modules.len());
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        index(&modules, &selection).unwrap();
        println!("index {name}: {:.2} s, {:.2} CPU s", wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    }
    let mut selection = selected(&tree, &version, &["default"]);
    let mut plain = tree.clone();
    pruned(&mut tree, &version, &selection);
    materialize(&tree, &output.join("kept"));
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    decompress(&mut plain, &modules, &mut selection, &output).unwrap();
    println!("decompress default: {:.2} s, {:.2} CPU s", wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    pruned(&mut plain, &version, &selection);
    materialize(&plain, &output.join("decompressed"));
}

fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    ticks / 100.0
}

fn selected(tree: &Tree, version: &str, patterns: &[&str]) -> Selection {
    let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    let modules = KernelModules::open(tree, version).unwrap();
    select(&modules, tree, &Patterns::parse(&patterns).unwrap(), &FirmwarePatterns::parse(&[]).unwrap()).unwrap()
}

fn pruned(tree: &mut Tree, version: &str, selection: &Selection) -> BTreeMap<String, Vec<u8>> {
    let written = index(&KernelModules::open(tree, version).unwrap(), selection).unwrap();
    prune(tree, version, selection, written.clone(), EPOCH).unwrap();
    written
}

/// Every index file that depmod writes for what is in the tree.
fn depmod(tree: &Tree, version: &str) -> BTreeMap<String, Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    materialize(tree, directory.path());
    let program = std::env::var_os("OCINITRD_TEST_DEPMOD").unwrap_or_else(|| "depmod".into());
    let lists = directory.path().join("usr/lib/modules").join(version);
    for name in file_names(&lists).iter().filter(|name| !shipped(name)) {
        fs::remove_file(lists.join(name)).unwrap();
    }
    let before = file_names(&lists);
    run(Command::new(program).arg("-b").arg(directory.path()).arg(version));
    let new = file_names(&lists).into_iter().filter(|name| !before.contains(name));
    new.map(|name| (name.clone(), fs::read(lists.join(&name)).unwrap())).collect()
}

fn shipped(name: &str) -> bool {
    ["modules.builtin", "modules.builtin.modinfo", "modules.order"].contains(&name)
}

fn file_names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    files.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

fn compare(ours: &BTreeMap<String, Vec<u8>>, depmods: &BTreeMap<String, Vec<u8>>) {
    assert!(depmods.len() >= 10, "depmod wrote only {:?}", depmods.keys());
    for (name, expected) in depmods {
        let written = ours.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        let same = if name == SORTED_BY_US {
            sorted_lines(written) == sorted_lines(expected)
        } else if name.ends_with(".bin") && !in_pre_order(expected) {
            listing(written) == listing(expected)
        } else {
            written == expected
        };
        assert!(same, "{name} differs: {}", first_difference(written, expected));
    }
}

fn sorted_lines(bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    lines.sort_unstable();
    lines
}

fn first_difference(ours: &[u8], depmods: &[u8]) -> String {
    let at = ours.iter().zip(depmods).take_while(|(left, right)| left == right).count();
    let part =
        |bytes: &[u8]| String::from_utf8_lossy(&bytes[at.min(bytes.len())..bytes.len().min(at + 200)]).into_owned();
    format!("at byte {at} of {} and {}: {:?} and {:?}", ours.len(), depmods.len(), part(ours), part(depmods))
}

/// kmod writes binary indexes in pre-order since version 34 and in post-order before; both mean the same.
fn in_pre_order(index: &[u8]) -> bool {
    word(index, 8) & 0x0FFF_FFFF == 12
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The keys of a binary index with their values and the priority of each.
type Listing = BTreeMap<Vec<u8>, Vec<(u32, Vec<u8>)>>;

/// All of a binary index, read independently of the writer.
fn listing(index: &[u8]) -> Listing {
    assert_eq!((word(index, 0), word(index, 4)), (0xB007_F457, 0x0002_0001));
    let mut all = Listing::new();
    list_node(index, word(index, 8), &mut Vec::new(), &mut all);
    all
}

fn list_node(index: &[u8], offset: u32, key: &mut Vec<u8>, all: &mut Listing) {
    let mut at = (offset & 0x0FFF_FFFF) as usize;
    let length = key.len();
    let text = |at: &mut usize| {
        let end = *at + index[*at..].iter().position(|byte| *byte == 0).unwrap();
        let text = &index[*at..end];
        *at = end + 1;
        text
    };
    if offset & 0x8000_0000 != 0 {
        key.extend(text(&mut at));
    }
    let mut children = Vec::new();
    if offset & 0x2000_0000 != 0 {
        let (first, last) = (index[at], index[at + 1]);
        children.extend((first..=last).map(|byte| (byte, word(index, at + 2 + 4 * usize::from(byte - first)))));
        at += 2 + 4 * children.len();
    }
    if offset & 0x4000_0000 != 0 {
        let count = word(index, at);
        at += 4;
        let mut values = Vec::new();
        for _ in 0..count {
            let priority = word(index, at);
            at += 4;
            values.push((priority, text(&mut at).to_vec()));
        }
        all.insert(key.clone(), values);
    }
    for (byte, child) in children.into_iter().filter(|(_, child)| *child != 0) {
        key.push(byte);
        list_node(index, child, key, all);
        key.pop();
    }
    key.truncate(length);
}

/// modprobe, on the index that we wrote: names, soft dependencies, aliases of devices.
fn modprobe_loads_from(tree: &Tree, version: &str) {
    let directory = tempfile::tempdir().unwrap();
    materialize(tree, directory.path());
    let modprobe = |words: &[&str]| {
        let mut command = Command::new("modprobe");
        run(command.args(["-S", version, "-C", "/dev/null", "-d"]).arg(directory.path()).args(words))
    };
    for (name, needed) in
        [("btrfs", "/xor.ko"), ("dm-crypt", "/dm-mod.ko"), ("ext4", "/jbd2.ko"), ("nvme", "/nvme-core.ko")]
    {
        let commands = modprobe(&["--show-depends", name]);
        assert!(commands.contains(needed) && commands.lines().count() > 1, "{name}: {commands}");
    }
    for (alias, module) in [
        ("pci:v00008086d0000F1A5sv00008086sd0000390Abc01sc08i02", "nvme"),
        ("pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", "ahci"),
        ("pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00", "virtio_pci"),
        ("virtio:d00000002v00001AF4", "virtio_blk"),
        ("fs-btrfs", "btrfs"),
        ("symbol:raid6_call", "raid6_pq"),
    ] {
        // A kernel may have a driver built in; modprobe then finds no file, with depmod's index just as with ours.
        if KernelModules::open(tree, version).unwrap().get(module).is_some() {
            assert!(modprobe(&["-R", alias]).lines().any(|line| line == module), "{alias}");
        }
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// A real kernel's tree and version.
fn kernel() -> (Tree, String) {
    let directory = match std::env::var_os("OCINITRD_TEST_KERNEL_TREE") {
        Some(directory) => PathBuf::from(directory),
        None => downloaded_kernel(),
    };
    let tree = load(&directory.join("usr/lib"));
    let version = kernel_versions(&tree).pop().expect("there is a kernel");
    (tree, version)
}

/// The machine's own distribution kernel, unpacked below the cache directory by the first test that needs it.
fn downloaded_kernel() -> PathBuf {
    let cache = std::env::var_os("OCINITRD_TEST_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").expect("HOME or OCINITRD_TEST_CACHE is set");
        PathBuf::from(home).join(".cache/ocinitrd-tests")
    });
    let kernel = cache.join("kernel");
    fs::create_dir_all(&cache).unwrap();
    let lock = File::create(cache.join("kernel.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    if !kernel.is_dir() {
        let fresh = tempfile::tempdir_in(&cache).unwrap();
        let meta = run(Command::new("apt-cache").args(["depends", "linux-image-amd64"]));
        let package =
            meta.split_whitespace().find(|word| word.starts_with("linux-image-") && *word != "linux-image-amd64");
        let package = package.expect("apt knows a kernel: run apt-get update, or set OCINITRD_TEST_KERNEL_TREE");
        run(Command::new("apt-get").args(["-q", "download", package]).current_dir(&fresh));
        let deb = fs::read_dir(&fresh).unwrap().next().expect("apt-get made a file").unwrap().path();
        let unpacked = fresh.path().join("unpacked");
        run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&unpacked));
        if unpacked.join("lib").is_dir() {
            fs::create_dir_all(unpacked.join("usr")).unwrap();
            run(Command::new("cp").args(["-rlT"]).arg(unpacked.join("lib")).arg(unpacked.join("usr/lib")));
        }
        fs::rename(unpacked, &kernel).unwrap();
    }
    kernel
}

/// The files below `directory`, which becomes `usr/lib`, with their bytes in one spool.
fn load(directory: &Path) -> Tree {
    let mut spool = tempfile::tempfile().unwrap();
    let mut files = Vec::new();
    let mut tree = Tree::new();
    let mut stack = vec![(directory.to_path_buf(), "usr/lib".to_owned())];
    while let Some((directory, path)) = stack.pop() {
        for entry in fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap()) {
            let path = format!("{path}/{}", entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                stack.push((entry.path(), path));
            } else if entry.file_type().unwrap().is_file() {
                let offset = spool.stream_position().unwrap();
                let length_bytes = io::copy(&mut File::open(entry.path()).unwrap(), &mut spool).unwrap();
                files.push((path, offset, length_bytes));
            }
        }
    }
    let spool = Arc::new(spool);
    for (path, offset, length_bytes) in files {
        let content = Content::Spooled { file: Arc::clone(&spool), offset, length_bytes };
        tree.insert(path.into_bytes(), Entry::of_root(Kind::File(content), 0o644, EPOCH));
    }
    tree.add_missing_parents(EPOCH).unwrap();
    tree
}

/// Writes a tree to a directory, with `/lib` as kmod before version 33 needs it.
fn materialize(tree: &Tree, directory: &Path) {
    for (path, entry) in tree.iter() {
        let path = directory.join(std::str::from_utf8(path).unwrap());
        match &entry.kind {
            Kind::Directory => fs::create_dir_all(path).unwrap(),
            Kind::File(content) => {
                io::copy(&mut content.reader(), &mut File::create(path).unwrap()).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    symlink("usr/lib", directory.join("lib")).unwrap();
}
