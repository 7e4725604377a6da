//! `ocinitrd uki attach`: signatures that were made elsewhere into the image that they are for.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use super::policy_digest;
use crate::cli::print;
use crate::image::uki::{self, Policy};
use ocinitrd_format::rsa::PublicKey;
use ocinitrd_support::output::{MODE_PRIVATE, OutputFile};
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// Put signatures of PCR 11 that were made elsewhere into the image that they are for
///
/// The signature of a digest that `ocinitrd uki policy-digest` printed is the file DIGEST.sig. Each must be there, and be one by the
/// public key in the image. Sign for Secure Boot afterwards: what is signed cannot be added to.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The image
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the signatures are
    #[arg(long, value_name = "DIR")]
    signature_dir: PathBuf,
    #[command(flatten)]
    banks: super::BankOptions,
    /// Where to write the image with its signatures; replaced atomically if it exists
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Runs the action.
///
/// # Errors
/// Fails on signatures that are missing or not by the image's key, and when the output cannot be written; what was there stays.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let banks = arguments.banks.banks();
    let output = OutputFile::create(&arguments.output, MODE_PRIVATE)?;
    let policies = policy_digest::policies(&arguments.file, &banks)?;
    let inspection = uki::inspect(&arguments.file, &banks)?;
    let key = PublicKey::from_pem(inspection.text(uki::PCR_PUBLIC_KEY).unwrap_or_default())
        .with_context(|| format!("reading {} of {}", uki::PCR_PUBLIC_KEY, arguments.file.display()))?;
    let read = |policy: &Policy| {
        let path = arguments.signature_dir.join(format!("{}.sig", policy.pol));
        regular_file::read(&path, TEXT_LIMIT_BYTES).with_context(|| format!("reading {}", path.display()))
    };
    let signatures = uki::signatures(&policies, &key, read)?;
    for profile in &inspection.pcr11 {
        let faults = uki::signature_faults(&signatures, &profile.values, Some(&key))?;
        ensure!(faults.is_empty(), "{}", faults.join("; "));
    }
    let mut output = output;
    uki::attach(&arguments.file, &serde_json::to_string(&signatures)?, &mut output)?;
    output.commit()?;
    print::print_line(&format!("{}: {} signatures", arguments.output.display(), policies.len()))?;
    Ok(ExitCode::SUCCESS)
}
