//! What is there on a machine: which systemd, layout, boot loader and generators, and who calls kernel-install.
//!
//! Only files are read, so that a directory can stand for a machine.

use std::fs;
use std::io::Read;

use anyhow::Result;
use serde::Serialize;

use super::debian;
use super::dracut;
use super::initramfs_tools;
use super::install_conf::InstallConf;
use super::mkinitcpio;
use super::source::Source;
use crate::host;
use ocinitrd_format::os_release::{self, OsRelease};
use ocinitrd_support::regular_file;

const KERNEL_INSTALL: [&str; 2] = ["/usr/bin/kernel-install", "/bin/kernel-install"];
/// Where boot entries may be, as kernel-install looks for them.
const BOOT: [&str; 3] = ["/boot", "/efi", "/boot/efi"];
/// Where systemd's shared library is, whose name has its version.
const LIBRARIES: [&str; 2] = ["/usr/lib/systemd", "/usr/lib64/systemd"];
const LIBRARY: &str = "libsystemd-shared-";

/// What is there.
#[derive(Clone, Debug, Serialize)]
pub struct Survey {
    /// Whether kernel-install is installed.
    pub has_kernel_install: bool,
    /// Whether our plugin of it is.
    pub has_plugin: bool,
    /// Who has the initrd made when a kernel is installed.
    pub caller: Caller,
    /// Whether our hooks of Debian's kernel packages are installed.
    pub has_hooks: bool,
    /// The version of systemd, if it can be told.
    pub systemd: Option<u32>,
    /// What entries look like: `bls`, `uki` or `other`.
    pub layout: String,
    /// What says so.
    pub layout_by: String,
    /// Where entries are put.
    pub boot: String,
    /// The boot loaders.
    pub loaders: Vec<Loader>,
    /// The generators of initrds that are installed.
    pub generators: Vec<Generator>,
    /// The generator that install.conf names.
    pub initrd_generator: Option<String>,
    /// What keeps kernel packages from calling kernel-install, if something does.
    pub caller_note: Option<String>,
}

/// Who has the initrd of a kernel made.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Caller {
    /// kernel-install, by its plugins.
    KernelInstall,
    /// The hooks of Debian's kernel packages.
    DebianHooks,
}

/// A boot loader.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loader {
    /// systemd-boot, which reads entries.
    SystemdBoot,
    /// GRUB, which reads entries.
    GrubWithEntries,
    /// GRUB with a menu of its own.
    Grub,
}

impl Loader {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Loader::SystemdBoot => "systemd-boot",
            Loader::GrubWithEntries => "GRUB with boot loader entries",
            Loader::Grub => "GRUB",
        }
    }

    /// Whether it shows a file in `loader/entries`.
    pub fn reads_entries(self) -> bool {
        self != Loader::Grub
    }
}

/// A generator of initrds.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Generator {
    /// dracut.
    Dracut,
    /// Debian's initramfs-tools.
    InitramfsTools,
    /// Arch's mkinitcpio.
    Mkinitcpio,
}

impl Generator {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Generator::Dracut => "dracut",
            Generator::InitramfsTools => "initramfs-tools",
            Generator::Mkinitcpio => "mkinitcpio",
        }
    }
}

impl Survey {
    /// Looks at a machine.
    ///
    /// # Errors
    /// Fails on a file that is there and cannot be read.
    pub fn of(source: &Source, conf: &InstallConf) -> Result<Self> {
        let token = entry_token(source)?;
        let boot = match conf.value("BOOT_ROOT") {
            Some((_, boot)) => boot.to_owned(),
            None => boot(source, &token),
        };
        let (layout, layout_by) = layout(source, conf, &boot, &token)?;
        let generators = [
            (Generator::Dracut, dracut::is_there(source)),
            (Generator::InitramfsTools, initramfs_tools::is_there(source)),
            (Generator::Mkinitcpio, mkinitcpio::is_there(source)),
        ];
        let plugins = host::plugins(&source.path("/"));
        let loaders = loaders(source)?;
        let has_grub_plugin = host::named(&plugins, "grub").is_some();
        let is_by_hooks = debian::is_by_hooks(source, &layout, &loaders, has_grub_plugin);
        Ok(Survey {
            has_kernel_install: KERNEL_INSTALL.iter().any(|path| source.has(path)),
            has_plugin: host::named(&plugins, "ocinitrd").is_some(),
            caller: if is_by_hooks { Caller::DebianHooks } else { Caller::KernelInstall },
            has_hooks: debian::has_hooks(source),
            systemd: systemd_version(source)?,
            layout,
            layout_by,
            boot,
            loaders,
            generators: generators.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect(),
            initrd_generator: conf.value("initrd_generator").map(|(_, value)| value.to_owned()),
            caller_note: if is_by_hooks { None } else { caller_note(source)? },
        })
    }
}

/// The version of systemd. Before 254 kernel-install is a script.
///
/// # Errors
/// Fails when a directory that is there cannot be read.
pub fn systemd_version(source: &Source) -> Result<Option<u32>> {
    let mut magic = [0; 2];
    let script = KERNEL_INSTALL.iter().find_map(|path| regular_file::open(&source.path(path)).ok());
    if script.is_some_and(|mut file| file.read_exact(&mut magic).is_ok()) && magic == *b"#!" {
        return Ok(versions(source)?.into_iter().filter(|version| *version < 254).max());
    }
    Ok(versions(source)?.into_iter().max())
}

/// The versions in the names of systemd's libraries.
fn versions(source: &Source) -> Result<Vec<u32>> {
    let mut directories: Vec<String> = LIBRARIES.map(str::to_owned).into();
    directories.extend(
        source
            .names("/usr/lib")?
            .into_iter()
            .filter(|name| name.contains("-linux-"))
            .map(|name| format!("/usr/lib/{name}/systemd")),
    );
    let mut versions = Vec::new();
    for directory in directories {
        for name in source.names(&directory)? {
            let Some(rest) = name.strip_prefix(LIBRARY) else { continue };
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            versions.extend(digits.parse::<u32>());
        }
    }
    Ok(versions)
}

/// What entries are called.
fn entry_token(source: &Source) -> Result<String> {
    for path in ["/etc/kernel/entry-token", "/etc/machine-id"] {
        if let Some(token) = source.text(path)?.map(|text| text.trim().to_owned()).filter(|token| !token.is_empty()) {
            return Ok(token);
        }
    }
    Ok("Default".to_owned())
}

/// What the system calls itself.
///
/// # Errors
/// Fails on a file that is there and cannot be read.
pub fn os_release(source: &Source) -> Result<OsRelease> {
    for path in os_release::PATHS {
        if let Some(text) = source.text(path)? {
            return Ok(OsRelease::parse(&text));
        }
    }
    Ok(OsRelease::default())
}

fn boot(source: &Source, token: &str) -> String {
    let has_entries =
        |boot: &&str| source.has(&format!("{boot}/loader/entries")) || source.has(&format!("{boot}/{token}"));
    BOOT.into_iter().find(has_entries).unwrap_or(BOOT[0]).to_owned()
}

fn layout(source: &Source, conf: &InstallConf, boot: &str, token: &str) -> Result<(String, String)> {
    if let Some((place, layout)) = conf.value("layout").filter(|(_, layout)| *layout != "auto") {
        return Ok((layout.to_owned(), place.to_string()));
    }
    let kind = format!("{boot}/loader/entries.srel");
    if let Some(text) = source.text(&kind)? {
        return Ok((if text.trim() == "type1" { "bls" } else { "other" }.to_owned(), kind));
    }
    let directory = format!("{boot}/{token}");
    if source.path(&directory).is_dir() {
        return Ok(("bls".to_owned(), directory));
    }
    Ok(("other".to_owned(), format!("there is no {directory}")))
}

fn loaders(source: &Source) -> Result<Vec<Loader>> {
    let mut loaders = Vec::new();
    let has_systemd_boot = BOOT.iter().any(|boot| {
        let names = fs::read_dir(source.path(&format!("{boot}/EFI/systemd"))).into_iter().flatten().flatten();
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).any(|name| name.starts_with("systemd-boot"))
    });
    if has_systemd_boot {
        loaders.push(Loader::SystemdBoot);
    }
    if ["/boot/grub2", "/boot/grub"].iter().any(|path| source.has(path)) {
        let settings = source.text("/etc/default/grub")?.unwrap_or_default();
        let has_entries =
            settings.lines().any(|line| line.trim().replace(['"', '\''], "") == "GRUB_ENABLE_BLSCFG=true");
        loaders.push(if has_entries { Loader::GrubWithEntries } else { Loader::Grub });
    }
    Ok(loaders)
}

/// Whether a package of a kernel that is installed calls kernel-install; a note where that is not so.
fn caller_note(source: &Source) -> Result<Option<String>> {
    if debian::is_there(source) {
        return Ok((!debian::has_caller(source)).then(|| {
            "kernel packages of Debian call kernel-install only where the package systemd-boot is installed: without it, \
             `kernel-install add` has to be run for each new kernel"
                .to_owned()
        }));
    }
    if source.has("/var/lib/pacman") {
        let mut calls = false;
        for directory in ["/etc/pacman.d/hooks", "/usr/share/libalpm/hooks"] {
            for name in source.names(directory)? {
                calls |=
                    source.text(&format!("{directory}/{name}"))?.is_some_and(|text| text.contains("kernel-install"));
            }
        }
        return Ok((!calls).then(|| {
            "no hook of pacman calls kernel-install: mkinitcpio's make its initrds as before, and `kernel-install add` has to be \
             run for each new kernel"
                .to_owned()
        }));
    }
    Ok(os_release(source)?.is_like("suse").then(|| {
        "kernel packages of openSUSE make initrds with dracut by themselves: `kernel-install add` has to be run for each new kernel".to_owned()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::machine::fixture::Fixture;

    fn survey(root: &Fixture) -> Survey {
        let source = Source::open(root.path()).unwrap();
        let systemd = systemd_version(&source).unwrap();
        let conf = InstallConf::read(&source, systemd, |_| None).unwrap();
        Survey::of(&source, &conf).unwrap()
    }

    #[test]
    fn fedora_with_grub() {
        let root = Fixture::new();
        root.write("usr/bin/kernel-install", "\x7fELF")
            .write("usr/lib64/systemd/libsystemd-shared-257.9-1.fc42.so", "");
        root.write("usr/bin/dracut", "")
            .write("etc/machine-id", "0c1d\n")
            .write("etc/default/grub", "GRUB_ENABLE_BLSCFG=\"true\"\n");
        root.directory("boot/grub2")
            .write("boot/loader/entries/0c1d-6.1.conf", "")
            .write("etc/os-release", "ID=fedora\n");
        let survey = survey(&root);
        assert_eq!((survey.systemd, survey.layout.as_str(), survey.boot.as_str()), (Some(257), "other", "/boot"));
        assert_eq!(
            (&survey.loaders[..], &survey.generators[..]),
            (&[Loader::GrubWithEntries][..], &[Generator::Dracut][..])
        );
        assert!(survey.has_kernel_install && !survey.has_plugin && survey.caller_note.is_none());
    }

    #[test]
    fn suse_is_known_by_its_name_and_by_what_it_was_made_of() {
        for (path, text, is_suse) in [
            ("etc/os-release", "ID=\"opensuse-tumbleweed\"\nID_LIKE='opensuse suse'\n", true),
            ("usr/lib/os-release", "ID=sles\nID_LIKE=suse\n", true),
            ("etc/os-release", "ID=fedora\nHOME_URL=\"https://suse.example\"\n", false),
        ] {
            let root = Fixture::new();
            root.write(path, text);
            let note = caller_note(&Source::open(root.path()).unwrap()).unwrap();
            assert_eq!(note.is_some_and(|note| note.contains("openSUSE")), is_suse, "{text}");
        }
    }

    #[test]
    fn debian_with_systemd_boot_and_an_old_kernel_install() {
        let root = Fixture::new();
        root.write("usr/bin/kernel-install", "#!/bin/sh\n")
            .write("usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-252.so", "");
        root.write("usr/sbin/update-initramfs", "")
            .write("usr/sbin/mkinitramfs", "")
            .write("var/lib/dpkg/status", "")
            .write("etc/machine-id", "0c1d\n");
        root.directory("efi/0c1d").write("efi/EFI/systemd/systemd-bootx64.efi", "").directory("boot/grub");
        root.program("etc/kernel/install.d/50-ocinitrd.install", "");
        let debian = survey(&root);
        assert_eq!((debian.systemd, debian.layout.as_str(), debian.boot.as_str()), (Some(252), "bls", "/efi"));
        assert_eq!(debian.loaders, [Loader::SystemdBoot, Loader::Grub]);
        assert!(debian.has_plugin && debian.caller_note.unwrap().contains("systemd-boot"));
        root.write("etc/kernel/postinst.d/zz-systemd-boot", "").write("efi/loader/entries.srel", "type1\n");
        let debian = survey(&root);
        assert_eq!((debian.layout_by.as_str(), debian.caller_note), ("/efi/loader/entries.srel", None));
        root.write("etc/kernel/install.conf", "layout=uki\n");
        assert_eq!(survey(&root).layout_by, "/etc/kernel/install.conf:1");
    }

    #[test]
    fn hooks_make_initrds_where_no_kernel_install_does() {
        let root = Fixture::new();
        let caller = || survey(&root).caller;
        root.directory("boot/grub").write("usr/bin/kernel-install", "\x7fELF");
        assert_eq!(caller(), Caller::KernelInstall, "not Debian");
        root.write("var/lib/dpkg/status", "");
        let debian = survey(&root);
        assert_eq!((debian.caller, debian.caller_note, debian.has_hooks), (Caller::DebianHooks, None, false));
        for path in
            ["etc/kernel/postinst.d/ocinitrd", "etc/kernel/postrm.d/ocinitrd", "etc/initramfs/post-update.d/ocinitrd"]
        {
            root.program(path, "#!/bin/sh\n");
        }
        assert!(survey(&root).has_hooks);
        // The package's hook does nothing until systemd-boot itself is on the boot partition.
        root.write("usr/share/kernel/postinst.d/zz-systemd-boot", "");
        assert_eq!(caller(), Caller::DebianHooks);
        root.write("boot/efi/EFI/systemd/systemd-bootx64.efi", "");
        assert_eq!(caller(), Caller::KernelInstall);
        fs::remove_dir_all(root.path().join("boot/efi/EFI")).unwrap();
        for layout in ["bls", "uki"] {
            root.write("etc/kernel/install.conf", &format!("layout={layout}\n"));
            assert_eq!(caller(), Caller::KernelInstall, "{layout}");
        }
        root.write("etc/kernel/install.conf", "layout=other\n");
        assert_eq!(caller(), Caller::DebianHooks);
        root.program("etc/kernel/install.d/20-grub.install", "#!/bin/sh\n");
        assert_eq!(caller(), Caller::KernelInstall);
    }
}
