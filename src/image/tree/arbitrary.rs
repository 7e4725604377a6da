//! Trees by chance, for property tests of what reads and writes them.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::attributes;
use super::{Content, Entry, Kind, Tree, join};

/// A tree of a few dozen entries of all kinds: long names, names that are not UTF-8, hard links, attributes.
pub(crate) fn tree() -> impl Strategy<Value = Tree> {
    vec((path(), entry(), any::<prop::sample::Index>()), 0..40).prop_map(|drafts| {
        let mut tree = Tree::new();
        for (path, entry, other) in drafts {
            add(&mut tree, &path, entry, other);
        }
        tree
    })
}

/// Adds an entry where it can lie; a pipe now and then becomes a hard link to some file.
fn add(tree: &mut Tree, components: &[Vec<u8>], entry: Entry, other: prop::sample::Index) {
    let mut path = Vec::new();
    for (depth, component) in components.iter().enumerate() {
        path = join(&path, component);
        if depth + 1 < components.len() && !tree.contains_dir(&path) {
            tree.remove_tree(&path);
            tree.insert(path.clone(), Entry::of_root(Kind::Directory, 0o755, 3));
        }
    }
    tree.remove_tree(&path);
    let files: Vec<_> = tree.iter().filter(|(_, entry)| matches!(entry.kind, Kind::File(_))).collect();
    if matches!(entry.kind, Kind::Fifo) && !files.is_empty() {
        let file = files[other.index(files.len())].0.clone();
        tree.add_hard_link(path, &file).unwrap();
    } else {
        tree.insert(path, entry);
    }
}

fn path() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let name = prop_oneof![
        8 => "[ab.-]{1,2}".prop_filter("no name of a file", |name| name != "." && name != "..").prop_map(String::into_bytes),
        1 => (90_usize..255).prop_map(|length| vec![b'n'; length]),
        1 => vec(1_u8..=255, 1..4).prop_filter("no name of a file", |name| !name.contains(&b'/') && name != b"." && name != b".."),
    ];
    vec(name, 1..4)
}

fn entry() -> impl Strategy<Value = Entry> {
    let number = || prop_oneof![Just(0), Just(0o7777777), Just(0o10000000), 0..u32::MAX];
    let mtime = prop_oneof![Just(0), Just(1_700_000_000), any::<u32>().prop_map(u64::from)];
    let xattrs = btree_map(Just(attributes::CAPABILITIES.to_vec()), vec(any::<u8>(), 0..8), 0..2);
    let fields = (0_u32..=0o7777, number(), number(), mtime, xattrs, kind());
    fields.prop_map(|(permissions, uid, gid, mtime, xattrs, kind)| Entry { permissions, uid, gid, mtime, xattrs, kind })
}

fn kind() -> impl Strategy<Value = Kind> {
    let target = prop_oneof![Just(1_usize), Just(100), Just(101), Just(4095)];
    prop_oneof![
        Just(Kind::Directory),
        Just(Kind::Fifo),
        vec(any::<u8>(), 0..1100).prop_map(|bytes| Kind::File(Content::from_bytes(bytes))),
        target.prop_map(|length| Kind::Symlink { target: vec![b't'; length] }),
        (0_u32..4096, 0_u32..1 << 20).prop_map(|(major, minor)| Kind::CharacterDevice(major, minor)),
        (0_u32..4096, 0_u32..1 << 20).prop_map(|(major, minor)| Kind::BlockDevice(major, minor)),
    ]
}
