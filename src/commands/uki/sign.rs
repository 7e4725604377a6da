//! `ocinitrd uki sign`: a signature for Secure Boot, made by a program of the host that holds or reaches the key.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

use crate::commands::answer;
use crate::output::{MODE_PRIVATE, OutputFile};
use crate::process::{self, Program};
use crate::uki;

/// Where systemd has a program that is on nobody's path.
const SYSTEMD_SBSIGN: &str = "/usr/lib/systemd/systemd-sbsign";

/// Sign an image for Secure Boot
///
/// By sbsign(1), or by systemd-sbsign(1) where that is there and the other is not. The key stays where it is: a file, or what a
/// PKCS #11 URI names. The image is checked before it is signed, and its signature after. Signatures of PCR 11 have to be in it
/// already.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The image
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The private key: a file in PEM, or a URI that begins with pkcs11:
    #[arg(long, value_name = "KEY")]
    secureboot_private_key: OsString,
    /// Its certificate, in PEM
    #[arg(long, value_name = "FILE")]
    secureboot_certificate: PathBuf,
    /// What signs [default: what is there, sbsign first]
    #[arg(long, value_enum)]
    signtool: Option<SignTool>,
    /// Where to write the signed image; replaced atomically if it exists [default: FILE]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SignTool {
    /// Of the package sbsigntool (Debian) or sbsigntools (Fedora)
    Sbsign,
    /// Of systemd 257 and newer
    SystemdSbsign,
}

/// Runs the action.
///
/// # Errors
/// Fails on an image that something is wrong with or that is signed already, on a certificate that has expired or is not that of the
/// key, and when there is nothing to sign with; what was there stays.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let target = arguments.output.as_ref().unwrap_or(&arguments.file);
    let image = uki::inspect(&arguments.file, &[])?;
    ensure!(image.problems.is_empty(), "{}: {}", arguments.file.display(), image.problems.join("; "));
    ensure!(!image.signed, "{} is signed already", arguments.file.display());
    check_certificate(&arguments.secureboot_certificate)?;
    let mut output = OutputFile::create(target, MODE_PRIVATE)?;
    let scratch = tempfile::tempdir().context("making a temporary directory")?;
    let signed = scratch.path().join("signed.efi");
    command(arguments, &signed)?.run()?;
    check_signature(&signed, &arguments.secureboot_certificate)?;
    let mut file = File::open(&signed).context("opening what was signed")?;
    output.copy_from(&mut file).with_context(|| format!("writing {}", target.display()))?;
    output.commit()?;
    answer::print_line(&format!("{}: signed", target.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn command(arguments: &Arguments, signed: &Path) -> Result<Program> {
    let tool = match arguments.signtool {
        Some(tool) => tool,
        None if process::find("sbsign").context("looking for sbsign")?.is_some() => SignTool::Sbsign,
        None if Path::new(SYSTEMD_SBSIGN).exists() => SignTool::SystemdSbsign,
        None => bail!(
            "there is nothing to sign with: install sbsign with `apt-get install sbsigntool` (Debian, Ubuntu) or \
             `dnf install sbsigntools` (Fedora)"
        ),
    };
    let (key, certificate) = (&arguments.secureboot_private_key, &arguments.secureboot_certificate);
    let is_token = key.to_string_lossy().starts_with("pkcs11:");
    Ok(match tool {
        SignTool::Sbsign => Program::new("sbsign")
            .args(if is_token { &["--engine", "pkcs11"][..] } else { &[] })
            .args(["--key".as_ref(), key.as_os_str()])
            .args(["--cert".as_ref(), certificate.as_os_str()])
            .args(["--output".as_ref(), signed.as_os_str(), arguments.file.as_os_str()]),
        SignTool::SystemdSbsign => Program::new(SYSTEMD_SBSIGN)
            .args(["sign"])
            .args(if is_token { &["--private-key-source=engine:pkcs11"][..] } else { &[] })
            .args(["--private-key".as_ref(), key.as_os_str()])
            .args(["--certificate".as_ref(), certificate.as_os_str()])
            .args(["--output".as_ref(), signed.as_os_str(), arguments.file.as_os_str()]),
    })
}

/// Firmware does not look at the time; people do who have to know that they sign with what should not be used any more.
fn check_certificate(certificate: &Path) -> Result<()> {
    File::open(certificate).with_context(|| format!("reading the certificate {}", certificate.display()))?;
    let check = Program::new("openssl").args(["x509", "-noout", "-checkend", "0", "-in"]).args([certificate]);
    let output = check.output()?;
    ensure!(
        output.status.success(),
        "the certificate {} has expired, or is none in PEM: {}{}",
        certificate.display(),
        output.stdout.trim(),
        output.stderr.trim()
    );
    Ok(())
}

/// Whether the certificate is that of the key. Where sbverify is not there, only whether there is a signature.
fn check_signature(signed: &Path, certificate: &Path) -> Result<()> {
    ensure!(uki::inspect(signed, &[])?.signed, "the program that signs ended well, and there is no signature");
    if process::find("sbverify").context("looking for sbverify")?.is_some() {
        let verify = Program::new("sbverify").args(["--cert".as_ref(), certificate.as_os_str(), signed.as_os_str()]);
        verify.run().with_context(|| format!("the signature is not one by {}", certificate.display()))?;
    }
    Ok(())
}
