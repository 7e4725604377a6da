//! `ocinitrd uki`: unified kernel images, made, looked into and checked.

mod attach;
mod build;
mod inspect;
mod policy_digest;
mod sign;
mod verify;

use std::process::ExitCode;

use anyhow::Result;

use crate::image::uki::Bank;
use ocinitrd_support::progress::Progress;

/// Join a kernel with its initrd in one EFI program, and say what a TPM will measure of it.
///
/// The options are called what ukify(1) calls them. Nothing is taken from this machine that is not named: neither its
/// os-release, nor its command line, nor its stub.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Build(Box<build::Arguments>),
    Inspect(inspect::Arguments),
    Verify(verify::Arguments),
    PolicyDigest(policy_digest::Arguments),
    Attach(attach::Arguments),
    Sign(sign::Arguments),
}

/// Runs the command.
///
/// # Errors
/// Fails with what the action failed with.
pub fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    match &arguments.action {
        Action::Build(arguments) => build::run(arguments, progress),
        Action::Inspect(arguments) => inspect::run(arguments),
        Action::Verify(arguments) => verify::run(arguments, progress),
        Action::PolicyDigest(arguments) => policy_digest::run(arguments),
        Action::Attach(arguments) => attach::run(arguments),
        Action::Sign(arguments) => sign::run(arguments),
    }
}

/// Which banks of a TPM.
#[derive(Debug, clap::Args)]
struct BankOptions {
    /// For which banks of a TPM the values of PCR 11 are: sha1, sha256, sha384, sha512; may be repeated [default: sha256]
    #[arg(long = "pcr-bank", value_name = "BANK")]
    pcr_banks: Vec<Bank>,
}

impl BankOptions {
    fn banks(&self) -> Vec<Bank> {
        if self.pcr_banks.is_empty() { vec![Bank::Sha256] } else { self.pcr_banks.clone() }
    }
}
