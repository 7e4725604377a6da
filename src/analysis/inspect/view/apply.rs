//! What an entry changes in the view.

use super::lookup::{Last, Place};
use super::{Applied, Content, FirstName, LinkKey, NOTHING, View};
use crate::analysis::inspect::fault::Fault;
use crate::analysis::inspect::tree::Node;
use ocinitrd_format::cpio::{
    Entry, PATH_MAX_BYTES, TYPE_BLOCK_DEVICE, TYPE_CHARACTER_DEVICE, TYPE_DIRECTORY, TYPE_FIFO, TYPE_FILE, TYPE_MASK,
    TYPE_SOCKET, TYPE_SYMLINK,
};

/// As a user or group it changes nothing: `(uid_t) -1`.
const NOBODY: u32 = u32::MAX;
/// Numbers of devices as the kernel packs them.
const MAJOR_MAX: u32 = (1 << 12) - 1;
const MINOR_MAX: u32 = (1 << 20) - 1;

impl View {
    /// Adds an entry. `target` is what there is of a symlink's data, up to a byte more than a target may have; `content` is ignored
    /// unless the entry is a regular file. Returns what the kernel does not make as it stands there.
    pub(in crate::analysis::inspect) fn apply(
        &mut self,
        entry: &Entry,
        target: &[u8],
        content: Content,
    ) -> Result<Applied, Fault> {
        let target = check_data(entry, target)?;
        let mut followed_bytes = 0;
        let place = self.locate(&entry.path, &mut followed_bytes);
        self.followed_bytes += followed_bytes;
        let place = place.inspect_err(|_| self.note_link(entry, FirstName::Nowhere))?;
        let Place { parent, last, has_trailing_slash, is_direct } = place;
        let Last::Name(name) = last else {
            self.apply_to_directory(parent, entry)?;
            return Ok(Applied { node: parent, is_direct: false, content: None });
        };
        if has_trailing_slash {
            return self.apply_with_slash(parent, name, entry);
        }
        let node = self.tree.child_or_new(parent, name).ok_or(Fault::PathTooLong)?;
        self.sync();
        match entry.mode & TYPE_MASK {
            TYPE_FILE => self.apply_file(node, entry, content, is_direct)?,
            TYPE_SYMLINK => self.apply_symlink(node, entry, target)?,
            TYPE_DIRECTORY => self.apply_directory(node, entry)?,
            TYPE_FIFO | TYPE_SOCKET | TYPE_CHARACTER_DEVICE | TYPE_BLOCK_DEVICE => {
                self.apply_special(node, entry, is_direct)?;
            }
            file_type => {
                self.clear(node, file_type)?;
                return Err(Fault::UnknownType);
            }
        }
        self.check_owner(entry)?;
        let content = self.inode(node).filter(|_| entry.is_file()).map(|inode| inode.content);
        Ok(Applied { node, is_direct, content })
    }

    /// The root, or a directory by the name of `.` in it: it is there already.
    fn apply_to_directory(&mut self, node: Node, entry: &Entry) -> Result<(), Fault> {
        let number = self.inode_of[node as usize];
        match entry.mode & TYPE_MASK {
            TYPE_DIRECTORY => {
                self.set(number, entry);
                return self.check_owner(entry);
            }
            TYPE_SYMLINK => self.set_owner(number, entry),
            TYPE_FIFO | TYPE_SOCKET | TYPE_CHARACTER_DEVICE | TYPE_BLOCK_DEVICE => self.set(number, entry),
            _ => {}
        }
        Err(Fault::Dots)
    }

    /// An entry whose name ends in a slash: the kernel then follows a symlink in its place, and makes nothing but directories.
    fn apply_with_slash(&mut self, parent: Node, name: &[u8], entry: &Entry) -> Result<Applied, Fault> {
        let file_type = entry.mode & TYPE_MASK;
        let present = self.tree.child(parent, name).filter(|node| self.inode(*node).is_some());
        let present_type = present.map(|node| self.type_of(node));
        if file_type != TYPE_DIRECTORY {
            if let (Some(node), Some(TYPE_DIRECTORY)) = (present, present_type) {
                self.clear(node, file_type)?;
            }
            return Err(Fault::TrailingSlash);
        }
        let node = match (present, present_type) {
            (None, _) => self.tree.child_or_new(parent, name).ok_or(Fault::PathTooLong)?,
            (Some(node), Some(TYPE_DIRECTORY)) => node,
            (Some(_), _) => {
                let mut followed_bytes = 0;
                let reached = self.follow(parent, name, &mut followed_bytes);
                self.followed_bytes += followed_bytes;
                match reached {
                    Ok((node, _)) if self.type_of(node) == TYPE_DIRECTORY => {
                        self.set(self.inode_of[node as usize], entry);
                        self.check_owner(entry)?;
                        return Ok(Applied { node, is_direct: false, content: None });
                    }
                    _ => return Err(Fault::SymlinkInTheWay),
                }
            }
        };
        self.sync();
        self.apply_directory(node, entry)?;
        self.check_owner(entry)?;
        Ok(Applied { node, is_direct: true, content: None })
    }

    fn apply_file(&mut self, node: Node, entry: &Entry, content: Content, is_direct: bool) -> Result<(), Fault> {
        let cleared = self.clear(node, TYPE_FILE);
        let first = self.first_name(node, entry, is_direct);
        let is_link = first.is_some();
        match first {
            Some(first) => self.link(node, first)?,
            None => cleared?,
        }
        let number = match self.inode_of[node as usize] {
            NOTHING => self.put_new(node, TYPE_FILE),
            number if self.inodes[number as usize].file_type() == TYPE_FILE => number,
            // Another name of something else by now.
            _ => return Err(Fault::NothingToLinkTo),
        };
        let keeps_data = is_link && entry.size_bytes == 0;
        if !keeps_data || self.content(&self.inodes[number as usize]).is_none() {
            self.inodes[number as usize].content = self.contents.len() as u32;
            self.contents.push(content);
        }
        self.set(number, entry);
        Ok(())
    }

    fn apply_symlink(&mut self, node: Node, entry: &Entry, target: &[u8]) -> Result<(), Fault> {
        // Whatever is there goes, another symlink too.
        self.clear(node, NOTHING).inspect_err(|_| self.set_owner(self.inode_of[node as usize], entry))?;
        let target = self.keep(target);
        let number = self.put_new(node, TYPE_SYMLINK);
        self.inodes[number as usize].target = target;
        self.set(number, entry);
        Ok(())
    }

    fn apply_directory(&mut self, node: Node, entry: &Entry) -> Result<(), Fault> {
        self.clear(node, TYPE_DIRECTORY)?;
        let number = match self.inode_of[node as usize] {
            NOTHING => self.put_new(node, TYPE_DIRECTORY),
            number => number,
        };
        self.set(number, entry);
        Ok(())
    }

    fn apply_special(&mut self, node: Node, entry: &Entry, is_direct: bool) -> Result<(), Fault> {
        let cleared = self.clear(node, entry.mode & TYPE_MASK);
        if let Some(first) = self.first_name(node, entry, is_direct) {
            // The entry says nothing more of what has a name already.
            self.link(node, first)?;
            return self.check_device(node, entry);
        }
        let number = match self.inode_of[node as usize] {
            NOTHING => {
                let number = self.put_new(node, entry.mode & TYPE_MASK);
                let inode = &mut self.inodes[number as usize];
                inode.device = if inode.is_device() { packed(entry.device) } else { (0, 0) };
                number
            }
            number => number,
        };
        self.set(number, entry);
        cleared?;
        self.check_device(node, entry)
    }

    fn check_device(&self, node: Node, entry: &Entry) -> Result<(), Fault> {
        match self.inode(node) {
            Some(inode) if !inode.is_device() || inode.device == entry.device => Ok(()),
            _ if packed(entry.device) != entry.device => Err(Fault::DeviceNumbers),
            _ => Err(Fault::DeviceIsThere),
        }
    }

    /// What the entry is another name of. The first name of its kind is remembered.
    fn first_name(&mut self, node: Node, entry: &Entry, is_direct: bool) -> Option<FirstName> {
        if entry.links < 2 {
            return None;
        }
        let first = self.links.get(&link_key(entry)).copied();
        if first.is_none() {
            let own = if is_direct { FirstName::Node(node) } else { FirstName::Path(self.keep(&entry.path)) };
            self.note_link(entry, own);
        }
        first
    }

    fn note_link(&mut self, entry: &Entry, first: FirstName) {
        let is_linkable = !matches!(entry.mode & TYPE_MASK, TYPE_DIRECTORY | TYPE_SYMLINK);
        if entry.links >= 2 && is_linkable {
            self.links.entry(link_key(entry)).or_insert(first);
        }
    }

    /// Makes the place another name of a file. What is there goes before.
    fn link(&mut self, node: Node, first: FirstName) -> Result<(), Fault> {
        self.clear(node, NOTHING)?;
        let first = match first {
            FirstName::Node(first) => Some(first),
            FirstName::Nowhere => None,
            FirstName::Path(path) => {
                let path = self.text(path).to_vec();
                let mut followed_bytes = 0;
                let place = self.locate(&path, &mut followed_bytes);
                self.followed_bytes += followed_bytes;
                place.ok().and_then(|place| match place.last {
                    Last::Name(name) => self.tree.child(place.parent, name),
                    Last::Directory => None,
                })
            }
        };
        let number = first.map_or(NOTHING, |first| self.inode_of[first as usize]);
        if number == NOTHING || self.inodes[number as usize].file_type() == TYPE_DIRECTORY {
            return Err(Fault::NothingToLinkTo);
        }
        self.put(node, number);
        Ok(())
    }

    /// Makes way for an entry of type `file_type`.
    fn clear(&mut self, node: Node, file_type: u32) -> Result<(), Fault> {
        let Some(inode) = self.inode(node) else { return Ok(()) };
        if inode.file_type() == file_type {
            return Ok(());
        }
        if self.children_of[node as usize] > 0 {
            return Err(Fault::DirectoryInTheWay);
        }
        self.inode_of[node as usize] = NOTHING;
        self.children_of[self.tree.parent(node) as usize] -= 1;
        Ok(())
    }

    /// Takes over what every entry says of its file, as far as the kernel does.
    fn set(&mut self, number: u32, entry: &Entry) {
        self.set_owner(number, entry);
        let inode = &mut self.inodes[number as usize];
        let permissions = if inode.file_type() == TYPE_SYMLINK { 0o777 } else { entry.mode & 0o7777 };
        inode.mode = inode.file_type() | permissions;
        inode.mtime = entry.mtime;
        inode.is_listed = true;
    }

    fn set_owner(&mut self, number: u32, entry: &Entry) {
        let inode = &mut self.inodes[number as usize];
        if entry.uid != NOBODY {
            inode.uid = entry.uid;
        }
        if entry.gid != NOBODY {
            inode.gid = entry.gid;
        }
    }

    fn check_owner(&self, entry: &Entry) -> Result<(), Fault> {
        if entry.uid == NOBODY || entry.gid == NOBODY { Err(Fault::OwnerIsNone) } else { Ok(()) }
    }
}

/// Returns the target of a symlink, which ends at a NUL.
fn check_data<'a>(entry: &Entry, target: &'a [u8]) -> Result<&'a [u8], Fault> {
    if !entry.is_file() && !entry.is_symlink() && entry.size_bytes > 0 {
        return Err(Fault::DataOfNoFile);
    }
    let target = &target[..target.iter().position(|byte| *byte == 0).unwrap_or(target.len())];
    let is_too_long = entry.size_bytes as usize > PATH_MAX_BYTES + 1 || target.len() > PATH_MAX_BYTES;
    if entry.is_symlink() && is_too_long { Err(Fault::TargetTooLong) } else { Ok(target) }
}

fn link_key(entry: &Entry) -> LinkKey {
    (entry.file_system, entry.inode, entry.mode & TYPE_MASK)
}

/// The numbers of a device as they come out of the 32 bits that the kernel puts them into.
fn packed((major, minor): (u32, u32)) -> (u32, u32) {
    let number = major << 20 | minor;
    (number >> 20 & MAJOR_MAX, number & MINOR_MAX)
}
