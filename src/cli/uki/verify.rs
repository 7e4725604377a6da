//! `ocinitrd uki verify`: whether a unified kernel image can be started, and is what its signatures of PCR 11 are for.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::cli::print;
use crate::image::uki::{self, Bank};
use ocinitrd_support::progress::Progress;

/// Check a unified kernel image, anyone's
///
/// Checks that its sections neither overlap nor end beyond the file, that the kernel has the memory it writes to, the name that
/// the image gives it, and, if it is signed, nothing behind its signature, that the command line reaches it whole, that the stub
/// looks for what is there, and that the signatures of PCR 11 are for the values that the image leads to. Who signed it for
/// Secure Boot is for sbverify(1) to say. Exits with 1 if anything is wrong.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The image
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs the action.
///
/// # Errors
/// Fails when the file cannot be read or is no EFI program, and when anything is wrong with it.
pub fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    let stage = progress.stage(&format!("checking {}", arguments.file.display()), None);
    let inspection = uki::inspect(&arguments.file, &Bank::ALL)?;
    stage.finish(&print::counted(inspection.sections.len(), "section"));
    inspection.remarks.iter().for_each(|remark| progress.warn(remark));
    if !inspection.problems.is_empty() {
        bail!("{}: {}", arguments.file.display(), inspection.problems.join("; "));
    }
    print::print_line(&format!("{}: nothing is wrong", arguments.file.display()))?;
    Ok(ExitCode::SUCCESS)
}
