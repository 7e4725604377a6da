//! Two trees to one: side by side without conflict ([`Tree::merge`]), or one over the other as OCI image layers stack
//! ([`Tree::apply_layer`], <https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts>).

use std::io;

use anyhow::{Context, Result, bail};

use super::edit::Orphans;
use super::{Content, Entry, Kind, Tree, file_name, join, parent};
use ocinitrd_format::digest::Digest;
use ocinitrd_format::text::quoted;

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE_MARK: &[u8] = b".wh..wh..opq";
/// Marks of the storage driver itself begin with the prefix twice; but for the opaque one they say nothing.
const DRIVER_PREFIX: &[u8] = b".wh..wh.";

impl Tree {
    /// Adds all entries of `other`. Directories that are in both merge and keep this tree's owner, mode and time;
    /// symlinks of this tree are followed on the way (`lib/modules` lands in `usr/lib/modules`); what is in both must
    /// be identical but for its time.
    ///
    /// # Errors
    /// Names the path that differs. The tree is then half merged: drop it.
    pub fn merge(&mut self, other: Tree) -> Result<()> {
        for (path, entry) in &other.entries {
            let Some(placed) = self.place(path) else {
                bail!("merging {}: the symlinks on its path run in a circle", quoted(path));
            };
            let Some(existing) = self.get(&placed) else {
                self.merge_new(placed, entry)?;
                continue;
            };
            let both_directories = matches!(entry.kind, Kind::Directory)
                && self.resolve(&placed).is_some_and(|resolved| self.contains_dir(&resolved));
            let same = both_directories
                || identical(existing, self.content(&placed), entry, other.content(path))
                    .with_context(|| format!("comparing {}", quoted(path)))?;
            if !same {
                bail!("merging {}: it is in both trees and differs", quoted(path));
            }
        }
        self.add_missing_parents(0).context("merging")?;
        Ok(())
    }

    fn merge_new(&mut self, placed: Vec<u8>, entry: &Entry) -> Result<()> {
        if let Kind::HardLink { target } = &entry.kind {
            // The file itself sorts before its links, so it has been merged, wherever that was.
            let head = self.place(target).with_context(|| format!("placing {}", quoted(target)))?;
            return self.add_hard_link(placed, &head);
        }
        self.insert(placed, entry.clone());
        Ok(())
    }

    /// Lays `upper` over this tree as an image's next layer: its whiteouts (`.wh.NAME`) and opaque directories
    /// (`.wh..wh..opq`) hide what this tree had, whatever their order, never what `upper` itself brings.
    pub fn apply_layer(&mut self, upper: Tree) {
        let mut orphans = Orphans::default();
        for (path, entry) in &upper.entries {
            self.hide(path, entry, &mut orphans);
        }
        self.promote(orphans);
        let added = upper.entries.into_iter().filter(|(path, _)| !file_name(path).starts_with(WHITEOUT_PREFIX));
        self.entries.extend(added);
    }

    /// Removes what one entry of an upper layer hides: the target of a whiteout, the children of an opaque directory,
    /// the entry that it replaces (of a directory over a directory, only that itself).
    fn hide(&mut self, path: &[u8], entry: &Entry, orphans: &mut Orphans) {
        let name = file_name(path);
        if name == OPAQUE_MARK {
            self.detach_below(parent(path), orphans);
        } else if name.starts_with(DRIVER_PREFIX) {
        } else if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
            self.detach_tree(&join(parent(path), hidden), orphans);
        } else if matches!(entry.kind, Kind::Directory) {
            self.detach(path, orphans);
        } else {
            self.detach_tree(path, orphans);
        }
    }
}

/// Whether two entries are the same but for their times and for which name of a group is the first.
fn identical(
    ours: &Entry,
    our_content: Option<&Content>,
    theirs: &Entry,
    their_content: Option<&Content>,
) -> io::Result<bool> {
    let metadata = |entry: &Entry| (entry.permissions, entry.uid, entry.gid);
    if metadata(ours) != metadata(theirs) || ours.xattrs != theirs.xattrs {
        return Ok(false);
    }
    if let (Some(our_content), Some(their_content)) = (our_content, their_content) {
        return same_bytes(our_content, their_content);
    }
    Ok(match (&ours.kind, &theirs.kind) {
        (Kind::Symlink { target: ours }, Kind::Symlink { target: theirs }) => ours == theirs,
        (Kind::CharacterDevice(major, minor), Kind::CharacterDevice(other_major, other_minor))
        | (Kind::BlockDevice(major, minor), Kind::BlockDevice(other_major, other_minor)) => {
            (major, minor) == (other_major, other_minor)
        }
        (ours, theirs) => matches!((ours, theirs), (Kind::Fifo, Kind::Fifo)),
    })
}

fn same_bytes(left: &Content, right: &Content) -> io::Result<bool> {
    Ok(left.size_bytes() == right.size_bytes()
        && Digest::of_reader(left.reader())?.0 == Digest::of_reader(right.reader())?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> Entry {
        Entry::of_root(Kind::File(Content::from_bytes(content.as_bytes())), 0o644, 7)
    }

    /// A tree of `path=content` files, `path/` directories, `path@target` symlinks and `path>file` hard links.
    fn tree(lines: &[&str]) -> Tree {
        let mut tree = Tree::new();
        for line in lines {
            let (path, rest) = line.split_at(line.find(['=', '@', '>']).unwrap_or(line.len()));
            let path = path.trim_end_matches('/').as_bytes();
            match rest.chars().next() {
                None => drop(tree.insert(path.to_vec(), Entry::of_root(Kind::Directory, 0o755, 7))),
                Some('=') => drop(tree.insert(path.to_vec(), file(&rest[1..]))),
                Some('>') => tree.add_hard_link(path.to_vec(), &rest.as_bytes()[1..]).unwrap(),
                Some(_) => {
                    let target = rest.as_bytes()[1..].to_vec();
                    drop(tree.insert(path.to_vec(), Entry::of_root(Kind::Symlink { target }, 0o777, 7)));
                }
            }
        }
        tree
    }

    fn assert_same(left: &Tree, right: &Tree) {
        assert_eq!(left.digest().unwrap(), right.digest().unwrap(), "{left:#?}\n{right:#?}");
    }

    fn merged(ours: &[&str], theirs: &[&str]) -> Result<Tree> {
        let mut merged = tree(ours);
        merged.merge(tree(theirs)).map(|()| merged)
    }

    fn stacked(lower: &[&str], upper: &[&str]) -> Tree {
        let mut stacked = tree(lower);
        stacked.apply_layer(tree(upper));
        stacked
    }

    #[test]
    fn trees_merge_directories_and_identical_entries() {
        let both = merged(&["a/", "a/x=1", "l@a"], &["a/", "a/x=1", "a/y=2", "l@a"]).unwrap();
        assert_same(&both, &tree(&["a/", "a/x=1", "a/y=2", "l@a"]));
    }

    #[test]
    fn a_directory_over_a_symlink_to_one_goes_where_the_symlink_leads() {
        let kernel = ["lib/", "lib/modules/", "lib/modules/z=k", "lib/modules/zz>lib/modules/z", "lib/a>lib/modules/z"];
        let both = merged(&["usr/", "usr/lib/", "lib@usr/lib"], &kernel).unwrap();
        let expected = [
            "lib@usr/lib",
            "usr/",
            "usr/lib/",
            "usr/lib/a=k",
            "usr/lib/modules/",
            "usr/lib/modules/z>usr/lib/a",
            "usr/lib/modules/zz>usr/lib/a",
        ];
        assert_same(&both, &tree(&expected));
    }

    #[test]
    fn conflicts_name_the_path() {
        for (theirs, path) in
            [("a/x=2", "a/x"), ("a/x=11", "a/x"), ("a/x/", "a/x"), ("l@b", "l"), ("l=1", "l"), ("a=1", "a")]
        {
            let error = merged(&["a/", "a/x=1", "l@nowhere"], &[theirs]).unwrap_err().to_string();
            assert_eq!(error, format!("merging \"{path}\": it is in both trees and differs"));
        }
        let mut other_owner = tree(&["x=1"]);
        other_owner.insert(b"x".to_vec(), Entry { uid: 1, ..file("1") });
        assert!(tree(&["x=1"]).merge(other_owner).is_err());
        assert!(
            merged(&["f=1"], &["f/x=1"]).unwrap_err().root_cause().to_string().contains("below \"f\", which is no dir")
        );
    }

    #[test]
    fn whiteouts_hide_what_is_below_and_not_what_comes_with_them() {
        let lower = ["a/", "a/x=1", "a/y/", "a/y/z=1", "b=1"];
        assert_same(&stacked(&lower, &["a/", "a/.wh.y=", "c=2"]), &tree(&["a/", "a/x=1", "b=1", "c=2"]));
        assert_same(&stacked(&lower, &["a/", "a/.wh.x=", "a/x=2"]), &tree(&["a/", "a/x=2", "a/y/", "a/y/z=1", "b=1"]));
        assert_same(&stacked(&lower, &[".wh.a=", ".wh.none=", ".wh..wh.plnk="]), &tree(&["b=1"]));
    }

    #[test]
    fn an_opaque_directory_hides_lower_children_whether_its_own_sort_before_or_after_the_mark() {
        let lower = ["a/", "a/!=1", "a/x=1", "a/y/", "a/y/z=1", "b=1"];
        let upper = ["a/", "a/!first=2", "a/.wh..wh..opq=", "a/x=2"];
        assert_same(&stacked(&lower, &upper), &tree(&["a/", "a/!first=2", "a/x=2", "b=1"]));
        assert_same(&stacked(&lower, &[".wh..wh..opq=", "n=1"]), &tree(&["n=1"]));
    }

    #[test]
    fn an_upper_entry_replaces_a_lower_one_of_another_kind() {
        let lower = ["d/", "d/x=1", "f=1"];
        assert_same(&stacked(&lower, &["d=2", "f/", "f/x=2"]), &tree(&["d=2", "f/", "f/x=2"]));
        assert_same(&stacked(&lower, &["d/"]), &tree(&lower));
    }

    #[test]
    fn hard_links_survive_when_a_layer_replaces_or_hides_their_first_name() {
        let lower = ["a=1", "b>a", "c>a"];
        assert_same(&stacked(&lower, &[".wh.a="]), &tree(&["b=1", "c>b"]));
        assert_same(&stacked(&lower, &["a=2"]), &tree(&["a=2", "b=1", "c>b"]));
        assert_same(&stacked(&lower, &["a=2", "c>a"]), &tree(&["a=2", "b=1", "c>a"]));
    }
}
