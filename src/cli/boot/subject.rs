//! What the command line names to what is booted.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::Arguments;
use crate::boot::{BootTarget, Unified};
use crate::cli::output_dir::{Built, built};
use crate::image::uki::{self, Bank, Inspection};
use ocinitrd_support::output::{self, TemporaryDirectory};

/// The phases that are over when the target's init runs.
const PHASE: &str = "enter-initrd:leave-initrd";

/// What is booted.
pub struct Given {
    /// What it is.
    pub subject: BootTarget,
    /// Where parts of it lie, if they had to be taken out of an image.
    _parts: Option<TemporaryDirectory>,
}

/// What the command line names.
///
/// # Errors
/// Fails where a file is missing or not named, and on an image that is no unified kernel image.
pub fn given(arguments: &Arguments) -> Result<Given> {
    let built = arguments.output.as_deref().map(|output| built(output, arguments.kernel_version.as_deref()));
    let built = built.transpose()?;
    if let Some(image) = image(arguments, built.as_ref())? {
        return unified(image);
    }
    let (kernel, initrd) = match built {
        Some(built) if arguments.initrd.is_none() => (Some(built.kernel.clone()), Some(built.initrd()?.to_owned())),
        Some(built) => (Some(built.kernel), None),
        None => (None, None),
    };
    let part = |given: &Option<PathBuf>, of_output: Option<PathBuf>, name: &str| {
        given.clone().or(of_output).with_context(|| format!("no {name} is given: use --kernel FILE --initrd FILE"))
    };
    let subject = existing(part(&arguments.kernel, kernel, "kernel")?, part(&arguments.initrd, initrd, "initrd")?)?;
    Ok(Given { subject, _parts: None })
}

/// The kernel and the initrd of an output directory.
///
/// # Errors
/// Fails where one of them is missing.
pub fn of_output(output: &Path) -> Result<BootTarget> {
    let built = built(output, None)?;
    existing(built.kernel.clone(), built.initrd()?.to_owned())
}

fn existing(kernel: PathBuf, initrd: PathBuf) -> Result<BootTarget> {
    for path in [&kernel, &initrd] {
        if !path.is_file() {
            bail!(
                "there is no file {}: give the output directory of `ocinitrd build`, or --kernel FILE --initrd FILE",
                path.display()
            );
        }
    }
    Ok(BootTarget::of_files(kernel, initrd))
}

/// The unified kernel image to boot, if one is meant: that of an output directory too, where there is no initrd beside it.
fn image(arguments: &Arguments, built: Option<&Built>) -> Result<Option<PathBuf>> {
    let given = match &arguments.uki {
        Some(Some(path)) => return Ok(Some(path.clone())),
        given => given.is_some(),
    };
    let Some(built) = built else {
        ensure!(!given, "--uki without a file means that of an output directory: give one, or --uki=FILE");
        return Ok(None);
    };
    let no_initrd = built.initrd.is_none() && arguments.initrd.is_none() && arguments.kernel.is_none();
    if given {
        return built.uki().map(|image| Some(image.to_owned()));
    }
    Ok(built.uki.clone().filter(|_| no_initrd))
}

/// An image, its kernel and its initrd, which is asked what it holds and whose programs make disks.
fn unified(image: PathBuf) -> Result<Given> {
    let inspection = uki::inspect(&image, &[Bank::Sha256])?;
    ensure!(inspection.problems.is_empty(), "{}: {}", image.display(), inspection.problems.join("; "));
    let parts = TemporaryDirectory::create_in_temporary("ocinitrd-uki.")?;
    let (kernel, initrd) = (parts.path().join("vmlinuz"), parts.path().join("initrd"));
    take_out(&image, uki::LINUX, &kernel)?;
    take_out(&image, uki::INITRD, &initrd)?;
    let pcr11 = expected(&inspection).with_context(|| format!("measuring {}", image.display()))?;
    let pcr_key = inspection.text(uki::PCR_PUBLIC_KEY).map(str::to_owned);
    let subject =
        BootTarget { unified: Some(Unified { image, pcr11, pcr_key }), ..BootTarget::of_files(kernel, initrd) };
    Ok(Given { subject, _parts: Some(parts) })
}

/// What PCR 11 will be when the target runs; the first of several boot profiles is booted.
fn expected(inspection: &Inspection) -> Result<String> {
    let values = inspection.pcr11.first().and_then(|profile| profile.values.get(&Bank::Sha256));
    let value = values.and_then(|values| values.iter().find(|value| value.phase == PHASE));
    Ok(value.context("the image has no value for the phase of the target")?.pcr11.clone())
}

fn take_out(image: &Path, section: &str, path: &Path) -> Result<()> {
    let content = uki::section(image, section)?;
    let content = content.with_context(|| format!("{} has no section {section}", image.display()))?;
    let mut file = output::create_new(path).with_context(|| format!("creating {}", path.display()))?;
    io::copy(&mut content.reader(), &mut file).with_context(|| format!("writing {}", path.display()))?;
    Ok(())
}
