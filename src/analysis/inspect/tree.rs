//! Paths as a tree of names: each name is kept once below its parent, so that a million paths take little more than their names, and
//! going one step further down a path is one look into a table.

use std::cmp::Ordering;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use ocinitrd_format::cpio::PATH_MAX_BYTES;

/// A place in the tree: a name below another place.
pub(super) type Node = u32;

/// The directory that everything is below.
pub(super) const ROOT: Node = 0;

/// The longest name that a directory takes, in bytes: `NAME_MAX`.
pub(super) const NAME_MAX_BYTES: usize = 255;

#[derive(Clone, Copy, Debug)]
struct Place {
    parent: Node,
    /// Where its name begins in `names`.
    name_start: u32,
    name_bytes: u8,
    /// The length of its whole path.
    path_bytes: u16,
}

/// Places by parent and name.
#[derive(Debug)]
pub(super) struct Tree {
    places: Vec<Place>,
    names: Vec<u8>,
    index: HashTable<Node>,
    /// Seeded, as names come from whoever made the initrd.
    hasher: RandomState,
}

impl Default for Tree {
    fn default() -> Self {
        let root = Place { parent: ROOT, name_start: 0, name_bytes: 0, path_bytes: 0 };
        Tree { places: vec![root], names: Vec::new(), index: HashTable::new(), hasher: RandomState::new() }
    }
}

impl Tree {
    /// How many places there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The length of all names together, in bytes.
    pub(super) fn names_bytes(&self) -> usize {
        self.names.len()
    }

    pub(super) fn parent(&self, node: Node) -> Node {
        self.places[node as usize].parent
    }

    pub(super) fn name(&self, node: Node) -> &[u8] {
        name(&self.places, &self.names, node)
    }

    /// The length of the whole path, in bytes.
    pub(super) fn path_bytes(&self, node: Node) -> usize {
        self.places[node as usize].path_bytes.into()
    }

    /// The whole path; empty for the root.
    pub(super) fn path(&self, node: Node) -> Vec<u8> {
        let mut path = vec![b'/'; self.path_bytes(node)];
        let (mut node, mut end) = (node, path.len());
        while node != ROOT {
            let name = self.name(node);
            path[end - name.len()..end].copy_from_slice(name);
            end = (end - name.len()).saturating_sub(1);
            node = self.parent(node);
        }
        path
    }

    pub(super) fn child(&self, parent: Node, name: &[u8]) -> Option<Node> {
        let is_it = |node: &Node| self.parent(*node) == parent && self.name(*node) == name;
        self.index.find(self.hasher.hash_one((parent, name)), is_it).copied()
    }

    /// The place of that name, which is made if there is none. None where its path would be longer than `PATH_MAX` lets programs
    /// name it. The name is at most [`NAME_MAX_BYTES`] long.
    pub(super) fn child_or_new(&mut self, parent: Node, name: &[u8]) -> Option<Node> {
        if let Some(node) = self.child(parent, name) {
            return Some(node);
        }
        let separator = usize::from(parent != ROOT);
        let path_bytes = self.path_bytes(parent) + separator + name.len();
        let place = Place {
            parent,
            name_start: u32::try_from(self.names.len()).ok()?,
            name_bytes: u8::try_from(name.len()).ok()?,
            path_bytes: u16::try_from(path_bytes).ok().filter(|bytes| usize::from(*bytes) <= PATH_MAX_BYTES)?,
        };
        let node = Node::try_from(self.places.len()).ok()?;
        self.places.push(place);
        self.names.extend_from_slice(name);
        let (places, names, hasher) = (&self.places, &self.names, &self.hasher);
        let hash = |node: &Node| hasher.hash_one((places[*node as usize].parent, self::name(places, names, *node)));
        self.index.insert_unique(hash(&node), node, hash);
        Some(node)
    }
}

fn name<'a>(places: &[Place], names: &'a [u8], node: Node) -> &'a [u8] {
    let place = places[node as usize];
    &names[place.name_start as usize..][..usize::from(place.name_bytes)]
}

/// Goes through places in byte order of their paths.
///
/// That is not the order of their names in each directory: `a-b` is before `a/b`. So a directory's name and what is below it take
/// their places apart from each other.
pub(super) struct Walk<'a> {
    tree: &'a Tree,
    /// The places by parent; those of a parent by name.
    children: Vec<Node>,
    /// Where those of each parent begin in `children`; one more at the end.
    starts: Vec<u32>,
    pending: Vec<Step>,
    path: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Step {
    Itself(Node),
    Below(Node),
}

impl<'a> Walk<'a> {
    /// Of the places that `is_there` says.
    pub(super) fn new(tree: &'a Tree, is_there: impl Fn(Node) -> bool) -> Self {
        let all = || (1..tree.len() as Node).filter(|node| is_there(*node));
        let mut starts = vec![0_u32; tree.len() + 1];
        all().for_each(|node| starts[tree.parent(node) as usize + 1] += 1);
        for index in 1..starts.len() {
            starts[index] += starts[index - 1];
        }
        let mut children = vec![0; starts[tree.len()] as usize];
        // What is in `starts` moves on as places are taken, and back afterwards.
        for node in all() {
            let start = &mut starts[tree.parent(node) as usize];
            children[*start as usize] = node;
            *start += 1;
        }
        starts.rotate_right(1);
        starts[0] = 0;
        let mut walk = Walk { tree, children, starts, pending: Vec::new(), path: Vec::new() };
        for parent in 0..tree.len() {
            let range = walk.range(parent as Node);
            walk.children[range].sort_unstable_by(|a, b| tree.name(*a).cmp(tree.name(*b)));
        }
        walk.enter(ROOT);
        walk
    }

    fn range(&self, parent: Node) -> std::ops::Range<usize> {
        self.starts[parent as usize] as usize..self.starts[parent as usize + 1] as usize
    }

    fn enter(&mut self, parent: Node) {
        let first = self.pending.len();
        for node in &self.children[self.range(parent)] {
            self.pending.push(Step::Itself(*node));
            if !self.range(*node).is_empty() {
                self.pending.push(Step::Below(*node));
            }
        }
        let tree = self.tree;
        self.pending[first..].sort_by(|a, b| order(tree, *b, *a));
    }

    /// Goes to the next place.
    pub(super) fn advance(&mut self) -> Option<Node> {
        loop {
            match self.pending.pop()? {
                Step::Below(node) => {
                    self.go_to(node);
                    self.enter(node);
                }
                Step::Itself(node) => {
                    self.go_to(node);
                    return Some(node);
                }
            }
        }
    }

    /// The path of the place that was gone to last; empty at the start.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// The next place and its path.
    pub(super) fn next(&mut self) -> Option<(Node, &[u8])> {
        let node = self.advance()?;
        Some((node, &self.path))
    }

    /// The path begins with that of the parent, as what came last is below the parent too.
    fn go_to(&mut self, node: Node) {
        self.path.truncate(self.tree.path_bytes(self.tree.parent(node)));
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(self.tree.name(node));
    }
}

/// The order of the paths of two steps below the same directory.
fn order(tree: &Tree, a: Step, b: Step) -> Ordering {
    let key = |step: Step| match step {
        Step::Itself(node) => (tree.name(node), None),
        // Names have no slash: what is below a directory begins with its name and one.
        Step::Below(node) => (tree.name(node), Some(b'/')),
    };
    let ((a, a_slash), (b, b_slash)) = (key(a), key(b));
    let common = a.len().min(b.len());
    let next = |name: &[u8], slash: Option<u8>| name.get(common).copied().or(slash);
    a[..common].cmp(&b[..common]).then_with(|| next(a, a_slash).cmp(&next(b, b_slash)))
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn tree_of<'a>(paths: impl IntoIterator<Item = &'a Vec<u8>>) -> (Tree, Vec<Node>) {
        let mut tree = Tree::default();
        let mut nodes = Vec::new();
        for path in paths {
            let names = path.split(|byte| *byte == b'/');
            nodes.push(names.fold(ROOT, |parent, name| tree.child_or_new(parent, name).unwrap()));
        }
        (tree, nodes)
    }

    #[test]
    fn names_are_kept_once_and_no_path_is_longer_than_programs_can_name() {
        let (mut tree, nodes) = tree_of(&[b"a/b".to_vec(), b"a/b".to_vec(), b"a/c".to_vec()]);
        assert_eq!((nodes[0], tree.len(), tree.names_bytes()), (nodes[1], 4, 3));
        assert_eq!(tree.child(ROOT, b"b"), None);
        let mut node = ROOT;
        for _ in 0..16 {
            node = tree.child_or_new(node, &[b'n'; NAME_MAX_BYTES]).unwrap();
        }
        assert_eq!(tree.path_bytes(node), 4095);
        assert_eq!(tree.child_or_new(node, b"n"), None);
    }

    proptest! {
        #[test]
        fn a_walk_goes_in_byte_order(paths in btree_set(vec("[-./0a]{1,3}".prop_map(|name| name.replace('/', "b")), 1..4), 1..30)) {
            let paths: std::collections::BTreeSet<Vec<u8>> = paths.into_iter().map(|names| names.join("/").into_bytes()).collect();
            let (tree, nodes) = tree_of(&paths);
            let mut walk = Walk::new(&tree, |_| true);
            let mut walked = Vec::new();
            while let Some((node, path)) = walk.next() {
                prop_assert_eq!(tree.path(node), path);
                walked.push(path.to_vec());
            }
            prop_assert!(walked.is_sorted());
            prop_assert_eq!(walked.len(), tree.len() - 1);
            for (path, node) in paths.iter().zip(nodes) {
                prop_assert_eq!(path, &tree.path(node));
            }
        }
    }
}
