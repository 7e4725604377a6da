//! `ocinitrd check`: an initrd and what a machine needs in, what is missing on standard output.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::limits::{LimitOptions, with_hint};
use super::output_dir::built;
use super::print;
use crate::analysis::machine::Machine;
use crate::analysis::needs::{self, Answer, Demand, Derived, Holdings, NEEDS, Need};
use crate::host::Console;
use ocinitrd_format::text::one_line;
use ocinitrd_support::progress::Progress;

/// Say whether an initrd holds what a machine's root lies on, before a reboot does.
///
/// With --host the machine itself tells what it needs: --host / before it is rebooted, --host DIR where its root is
/// mounted with its /proc and /sys. Read are the mounts of /, /usr and what /etc/fstab has the initrd mount (x-initrd.mount);
/// all that their devices lie on, with the drivers of the disks up to the processor; the tables of volumes, such as
/// /etc/crypttab; the hibernation device (resume=, or the firmware's variable); and its own files that name or open any of
/// this, such as /etc/hostname for an array of md. Each need says what it is for.
///
/// With --needs a person names them: kinds of disks, volumes or file systems, such as lvm, luks or ext4; --list has them all.
/// Both go together.
///
/// What is missing is named: kernel modules that are neither in the initrd nor built into its kernel, programs, libraries,
/// units and udev rules, with the package, profile or pattern that brings them. Reads anyone's initrd. Where nothing is
/// missing a machine may still fail to boot; where something is, it will.
///
/// Exits with 0 if nothing is missing, with 1 if something is, with 2 if that cannot be told.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("what").args(["host", "needs", "list"]).required(true).multiple(true),
    after_long_help = "\
JSON: ok; needs, each with need, for (a list of texts), missing_modules, missing_files and brought_by; and notes, a list of \
texts.

Examples:
  ocinitrd check out/fedora-44 --host /
  ocinitrd check /boot/initramfs-$(uname -r).img --host /
  ocinitrd check out/fedora-44/initrd --needs nvme,luks,tpm2,btrfs"
)]
pub struct Arguments {
    /// The initrd, or an output directory of `ocinitrd build`
    #[arg(value_name = "OUT", required_unless_present = "list")]
    output: Option<PathBuf>,
    /// Of an output with several kernels the one whose initrd to check, as `uname -r` prints it
    #[arg(short, long, value_name = "KVER")]
    kernel_version: Option<String>,
    /// The machine that is to boot with it, by its root directory
    #[arg(long, value_name = "DIR")]
    host: Option<PathBuf>,
    /// What the machine needs; several are separated by commas
    #[arg(long, value_name = "NEED", value_delimiter = ',', value_parser = needs::named)]
    needs: Vec<&'static Need>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    /// List the needs and end
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    limits: LimitOptions,
}

#[derive(Serialize)]
struct Answers {
    ok: bool,
    needs: Vec<Answer>,
    notes: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// Fails when the initrd cannot be read or is damaged, and when it cannot be told what the machine's root lies on. What is
/// missing is an exit code.
pub fn run(arguments: &Arguments, _progress: &Progress) -> Result<ExitCode> {
    let Some(output) = arguments.output.as_ref().filter(|_| !arguments.list) else {
        print::print(write_list)?;
        return Ok(ExitCode::SUCCESS);
    };
    let derived = derived(arguments)?;
    let initrd = initrd(output, arguments.kernel_version.as_deref())?;
    let holdings = Holdings::of_initrd(&initrd, &arguments.limits.limits()).map_err(with_hint);
    let holdings = holdings.with_context(|| format!("reading {}", initrd.display()))?;
    let needs: Vec<Answer> = derived.wants.iter().map(|wanted| holdings.check(wanted)).collect();
    let missed = derived.missed(&holdings);
    let keymaps = keymaps(arguments, &derived, &holdings)?;
    let notes = derived.notes.into_iter().chain(missed).chain(keymaps).collect();
    let answers = Answers { ok: needs.iter().all(Answer::ok), needs, notes };
    print::print(
        |output| if arguments.json { print::write_json(output, &answers) } else { write_text(output, &answers) },
    )?;
    Ok(if answers.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was named, and what the machine needs.
fn derived(arguments: &Arguments) -> Result<Derived> {
    let mut derived = match &arguments.host {
        None => Derived::default(),
        Some(root) => {
            let machine = Machine::read(root);
            needs::of_machine(&machine.with_context(|| format!("reading the machine at {}", root.display()))?)
        }
    };
    for need in &arguments.needs {
        derived.wants.add(Demand::Need(need));
    }
    Ok(derived)
}

/// What is to be said of the keymap of who types a passphrase.
fn keymaps(arguments: &Arguments, derived: &Derived, holdings: &Holdings) -> Result<Vec<String>> {
    match &arguments.host {
        Some(root) if derived.somebody_types() => Ok(Console::read(root)?.remarks(holdings, true)),
        _ => Ok(Vec::new()),
    }
}

fn initrd(output: &Path, kernel_version: Option<&str>) -> Result<PathBuf> {
    match (output.is_dir(), kernel_version) {
        (true, _) => Ok(built(output, kernel_version)?.initrd()?.to_owned()),
        (false, None) => Ok(output.to_owned()),
        (false, Some(_)) => {
            bail!("--kernel-version chooses from an output directory, and {} is none", output.display())
        }
    }
}

fn write_list(output: &mut dyn Write) -> io::Result<()> {
    let width = NEEDS.iter().map(|need| need.name.len()).max().unwrap_or_default();
    NEEDS.iter().try_for_each(|need| writeln!(output, "{:width$}  {}", need.name, need.summary))
}

fn write_text(output: &mut dyn Write, answers: &Answers) -> io::Result<()> {
    for answer in &answers.needs {
        writeln!(output, "{}", one_line(&line(answer)))?;
    }
    answers.notes.iter().try_for_each(|note| writeln!(output, "note: {}", one_line(note)))
}

fn line(answer: &Answer) -> String {
    let mut line = answer.need.clone();
    if !answer.purposes.is_empty() {
        line += &format!(" (for {})", answer.purposes.join("; "));
    }
    if answer.ok() {
        return line + ": ok";
    }
    let modules = answer.missing_modules.iter().map(|module| format!("the kernel module {module}"));
    let missing: Vec<String> = modules.chain(answer.missing_files.iter().cloned()).collect();
    line += ": missing";
    // A module or a file that is needed for itself has been named.
    if !missing.iter().all(|one| answer.need.ends_with(one)) {
        line += &format!(": {}", missing.join(", "));
    }
    format!("{line}; it comes with {}", answer.brought_by)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(need: &str, purposes: &[&str], modules: &[&str], files: &[&str]) -> Answer {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Answer {
            need: need.to_owned(),
            purposes: texts(purposes),
            missing_modules: texts(modules),
            missing_files: texts(files),
            brought_by: "the profile x".to_owned(),
        }
    }

    #[test]
    fn a_line_names_the_need_what_it_is_for_and_what_is_missing() {
        assert_eq!(line(&answer("lvm", &[], &[], &[])), "lvm: ok");
        let purposes = ["/dev/mapper/luks-root below /", "/usr"];
        assert_eq!(line(&answer("luks", &purposes, &[], &[])), "luks (for /dev/mapper/luks-root below /; /usr): ok");
        let missing = answer("nfs", &["/"], &["nfs"], &["/usr/sbin/mount.nfs"]);
        let expected = "nfs (for /): missing: the kernel module nfs, /usr/sbin/mount.nfs; it comes with the profile x";
        assert_eq!(line(&missing), expected);
        let module = answer("the kernel module nvme", &["/dev/nvme0n1 below /"], &["nvme"], &[]);
        let expected = "the kernel module nvme (for /dev/nvme0n1 below /): missing; it comes with the profile x";
        assert_eq!(line(&module), expected);
    }
}
