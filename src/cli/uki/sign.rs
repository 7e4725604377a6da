//! `ocinitrd uki sign`: a signature for Secure Boot, made by a program of the host that holds or reaches the key.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::builder::PossibleValue;

use crate::cli::print;
use crate::image::uki::{SignTool, Signer};
use ocinitrd_support::output::{MODE_PRIVATE, OutputFile};

/// Sign an image for Secure Boot
///
/// The key stays where it is: a file, or what a PKCS #11 URI names. sbsign(1) signs, or systemd-sbsign(1) where the other is not
/// there. A key in a token is systemd-sbsign's where OpenSSL has the provider pkcs11, since sbsign knows engines only. The PIN can be
/// in the URI (pin-value=, pin-source=file:) and is shown to nobody. The image is checked before it is signed, and its signature after,
/// by sbverify(1) if it is there. Signatures of PCR 11 have to be in it already.
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
    /// What signs [default: see above]
    #[arg(long, value_enum)]
    signtool: Option<SignTool>,
    /// Where to write the signed image; replaced atomically if it exists [default: FILE]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl clap::ValueEnum for SignTool {
    fn value_variants<'a>() -> &'a [Self] {
        &SignTool::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            SignTool::Sbsign => "Of the package sbsigntool (Debian) or sbsigntools (Fedora)",
            SignTool::SystemdSbsign => "Of systemd 257 and newer",
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}

/// Runs the action.
///
/// # Errors
/// Fails on an image that something is wrong with or that is signed already, on a certificate that has expired or is not that of the
/// key, and when there is nothing to sign with; what was there stays.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let target = arguments.output.as_ref().unwrap_or(&arguments.file);
    let signer = Signer {
        private_key: arguments.secureboot_private_key.clone(),
        certificate: arguments.secureboot_certificate.clone(),
        tool: arguments.signtool,
    };
    let mut output = OutputFile::create(target, MODE_PRIVATE)?;
    let mut file = signer.sign(&arguments.file)?;
    output.copy_from(&mut file).with_context(|| format!("writing {}", target.display()))?;
    output.commit()?;
    print::print_line(&format!("{}: signed", target.display()))?;
    Ok(ExitCode::SUCCESS)
}
