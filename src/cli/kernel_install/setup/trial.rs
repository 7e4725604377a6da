//! The trial: an initrd for a kernel that is there, checked, and the entry that starts it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use indicatif::DecimalBytes;

use super::super::base::{Bases, OWN, SHIPPED};
use super::super::space::SPARE_BYTES;
use super::super::{check_needs, warnings};
use super::Arguments;
use crate::analysis::needs::Holdings;
use crate::host::{self, Configuration, Request, Search};
use crate::migration::entry;
use crate::migration::{self, Change, Content, Plan, PlannedFile, Source};
use ocinitrd_support::output::{MODE_PRIVATE, MODE_PUBLIC, TemporaryDirectory, create_new};
use ocinitrd_support::progress::Progress;

/// A trial that was made, as far as it could be.
#[derive(Debug, Default)]
pub struct Trial {
    /// The kernel.
    pub kernel_version: String,
    /// The initrd's size in bytes and how many modules it has, if one was made.
    pub made: Option<(u64, usize)>,
    /// Where the initrd goes, if it does.
    pub initrd: Option<String>,
    /// The entry, if there is one.
    pub entry: Option<PlannedFile>,
    /// How to start it.
    pub start: Option<String>,
    /// Why there is no initrd or no entry.
    pub reason: Option<String>,
    /// What the initrd holds.
    pub holdings: Option<Holdings>,
    /// What a person should know of it.
    pub warnings: Vec<String>,
    /// Where the initrd is until then.
    directory: Option<TemporaryDirectory>,
}

impl Trial {
    /// What is to be written of it.
    pub fn changes(&self) -> Vec<Change> {
        let (Some(directory), Some(path)) = (&self.directory, &self.initrd) else { return Vec::new() };
        let initrd =
            Change { path: path.clone(), content: Content::File(directory.path().join("initrd")), mode: MODE_PRIVATE };
        let entry = self.entry.iter().map(|file| Change {
            path: file.path.clone(),
            content: Content::Bytes(file.bytes.clone()),
            mode: MODE_PUBLIC,
        });
        [initrd].into_iter().chain(entry).collect()
    }
}

/// Makes the initrd, as it will be made with the files that are planned, and checks it.
///
/// # Errors
/// Fails where there is no base, when the initrd cannot be made, and when it lacks what the machine needs.
pub fn make(
    arguments: &Arguments,
    plan: &Plan,
    planned: BTreeMap<String, Option<String>>,
    progress: &Progress,
) -> Result<Trial> {
    let root = &arguments.root;
    let kernel_version = arguments.kernel_version.clone().unwrap_or_else(running_kernel);
    let mut trial = Trial { kernel_version: kernel_version.clone(), ..Trial::default() };
    let configuration = Configuration::read_with(root, planned)?;
    if let Search::Wanting { reason, .. } = host::base(root, &configuration)? {
        match &configuration.build {
            None => {
                let image = image_of_system(&Source::open(root)?)?;
                bail!(
                    "{reason:#}; build one with `ocinitrd build {image} -t base -O /var/lib/ocinitrd/bases/{image}`, or have it built \
                     by setup, with build = \"{image}\" in /etc/ocinitrd/host.toml"
                )
            }
            Some(image) if arguments.dry_run => {
                trial.reason =
                    Some(format!("{reason:#}: one of {image} is built first, as build of /etc/ocinitrd says"));
                return Ok(trial);
            }
            Some(_) => {}
        }
    }
    let base = Bases { root, progress }.provide(&configuration)?;
    let directory = TemporaryDirectory::create_in_temporary("ocinitrd-setup-")?;
    let path = directory.path().join("initrd");
    let mut file = create_new(&path).with_context(|| format!("creating {}", path.display()))?;
    let request = Request { root, kernel_version: &kernel_version, configuration: &configuration };
    let hint = || format!("making an initrd for {kernel_version} (--kernel-version names another kernel)");
    let made = host::write(&request, &base, &mut file, progress).with_context(hint)?;
    let holdings = check_needs(&made, &path)?;
    trial.warnings = warnings(&made, &holdings);
    trial.made = Some((made.size_bytes, made.installed.modules.len()));
    trial.holdings = Some(holdings);
    trial.directory = Some(directory);
    place(arguments, plan, made.size_bytes, &mut trial)?;
    Ok(trial)
}

/// The kernel that runs, as `uname -r` prints it.
pub fn running_kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The image that is for this system, where one is there; else what stands for any.
fn image_of_system(source: &Source) -> Result<String> {
    let system = migration::os_release(source)?;
    // What is released all the time, such as Arch, has no version.
    let parts = [Some(system.id()), system.value("VERSION_ID")];
    let image = parts.into_iter().flatten().collect::<Vec<_>>().join("-");
    let places = [format!("/{OWN}/images/{image}.toml"), format!("/{SHIPPED}/{image}.toml")];
    let is_there = places.iter().any(|path| source.has(path));
    Ok(if is_there { image } else { "IMAGE".to_owned() })
}

/// Where it goes, if it does.
fn place(arguments: &Arguments, plan: &Plan, size_bytes: u64, trial: &mut Trial) -> Result<()> {
    let source = Source::open(&arguments.root)?;
    if arguments.no_trial {
        trial.reason = Some("--no-trial".to_owned());
        return Ok(());
    }
    let boot = source.path(&plan.survey.boot);
    let room = match rustix::fs::statvfs(&boot) {
        Ok(facts) => facts.f_bavail * facts.f_frsize,
        Err(_) => {
            trial.reason = Some(format!("there is no {}", boot.display()));
            return Ok(());
        }
    };
    if room < size_bytes + SPARE_BYTES {
        let (room, size) = (DecimalBytes(room), DecimalBytes(size_bytes + SPARE_BYTES));
        trial.reason = Some(format!("{} has {room} free, and it takes {size}: remove an old kernel", boot.display()));
        return Ok(());
    }
    trial.initrd = Some(entry::initrd_path(&plan.survey, &trial.kernel_version));
    match entry::trial(&source, &plan.survey, &trial.kernel_version)? {
        Ok(file) => {
            trial.start = Some(entry::how_to_start(&plan.survey, &file.path, &trial.kernel_version));
            trial.entry = Some(file);
        }
        Err(reason) => trial.reason = Some(reason),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::machine::fixture::Fixture;

    #[test]
    fn the_image_of_a_system_is_named_by_what_the_system_calls_itself() {
        for (path, text, image) in [
            ("etc/os-release", "VERSION_ID='44'\nID=\"fedora\"\n", "fedora-44"),
            ("usr/lib/os-release", "ID=fedora\nVERSION_ID=44\n", "fedora-44"),
            ("etc/os-release", "ID=arch\n", "arch"),
            ("etc/os-release", "ID=debian\nVERSION_ID=\"13\"\n", "IMAGE"),
        ] {
            let root = Fixture::new();
            root.write(path, text).write(&format!("{SHIPPED}/fedora-44.toml"), "");
            root.write(&format!("{OWN}/images/arch.toml"), "");
            assert_eq!(image_of_system(&Source::open(root.path()).unwrap()).unwrap(), image, "{text}");
        }
    }
}
