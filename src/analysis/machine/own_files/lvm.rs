//! What the configuration of LVM decides: `/etc/lvm` in, its files and who owns groups of volumes out; `lvm.conf(5)`,
//! `lvmsystemid(7)`, `lvmdevices(8)`.

use anyhow::Result;

use super::super::root::Root;
use super::{OwnFile, Reader};

const GLOBAL: &str = "/etc/lvm/lvm.conf";
/// What it says counts before the other.
const LOCAL: &str = "/etc/lvm/lvmlocal.conf";
const DEVICES: &str = "/etc/lvm/devices";
const PROFILES: &str = "/etc/lvm/profile";
/// Where LVM keeps a copy of the metadata of each group.
const BACKUPS: &str = "/etc/lvm/backup";

/// Who says which groups of volumes are this host's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Source {
    /// Nobody: all are.
    None,
    /// The files of LVM itself.
    Files,
    /// The name of the host.
    HostName,
    /// `/etc/machine-id`.
    MachineId,
}

/// What a file is for LVM.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LvmFile {
    /// Part of how it knows which groups of volumes are this host's.
    SystemId,
    /// Settings, or which disks it looks at.
    Settings,
    /// Settings of single volumes.
    Profile,
}

/// What is there of LVM's files.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) source: Source,
    pub(super) files: Vec<OwnFile>,
}

/// A group of volumes, and whether it belongs to one host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SystemId {
    /// Its name.
    pub group: String,
    /// Whether only a host with the same system ID uses it.
    pub is_set: bool,
}

pub(super) fn read(root: &Root) -> Result<Configuration> {
    let global = root.text(GLOBAL)?.unwrap_or_default();
    let local = root.text(LOCAL)?.unwrap_or_default();
    let said = |name: &str| value(&local, name).or_else(|| value(&global, name)).filter(|value| !value.is_empty());
    let (source, file) = match said("system_id_source").as_deref() {
        Some("uname") => (Source::HostName, None),
        Some("machineid" | "appmachineid") => (Source::MachineId, None),
        Some("lvmlocal") => (Source::Files, None),
        Some("file") => (Source::Files, said("system_id_file").filter(|path| path.starts_with('/') && root.has(path))),
        _ => (Source::None, None),
    };
    let mut files = Vec::new();
    for (path, text) in [(GLOBAL, &global), (LOCAL, &local)] {
        let is_part =
            ["system_id_source", "system_id", "system_id_file"].iter().any(|name| value(text, name).is_some());
        if root.has(path) {
            files.push(OwnFile { path: path.to_owned(), reader: settings(source != Source::None && is_part) });
        }
    }
    files.extend(file.map(|path| OwnFile { path, reader: settings(true) }));
    for (directory, end, file) in [(DEVICES, ".devices", LvmFile::Settings), (PROFILES, ".profile", LvmFile::Profile)] {
        for name in root.names(directory)?.iter().filter(|name| name.ends_with(end)) {
            files.push(OwnFile { path: format!("{directory}/{name}"), reader: Reader::Lvm(file) });
        }
    }
    Ok(Configuration { source, files })
}

fn settings(is_system_id: bool) -> Reader {
    Reader::Lvm(if is_system_id { LvmFile::SystemId } else { LvmFile::Settings })
}

/// The groups of which a copy of the metadata says whether they have a system ID.
pub(in crate::analysis::machine) fn groups(root: &Root) -> Result<Vec<SystemId>> {
    let mut groups = Vec::new();
    // Packages make the directory root's alone: what cannot be read there is not known.
    for group in Root::if_allowed(root.names(BACKUPS))? {
        if let Some(text) = Root::if_allowed(root.text(&format!("{BACKUPS}/{group}")))? {
            let is_set = value(&text, "system_id").is_some_and(|value| !value.is_empty());
            groups.push(SystemId { group, is_set });
        }
    }
    Ok(groups)
}

/// The value of a setting, which has that name in one section only; the last that is not in a comment.
fn value(text: &str, name: &str) -> Option<String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    // Sections may be written as a part of the name, and several settings on a line with braces.
    let settings = lines.flat_map(|line| line.split(['{', '}']));
    let mut values = settings.filter_map(|setting| {
        let (key, value) = setting.split_once('=')?;
        let key = key.trim().rsplit('/').next().unwrap_or_default();
        (key == name).then(|| value.trim().trim_matches('"').to_owned())
    });
    values.next_back()
}

#[cfg(test)]
mod tests {
    use super::super::super::fixture::Fixture;
    use super::*;

    fn read_with(global: &str, local: &str) -> (Source, Vec<(String, bool)>) {
        let fixture = Fixture::new();
        fixture.write("etc/lvm/lvm.conf", global).write("etc/lvm/lvmlocal.conf", local);
        let read = read(&fixture.root()).unwrap();
        let files = read.files.into_iter().map(|file| (file.path, file.reader == settings(true))).collect();
        (read.source, files)
    }

    #[test]
    fn who_owns_groups_is_said_by_one_file_or_both() {
        let part = |path: &str, is_part| (path.to_owned(), is_part);
        let comment = "global {\n\t# system_id_source = \"uname\"\n}\n";
        assert_eq!(read_with(comment, ""), (Source::None, vec![part(GLOBAL, false), part(LOCAL, false)]));
        let uname = "global {\n\tsystem_id_source = \"uname\"\n}\n";
        assert_eq!(read_with(uname, ""), (Source::HostName, vec![part(GLOBAL, true), part(LOCAL, false)]));
        let local = "local {\n system_id = \"mine\"\n}\n";
        let lvmlocal = "global/system_id_source = \"lvmlocal\" # here\n";
        assert_eq!(read_with(lvmlocal, local), (Source::Files, vec![part(GLOBAL, true), part(LOCAL, true)]));
        assert_eq!(read_with("global { system_id_source = \"machineid\" }", "").0, Source::MachineId);
        let by_file = |path: &str| format!("global {{\nsystem_id_source=\"file\"\nsystem_id_file=\"{path}\"\n}}");
        assert_eq!(read_with(&by_file("/etc/lvm/lvm.conf"), "").1[2], part(GLOBAL, true));
        // What is not there, or no path, cannot go in.
        for path in ["/etc/lvm/id", "etc/lvm/lvm.conf", "é"] {
            assert_eq!(read_with(&by_file(path), "").1.len(), 2, "{path}");
        }
        assert_eq!(read_with(uname, "global {\nsystem_id_source = \"none\"\n}").0, Source::None);
    }

    #[test]
    fn copies_of_metadata_tell_whether_a_group_has_an_owner() {
        let fixture = Fixture::new();
        fixture.write("etc/lvm/backup/mine", "mine {\n\tid = \"x\"\n\tsystem_id = \"host\"\n}\n");
        fixture.write("etc/lvm/backup/all", "all {\n\tid = \"x\"\n}\n");
        let groups = groups(&fixture.root()).unwrap();
        let of = |group: &str, is_set| SystemId { group: group.to_owned(), is_set };
        assert_eq!(groups, [of("all", false), of("mine", true)]);
    }
}
