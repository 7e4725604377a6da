//! Where paths lead in the view.

use super::View;
use crate::analysis::inspect::fault::Fault;
use crate::analysis::inspect::tree::{NAME_MAX_BYTES, Node, ROOT};
use ocinitrd_format::cpio::{TYPE_DIRECTORY, TYPE_SYMLINK};

/// The kernel gives up after 40 symlinks.
const SYMLINKS_MAX: usize = 40;

/// Where an entry goes.
pub(super) struct Place<'a> {
    pub parent: Node,
    pub last: Last<'a>,
    pub has_trailing_slash: bool,
    /// Whether the path is that of the place, but for slashes and `.`.
    pub is_direct: bool,
}

pub(super) enum Last<'a> {
    Name(&'a [u8]),
    /// `.`, `..`, `/` or nothing: the directory `parent` itself.
    Directory,
}

impl View {
    /// Where an entry of that path goes. Adds to `followed_bytes` what of symlinks was gone through.
    pub(super) fn locate<'a>(&self, path: &'a [u8], followed_bytes: &mut u64) -> Result<Place<'a>, Fault> {
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let has_trailing_slash = end < path.len();
        let start = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let (directory, name) = (&path[..start], &path[start..end]);
        let (parent, is_direct) = self.follow(ROOT, directory, followed_bytes)?;
        if self.type_of(parent) != TYPE_DIRECTORY {
            return Err(Fault::ParentIsNoDirectory);
        }
        let place = |parent, last| Place { parent, last, has_trailing_slash, is_direct };
        match name {
            b"" | b"." => Ok(place(parent, Last::Directory)),
            b".." => Ok(place(self.tree.parent(parent), Last::Directory)),
            name if name.len() > NAME_MAX_BYTES => Err(Fault::NameTooLong),
            name => Ok(place(parent, Last::Name(name))),
        }
    }

    /// What is at a path, from the directory `start` or the root on, symlinks followed, and whether the path has none, and no `..`.
    pub(super) fn follow(&self, start: Node, path: &[u8], followed_bytes: &mut u64) -> Result<(Node, bool), Fault> {
        let mut node = if path.starts_with(b"/") { ROOT } else { start };
        let (mut symlinks, mut is_direct) = (0, true);
        // What is left to go, the next at the end: of the path, and of the targets of symlinks on the way.
        let mut pending = vec![path];
        while let Some(rest) = pending.pop() {
            let Some(from) = rest.iter().position(|byte| *byte != b'/') else { continue };
            let end = rest[from..].iter().position(|byte| *byte == b'/').map_or(rest.len(), |length| from + length);
            let component = &rest[from..end];
            if end < rest.len() {
                pending.push(&rest[end..]);
            }
            if self.type_of(node) != TYPE_DIRECTORY {
                return Err(Fault::ParentIsNoDirectory);
            }
            match component {
                b"." => continue,
                b".." => {
                    is_direct = false;
                    node = self.tree.parent(node);
                    continue;
                }
                component if component.len() > NAME_MAX_BYTES => return Err(Fault::NameTooLong),
                _ => {}
            }
            let present = self.tree.child(node, component).and_then(|child| Some((child, self.inode(child)?)));
            let (child, inode) = present.ok_or(Fault::NoParent)?;
            if inode.file_type() != TYPE_SYMLINK {
                node = child;
                continue;
            }
            symlinks += 1;
            if symlinks > SYMLINKS_MAX {
                return Err(Fault::TooManySymlinks);
            }
            is_direct = false;
            let target = self.target(inode);
            *followed_bytes += target.len() as u64;
            if target.starts_with(b"/") {
                node = ROOT;
            }
            pending.push(target);
        }
        Ok((node, is_direct))
    }
}
