//! Changes to a tree: what a build adds, removes and clamps. Hard-link groups stay right throughout.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, bail, ensure};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::{Content, Entry, Kind, Tree, TreePath, is_within, normalized, parent};
use ocinitrd_format::text::quoted;

/// Each is matched with every path of a tree.
const GLOBS_MAX: usize = 10_000;

/// Patterns over paths of a tree, as a definition writes them: `/usr/share/doc`, `/usr/lib/**/*.a`. A slash in front
/// may be there or not; `*` and `?` stop at slashes, `**` does not.
#[derive(Clone, Debug)]
pub struct Globs {
    set: GlobSet,
}

impl Globs {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// Fails on a malformed pattern and names it.
    pub fn new<P: AsRef<str>>(patterns: impl IntoIterator<Item = P>) -> Result<Self> {
        let mut builder = GlobSetBuilder::new();
        for (number, pattern) in patterns.into_iter().enumerate() {
            ensure!(number < GLOBS_MAX, "more than {GLOBS_MAX} patterns of files are given");
            let relative = pattern.as_ref().trim_matches('/');
            let glob = GlobBuilder::new(relative).literal_separator(true).build();
            builder.add(glob.with_context(|| format!("reading the pattern {:?}", pattern.as_ref()))?);
        }
        Ok(Globs { set: builder.build().context("compiling the patterns")? })
    }

    /// Compiles patterns of paths in `tree` that may lead through its symlinks: those in front of the first wildcard are followed,
    /// so that `/sbin/fsck*` means the same whether `/sbin` is a directory or a symlink.
    ///
    /// # Errors
    /// As [`Globs::new`].
    pub fn within<P: AsRef<str>>(tree: &Tree, patterns: impl IntoIterator<Item = P>) -> Result<Self> {
        Globs::new(patterns.into_iter().map(|pattern| placed(tree, pattern.as_ref())))
    }

    /// Whether a pattern matches exactly `path`.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.set.is_match(OsStr::from_bytes(path))
    }
}

/// A pattern of where in `tree` the paths lie that `pattern` leads to.
fn placed(tree: &Tree, pattern: &str) -> String {
    let components: Vec<&str> = pattern.split('/').filter(|component| !component.is_empty()).collect();
    let is_wild = |component: &&str| component.contains(['*', '?', '[', ']', '{', '}', '\\', '!']);
    let literals = components.iter().position(is_wild).unwrap_or(components.len());
    let (literal, wild) = components.split_at(literals);
    let literal = literal.join("/");
    // A symlink that a pattern names is meant itself.
    let place = if wild.is_empty() { tree.place(literal.as_bytes()) } else { tree.resolve(literal.as_bytes()) };
    match place.map(String::from_utf8) {
        Some(Ok(place)) => {
            let place = globset::escape(&place);
            std::iter::once(place.as_str()).chain(wild.iter().copied()).collect::<Vec<_>>().join("/")
        }
        _ => pattern.to_owned(),
    }
}

/// First members of hard-link groups that were taken out, by their former path.
#[derive(Default)]
pub(super) struct Orphans(BTreeMap<TreePath, Entry>);

impl Tree {
    /// Adds or replaces the entry at `path`. Further names of a replaced file keep its former content.
    pub fn insert(&mut self, path: TreePath, entry: Entry) -> Option<Entry> {
        let former = self.entries.insert(path.clone(), entry)?;
        if matches!(former.kind, Kind::File(_)) {
            self.promote(Orphans(BTreeMap::from([(path, former.clone())])));
        }
        Some(former)
    }

    /// Takes the entry at exactly `path` out; what is below it stays. Further names of a removed file keep its content.
    pub fn remove(&mut self, path: &[u8]) -> Option<Entry> {
        let mut orphans = Orphans::default();
        let entry = self.detach(path, &mut orphans);
        self.promote(orphans);
        entry
    }

    /// Takes the entry at `path` and all below it out; returns how many entries went.
    pub fn remove_tree(&mut self, path: &[u8]) -> usize {
        let mut orphans = Orphans::default();
        let count = self.detach_tree(path, &mut orphans);
        self.promote(orphans);
        count
    }

    /// Takes the entry at `path` and all below it out, as a tree of its own. Where a file has names on both sides, both
    /// keep its content.
    pub fn split_off(&mut self, path: &[u8]) -> Tree {
        let mut taken = self.clone();
        taken.retain(|candidate, _| is_within(candidate, path));
        self.remove_tree(path);
        taken
    }

    /// Takes everything out that a pattern matches, directories with all below them; returns how many entries went.
    pub fn remove_matching(&mut self, globs: &Globs) -> usize {
        self.remove_trees(|path| globs.matches(path))
    }

    /// Takes everything out that `is_doomed` says of, directories with all below them; returns how many entries went.
    pub fn remove_trees(&mut self, is_doomed: impl Fn(&[u8]) -> bool) -> usize {
        let matched: Vec<TreePath> = self.entries.keys().filter(|path| is_doomed(path)).cloned().collect();
        let mut orphans = Orphans::default();
        let count = matched.iter().map(|path| self.detach_tree(path, &mut orphans)).sum();
        self.promote(orphans);
        count
    }

    /// Keeps only the entries for which `keep` says so; returns how many went.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &Entry) -> bool) -> usize {
        let dropped: Vec<TreePath> =
            self.iter().filter(|(path, entry)| !keep(path, entry)).map(|(path, _)| path.clone()).collect();
        let mut orphans = Orphans::default();
        for path in &dropped {
            self.detach(path, &mut orphans);
        }
        self.promote(orphans);
        dropped.len()
    }

    /// Sets every modification time that is later than `epoch` (seconds) to it.
    pub fn clamp_times(&mut self, epoch: u64) {
        for entry in self.entries.values_mut() {
            entry.mtime = entry.mtime.min(epoch);
        }
    }

    /// Sets every modification time to `epoch` (seconds).
    pub fn set_times(&mut self, epoch: u64) {
        for entry in self.entries.values_mut() {
            entry.mtime = epoch;
        }
    }

    /// Adds the directories that entries lie in and that are no entries themselves (0755, root's, `mtime` in seconds):
    /// the kernel silently drops a file whose directory is missing. Returns how many were added.
    ///
    /// # Errors
    /// Fails when an entry lies below a symlink or below something else that is no directory, and names it.
    pub fn add_missing_parents(&mut self, mtime: u64) -> Result<usize> {
        let mut missing = BTreeSet::new();
        for path in self.entries.keys() {
            let mut directory = parent(path);
            while !directory.is_empty() && !missing.contains(directory) {
                match self.get(directory).map(|entry| &entry.kind) {
                    Some(Kind::Directory) => break,
                    Some(Kind::Symlink { .. }) => {
                        bail!("the entry {} lies below the symlink {}", quoted(path), quoted(directory))
                    }
                    Some(_) => {
                        bail!("the entry {} lies below {}, which is no directory", quoted(path), quoted(directory))
                    }
                    None => missing.insert(directory.to_vec()),
                };
                directory = parent(directory);
            }
        }
        let count = missing.len();
        self.entries.extend(missing.into_iter().map(|path| (path, Entry::of_root(Kind::Directory, 0o755, mtime))));
        Ok(count)
    }

    /// Makes sure that `path` is a directory: root's with `permissions`, missing parents with 0755; one that is there,
    /// also behind a symlink, stays as it is. Returns where it lies.
    ///
    /// # Errors
    /// Fails when something else is in the way.
    pub fn add_directory(&mut self, path: &[u8], permissions: u32, mtime: u64) -> Result<TreePath> {
        if let Some(existing) = self.resolve(path) {
            if !self.contains_dir(&existing) {
                bail!("adding the directory {}: {} is there and no directory", quoted(path), quoted(&existing));
            }
            return Ok(existing);
        }
        let placed = self.placed_in_directory(path, mtime)?;
        if self.get(&placed).is_some() {
            bail!("adding the directory {}: a symlink that leads nowhere is there", quoted(path));
        }
        self.entries.insert(placed.clone(), Entry::of_root(Kind::Directory, permissions, mtime));
        Ok(placed)
    }

    /// Puts a regular file of root's at `path` in place of any file or symlink there; missing parents are added, and
    /// symlinks among them followed. Returns where it lies.
    ///
    /// # Errors
    /// Fails when a directory is there, or something else than a directory among the parents.
    pub fn add_file(&mut self, path: &[u8], content: Content, permissions: u32, mtime: u64) -> Result<TreePath> {
        self.add_leaf(path, Entry::of_root(Kind::File(content), permissions, mtime))
    }

    /// Puts a symlink that says `target` at `path`, as [`Tree::add_file`] does with a file.
    ///
    /// # Errors
    /// As [`Tree::add_file`].
    pub fn add_symlink(&mut self, path: &[u8], target: &[u8], mtime: u64) -> Result<TreePath> {
        self.add_leaf(path, Entry::of_root(Kind::Symlink { target: target.to_vec() }, 0o777, mtime))
    }

    fn add_leaf(&mut self, path: &[u8], entry: Entry) -> Result<TreePath> {
        let mtime = entry.mtime;
        let placed = self.placed_in_directory(path, mtime)?;
        if self.contains_dir(&placed) {
            bail!("adding {}: a directory is there", quoted(path));
        }
        self.insert(placed.clone(), entry);
        Ok(placed)
    }

    /// Where `path` comes to lie, once its parent directories are there.
    fn placed_in_directory(&mut self, path: &[u8], mtime: u64) -> Result<TreePath> {
        let path = normalized(path)?;
        let Some(placed) = self.place(&path) else {
            bail!("adding {}: the symlinks on its path run in a circle", quoted(&path));
        };
        let mut directory = parent(&placed).to_vec();
        while !self.contains_dir(&directory) {
            if self.get(&directory).is_some() {
                bail!("adding {}: {} is no directory", quoted(&path), quoted(&directory));
            }
            self.entries.insert(directory.clone(), Entry::of_root(Kind::Directory, 0o755, mtime));
            directory = parent(&directory).to_vec();
        }
        Ok(placed)
    }

    /// Makes `path` a further name of the regular file that `existing` names, in place of anything there.
    ///
    /// # Errors
    /// Fails when `existing` is missing or no regular file.
    pub fn add_hard_link(&mut self, path: TreePath, existing: &[u8]) -> Result<()> {
        let head = match self.get(existing).map(|entry| &entry.kind) {
            Some(Kind::File(_)) => existing.to_vec(),
            Some(Kind::HardLink { target }) => target.clone(),
            _ => bail!("linking {} to {}, which is no regular file", quoted(&path), quoted(existing)),
        };
        if path == head {
            return Ok(());
        }
        let link = Entry { kind: Kind::HardLink { target: head.clone() }, ..self.entries[&head].clone() };
        let sorts_first = path < head;
        self.insert(path, link);
        if sorts_first {
            // The new name is the group's first: the file moves there.
            if let Some(file) = self.entries.remove(&head) {
                let further = Entry { kind: Kind::HardLink { target: head.clone() }, ..file.clone() };
                self.entries.insert(head.clone(), further);
                self.promote(Orphans(BTreeMap::from([(head, file)])));
            }
        }
        Ok(())
    }

    /// Takes one entry out and notes it if it may be the first of a group.
    pub(super) fn detach(&mut self, path: &[u8], orphans: &mut Orphans) -> Option<Entry> {
        let entry = self.entries.remove(path)?;
        if matches!(entry.kind, Kind::File(_)) {
            orphans.0.insert(path.to_vec(), entry.clone());
        }
        Some(entry)
    }

    /// Takes an entry and all below it out.
    pub(super) fn detach_tree(&mut self, path: &[u8], orphans: &mut Orphans) -> usize {
        let below = self.detach_below(path, orphans);
        below + usize::from(self.detach(path, orphans).is_some())
    }

    /// Takes all below `path` out, not `path` itself.
    pub(super) fn detach_below(&mut self, path: &[u8], orphans: &mut Orphans) -> usize {
        let paths: Vec<TreePath> = self.below(path).map(|(path, _)| path.clone()).collect();
        for path in &paths {
            self.detach(path, orphans);
        }
        paths.len()
    }

    /// Makes the first link that is left of each orphaned group its file, and points the others at it.
    pub(super) fn promote(&mut self, mut orphans: Orphans) {
        if orphans.0.is_empty() {
            return;
        }
        let mut heads: BTreeMap<TreePath, TreePath> = BTreeMap::new();
        for (path, entry) in &mut self.entries {
            let Kind::HardLink { target } = &mut entry.kind else { continue };
            if let Some(head) = heads.get(target) {
                target.clone_from(head);
            } else if let Some(file) = orphans.0.remove(target) {
                heads.insert(std::mem::take(target), path.clone());
                entry.kind = file.kind;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(content: &str) -> Entry {
        Entry::of_root(Kind::File(Content::from_bytes(content.as_bytes())), 0o644, 7)
    }

    /// `a/file`, with further names `b/link` and `c`.
    fn group() -> Tree {
        let mut tree = Tree::new();
        for directory in ["a", "b"] {
            tree.add_directory(directory.as_bytes(), 0o755, 7).unwrap();
        }
        tree.insert(b"a/file".to_vec(), file("content"));
        tree.add_hard_link(b"b/link".to_vec(), b"a/file").unwrap();
        tree.add_hard_link(b"c".to_vec(), b"b/link").unwrap();
        tree
    }

    /// A line an entry, links with an arrow, files with what is in them.
    fn listing(tree: &Tree) -> Vec<String> {
        let line = |(path, entry): (&TreePath, &Entry)| {
            let path = String::from_utf8_lossy(path);
            match &entry.kind {
                Kind::File(content) => format!("{path}={}", String::from_utf8(content.read_all().unwrap()).unwrap()),
                Kind::HardLink { target } => format!("{path}->{}", String::from_utf8_lossy(target)),
                Kind::Symlink { target } => format!("{path}@{}", String::from_utf8_lossy(target)),
                _ => format!("{path}/"),
            }
        };
        tree.iter().map(line).collect()
    }

    #[test]
    fn patterns_lead_through_symlinks_before_their_first_wildcard() {
        let mut tree = Tree::new();
        for path in ["usr/bin/fsck", "usr/bin/fsck.ext4", "usr/bin/bash", "etc/authselect/nsswitch.conf"] {
            tree.add_file(path.as_bytes(), Content::from_bytes(*b""), 0o755, 7).unwrap();
        }
        for (path, target) in
            [("sbin", "usr/sbin"), ("usr/sbin", "bin"), ("etc/nsswitch.conf", "authselect/nsswitch.conf")]
        {
            tree.add_symlink(path.as_bytes(), target.as_bytes(), 7).unwrap();
        }
        for (pattern, matching, others) in [
            ("/sbin/fsck*", &["usr/bin/fsck", "usr/bin/fsck.ext4"][..], &["usr/bin/bash"][..]),
            ("/sbin/bash", &["usr/bin/bash"], &["usr/bin/fsck"]),
            ("/usr/s*/bash", &[], &["usr/bin/bash"]),
            ("/sbin", &["sbin"], &["usr/bin"]),
            ("/etc/nsswitch.conf", &["etc/nsswitch.conf"], &["etc/authselect/nsswitch.conf"]),
            ("/absent/*", &["absent/a"], &[]),
            ("*/bash", &[], &["usr/bin/bash"]),
        ] {
            let globs = Globs::within(&tree, [pattern]).unwrap();
            let matches = |path: &&&str| globs.matches(path.as_bytes());
            assert_eq!(matching.iter().filter(matches).count(), matching.len(), "{pattern}");
            assert_eq!(others.iter().filter(matches).count(), 0, "{pattern}");
        }
    }

    #[test]
    fn a_link_names_the_first_path_of_its_group() {
        assert_eq!(listing(&group()), ["a/", "a/file=content", "b/", "b/link->a/file", "c->a/file"]);
    }

    #[test]
    fn the_next_name_is_promoted_when_the_first_goes() {
        for remove in [
            (|tree| drop(tree.remove(b"a/file"))) as fn(&mut Tree),
            |tree| assert_eq!(tree.remove_matching(&Globs::new(["/a/f*"]).unwrap()), 1),
            |tree| assert_eq!(tree.retain(|path, _| path != b"a/file"), 1),
        ] {
            let mut tree = group();
            remove(&mut tree);
            assert_eq!(listing(&tree), ["a/", "b/", "b/link=content", "c->b/link"]);
        }
        let mut tree = group();
        assert_eq!(tree.remove_tree(b"a"), 2);
        assert_eq!(listing(&tree), ["b/", "b/link=content", "c->b/link"]);
    }

    #[test]
    fn both_sides_of_a_split_keep_the_content_of_shared_files() {
        let mut tree = group();
        tree.insert(b"ab".to_vec(), file("beside"));
        let taken = tree.split_off(b"a");
        assert_eq!(listing(&taken), ["a/", "a/file=content"]);
        assert_eq!(listing(&tree), ["ab=beside", "b/", "b/link=content", "c->b/link"]);
        assert_eq!(listing(&tree.split_off(b"none")), Vec::<String>::new());
    }

    #[test]
    fn a_replaced_file_leaves_its_content_to_its_other_names() {
        let mut tree = group();
        tree.insert(b"a/file".to_vec(), file("new"));
        assert_eq!(listing(&tree), ["a/", "a/file=new", "b/", "b/link=content", "c->b/link"]);
    }

    #[test]
    fn a_new_name_that_sorts_first_becomes_the_file() {
        let mut tree = group();
        tree.add_hard_link(b"a/early".to_vec(), b"c").unwrap();
        let expected = ["a/", "a/early=content", "a/file->a/early", "b/", "b/link->a/early", "c->a/early"];
        assert_eq!(listing(&tree), expected);
        let error = tree.add_hard_link(b"d".to_vec(), b"a").unwrap_err().to_string();
        assert_eq!(error, "linking \"d\" to \"a\", which is no regular file");
    }

    #[test]
    fn globs_take_directories_whole_and_stars_stop_at_slashes() {
        let mut tree = Tree::new();
        for path in ["usr/share/doc/a/b", "usr/share/docs", "usr/lib/x.a", "usr/lib/d/y.a", "usr/lib/z.so"] {
            tree.add_file(path.as_bytes(), Content::from_bytes(*b""), 0o644, 0).unwrap();
        }
        let mut starred = tree.clone();
        assert_eq!(tree.remove_matching(&Globs::new(["/usr/share/doc", "usr/lib/**/*.a"]).unwrap()), 5);
        let left: Vec<_> = tree.iter().map(|(path, _)| String::from_utf8_lossy(path)).collect();
        assert_eq!(left, ["usr", "usr/lib", "usr/lib/d", "usr/lib/z.so", "usr/share", "usr/share/docs"]);
        assert_eq!(starred.remove_matching(&Globs::new(["/usr/lib/*.a"]).unwrap()), 1);
        assert!(Globs::new(vec!["/usr/lib"; 10_001]).unwrap_err().to_string().starts_with("more than 10000 patterns"));
        assert!(Globs::new(["a[b"]).unwrap_err().to_string().contains("\"a[b\""));
    }

    #[test]
    fn missing_parents_are_added_and_wrong_ones_named() {
        let mut tree = Tree::new();
        tree.insert(b"usr/lib/systemd/systemd".to_vec(), file("x"));
        assert_eq!(tree.add_missing_parents(5).unwrap(), 3);
        assert_eq!(tree.add_missing_parents(5).unwrap(), 0);
        let added = tree.get(b"usr/lib").unwrap();
        assert_eq!((added.permissions, added.uid, added.mtime), (0o755, 0, 5));
        tree.add_symlink(b"lib", b"usr/lib", 0).unwrap();
        let mut below_symlink = tree.clone();
        below_symlink.insert(b"lib/deep/x".to_vec(), file("x"));
        let error = below_symlink.add_missing_parents(0).unwrap_err().to_string();
        assert_eq!(error, "the entry \"lib/deep/x\" lies below the symlink \"lib\"");
        tree.insert(b"usr/lib/systemd/systemd/x".to_vec(), file("x"));
        let error = tree.add_missing_parents(0).unwrap_err().to_string();
        assert!(error.ends_with("lies below \"usr/lib/systemd/systemd\", which is no directory"), "{error}");
    }

    #[test]
    fn finishing_steps_follow_symlinks_and_keep_directories() {
        let mut tree = Tree::new();
        tree.add_directory(b"/usr/lib", 0o700, 0).unwrap();
        tree.add_symlink(b"lib", b"usr/lib", 0).unwrap();
        assert_eq!(tree.add_file(b"/lib/x/y", Content::from_bytes(*b"1"), 0o600, 0).unwrap(), b"usr/lib/x/y");
        assert_eq!(tree.add_directory(b"lib", 0o755, 0).unwrap(), b"usr/lib");
        assert_eq!(tree.get(b"usr/lib").unwrap().permissions, 0o700);
        tree.add_file(b"lib/x/y", Content::from_bytes(*b"2"), 0o600, 0).unwrap();
        assert_eq!(listing(&tree), ["lib@usr/lib", "usr/", "usr/lib/", "usr/lib/x/", "usr/lib/x/y=2"]);
        for (result, message) in [
            (tree.add_symlink(b"usr/lib/x", b"y", 0), "adding \"usr/lib/x\": a directory is there"),
            (tree.add_symlink(b"lib/x/y/z", b"y", 0), "adding \"lib/x/y/z\": \"usr/lib/x/y\" is no directory"),
            (
                tree.add_directory(b"lib/x/y", 0o755, 0),
                "adding the directory \"lib/x/y\": \"usr/lib/x/y\" is there and no directory",
            ),
        ] {
            assert_eq!(result.unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn times_are_clamped_not_set() {
        let mut tree = group();
        tree.insert(b"old".to_vec(), Entry { mtime: 1, ..file("") });
        tree.clamp_times(3);
        assert_eq!(tree.get(b"old").unwrap().mtime, 1);
        assert_eq!(tree.get(b"c").unwrap().mtime, 3);
    }

    proptest! {
        /// Whatever is linked, replaced and removed: every link points at a file that sorts before it, and reads as a
        /// plain map from names to shared contents would.
        #[test]
        fn groups_stay_right(steps in proptest::collection::vec((0_u8..4, 0_u8..6, 0_u8..6), 0..40)) {
            let mut tree = Tree::new();
            let mut model: BTreeMap<u8, String> = BTreeMap::new();
            for (number, (action, a, b)) in steps.into_iter().enumerate() {
                match action {
                    0 => drop(tree.remove(&[b'a' + a])),
                    1 => drop(tree.insert(vec![b'a' + a], file(&number.to_string()))),
                    _ => {
                        let linked = tree.add_hard_link(vec![b'a' + a], &[b'a' + b]).is_ok();
                        prop_assert_eq!(linked, model.contains_key(&b));
                    }
                }
                match action {
                    0 => drop(model.remove(&a)),
                    1 => drop(model.insert(a, number.to_string())),
                    _ => if let Some(content) = model.get(&b).cloned() { model.insert(a, content); },
                }
                let read: BTreeMap<u8, String> = tree.iter().map(|(path, _)| {
                    let content = tree.content(path).expect("a link leads to a file").read_all().unwrap();
                    (path[0] - b'a', String::from_utf8(content).unwrap())
                }).collect();
                prop_assert_eq!(&read, &model);
                for (path, entry) in tree.iter() {
                    if let Kind::HardLink { target } = &entry.kind { prop_assert!(target < path); }
                }
            }
        }
    }
}
