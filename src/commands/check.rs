//! `ocinitrd check`: an initrd and what a machine needs in, what is missing on standard output.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::answer;
use crate::needs::{self, Answer, Holdings, NEEDS, Need};
use crate::progress::Progress;

/// Say whether an initrd holds what a root device needs, before a reboot does.
///
/// A need is a kind of disk, volume or file system, such as lvm, luks or ext4; --list names them. What is missing of it is
/// named: kernel modules that are neither in the initrd nor built into its kernel, programs, libraries and udev rules, with
/// the package, profile or pattern that brings them. Reads anyone's initrd. Where nothing is missing a machine may still
/// fail to boot; where something is, it will.
///
/// Exits with 0 if nothing is missing, with 1 if something is, with 2 if that cannot be told.
///
/// Example: ocinitrd check out/fedora-44/initrd --needs nvme,luks,tpm2,btrfs
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The initrd
    #[arg(value_name = "INITRD", required_unless_present = "list")]
    initrd: Option<PathBuf>,
    /// What the machine needs; several are separated by commas
    #[arg(long, value_name = "NEED", value_delimiter = ',', required_unless_present = "list", value_parser = needs::named)]
    needs: Vec<&'static Need>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    /// List the needs and end
    #[arg(long)]
    list: bool,
}

/// Runs the command.
///
/// # Errors
/// Fails when the initrd cannot be read or is damaged. What is missing is an exit code.
pub fn run(arguments: &Arguments, _progress: &Progress) -> Result<ExitCode> {
    let Some(initrd) = arguments.initrd.as_ref().filter(|_| !arguments.list) else {
        answer::print(write_list)?;
        return Ok(ExitCode::SUCCESS);
    };
    let holdings = Holdings::of_initrd(initrd).with_context(|| format!("reading {}", initrd.display()))?;
    let answers: Vec<Answer> = arguments.needs.iter().map(|need| holdings.check(need)).collect();
    answer::print(
        |output| if arguments.json { answer::write_json(output, &answers) } else { write_text(output, &answers) },
    )?;
    Ok(if answers.iter().all(Answer::ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write_list(output: &mut dyn Write) -> io::Result<()> {
    let width = NEEDS.iter().map(|need| need.name.len()).max().unwrap_or_default();
    NEEDS.iter().try_for_each(|need| writeln!(output, "{:width$}  {}", need.name, need.summary))
}

fn write_text(output: &mut dyn Write, answers: &[Answer]) -> io::Result<()> {
    for answer in answers {
        if answer.ok() {
            writeln!(output, "{}: ok", answer.need)?;
            continue;
        }
        let modules = answer.missing_modules.iter().map(|module| format!("the kernel module {module}"));
        let missing: Vec<String> = modules.chain(answer.missing_files.iter().cloned()).collect();
        writeln!(output, "{}: missing: {}; it comes with {}", answer.need, missing.join(", "), answer.brought_by)?;
    }
    Ok(())
}
