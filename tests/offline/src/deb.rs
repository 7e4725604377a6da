//! Reads a Debian package: a file in deb(5) format in, its control fields and files out.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::control::Paragraph;
use crate::package::{Class, Content, File};

/// What a Debian package holds.
#[derive(Debug)]
pub struct Deb {
    /// The fields of its control file.
    pub control: Paragraph,
    /// Its files by Debian's absolute path, without the root directory.
    pub files: BTreeMap<String, File>,
    /// Shared libraries that it offers to link with, as `libNAME.so.VERSION`.
    pub sonames: BTreeSet<String>,
}

/// Reads the package in `bytes`.
///
/// # Errors
/// Fails when it is no Debian package or uses what deb(5) does not describe.
pub fn read(bytes: &[u8]) -> Result<Deb> {
    let mut control = None;
    let mut files = None;
    for (name, member) in ar_members(bytes)? {
        if name.starts_with("control.tar") {
            control = Some(read_control(&decompressed(&name, member)?)?);
        } else if name.starts_with("data.tar") {
            files = Some(read_files(&decompressed(&name, member)?)?);
        }
    }
    let Control { fields, configuration, sonames } = control.context("finding control.tar in the package")?;
    let mut files = files.context("finding data.tar in the package")?;
    for path in configuration {
        if let Some(file) = files.get_mut(&path) {
            file.class = Class::Configuration;
        }
    }
    Ok(Deb { control: fields, files, sonames })
}

/// The members of an ar(5) archive.
fn ar_members(bytes: &[u8]) -> Result<Vec<(String, &[u8])>> {
    const HEADER_BYTES: usize = 60;
    let mut rest = bytes.strip_prefix(b"!<arch>\n").context("reading the package: it is no ar archive")?;
    let mut members = Vec::new();
    while rest.len() >= HEADER_BYTES {
        let (header, body) = rest.split_at(HEADER_BYTES);
        let header = std::str::from_utf8(header).context("reading the header of an ar member")?;
        let name = header[..16].trim_end().trim_end_matches('/').to_owned();
        let size: usize = header[48..58].trim_end().parse().context("reading the size of an ar member")?;
        let member = body.get(..size).with_context(|| format!("reading {name}: the package is cut short"))?;
        members.push((name, member));
        rest = body.get(size + size % 2..).unwrap_or_default();
    }
    Ok(members)
}

fn decompressed(name: &str, member: &[u8]) -> Result<Vec<u8>> {
    let mut tar = Vec::new();
    match name.rsplit_once(".tar").map(|(_, codec)| codec) {
        Some(".xz") => liblzma::read::XzDecoder::new(member).read_to_end(&mut tar),
        Some(".zst") => zstd::stream::read::Decoder::new(member).and_then(|mut input| input.read_to_end(&mut tar)),
        Some(".gz") => flate2::read::GzDecoder::new(member).read_to_end(&mut tar),
        Some("") => Cursor::new(member).read_to_end(&mut tar),
        _ => bail!("reading {name}: its compression is not one that deb(5) has"),
    }
    .with_context(|| format!("decompressing {name}"))?;
    Ok(tar)
}

struct Control {
    fields: Paragraph,
    configuration: Vec<String>,
    sonames: BTreeSet<String>,
}

fn read_control(tar: &[u8]) -> Result<Control> {
    let mut texts = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry.context("reading control.tar")?;
        let name = entry.path()?.file_name().map(|name| name.to_string_lossy().into_owned());
        if let Some(name @ ("control" | "conffiles" | "shlibs")) = name.as_deref() {
            let mut text = String::new();
            entry.read_to_string(&mut text).with_context(|| format!("reading {name}"))?;
            texts.insert(name.to_owned(), text);
        }
    }
    let text = |name: &str| texts.get(name).map(String::as_str).unwrap_or_default();
    Ok(Control {
        fields: Paragraph::parse(text("control"))?,
        configuration: text("conffiles").lines().map(|line| line.trim().to_owned()).collect(),
        sonames: text("shlibs").lines().filter_map(soname).collect(),
    })
}

/// `libfoo 1 libfoo1 (>= 2)` of deb-shlibs(5) is the library `libfoo.so.1`; lines of a type (`udeb:`) are others' own.
fn soname(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let (library, version) = (words.next()?, words.next()?);
    (!library.ends_with(':')).then(|| format!("{library}.so.{version}"))
}

fn read_files(tar: &[u8]) -> Result<BTreeMap<String, File>> {
    let mut files: BTreeMap<String, File> = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry.context("reading data.tar")?;
        let path = absolute(&entry.path()?.to_string_lossy());
        if path == "/" {
            continue;
        }
        let content = match entry.header().entry_type() {
            tar::EntryType::Directory => Content::Directory,
            tar::EntryType::Symlink => Content::Symlink(link_target(&entry, &path)?),
            tar::EntryType::Link => {
                let target = absolute(&link_target(&entry, &path)?);
                let linked =
                    files.get(&target).with_context(|| format!("finding {target}, to which {path} is linked"))?;
                linked.content.clone()
            }
            tar::EntryType::Regular => {
                let mut bytes = Vec::with_capacity(usize::try_from(entry.size())?);
                entry.read_to_end(&mut bytes).with_context(|| format!("reading {path}"))?;
                Content::Regular(Arc::new(bytes))
            }
            other => bail!("reading {path}: packages hold no entries of type {other:?}"),
        };
        let file = file_of(&entry, content).with_context(|| format!("reading the header of {path}"))?;
        files.insert(path, file);
    }
    Ok(files)
}

fn link_target<R: Read>(entry: &tar::Entry<'_, R>, path: &str) -> Result<String> {
    let target = entry.link_name()?.with_context(|| format!("reading the link {path}: it has no target"))?;
    Ok(target.to_string_lossy().into_owned())
}

fn file_of<R: Read>(entry: &tar::Entry<'_, R>, content: Content) -> Result<File> {
    let header = entry.header();
    let mode = u16::try_from(header.mode()? & 0o7777)?;
    let mut file = File::of_root(content, mode, u32::try_from(header.mtime()?)?);
    file.user = header.username()?.unwrap_or("root").to_owned();
    file.group = header.groupname()?.unwrap_or("root").to_owned();
    Ok(file)
}

/// `./usr/bin/` of a tar archive as `/usr/bin`.
fn absolute(path: &str) -> String {
    format!("/{}", path.trim_start_matches("./").trim_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = b"!<arch>\n".to_vec();
        for (name, content) in members {
            let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", content.len());
            bytes.extend(header.into_bytes());
            bytes.extend_from_slice(content);
            bytes.extend(std::iter::repeat_n(b'\n', content.len() % 2));
        }
        bytes
    }

    fn tar(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_mtime(7);
            header.set_size(if *kind == tar::EntryType::Regular { text.len() as u64 } else { 0 });
            match kind {
                tar::EntryType::Symlink | tar::EntryType::Link => builder.append_link(&mut header, path, text).unwrap(),
                _ => builder.append_data(&mut header, path, text.as_bytes()).unwrap(),
            }
        }
        builder.into_inner().unwrap()
    }

    fn sample() -> Vec<u8> {
        let control = tar(&[
            ("./control", tar::EntryType::Regular, "Package: sample\nVersion: 1-1\n"),
            ("./conffiles", tar::EntryType::Regular, "/etc/sample.conf\n"),
            ("./shlibs", tar::EntryType::Regular, "libsample 1 sample (>= 1)\nudeb: libsample 1 sample-udeb\n"),
        ]);
        let data = tar(&[
            ("./etc/", tar::EntryType::Directory, ""),
            ("./etc/sample.conf", tar::EntryType::Regular, "x"),
            ("./usr/a", tar::EntryType::Regular, "text"),
            ("./usr/b", tar::EntryType::Link, "./usr/a"),
            ("./usr/c", tar::EntryType::Symlink, "a"),
        ]);
        ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control), ("data.tar", &data)])
    }

    #[test]
    fn a_package_gives_its_fields_files_and_libraries() {
        let deb = read(&sample()).unwrap();
        assert_eq!(deb.control.get("Package"), Some("sample"));
        assert_eq!(deb.sonames.into_iter().collect::<Vec<_>>(), ["libsample.so.1"]);
        assert_eq!(deb.files.keys().collect::<Vec<_>>(), ["/etc", "/etc/sample.conf", "/usr/a", "/usr/b", "/usr/c"]);
        assert_eq!(deb.files["/etc/sample.conf"].class, Class::Configuration);
        assert_eq!(deb.files["/usr/a"].mtime, 7);
        assert!(matches!(&deb.files["/usr/c"].content, Content::Symlink(target) if target == "a"));
    }

    #[test]
    fn hard_links_share_their_content() {
        let deb = read(&sample()).unwrap();
        let (Content::Regular(first), Content::Regular(second)) =
            (&deb.files["/usr/a"].content, &deb.files["/usr/b"].content)
        else {
            panic!("two regular files")
        };
        assert!(Arc::ptr_eq(first, second));
    }

    #[test]
    fn a_package_cut_short_is_refused() {
        let bytes = sample();
        assert!(read(&bytes[..bytes.len() - 100]).is_err());
        assert!(read(b"no package").is_err());
    }
}
