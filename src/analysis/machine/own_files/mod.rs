//! The files of a machine that programs of an initrd read: what is there in, each with who reads it and what it decides out.
//!
//! | file | who reads it in an initrd |
//! |---|---|
//! | `/etc/hostname` | systemd; by the host's name mdadm knows its own arrays, and LVM its own groups |
//! | `mdadm.conf` | mdadm |
//! | `/etc/lvm` | LVM |
//! | `/etc/udev/rules.d` | udev, which makes the links that `root=` may name ([`rules`]) |
//! | `/etc/systemd/network/*.link` | udev, which names network cards |
//! | `/etc/multipath*` | multipathd |
//! | `/etc/nvme`, `/etc/iscsi` | what asks other machines for disks |
//! | `/etc/adjtime` | systemd, which asks whether the clock shows local time |
//!
//! Tables of volumes are in [`super::crypttab`], keymaps in [`crate::image::vconsole`].

mod lvm;
mod rules;

use std::path::Path;

use anyhow::Result;

use super::arrays;
use super::kernel_options::KernelOptions;
use super::root::Root;
pub(in crate::analysis::machine) use lvm::groups;
pub use lvm::{LvmFile, SystemId};

const HOST_NAME: &str = "/etc/hostname";
const MACHINE_ID: &str = "/etc/machine-id";
const MDADM: [&str; 2] = ["/etc/mdadm.conf", "/etc/mdadm/mdadm.conf"];
const MDADM_DIRECTORIES: [&str; 2] = ["/etc/mdadm.conf.d", "/etc/mdadm/mdadm.conf.d"];
const RULES: &str = "/etc/udev/rules.d";
/// The rules of a vendor that name network cards: one of this name in `/etc` keeps the names that the kernel gives them.
const NET_NAMES: &str = "80-net-setup-link.rules";
const LINKS: &str = "/etc/systemd/network";
const ADJTIME: &str = "/etc/adjtime";
const LOCAL_TIME: &str = "/etc/localtime";
const NBFT: &str = "/sys/firmware/acpi/tables";
const IBFT: &str = "/sys/firmware/ibft";

/// A file, or a directory with all below it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnFile {
    /// Where the machine has it.
    pub path: String,
    /// Who reads it, and what it decides.
    pub reader: Reader,
}

/// Who reads a file in an initrd, and what it decides there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reader {
    /// Who asks for the name of the host.
    HostName {
        /// Whether mdadm knows this host's arrays by it.
        names_arrays: bool,
        /// Whether LVM knows this host's groups by it.
        is_system_id: bool,
    },
    /// mdadm; the names of the arrays that have a line.
    Mdadm(Vec<String>),
    /// LVM.
    Lvm(LvmFile),
    /// udev; the links that its rules make, with `*` for what they fill in.
    Rules(Vec<String>),
    /// udev, for the names of network cards; whether the kernel's command line has the name that it gives.
    Link(bool),
    /// multipathd, which most distributions do not start without it.
    Multipath,
    /// multipathd; the names that it gives to disks, and what it found.
    MultipathNames(Vec<String>),
    /// The client of NVMe over a network; whether the firmware says the same.
    NvmeHost(bool),
    /// The same; where the disks are, and keys.
    NvmeTargets,
    /// The client of iSCSI; whether the firmware says the same.
    IscsiName(bool),
    /// The same; its settings, which may have a password.
    IscsiSettings,
    /// systemd, since the hardware's clock shows local time.
    Clock,
    /// systemd-vconsole-setup.
    Console,
}

impl OwnFile {
    /// Whether its rules may make that link: a path below `/dev`.
    pub fn makes(&self, link: &str) -> bool {
        let name = link.strip_prefix("/dev/").unwrap_or(link);
        matches!(&self.reader, Reader::Rules(links) if links.iter().any(|pattern| rules::fits(pattern, name)))
    }
}

impl Reader {
    /// The name of the program.
    pub fn program(&self) -> &'static str {
        match self {
            Reader::HostName { .. } | Reader::Clock => "systemd",
            Reader::Mdadm(_) => "mdadm",
            Reader::Lvm(_) => "LVM",
            Reader::Rules(_) | Reader::Link(_) => "udev",
            Reader::Multipath | Reader::MultipathNames(_) => "multipathd",
            Reader::NvmeHost(_) | Reader::NvmeTargets => "nvme",
            Reader::IscsiName(_) | Reader::IscsiSettings => "iscsid",
            Reader::Console => "systemd-vconsole-setup",
        }
    }

    /// Whether its files may hold passwords whatever their modes are.
    pub fn has_secrets(&self) -> bool {
        matches!(self, Reader::NvmeTargets | Reader::IscsiSettings)
    }
}

/// The files of a machine of which nothing else is known, as where it is installed by another: all that are there, but the name of
/// the host only if the root is found by it.
///
/// # Errors
/// Fails when one of those that are read for what they decide cannot be read.
pub fn own_files(directory: &Path) -> Result<Vec<OwnFile>> {
    let root = Root::open(directory)?;
    let options = KernelOptions::read(&root)?;
    let mut files = read(&root, &options)?;
    let is_on_array = options.values("root").any(|path| arrays::array_name(path).is_some());
    files.retain(|file| match file.reader {
        Reader::HostName { is_system_id, .. } => is_system_id || is_on_array,
        _ => true,
    });
    Ok(files)
}

pub(super) fn read(root: &Root, options: &KernelOptions) -> Result<Vec<OwnFile>> {
    let mut files = Files { root, found: Vec::new() };
    files.add_names()?;
    files.add_rules()?;
    files.add_links(options)?;
    files.add_if_there("/etc/multipath.conf", Reader::Multipath);
    files.add_if_there("/etc/multipath/conf.d", Reader::MultipathNames(Vec::new()));
    for name in ["bindings", "wwids", "prkeys"] {
        files.add_names_of_paths(&format!("/etc/multipath/{name}"))?;
    }
    files.add_network_disks()?;
    files.add_clock()?;
    files.add_if_there("/etc/vconsole.conf", Reader::Console);
    Ok(files.found)
}

struct Files<'a> {
    root: &'a Root,
    found: Vec<OwnFile>,
}

impl Files<'_> {
    fn add(&mut self, path: String, reader: Reader) {
        self.found.push(OwnFile { path, reader });
    }

    fn add_if_there(&mut self, path: &str, reader: Reader) {
        if self.root.has(path) {
            self.add(path.to_owned(), reader);
        }
    }

    /// The files of a directory whose names end so, as paths.
    fn listed(&self, directory: &str, end: &str) -> Result<Vec<String>> {
        let names = self.root.names(directory)?.into_iter().filter(|name| name.ends_with(end));
        Ok(names.map(|name| format!("{directory}/{name}")).collect())
    }

    /// What says the names of arrays and who owns groups of volumes: the host's name is part of both.
    fn add_names(&mut self) -> Result<()> {
        let mut has_home_host = false;
        let mut paths: Vec<String> = MDADM.map(str::to_owned).to_vec();
        for directory in MDADM_DIRECTORIES {
            paths.extend(self.listed(directory, ".conf")?);
        }
        for path in paths {
            let Some(text) = self.root.text(&path)? else { continue };
            let said = arrays::Configuration::parse(&text);
            has_home_host |= said.has_home_host;
            self.add(path, Reader::Mdadm(said.names));
        }
        let lvm = lvm::read(self.root)?;
        let is_by_host_name = lvm.source == lvm::Source::HostName;
        self.found.extend(lvm.files);
        if let lvm::Source::MachineId = lvm.source {
            self.add_if_there(MACHINE_ID, Reader::Lvm(LvmFile::SystemId));
        }
        if self.root.text(HOST_NAME)?.is_some_and(|text| says_name(&text)) {
            let names_arrays = !has_home_host;
            self.add(HOST_NAME.to_owned(), Reader::HostName { names_arrays, is_system_id: is_by_host_name });
        }
        Ok(())
    }

    /// Rules that name something: others, such as those that start programs of the system, are left to it.
    fn add_rules(&mut self) -> Result<()> {
        for path in self.listed(RULES, ".rules")? {
            let links = rules::links(&self.root.text(&path).ok().flatten().unwrap_or_default());
            if !links.is_empty() || path.ends_with(NET_NAMES) {
                self.add(path, Reader::Rules(links));
            }
        }
        Ok(())
    }

    fn add_links(&mut self, options: &KernelOptions) -> Result<()> {
        for path in self.listed(LINKS, ".link")? {
            let text = self.root.text(&path)?.unwrap_or_default();
            let name = text.lines().filter_map(|line| line.trim().strip_prefix("Name=")).next_back();
            self.add(path, Reader::Link(name.is_some_and(|name| options.mentions(name.trim()))));
        }
        for path in self.listed(LINKS, ".link.d")? {
            self.add(path, Reader::Link(false));
        }
        Ok(())
    }

    /// Lines of the bindings begin with a name, those of the other files do not have any.
    fn add_names_of_paths(&mut self, path: &str) -> Result<()> {
        let Some(text) = Root::if_allowed(self.root.text(path))? else { return Ok(()) };
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let names = lines.filter_map(|line| line.split_once(' ')).map(|(name, _)| name.to_owned());
        let names = if path.ends_with("bindings") { names.collect() } else { Vec::new() };
        self.add(path.to_owned(), Reader::MultipathNames(names));
        Ok(())
    }

    fn add_network_disks(&mut self) -> Result<()> {
        let is_in_firmware = self.root.names(NBFT)?.iter().any(|name| name.starts_with("NBFT"));
        for name in ["hostnqn", "hostid"] {
            self.add_if_there(&format!("/etc/nvme/{name}"), Reader::NvmeHost(is_in_firmware));
        }
        for name in ["discovery.conf", "config.json"] {
            self.add_if_there(&format!("/etc/nvme/{name}"), Reader::NvmeTargets);
        }
        let is_in_firmware = self.root.has(IBFT);
        self.add_if_there("/etc/iscsi/initiatorname.iscsi", Reader::IscsiName(is_in_firmware));
        self.add_if_there("/etc/iscsi/iscsid.conf", Reader::IscsiSettings);
        Ok(())
    }

    /// The hardware's clock shows UTC unless the third line says otherwise: hwclock(8).
    fn add_clock(&mut self) -> Result<()> {
        let text = self.root.text(ADJTIME)?.unwrap_or_default();
        if text.lines().nth(2).is_some_and(|line| line.trim() == "LOCAL") {
            self.add(ADJTIME.to_owned(), Reader::Clock);
            self.add_if_there(LOCAL_TIME, Reader::Clock);
        }
        Ok(())
    }
}

/// Whether the text of `/etc/hostname` has a name: comments do not count.
fn says_name(text: &str) -> bool {
    text.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::super::kernel_options::parse;
    use super::*;

    fn found(fixture: &Fixture, options: &str) -> Vec<OwnFile> {
        read(&fixture.root(), &parse(options)).unwrap()
    }

    fn paths(files: &[OwnFile]) -> Vec<&str> {
        files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn a_machine_without_such_files_has_none() {
        let fixture = Fixture::new();
        assert!(found(&fixture, "").is_empty());
        fixture.write("etc/hostname", "# none\n\n").write("etc/adjtime", "0.0 0 0.0\n0\nUTC\n");
        fixture.write("etc/udev/rules.d/99-run.rules", "ACTION==\"add\", RUN+=\"/usr/bin/x\"\n");
        assert!(found(&fixture, "").is_empty());
    }

    #[test]
    fn the_name_of_who_installs_a_machine_stays_out_unless_its_root_is_found_by_it() {
        let fixture = Fixture::new();
        fixture.write("etc/hostname", "myhost\n").write("etc/kernel/cmdline", "root=LABEL=root\n");
        assert!(own_files(fixture.path()).unwrap().is_empty());
        fixture.write("etc/kernel/cmdline", "root=/dev/md0\n");
        assert_eq!(paths(&own_files(fixture.path()).unwrap()), ["/etc/hostname"]);
    }

    #[test]
    fn the_host_s_name_counts_for_arrays_unless_mdadm_is_told_another() {
        let fixture = Fixture::new();
        fixture.write("etc/hostname", "myhost\n").write("etc/mdadm/mdadm.conf", "HOMEHOST <system>\nARRAY /dev/md0\n");
        let files = found(&fixture, "");
        assert_eq!(paths(&files), ["/etc/mdadm/mdadm.conf", "/etc/hostname"]);
        assert_eq!(files[0].reader, Reader::Mdadm(vec!["0".to_owned()]));
        assert_eq!(files[1].reader, Reader::HostName { names_arrays: true, is_system_id: false });
        fixture.write("etc/mdadm.conf.d/home.conf", "HOMEHOST other\n").write("etc/mdadm.conf.d/notes", "");
        let files = found(&fixture, "");
        assert_eq!(paths(&files), ["/etc/mdadm/mdadm.conf", "/etc/mdadm.conf.d/home.conf", "/etc/hostname"]);
        assert_eq!(files[2].reader, Reader::HostName { names_arrays: false, is_system_id: false });
    }

    #[test]
    fn rules_and_links_that_name_things_are_found() {
        let fixture = Fixture::new();
        fixture.write("etc/udev/rules.d/60-disk.rules", "KERNEL==\"sda\", SYMLINK+=\"rootdisk\"\n");
        fixture.link("etc/udev/rules.d/80-net-setup-link.rules", "/dev/null");
        fixture.write("etc/systemd/network/10-lan.link", "[Match]\nMACAddress=1\n[Link]\nName=lan0\n");
        fixture.write("etc/systemd/network/20-x.network", "");
        fixture.write("etc/systemd/network/99-default.link.d/a.conf", "");
        let files = found(&fixture, "root=/dev/nfs ip=lan0:dhcp");
        let readers: Vec<_> = files.iter().map(|file| file.reader.clone()).collect();
        assert!(files[0].makes("/dev/rootdisk") && !files[0].makes("/dev/sda") && !files[2].makes("/dev/lan0"));
        let link = |name: &str| Reader::Rules(vec![name.to_owned()]);
        assert_eq!(readers, [link("rootdisk"), Reader::Rules(Vec::new()), Reader::Link(true), Reader::Link(false)]);
        assert_eq!(found(&fixture, "ip=dhcp")[2].reader, Reader::Link(false));
    }

    #[test]
    fn names_of_disks_with_several_ways_are_found() {
        let fixture = Fixture::new();
        fixture.write("etc/multipath.conf", "").write("etc/multipath/wwids", "# x\n/3600/\n");
        fixture.write("etc/multipath/bindings", "# alias wwid\nmpatha 3600\n").write("etc/multipath/conf.d/a.conf", "");
        let files = found(&fixture, "");
        assert_eq!(paths(&files)[1..], ["/etc/multipath/conf.d", "/etc/multipath/bindings", "/etc/multipath/wwids"]);
        assert_eq!(files[2].reader, Reader::MultipathNames(vec!["mpatha".to_owned()]));
    }

    #[test]
    fn a_clock_that_shows_local_time_needs_the_zone() {
        let fixture = Fixture::new();
        fixture.write("etc/adjtime", "0.0 0 0.0\n0\nLOCAL\n").write("etc/localtime", "TZif");
        assert_eq!(paths(&found(&fixture, "")), ["/etc/adjtime", "/etc/localtime"]);
    }

    #[test]
    fn who_asks_other_machines_for_disks_has_a_name_there() {
        let fixture = Fixture::new();
        for name in
            ["nvme/hostnqn", "nvme/hostid", "nvme/config.json", "iscsi/initiatorname.iscsi", "iscsi/iscsid.conf"]
        {
            fixture.write(&format!("etc/{name}"), "x");
        }
        let files = found(&fixture, "");
        let secrets: Vec<_> = files.iter().filter(|file| file.reader.has_secrets()).map(|file| &file.path).collect();
        assert_eq!(secrets, ["/etc/nvme/config.json", "/etc/iscsi/iscsid.conf"]);
        assert_eq!((&files[0].reader, &files[3].reader), (&Reader::NvmeHost(false), &Reader::IscsiName(false)));
        fixture.write("sys/firmware/acpi/tables/NBFT1", "").directory("sys/firmware/ibft");
        let files = found(&fixture, "");
        assert_eq!((&files[0].reader, &files[3].reader), (&Reader::NvmeHost(true), &Reader::IscsiName(true)));
    }
}
