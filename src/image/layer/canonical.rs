//! A tree to its one canonical tar stream: sorted, numeric owners, whole seconds, hard links as links, and pax headers
//! only where ustar cannot hold a value. Equal trees give equal bytes.

use std::io::{self, Read, Write};

use super::archive::BLOCK_BYTES;
use super::pax;
use crate::image::tree::{Entry, Kind, Tree};

/// The name of every pax header; readers ignore it.
const PAX_HEADER_NAME: &[u8] = b"PaxHeaders";

/// Writes the archive with its end mark; the directories of all entries must be entries.
///
/// # Errors
/// Fails when the writer or the spool of a content does.
pub fn write_tar(tree: &Tree, writer: &mut impl Write) -> io::Result<()> {
    for (path, entry) in tree.iter() {
        let mut fields = Fields::of(path, entry);
        let records = fields.take_out_what_does_not_fit(entry);
        if !records.is_empty() {
            let header =
                Fields { path: PAX_HEADER_NAME.to_vec(), size_bytes: records.len() as u64, ..Fields::new(b'x') };
            header.write(writer)?;
            writer.write_all(&records)?;
            pad(writer, records.len() as u64)?;
        }
        fields.write(writer)?;
        if let Kind::File(content) = &entry.kind {
            io::copy(&mut content.reader(), writer)?;
            pad(writer, content.size_bytes())?;
        }
    }
    writer.write_all(&[0; 2 * BLOCK_BYTES])
}

fn pad(writer: &mut impl Write, size_bytes: u64) -> io::Result<()> {
    let block = BLOCK_BYTES as u64;
    let padding = size_bytes.next_multiple_of(block) - size_bytes;
    io::copy(&mut io::repeat(0).take(padding), writer)?;
    Ok(())
}

/// The fields of a header that differ between entries.
struct Fields {
    typeflag: u8,
    path: Vec<u8>,
    link_target: Vec<u8>,
    permissions: u32,
    uid: u64,
    gid: u64,
    size_bytes: u64,
    mtime: u64,
    device: Option<(u32, u32)>,
}

impl Fields {
    fn new(typeflag: u8) -> Self {
        let (path, link_target) = (Vec::new(), Vec::new());
        Fields {
            typeflag,
            path,
            link_target,
            permissions: 0o644,
            uid: 0,
            gid: 0,
            size_bytes: 0,
            mtime: 0,
            device: None,
        }
    }

    fn of(path: &[u8], entry: &Entry) -> Self {
        let mut fields = Fields {
            path: path.to_vec(),
            permissions: entry.permissions,
            uid: entry.uid.into(),
            gid: entry.gid.into(),
            mtime: entry.mtime,
            ..Fields::new(b'0')
        };
        match &entry.kind {
            Kind::Directory => {
                fields.typeflag = b'5';
                fields.path.push(b'/');
            }
            Kind::File(content) => fields.size_bytes = content.size_bytes(),
            Kind::HardLink { target } => (fields.typeflag, fields.link_target) = (b'1', target.clone()),
            Kind::Symlink { target } => (fields.typeflag, fields.link_target) = (b'2', target.clone()),
            Kind::CharacterDevice(major, minor) => (fields.typeflag, fields.device) = (b'3', Some((*major, *minor))),
            Kind::BlockDevice(major, minor) => (fields.typeflag, fields.device) = (b'4', Some((*major, *minor))),
            Kind::Fifo => fields.typeflag = b'6',
        }
        fields
    }

    /// pax records for what a ustar header has no room for, which is cut or zeroed in the header, and for attributes
    /// (of a hard link group only on the file itself).
    fn take_out_what_does_not_fit(&mut self, entry: &Entry) -> Vec<u8> {
        const LONGEST_NAME_BYTES: usize = 100;
        const LARGEST_ID: u64 = 0o7777777;
        const LARGEST_NUMBER: u64 = 0o77777777777;
        let mut records = Vec::new();
        for (key, field) in [(&b"linkpath"[..], &mut self.link_target), (b"path", &mut self.path)] {
            if field.len() > LONGEST_NAME_BYTES {
                pax::write(&mut records, key, field);
                field.truncate(LONGEST_NAME_BYTES);
            }
        }
        for (key, field, largest) in [
            (&b"gid"[..], &mut self.gid, LARGEST_ID),
            (b"mtime", &mut self.mtime, LARGEST_NUMBER),
            (b"size", &mut self.size_bytes, LARGEST_NUMBER),
            (b"uid", &mut self.uid, LARGEST_ID),
        ] {
            if *field > largest {
                pax::write(&mut records, key, field.to_string().as_bytes());
                *field = 0;
            }
        }
        if self.typeflag != b'1' {
            for (name, value) in &entry.xattrs {
                pax::write(&mut records, &[pax::XATTR_PREFIX, name].concat(), value);
            }
        }
        records
    }

    fn write(&self, writer: &mut impl Write) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        {
            let ustar = header.as_ustar_mut().expect("the header was made as ustar");
            ustar.name[..self.path.len()].copy_from_slice(&self.path);
            ustar.linkname[..self.link_target.len()].copy_from_slice(&self.link_target);
            ustar.typeflag = [self.typeflag];
        }
        header.set_mode(self.permissions);
        header.set_uid(self.uid);
        header.set_gid(self.gid);
        header.set_size(self.size_bytes);
        header.set_mtime(self.mtime);
        if let Some((major, minor)) = self.device {
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        header.set_cksum();
        writer.write_all(header.as_bytes())
    }
}
