//! What the kernel makes of the entries: entries in their order in, the file system that results out.
//!
//! Follows Linux `init/initramfs.c`: parents must exist; symlinks on the way are followed; an entry of another type replaces what is
//! there unless that is a directory with something in it; a file over a file is written into the same inode; names with the same inode
//! number and file type are links, until the archive's trailer. A test boots entries of every form and compares.
//!
//! An entry costs a look into a table for each part of its path, and memory for its last name. What symlinks add to that is limited.

mod apply;
mod lookup;

use std::collections::HashMap;

use super::limits::FOLLOWED_MAX_BYTES;
use super::tree::{Node, ROOT, Tree, Walk};
use ocinitrd_format::cpio::{TYPE_BLOCK_DEVICE, TYPE_CHARACTER_DEVICE, TYPE_MASK};
use ocinitrd_format::digest::Digest;

/// In place of an inode's number: there is nothing.
const NOTHING: u32 = u32::MAX;

/// The data of a regular file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Content {
    /// Its length in bytes.
    pub size_bytes: u32,
    /// The entry it came from, counted from 0 over the whole initrd without trailers.
    pub entry: u64,
    /// Its digest, if computed.
    pub digest: Option<Digest>,
}

/// A text among those that a [`View`] keeps.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Text {
    start: u32,
    bytes: u32,
}

/// A file of any type, under one or several names.
#[derive(Clone, Debug)]
pub struct Inode {
    /// File type and permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time in seconds since 1970-01-01 UTC, of the last entry that named it.
    pub mtime: u32,
    /// Major and minor number of a device node.
    pub device: (u32, u32),
    target: Text,
    /// The position of its data, if it is a regular file, in the contents of the view.
    content: u32,
    /// Whether an entry made it or changed it: the kernel brings some of its own.
    is_listed: bool,
}

impl Inode {
    fn file_type(&self) -> u32 {
        self.mode & TYPE_MASK
    }

    fn is_device(&self) -> bool {
        is_device(self.file_type())
    }
}

/// Number of the file system, inode number, file type.
type LinkKey = ((u32, u32), u32, u32);

/// Where the first name of a file is looked for when another one comes.
#[derive(Clone, Copy, Debug)]
enum FirstName {
    Node(Node),
    /// Found through symlinks, which may have changed by then.
    Path(Text),
    /// Its parent was not there.
    Nowhere,
}

/// The unpacked file system. The root directory is no entry of it.
#[derive(Debug)]
pub struct View {
    tree: Tree,
    /// The inode of each place of the tree, or [`NOTHING`].
    inode_of: Vec<u32>,
    /// How many places below each place have an inode.
    children_of: Vec<u32>,
    inodes: Vec<Inode>,
    contents: Vec<Content>,
    texts: Vec<u8>,
    links: HashMap<LinkKey, FirstName>,
    followed_bytes: u64,
}

impl Default for View {
    fn default() -> Self {
        let mut view = View {
            tree: Tree::default(),
            inode_of: Vec::new(),
            children_of: Vec::new(),
            inodes: Vec::new(),
            contents: Vec::new(),
            texts: Vec::new(),
            links: HashMap::new(),
            followed_bytes: 0,
        };
        view.sync();
        let root = view.new_inode(0o40_755);
        view.inode_of[ROOT as usize] = root;
        // What the kernel brings where nothing else was compiled into it (`usr/default_cpio_list`).
        for (parent, name, mode) in
            [(ROOT, &b"dev"[..], 0o40_755), (ROOT, b"root", 0o40_700), (1, b"console", 0o20_600)]
        {
            let node = view.tree.child_or_new(parent, name).expect("the first names fit");
            view.sync();
            let inode = view.new_inode(mode);
            view.put(node, inode);
        }
        view.inodes.last_mut().expect("there are some").device = (5, 1);
        view.inodes.iter_mut().skip(1).for_each(|inode| inode.is_listed = false);
        view
    }
}

impl View {
    /// Calls `visit` with all names in byte order of their paths: the place, a number that is the same for names of the same file, the
    /// path, and the file.
    pub(super) fn visit(&self, mut visit: impl FnMut(Node, u32, &[u8], &Inode)) {
        let mut walk = self.walk();
        while let Some((node, path)) = walk.next() {
            let number = self.inode_of[node as usize];
            visit(node, number, path, &self.inodes[number as usize]);
        }
    }

    /// The place that another one is in; that of the root is itself.
    pub(super) fn parent(&self, node: Node) -> Node {
        self.tree.parent(node)
    }

    /// All names in byte order, with what they name.
    pub fn iter(&self) -> impl Iterator<Item = (Vec<u8>, &Inode)> {
        let mut walk = self.walk();
        std::iter::from_fn(move || {
            let (node, path) = walk.next()?;
            let path = path.to_vec();
            Some((path, &self.inodes[self.inode_of[node as usize] as usize]))
        })
    }

    /// How many names there are.
    pub(super) fn len(&self) -> u64 {
        (1..self.tree.len()).filter(|node| self.is_listed(*node as Node)).count() as u64
    }

    /// Through all places, also those at which nothing is any more.
    pub(super) fn walk_all(&self) -> Walk<'_> {
        Walk::new(&self.tree, |_| true)
    }

    /// How many places there are or were.
    pub(super) fn places(&self) -> usize {
        self.tree.len()
    }

    fn walk(&self) -> Walk<'_> {
        Walk::new(&self.tree, |node| self.is_listed(node))
    }

    fn is_listed(&self, node: Node) -> bool {
        self.inode(node).is_some_and(|inode| inode.is_listed)
    }

    /// The target of a symlink, else empty.
    pub fn target(&self, inode: &Inode) -> &[u8] {
        self.text(inode.target)
    }

    /// The data of a regular file.
    pub fn content(&self, inode: &Inode) -> Option<&Content> {
        self.content_at(inode.content)
    }

    /// The data at a position of [`Applied::content`]; none elsewhere.
    pub(super) fn content_at(&self, position: u32) -> Option<&Content> {
        self.contents.get(position as usize)
    }

    /// Whether the file systems are the same: names, metadata, contents, and which names are of one file. Both must have been
    /// unpacked with digests.
    pub fn is_like(&self, other: &View) -> bool {
        // Each number of one must go with one number of the other, in both directions.
        let mut there = vec![NOTHING; self.inodes.len()];
        let mut back = vec![NOTHING; other.inodes.len()];
        let mut goes_with = |number: u32, other_number: u32| {
            let (to, from) = (&mut there[number as usize], &mut back[other_number as usize]);
            if *to == NOTHING && *from == NOTHING {
                (*to, *from) = (other_number, number);
            }
            *to == other_number && *from == number
        };
        let (mut walk, mut other_walk) = (self.walk(), other.walk());
        loop {
            let (node, other_node) = match (walk.next(), other_walk.next()) {
                (None, None) => return true,
                (Some((node, path)), Some((other_node, other_path))) if path == other_path => (node, other_node),
                _ => return false,
            };
            let (number, other_number) = (self.inode_of[node as usize], other.inode_of[other_node as usize]);
            if !goes_with(number, other_number) || !self.same_inode(number, other, other_number) {
                return false;
            }
        }
    }

    /// Whether a program would see no difference. Contents are compared by digest.
    fn same_inode(&self, number: u32, other: &View, other_number: u32) -> bool {
        let (a, b) = (&self.inodes[number as usize], &other.inodes[other_number as usize]);
        let numbers = |inode: &Inode| (inode.mode, inode.uid, inode.gid, inode.mtime, inode.device);
        let data = |content: &Content| (content.size_bytes, content.digest);
        numbers(a) == numbers(b)
            && self.target(a) == other.target(b)
            && self.content(a).map(data) == other.content(b).map(data)
    }

    /// What a program would find at `path`: symlinks are followed.
    pub fn get(&self, path: &[u8]) -> Option<&Inode> {
        let (node, _) = self.follow(ROOT, path, &mut 0).ok()?;
        (node != ROOT).then(|| self.inode(node))?
    }

    /// What takes memory of what entries hold: names and targets, in bytes.
    pub(super) fn texts_bytes(&self) -> usize {
        self.tree.names_bytes() + self.texts.len()
    }

    /// Whether following symlinks has taken more than is reasonable.
    pub(super) fn is_followed_too_far(&self) -> bool {
        self.followed_bytes > FOLLOWED_MAX_BYTES
    }

    /// The end of an archive: equal inode numbers after it mean nothing.
    pub(super) fn forget_links(&mut self) {
        self.links.clear();
    }

    fn inode(&self, node: Node) -> Option<&Inode> {
        self.inodes.get(self.inode_of[node as usize] as usize)
    }

    /// The file type of what is there, which is something.
    fn type_of(&self, node: Node) -> u32 {
        self.inode(node).map_or(0, Inode::file_type)
    }

    fn new_inode(&mut self, mode: u32) -> u32 {
        let number = self.inodes.len() as u32;
        let (target, device) = (Text::default(), (0, 0));
        self.inodes.push(Inode { mode, uid: 0, gid: 0, mtime: 0, device, target, content: NOTHING, is_listed: false });
        number
    }

    fn put_new(&mut self, node: Node, file_type: u32) -> u32 {
        let number = self.new_inode(file_type);
        self.put(node, number);
        number
    }

    /// Gives the place, in which nothing is, an inode. The directories that it is in are listed from then on, whoever made them.
    fn put(&mut self, node: Node, number: u32) {
        self.inode_of[node as usize] = number;
        let mut parent = self.tree.parent(node);
        self.children_of[parent as usize] += 1;
        while let Some(directory) = self.inodes.get_mut(self.inode_of[parent as usize] as usize)
            && !directory.is_listed
        {
            directory.is_listed = true;
            parent = self.tree.parent(parent);
        }
    }

    /// Makes room for what the tree has more by now.
    fn sync(&mut self) {
        self.inode_of.resize(self.tree.len(), NOTHING);
        self.children_of.resize(self.tree.len(), 0);
    }

    fn text(&self, text: Text) -> &[u8] {
        &self.texts[text.start as usize..][..text.bytes as usize]
    }

    /// The limit of all texts is far below what a position can say.
    fn keep(&mut self, text: &[u8]) -> Text {
        let kept = Text { start: self.texts.len() as u32, bytes: text.len() as u32 };
        self.texts.extend_from_slice(text);
        kept
    }

    /// The path of a place.
    pub(super) fn path(&self, node: Node) -> Vec<u8> {
        self.tree.path(node)
    }
}
/// Where an entry went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Applied {
    pub node: Node,
    /// Whether the entry's path is that of the place, but for slashes and `.`.
    pub is_direct: bool,
    /// The position of its data among the contents of the view, if it is a regular file.
    pub content: Option<u32>,
}

fn is_device(file_type: u32) -> bool {
    matches!(file_type, TYPE_BLOCK_DEVICE | TYPE_CHARACTER_DEVICE)
}
