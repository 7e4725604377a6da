//! `ocinitrd uki build`: a kernel, its initrd and what belongs to them in; an EFI program out.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use indicatif::DecimalBytes;
use serde::Serialize;

use crate::cli::print;
use crate::cli::text_arg;
use crate::image::uki::{Content, KernelImage, NamedContent, Parts, Plan, PolicyKeys, Predictions, Profile};
use ocinitrd_format::digest::{Digest, Hasher};
use ocinitrd_support::output::{MODE_PRIVATE, OutputFile};
use ocinitrd_support::progress::Progress;

/// Join a kernel, initrds and what belongs to them
///
/// The result is the same to the bit for the same parts. It is written with mode 0600, as an initrd may hold secrets.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ocinitrd uki build --linux out/vmlinuz --initrd out/initrd --stub linuxx64.efi.stub \\
      --cmdline 'root=LABEL=root rw' --os-release @out/os-release -o linux.efi
  ocinitrd uki build --linux vmlinuz --initrd base.cpio --initrd modules.cpio --stub linuxx64.efi.stub \\
      --boot-profile 'normal=As usual' --boot-profile 'rescue=Rescue=systemd.unit=rescue.target' -o linux.efi")]
pub struct Arguments {
    /// The kernel, an EFI program
    #[arg(long, value_name = "FILE")]
    linux: PathBuf,
    /// An initrd, or a segment of one; several are joined in the order given
    #[arg(long, value_name = "FILE")]
    initrd: Vec<PathBuf>,
    /// A cpio archive with microcode, not compressed, which goes before the initrd. Stubs before systemd 256 take it as the first
    /// --initrd instead
    #[arg(long, value_name = "FILE")]
    microcode: Option<PathBuf>,
    /// systemd-stub, of systemd 254 or later: linuxx64.efi.stub or the like
    #[arg(long, value_name = "FILE")]
    stub: PathBuf,
    /// The kernel's command line, which may be empty; without it, the boot loader may give one
    #[arg(long, value_name = "TEXT|@FILE")]
    cmdline: Option<String>,
    /// The os-release(5) of the system that it starts: boot loaders show its name and order by its version
    #[arg(long, value_name = "TEXT|@FILE")]
    os_release: Option<String>,
    /// What `uname -r` says under the kernel; without it, what the kernel's image says
    #[arg(long, value_name = "VERSION")]
    uname: Option<String>,
    /// A picture to be shown, in the format BMP
    #[arg(long, value_name = "FILE")]
    splash: Option<PathBuf>,
    /// A compiled device tree
    #[arg(long, value_name = "FILE")]
    devicetree: Option<PathBuf>,
    /// Lines of SBAT beside those of stub and kernel
    #[arg(long, value_name = "TEXT|@FILE")]
    sbat: Vec<String>,
    /// The public RSA key in PEM that signatures of PCR 11 are checked with; without it, that of --pcr-private-key
    #[arg(long, value_name = "FILE")]
    pcrpkey: Option<PathBuf>,
    /// The private RSA key in PEM that signs the values of PCR 11 of each phase, so that secrets can be bound to whoever has the
    /// key. For a key that is no file, see `ocinitrd uki policy-digest`
    #[arg(long, value_name = "FILE")]
    pcr_private_key: Option<PathBuf>,
    /// One of several ways to boot it, with a command line of its own if wanted; the first is what is booted by default. The stub
    /// has to be of systemd 257 or later
    #[arg(long, value_name = "ID=TITLE[=CMDLINE]", value_parser = profile)]
    boot_profile: Vec<Profile>,
    #[command(flatten)]
    banks: super::BankOptions,
    /// Where to write it; replaced atomically if it exists
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// What was written.
#[derive(Serialize)]
struct Built<'a> {
    path: &'a Path,
    size_bytes: u64,
    sha256: Digest,
    /// One for each boot profile, or one of an image without.
    pcr11: Vec<Predictions>,
}

fn profile(text: &str) -> Result<Profile, String> {
    let mut words = text.splitn(3, '=');
    let (id, title) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if id.is_empty() || title.is_empty() || text.contains('\n') {
        return Err("a boot profile is ID=TITLE or ID=TITLE=CMDLINE, in one line".to_owned());
    }
    Ok(Profile { id: id.to_owned(), title: title.to_owned(), command_line: words.next().map(str::to_owned) })
}

/// Runs the action.
///
/// # Errors
/// Fails when a part cannot be read or does not fit the others, and when the output cannot be written; what was there stays.
pub fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    let output = OutputFile::create(&arguments.output, MODE_PRIVATE)?;
    let keys = PolicyKeys::open(arguments.pcrpkey.as_deref(), arguments.pcr_private_key.as_deref())?;
    let parts = parts(arguments, &keys)?;
    warn_of_omissions(&parts, progress);
    let plan = Plan::new(&parts)?;
    let pcr11 = plan.predict(&arguments.banks.banks())?;
    let signatures = keys.signatures(&pcr11)?;
    let mut hasher = Hasher::new(output);
    plan.write(&signatures, &mut hasher)?;
    let (output, sha256, size_bytes) = hasher.finish();
    output.commit()?;
    report(arguments, &Built { path: &arguments.output, size_bytes, sha256, pcr11 })?;
    Ok(ExitCode::SUCCESS)
}

fn parts(arguments: &Arguments, keys: &PolicyKeys) -> Result<Parts> {
    let text = |option: &Option<String>| option.as_deref().map(text_arg::text).transpose();
    let file = |option: &Option<PathBuf>| option.as_deref().map(Content::file).transpose();
    let initrd = if arguments.initrd.is_empty() { None } else { Some(Content::files(&arguments.initrd)?) };
    Ok(Parts {
        stub: NamedContent::open(&arguments.stub)?,
        kernel: KernelImage::open(&arguments.linux)?,
        initrd,
        microcode: file(&arguments.microcode)?,
        command_line: text(&arguments.cmdline)?.map(|text| text.trim().to_owned()),
        os_release: text(&arguments.os_release)?,
        uname: arguments.uname.clone(),
        splash: file(&arguments.splash)?,
        device_tree: file(&arguments.devicetree)?,
        sbat: arguments.sbat.iter().map(|line| text_arg::text(line)).collect::<Result<_>>()?,
        pcr_public_key: keys.public_pem(),
        profiles: arguments.boot_profile.clone(),
    })
}

fn warn_of_omissions(parts: &Parts, progress: &Progress) {
    if parts.os_release.as_deref().is_none_or(str::is_empty) {
        progress.warn("no --os-release is given: boot loaders do not list an image without a name");
    }
    if parts.command_line.is_none() && parts.profiles.iter().all(|profile| profile.command_line.is_none()) {
        progress.warn("no --cmdline is given: the boot loader has to say what the root is, or its partition's type");
    }
    if parts.uname.is_none() && parts.kernel.version.is_none() {
        progress.warn("neither --uname nor the kernel's image says its version: add-ons for one kernel fit it, too");
    }
}

fn report(arguments: &Arguments, built: &Built<'_>) -> Result<()> {
    if arguments.json {
        return print::print(|output| print::write_json(output, built));
    }
    let path = built.path.display();
    print::print(|output| {
        writeln!(output, "{path}  {}  {}", DecimalBytes(built.size_bytes), built.sha256)?;
        let ids = arguments.boot_profile.iter().map(|profile| Some(profile.id.as_str()));
        let ids: Vec<Option<&str>> = if arguments.boot_profile.is_empty() { vec![None] } else { ids.collect() };
        for (id, predictions) in ids.into_iter().zip(&built.pcr11) {
            super::inspect::write_predictions(output, id, predictions)?;
        }
        Ok(())
    })
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_profile_has_an_id_a_title_and_perhaps_a_command_line_with_signs_of_equality() {
        let parsed = profile("rescue=Rescue me=systemd.unit=rescue.target a=b").unwrap();
        assert_eq!((parsed.id.as_str(), parsed.title.as_str()), ("rescue", "Rescue me"));
        assert_eq!(parsed.command_line.as_deref(), Some("systemd.unit=rescue.target a=b"));
        assert_eq!(profile("a=A").unwrap().command_line, None);
        assert!(profile("a").is_err() && profile("=A").is_err() && profile("a=A=\nTITLE=B").is_err());
    }
}
