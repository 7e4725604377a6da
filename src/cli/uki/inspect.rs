//! `ocinitrd uki inspect`: what is in a unified kernel image, anyone's.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use indicatif::DecimalBytes;

use crate::cli::print;
use crate::image::uki::{self, InspectedSection, Inspection, Predictions};
use ocinitrd_format::text::one_line;

/// Say what is in a unified kernel image, one made by this program or any other
///
/// Tells its sections with their sizes in memory and the digests of their contents, the texts, and what PCR 11 of a TPM is when the
/// kernel starts and after each phase of the boot. Exits with 1 if the image has a problem.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The image
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    banks: super::BankOptions,
    /// Print JSON instead of text; sizes are in bytes
    #[arg(long)]
    json: bool,
}

/// Runs the action.
///
/// # Errors
/// Fails when the file cannot be read or is no EFI program, and when the image has a problem.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let inspection = uki::inspect(&arguments.file, &arguments.banks.banks())?;
    print::print(|output| match arguments.json {
        true => print::write_json(output, &inspection),
        false => write_text(output, &inspection),
    })?;
    if !inspection.problems.is_empty() {
        bail!("{}: {}", arguments.file.display(), inspection.problems.join("; "));
    }
    Ok(ExitCode::SUCCESS)
}

fn write_text(output: &mut dyn Write, inspection: &Inspection) -> io::Result<()> {
    let signed = if inspection.signed { "signed for Secure Boot" } else { "not signed" };
    writeln!(output, "{}, for {}, {signed}", DecimalBytes(inspection.size_bytes), inspection.machine)?;
    for section in &inspection.sections {
        write_section(output, section)?;
    }
    for profile in &inspection.pcr11 {
        write_predictions(output, profile.id.as_deref(), &profile.values)?;
        if profile.signatures > 0 {
            writeln!(output, "  {} of these are signed", profile.signatures)?;
        }
    }
    for remark in &inspection.remarks {
        writeln!(output, "remark: {}", one_line(remark))?;
    }
    Ok(())
}

fn write_section(output: &mut dyn Write, section: &InspectedSection) -> io::Result<()> {
    let owner = section.profile.map_or_else(String::new, |number| format!("  profile {number}"));
    writeln!(
        output,
        "{:<9} {:>11}  {}{owner}",
        one_line(&section.name),
        DecimalBytes(section.size_bytes).to_string(),
        section.sha256.map_or_else(|| "not read".to_owned(), |digest| digest.to_string())
    )?;
    for line in section.text.iter().flat_map(|text| text.lines()) {
        writeln!(output, "    {}", one_line(line))?;
    }
    Ok(())
}

/// The values of PCR 11 by phase.
///
/// # Errors
/// Fails when `output` does.
pub fn write_predictions(output: &mut dyn Write, profile: Option<&str>, predictions: &Predictions) -> io::Result<()> {
    let of = profile.map_or_else(String::new, |id| format!(" of the boot profile {}", one_line(id)));
    for (bank, values) in predictions {
        writeln!(output, "PCR 11{of}, {bank}:")?;
        for value in values {
            let phase =
                if value.phase.is_empty() { "kernel" } else { value.phase.rsplit(':').next().unwrap_or_default() };
            writeln!(output, "  {:<12}  {}", one_line(phase), value.pcr11)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use ocinitrd_format::digest::Digest;

    const EVIL: &str = "x\u{1b}]0;title\u{7}\u{9b}2J\u{202e}\rPCR 11\u{85}";
    const SHOWN: &str = r"x\x1b]0;title\x07\xc2\x9b2J\xe2\x80\xae\x0dPCR 11\xc2\x85";

    #[test]
    fn text_of_an_image_steers_no_terminal() {
        let section = InspectedSection {
            name: EVIL.to_owned(),
            profile: None,
            size_bytes: 1,
            sha256: Some(Digest::of(b"")),
            text: Some(format!("{EVIL}\nsecond")),
        };
        let mut output = Vec::new();
        write_section(&mut output, &section).unwrap();
        write_predictions(&mut output, Some(EVIL), &BTreeMap::new()).unwrap();
        let text = String::from_utf8(output).unwrap();
        assert!(text.starts_with(SHOWN) && text.ends_with(&format!("    {SHOWN}\n    second\n")), "{text:?}");
        assert!(!text.contains(|character: char| character.is_control() && character != '\n'), "{text:?}");
    }
}
