//! Questions to a tree: what a path leads to, what lies below it, and the digest of all of it.

use std::collections::VecDeque;
use std::io::{self, Write};

use super::{Content, Entry, Kind, Tree, TreePath, join, parent};
use ocinitrd_format::digest::{Digest, Hasher};

/// As many symlinks as Linux follows in one path (`MAXSYMLINKS`, path_resolution(7)).
const MOST_SYMLINKS: usize = 40;

/// What a walk along a path does at its end and where nothing is.
#[derive(Clone, Copy, PartialEq)]
enum Walk {
    /// Follow a symlink at the end too; every component must exist.
    Existing,
    /// Leave the last component alone; from the first component that is missing on, take the path as written.
    Place,
}

impl Tree {
    /// Whether there is a directory at exactly `path`; the root (empty path) always is one.
    pub fn contains_dir(&self, path: &[u8]) -> bool {
        path.is_empty() || self.get(path).is_some_and(|entry| matches!(entry.kind, Kind::Directory))
    }

    /// What `path` leads to when all symlinks are followed inside the tree: absolute targets start at its root, `..`
    /// stops there. `None` if something on the way is missing or the symlinks run in a circle.
    pub fn resolve(&self, path: &[u8]) -> Option<TreePath> {
        self.walk(path, Walk::Existing)
    }

    /// Where a new entry of that path would come to lie: symlinks on the way are followed, the last component is not.
    /// `None` if the symlinks run in a circle.
    pub fn place(&self, path: &[u8]) -> Option<TreePath> {
        self.walk(path, Walk::Place)
    }

    /// The places that `path` leads through: where it lies itself, then what each symlink at its end says. The last may be
    /// missing. They end early where symlinks run in a circle.
    pub fn chain(&self, path: &[u8]) -> Vec<TreePath> {
        let mut places = Vec::new();
        let mut next = self.place(path);
        while let Some(place) = next {
            next = match self.get(&place).map(|entry| &entry.kind) {
                Some(Kind::Symlink { target }) if places.len() < MOST_SYMLINKS => {
                    self.place(&pointed_at(&place, target))
                }
                _ => None,
            };
            places.push(place);
        }
        places
    }

    fn walk(&self, path: &[u8], walk: Walk) -> Option<TreePath> {
        let mut ahead: VecDeque<Vec<u8>> = components(path).collect();
        let mut reached = TreePath::new();
        let mut symlinks = 0;
        while let Some(component) = ahead.pop_front() {
            if component == b".." {
                reached = parent(&reached).to_vec();
                continue;
            }
            let candidate = join(&reached, &component);
            match self.get(&candidate).map(|entry| &entry.kind) {
                Some(Kind::Symlink { target }) if walk == Walk::Existing || !ahead.is_empty() => {
                    symlinks += 1;
                    if symlinks > MOST_SYMLINKS {
                        return None;
                    }
                    if target.starts_with(b"/") {
                        reached.clear();
                    }
                    ahead = components(target).chain(ahead).collect();
                }
                None if walk == Walk::Existing => return None,
                _ => reached = candidate,
            }
        }
        Some(reached)
    }

    /// The entries below the directory `path` at any depth, in byte order; all of them for the root.
    pub fn below<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = (&'a TreePath, &'a Entry)> {
        let start = if path.is_empty() { TreePath::new() } else { [path, b"/"].concat() };
        let prefix = start.clone();
        self.entries.range(start..).take_while(move |(candidate, _)| candidate.starts_with(&prefix))
    }

    /// The names of what lies directly in the directory `path`, in byte order.
    pub fn children<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = (&'a TreePath, &'a Entry)> {
        self.below(path).filter(move |(candidate, _)| parent(candidate) == path)
    }

    /// The content of the regular file at `path`, also when that is a hard link's further name.
    pub fn content(&self, path: &[u8]) -> Option<&Content> {
        match &self.get(path)?.kind {
            Kind::File(content) => Some(content),
            Kind::HardLink { target } => match &self.get(target)?.kind {
                Kind::File(content) => Some(content),
                _ => None,
            },
            _ => None,
        }
    }

    /// The sum of the sizes of all regular files in bytes, hard links counted once.
    pub fn size_bytes(&self) -> u64 {
        self.iter().map(|(_, entry)| if let Kind::File(content) = &entry.kind { content.size_bytes() } else { 0 }).sum()
    }

    /// A digest over everything that the tree records, file contents included: equal for equal trees only, whatever
    /// spool their bytes lie in.
    ///
    /// # Errors
    /// Fails when a spool cannot be read.
    pub fn digest(&self) -> io::Result<Digest> {
        let mut hasher = TreeHasher::default();
        for (path, entry) in self.iter() {
            hasher.add(path, entry)?;
        }
        Ok(hasher.finish())
    }
}

/// The digest of a tree ([`Tree::digest`]) whose entries come one after the other, in byte order of their paths.
pub struct TreeHasher(Hasher<io::Sink>);

impl Default for TreeHasher {
    /// No entry yet.
    fn default() -> Self {
        TreeHasher(Hasher::new(io::sink()))
    }
}

impl TreeHasher {
    /// Adds the next entry, with the content of a file.
    ///
    /// # Errors
    /// Fails when the content cannot be read.
    pub fn add(&mut self, path: &[u8], entry: &Entry) -> io::Result<()> {
        let hasher = &mut self.0;
        put(hasher, path)?;
        for number in [entry.permissions, entry.uid, entry.gid] {
            hasher.write_all(&number.to_le_bytes())?;
        }
        hasher.write_all(&entry.mtime.to_le_bytes())?;
        hasher.write_all(&(entry.xattrs.len() as u64).to_le_bytes())?;
        for (name, value) in &entry.xattrs {
            put(hasher, name)?;
            put(hasher, value)?;
        }
        put_kind(hasher, &entry.kind)
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Digest {
        self.0.finish().1
    }
}

/// The path that a symlink at `place` says, from the root.
fn pointed_at(place: &[u8], target: &[u8]) -> TreePath {
    if target.starts_with(b"/") { target.to_vec() } else { join(parent(place), target) }
}

fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|component| !matches!(*component, b"" | b".")).map(<[u8]>::to_vec)
}

/// Length first, so that no two sequences of fields read the same.
fn put(hasher: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    hasher.write_all(&(bytes.len() as u64).to_le_bytes())?;
    hasher.write_all(bytes)
}

fn put_kind(hasher: &mut impl Write, kind: &Kind) -> io::Result<()> {
    match kind {
        Kind::Directory => hasher.write_all(b"d"),
        Kind::Fifo => hasher.write_all(b"p"),
        Kind::File(content) => {
            hasher.write_all(b"f")?;
            hasher.write_all(&content.size_bytes().to_le_bytes())?;
            io::copy(&mut content.reader(), hasher).map(drop)
        }
        Kind::HardLink { target } => hasher.write_all(b"h").and_then(|()| put(hasher, target)),
        Kind::Symlink { target } => hasher.write_all(b"l").and_then(|()| put(hasher, target)),
        Kind::CharacterDevice(major, minor) | Kind::BlockDevice(major, minor) => {
            hasher.write_all(if matches!(kind, Kind::BlockDevice(..)) { b"b" } else { b"c" })?;
            hasher.write_all(&major.to_le_bytes())?;
            hasher.write_all(&minor.to_le_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symlink(target: &[u8]) -> Entry {
        Entry::of_root(Kind::Symlink { target: target.to_vec() }, 0o777, 0)
    }

    fn merged_usr() -> Tree {
        let mut tree = Tree::new();
        tree.add_directory(b"usr/lib/systemd", 0o755, 0).unwrap();
        tree.add_file(b"usr/lib/systemd/systemd", Content::from_bytes(*b"x"), 0o755, 0).unwrap();
        tree.insert(b"lib".to_vec(), symlink(b"usr/lib"));
        tree.insert(b"usr/lib/up".to_vec(), symlink(b"../../../../lib"));
        tree.insert(b"init".to_vec(), symlink(b"/lib/systemd/systemd"));
        tree.insert(b"circle".to_vec(), symlink(b"circle"));
        tree.insert(b"nowhere".to_vec(), symlink(b"/gone/far"));
        tree
    }

    #[test]
    fn symlinks_are_followed_inside_the_tree() {
        let mut tree = merged_usr();
        tree.insert(b"usr/absolute".to_vec(), symlink(b"/usr/lib"));
        for path in [
            &b"init"[..],
            b"/init",
            b"lib/systemd/systemd",
            b"usr/lib/up/up/systemd/systemd",
            b"usr/absolute/systemd/systemd",
        ] {
            assert_eq!(tree.resolve(path).as_deref(), Some(&b"usr/lib/systemd/systemd"[..]), "{path:?}");
        }
        assert_eq!(tree.resolve(b"lib/..").as_deref(), Some(&b"usr"[..]));
        assert_eq!(tree.resolve(b"/").as_deref(), Some(&b""[..]));
        for path in [&b"circle"[..], b"nowhere", b"lib/missing", b"circle/x"] {
            assert_eq!(tree.resolve(path), None, "{path:?}");
        }
    }

    #[test]
    fn a_new_entry_is_placed_where_the_kernel_would_put_it() {
        let tree = merged_usr();
        assert_eq!(tree.place(b"lib/modules/6.12/x.ko").unwrap(), b"usr/lib/modules/6.12/x.ko");
        assert_eq!(tree.place(b"lib").unwrap(), b"lib");
        assert_eq!(tree.place(b"nowhere/x").unwrap(), b"gone/far/x");
        assert_eq!(tree.place(b"circle/x"), None);
    }

    #[test]
    fn the_links_at_the_end_of_a_path_are_told_one_by_one() {
        let mut tree = merged_usr();
        tree.insert(b"usr/lib/a".to_vec(), symlink(b"../b"));
        tree.insert(b"usr/b".to_vec(), symlink(b"/lib/c"));
        tree.insert(b"usr/lib/c".to_vec(), symlink(b"../../dev/null"));
        let chain = tree.chain(b"/lib/a");
        let chain: Vec<_> = chain.iter().map(|place| String::from_utf8_lossy(place)).collect();
        assert_eq!(chain, ["usr/lib/a", "usr/b", "usr/lib/c", "dev/null"]);
        assert_eq!(tree.chain(b"lib/systemd/systemd"), [b"usr/lib/systemd/systemd"]);
        assert_eq!(tree.chain(b"circle").len(), MOST_SYMLINKS + 1);
        assert!(tree.chain(b"circle/x").is_empty());
    }

    #[test]
    fn below_and_children_stop_at_siblings_with_the_same_prefix() {
        let mut tree = merged_usr();
        tree.add_file(b"usr/lib-x", Content::from_bytes(*b""), 0o644, 0).unwrap();
        tree.add_file(b"usr/lib.x", Content::from_bytes(*b""), 0o644, 0).unwrap();
        let names = |paths: Vec<(&TreePath, &Entry)>| -> Vec<String> {
            paths.iter().map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect()
        };
        let below = names(tree.below(b"usr/lib").collect());
        assert_eq!(below, ["usr/lib/systemd", "usr/lib/systemd/systemd", "usr/lib/up"]);
        assert_eq!(names(tree.children(b"usr/lib").collect()), ["usr/lib/systemd", "usr/lib/up"]);
        assert_eq!(names(tree.children(b"").collect()), ["circle", "init", "lib", "nowhere", "usr"]);
        assert_eq!(tree.below(b"").count(), tree.len());
    }

    #[test]
    fn the_digest_sees_every_field() {
        let base = merged_usr();
        let digest = base.digest().unwrap();
        assert_eq!(digest, merged_usr().digest().unwrap());
        let path = b"usr/lib/systemd/systemd";
        let edits: [fn(&mut Entry); 7] = [
            |entry| entry.permissions = 0o4755,
            |entry| entry.uid = 1,
            |entry| entry.gid = 1,
            |entry| entry.mtime = 1,
            |entry| drop(entry.xattrs.insert(b"user.a".to_vec(), b"b".to_vec())),
            |entry| entry.kind = Kind::File(Content::from_bytes(*b"y")),
            |entry| entry.kind = Kind::Fifo,
        ];
        for (number, edit) in edits.iter().enumerate() {
            let mut tree = base.clone();
            let mut entry = tree.get(path).unwrap().clone();
            edit(&mut entry);
            tree.insert(path.to_vec(), entry);
            assert_ne!(tree.digest().unwrap(), digest, "edit {number}");
        }
    }
}
