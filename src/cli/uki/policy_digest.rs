//! `ocinitrd uki policy-digest`: what is to be signed of an image, where its key is no file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::cli::print;
use crate::image::uki::{self, Bank, Policy};

/// Print the digests that signatures of PCR 11 are of, to be signed elsewhere
///
/// One line each: bank, phase, and 64 hexadecimal digits. What is signed are the 32 bytes, as a message, by RSA with PKCS #1 v1.5
/// and SHA-256. `ocinitrd uki attach` puts the signatures into the image.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example, with a key in a token:
  ocinitrd uki policy-digest linux.efi | while read -r bank phase digest; do
      printf '%s' \"$digest\" | xxd -r -p |
          openssl dgst -provider pkcs11 -provider default -sha256 -sign 'pkcs11:object=pcr' -out \"$digest.sig\"
  done
  ocinitrd uki attach linux.efi --signature-dir . -o signed.efi")]
pub struct Arguments {
    /// The image, with the public key in it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    banks: super::BankOptions,
    /// Print JSON as that of .pcrsig, with the phases and without the signatures
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Unsigned {
    pcrs: [u8; 1],
    phase: String,
    pol: String,
}

/// Runs the action.
///
/// # Errors
/// Fails when the file cannot be read or is no EFI program, and when it has no public key.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let policies = policies(&arguments.file, &arguments.banks.banks())?;
    if arguments.json {
        let mut by_bank: BTreeMap<Bank, Vec<Unsigned>> = BTreeMap::new();
        for Policy { bank, phase, pol } in policies {
            by_bank.entry(bank).or_default().push(Unsigned { pcrs: [11], phase, pol });
        }
        print::print(|output| print::write_json(output, &by_bank))?;
    } else {
        print::print(|output| {
            policies.iter().try_for_each(|one| writeln!(output, "{} {} {}", one.bank, one.phase, one.pol))
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The digests of an image, those of all its boot profiles.
///
/// # Errors
/// As [`run`].
pub fn policies(file: &std::path::Path, banks: &[Bank]) -> Result<Vec<Policy>> {
    let inspection = uki::inspect(file, banks)?;
    ensure!(!inspection.pcr11.is_empty(), "{} cannot be measured: {}", file.display(), inspection.problems.join("; "));
    let has_key = inspection.sections.iter().any(|section| section.name == uki::PCR_PUBLIC_KEY);
    ensure!(has_key, "{} has no {}: build it with --pcrpkey", file.display(), uki::PCR_PUBLIC_KEY);
    let all = inspection.pcr11.iter().map(|profile| uki::policies(&profile.values));
    Ok(all.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}
