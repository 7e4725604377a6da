//! What `setup` is going to do: the machine in, findings and files out. Nothing is written here.

use anyhow::{Context, Result};

use super::command_line;
use super::crypttab;
use super::debian;
use super::dracut;
use super::finding::{Carried, Finding};
use super::initramfs_tools;
use super::install_conf::InstallConf;
use super::mkinitcpio;
use super::source::Source;
use super::survey::{self, Caller, Generator, Survey};
use crate::analysis::needs::Holdings;
use crate::host;
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// Where what is carried over goes.
pub const CONFIGURATION: &str = "/etc/ocinitrd/50-setup.toml";
/// Its name there.
pub const CONFIGURATION_NAME: &str = "50-setup.toml";
/// What a plugin that asks who is to make the initrd reads.
const ASKS: &str = "KERNEL_INSTALL_INITRD_GENERATOR";

/// A file that is to be written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlannedFile {
    /// Where, as an absolute path on the machine.
    pub path: String,
    /// What.
    pub bytes: Vec<u8>,
    /// What for.
    pub reason: String,
}

impl PlannedFile {
    /// A file.
    pub fn new(path: &str, bytes: Vec<u8>, reason: String) -> Self {
        PlannedFile { path: path.to_owned(), bytes, reason }
    }
}

/// What is going to be done.
#[derive(Debug)]
pub struct Plan {
    /// What is there.
    pub survey: Survey,
    /// What becomes of each setting of the generators that are there.
    pub findings: Vec<Finding>,
    /// The files of opt-in.
    pub files: Vec<PlannedFile>,
    /// What else is to be known.
    pub notes: Vec<String>,
}

impl Plan {
    /// Makes the plan for a machine. What an earlier run wrote is taken for what it was before, by `original`.
    ///
    /// # Errors
    /// Fails on a file that cannot be read.
    pub fn of(source: &Source, original: impl Fn(&str) -> Option<Option<Vec<u8>>>) -> Result<Self> {
        let conf = InstallConf::read(source, survey::systemd_version(source)?, original)?;
        let survey = Survey::of(source, &conf)?;
        let mut carried = Carried::default();
        let mut findings = Vec::new();
        for generator in &survey.generators {
            findings.extend(match generator {
                Generator::Dracut => dracut::findings(source, &mut carried)?,
                Generator::InitramfsTools => initramfs_tools::findings(source, &mut carried)?,
                Generator::Mkinitcpio => mkinitcpio::findings(source, &mut carried)?,
            });
        }
        findings.extend(crypttab::findings(source)?);
        findings.extend(command_line::findings(source)?);
        let mut files = Vec::new();
        if let Some(toml) = carried.toml() {
            let reason = "has what the old configuration asked for".to_owned();
            let text = format!(
                "# Written by `ocinitrd kernel-install setup` of the configuration of {}.\n{toml}",
                names(&survey)
            );
            files.push(PlannedFile::new(CONFIGURATION, text.into_bytes(), reason));
        }
        // Last: with it ours are made.
        files.extend(conf.opt_in(&survey.layout)?.map(|file| for_caller(file, survey.caller)));
        let notes = notes(source, &survey)?;
        Ok(Plan { survey, findings, files, notes })
    }

    /// Decides by what an initrd holds where that decides.
    pub fn resolve(&mut self, holdings: Option<&Holdings>) {
        for finding in &mut self.findings {
            holdings.iter().for_each(|holdings| finding.resolve(holdings));
        }
    }

    /// The text of the configuration of ours that is going to be written, if any is.
    pub fn configuration(&self) -> Option<&str> {
        let file = self.files.iter().find(|file| file.path == CONFIGURATION)?;
        std::str::from_utf8(&file.bytes).ok()
    }
}

/// The file of opt-in, with what it is for on this machine.
fn for_caller(file: PlannedFile, caller: Caller) -> PlannedFile {
    match caller {
        Caller::KernelInstall => file,
        Caller::DebianHooks => PlannedFile {
            reason: "has the hooks of kernel packages make initrds of ocinitrd's, behind all that was read before"
                .to_owned(),
            ..file
        },
    }
}

fn names(survey: &Survey) -> String {
    survey.generators.iter().map(|generator| generator.name()).collect::<Vec<_>>().join(" and ")
}

/// What other packages do beside.
fn notes(source: &Source, survey: &Survey) -> Result<Vec<String>> {
    let mut notes: Vec<String> = survey.caller_note.iter().cloned().collect();
    if survey.generators.contains(&Generator::Dracut) && !command_line::says_root(source)? {
        let note = "no root= is on the kernel's command line: dracut may have kept it in its initrd (hostonly_cmdline), ours finds the \
                    root by the type of its partition, or not at all; add root= to /etc/kernel/cmdline, or to the boot loader's options";
        notes.push(note.to_owned());
    }
    if survey.caller == Caller::DebianHooks {
        let note = format!(
            "each kernel keeps the initrd that it has until it is made again: `{} KVER` makes ours, and so does `update-initramfs -u -k KVER`",
            debian::POSTINST
        );
        notes.push(note);
        return Ok(notes);
    }
    let plugins = host::plugins(&source.path("/"));
    for (name, what) in [
        ("dracut", "makes an initrd of its own as well, which takes time and goes into no entry"),
        // 55-initrd.install on Debian 13, 85-initrd.install on Debian 12.
        ("initrd", "puts the /boot/initrd.img-KVER that Debian's hooks make into each entry beside ours"),
    ] {
        let Some(plugin) = host::named(&plugins, name) else { continue };
        let text = regular_file::read_text(plugin, TEXT_LIMIT_BYTES);
        let asks = text.with_context(|| format!("reading {}", plugin.display()))?.contains(ASKS);
        let file = plugin.file_name().unwrap_or_default().to_string_lossy();
        if !asks {
            notes.push(format!("{file} {what}: `ln -s /dev/null /etc/kernel/install.d/{file}` hides it"));
        }
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::machine::fixture::Fixture;

    #[test]
    fn a_plan_has_what_is_carried_over_first_and_the_opt_in_last() {
        let root = Fixture::new();
        root.write("usr/bin/dracut", "").write("etc/dracut.conf.d/a.conf", "add_drivers+=\" nvme \"\n");
        root.program("usr/lib/kernel/install.d/50-dracut.install", "#!/bin/bash\n").write("proc/cmdline", "quiet\n");
        assert!(
            Plan::of(&Source::open(root.path()).unwrap(), |_| None).unwrap().notes[0]
                .starts_with("no root= is on the kernel's")
        );
        root.write("etc/kernel/cmdline", "root=UUID=1\n");
        let plan = Plan::of(&Source::open(root.path()).unwrap(), |_| None).unwrap();
        let paths: Vec<&str> = plan.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, [CONFIGURATION, "/etc/kernel/install.conf"]);
        assert!(plan.configuration().unwrap().ends_with("of dracut.\nmodules = [\"nvme\"]\n"));
        assert!(
            plan.notes[0].ends_with("`ln -s /dev/null /etc/kernel/install.d/50-dracut.install` hides it"),
            "{:?}",
            plan.notes
        );
        root.link("etc/kernel/install.d/50-dracut.install", "/dev/null");
        assert!(Plan::of(&Source::open(root.path()).unwrap(), |_| None).unwrap().notes.is_empty());
        for name in ["55-initrd.install", "85-initrd.install"] {
            root.program(&format!("usr/lib/kernel/install.d/{name}"), "#!/bin/sh\n");
            let notes = Plan::of(&Source::open(root.path()).unwrap(), |_| None).unwrap().notes;
            assert!(
                notes[0].ends_with(&format!("`ln -s /dev/null /etc/kernel/install.d/{name}` hides it")),
                "{notes:?}"
            );
            root.link(&format!("etc/kernel/install.d/{name}"), "/dev/null");
        }
    }
}
