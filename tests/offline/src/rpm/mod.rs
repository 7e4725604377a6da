//! Writes rpm packages: a [`Package`] in, the bytes of an unsigned rpm of format 4 out.
//!
//! The format is described at <https://rpm-software-management.github.io/rpm/manual/format_v4.html>. `rpmbuild` would
//! need an unpacked tree, root's rights for the owners, and half a second a package.

mod dependencies;
mod header;
mod payload;
mod tags;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use self::header::{Header, Value};
use self::payload::{FileEntry, Payload};
use crate::digest::sha256_hex;
use crate::package::{Class, Package, Scriptlets};

/// The identifier of SHA-256 among OpenPGP's hash algorithms, which rpm uses too.
const SHA256: u32 = 8;

const CONFIG: u32 = 1 << 0;
const DOC: u32 = 1 << 1;
const NO_REPLACE: u32 = 1 << 4;
const GHOST: u32 = 1 << 6;
const LICENSE: u32 = 1 << 7;
const ARTIFACT: u32 = 1 << 12;

/// The rpm of `package`, compressed with zstd's level `level`.
///
/// # Errors
/// Fails when a name does not fit the format or the compressor fails.
pub fn write(package: &Package, level: i32) -> Result<Vec<u8>> {
    let entries = payload::entries(&package.files);
    let payload = payload::write(&entries, level)?;
    let header = main_header(package, &entries, &payload, level)?.to_bytes(header::IMMUTABLE);

    let mut signature = Header::default();
    signature.insert(tags::SHA256_HEADER, Value::String(sha256_hex(&header)));
    signature.insert(tags::SIGNATURE_SIZE, Value::Int32(vec![u32::try_from(header.len() + payload.compressed.len())?]));
    signature.insert(tags::SIGNATURE_PAYLOAD_SIZE, Value::Int32(vec![u32::try_from(payload.archive_bytes)?]));

    let mut rpm = lead(package)?;
    rpm.extend(signature.to_bytes(header::SIGNATURES));
    rpm.resize(rpm.len().next_multiple_of(8), 0);
    rpm.extend(header);
    rpm.extend(payload.compressed);
    Ok(rpm)
}

/// The 96 bytes that only file(1) still reads.
fn lead(package: &Package) -> Result<Vec<u8>> {
    const NAME_BYTES: usize = 66;
    let name = format!("{}-{}", package.name, package.evr.without_epoch());
    let mut lead = vec![0xed, 0xab, 0xee, 0xdb, 3, 0, 0, 0, 0, 1];
    lead.extend(name.bytes().take(NAME_BYTES - 1));
    lead.resize(10 + NAME_BYTES, 0);
    lead.extend([0, 1, 0, 5]);
    lead.resize(96, 0);
    ensure!(package.name.is_ascii(), "writing {}: a package's name is ASCII", package.name);
    Ok(lead)
}

fn main_header(package: &Package, entries: &[FileEntry<'_>], payload: &Payload, level: i32) -> Result<Header> {
    let mut header = Header::default();
    insert_identity(&mut header, package);
    insert_scriptlets(&mut header, &package.scriptlets);
    dependencies::insert(&mut header, package, !entries.is_empty());
    if !entries.is_empty() {
        insert_files(&mut header, entries)?;
    }
    header.insert(tags::SIZE, Value::Int32(vec![payload::installed_bytes(entries)?]));
    header.insert(tags::FILE_DIGEST_ALGORITHM, Value::Int32(vec![SHA256]));
    header.insert(tags::PAYLOAD_FORMAT, Value::text("cpio"));
    header.insert(tags::PAYLOAD_COMPRESSOR, Value::text("zstd"));
    header.insert(tags::PAYLOAD_FLAGS, Value::String(level.to_string()));
    header.insert(tags::PAYLOAD_DIGEST, Value::Strings(vec![sha256_hex(&payload.compressed)]));
    header.insert(tags::PAYLOAD_DIGEST_ALGORITHM, Value::Int32(vec![SHA256]));
    header.insert(tags::PAYLOAD_DIGEST_UNCOMPRESSED, Value::Strings(vec![payload.archive_sha256.clone()]));
    Ok(header)
}

fn insert_identity(header: &mut Header, package: &Package) {
    header.insert(tags::I18N_TABLE, Value::Strings(vec!["C".to_owned()]));
    header.insert(tags::NAME, Value::text(&package.name));
    header.insert(tags::VERSION, Value::text(&package.evr.version));
    header.insert(tags::RELEASE, Value::text(&package.evr.release));
    if package.evr.epoch > 0 {
        header.insert(tags::EPOCH, Value::Int32(vec![package.evr.epoch]));
    }
    header.insert(tags::SUMMARY, Value::Localized(package.summary.clone()));
    header.insert(tags::DESCRIPTION, Value::Localized(package.description.clone()));
    header.insert(tags::BUILD_TIME, Value::Int32(vec![package.build_time]));
    header.insert(tags::BUILD_HOST, Value::text("localhost"));
    header.insert(tags::VENDOR, Value::text("ocinitrd tests"));
    header.insert(tags::LICENSE, Value::text(&package.license));
    header.insert(tags::GROUP, Value::Localized("Unspecified".to_owned()));
    if !package.url.is_empty() {
        header.insert(tags::URL, Value::text(&package.url));
    }
    header.insert(tags::OS, Value::text("linux"));
    header.insert(tags::ARCH, Value::text(&package.arch));
    header.insert(tags::SOURCE_RPM, Value::text(&package.source_rpm));
    header.insert(tags::RPM_VERSION, Value::text("4.18.0"));
    header.insert(tags::ENCODING, Value::text("utf-8"));
}

fn insert_scriptlets(header: &mut Header, scriptlets: &Scriptlets) {
    for (script, text_tag, program_tag) in [
        (&scriptlets.pretrans, tags::PRETRANS, tags::PRETRANS_PROGRAM),
        (&scriptlets.post, tags::POST, tags::POST_PROGRAM),
        (&scriptlets.posttrans, tags::POSTTRANS, tags::POSTTRANS_PROGRAM),
    ] {
        if let Some(script) = script {
            header.insert(text_tag, Value::text(&script.text));
            header.insert(program_tag, Value::text(script.program));
        }
    }
    let triggers = &scriptlets.triggers;
    if triggers.is_empty() {
        return;
    }
    // One script a trigger; each watched directory names its script by index.
    let watched: Vec<(u32, &String)> = (0..)
        .zip(triggers)
        .flat_map(|(index, trigger)| trigger.directories.iter().map(move |path| (index, path)))
        .collect();
    let scripts = triggers.iter().map(|trigger| trigger.script.text.clone()).collect();
    let programs = triggers.iter().map(|trigger| trigger.script.program.to_owned()).collect();
    let priorities = triggers.iter().map(|trigger| trigger.priority).collect();
    header.insert(tags::TRIGGER_SCRIPTS, Value::Strings(scripts));
    header.insert(tags::TRIGGER_PROGRAMS, Value::Strings(programs));
    header.insert(tags::TRIGGER_PRIORITIES, Value::Int32(priorities));
    header.insert(tags::TRIGGER_NAMES, Value::Strings(watched.iter().map(|(_, path)| (*path).clone()).collect()));
    header.insert(tags::TRIGGER_INDEXES, Value::Int32(watched.iter().map(|(index, _)| *index).collect()));
    header.insert(tags::TRIGGER_VERSIONS, Value::Strings(vec![String::new(); watched.len()]));
    header.insert(tags::TRIGGER_FLAGS, Value::Int32(vec![dependencies::TRIGGER_IN; watched.len()]));
}

fn insert_files(header: &mut Header, entries: &[FileEntry<'_>]) -> Result<()> {
    let directories: BTreeSet<&str> = entries.iter().map(|entry| entry.directory()).collect();
    let directories: Vec<&str> = directories.into_iter().collect();
    let directory_index =
        |entry: &FileEntry<'_>| directories.binary_search(&entry.directory()).map_or(0, |index| index as u32);

    let strings = |value: &dyn Fn(&FileEntry<'_>) -> String| Value::Strings(entries.iter().map(value).collect());
    let int32 = |value: &dyn Fn(&FileEntry<'_>) -> u32| Value::Int32(entries.iter().map(value).collect());
    header.insert(tags::DIRECTORY_NAMES, Value::Strings(directories.iter().map(|name| (*name).to_owned()).collect()));
    header.insert(tags::DIRECTORY_INDEXES, int32(&directory_index));
    header.insert(tags::BASE_NAMES, strings(&|entry| entry.base_name().to_owned()));
    header.insert(tags::FILE_SIZES, Value::Int32(entries.iter().map(FileEntry::size).collect::<Result<_>>()?));
    header.insert(tags::FILE_MODES, Value::Int16(entries.iter().map(FileEntry::mode).collect()));
    header.insert(tags::FILE_DEVICE_NUMBERS, Value::Int16(vec![0; entries.len()]));
    header.insert(tags::FILE_TIMES, int32(&|entry| entry.file.mtime));
    header.insert(tags::FILE_DIGESTS, strings(&|entry| entry.digest()));
    header.insert(tags::FILE_LINK_TARGETS, strings(&|entry| entry.link_target().to_owned()));
    header.insert(tags::FILE_FLAGS, int32(&|entry| flags(&entry.file.class)));
    header.insert(tags::FILE_USERS, strings(&|entry| entry.file.user.clone()));
    header.insert(tags::FILE_GROUPS, strings(&|entry| entry.file.group.clone()));
    header.insert(tags::FILE_VERIFY_FLAGS, Value::Int32(vec![u32::MAX; entries.len()]));
    header.insert(tags::FILE_DEVICES, Value::Int32(vec![1; entries.len()]));
    header.insert(tags::FILE_INODES, int32(&|entry| entry.inode));
    header.insert(tags::FILE_LANGUAGES, strings(&|entry| language(&entry.file.class)));
    if entries.iter().any(|entry| entry.file.capabilities.is_some()) {
        let capabilities = |entry: &FileEntry<'_>| entry.file.capabilities.clone().unwrap_or_default();
        header.insert(tags::FILE_CAPABILITIES, strings(&capabilities));
    }
    Ok(())
}

fn flags(class: &Class) -> u32 {
    match class {
        Class::Ordinary | Class::Language(_) => 0,
        Class::Configuration => CONFIG | NO_REPLACE,
        Class::Documentation => DOC,
        Class::License => LICENSE,
        Class::Ghost => GHOST,
        Class::Artifact => ARTIFACT,
    }
}

fn language(class: &Class) -> String {
    match class {
        Class::Language(language) => language.clone(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
