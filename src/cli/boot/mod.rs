//! `ocinitrd boot`: a kernel and an initrd in, a line for each root device on standard output.

mod choice;
mod subject;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::environment::{cache_directory, firmware, firmware_for};
use super::print;
use crate::boot::scenario;
use crate::boot::uefi::Firmware;
use crate::boot::{Accelerator, Contents, Failure, Finding, Options, Report, Session, Task, table};
use crate::container::engine::Cancellation;
use crate::packages::store;
use ocinitrd_format::text::one_line;
use ocinitrd_support::progress::{self, Progress};
use ocinitrd_support::regular_file;
use subject::Given;

/// Boot what was built in QEMU, against a root device made for it.
///
/// Needs no root rights and no program but QEMU (swtpm where the scenario has a TPM, OVMF where it begins with UEFI). The root
/// device is made in a guest that runs the programs of the initrd itself (bash, mount, mke2fs, ...) or those of another one
/// (--disks-by), and kept for the next boot of the same initrd. Where the root is on a server, that is such a guest too. Uses
/// KVM where it works. Exits with 1 if a boot does not come out as it must; then the stage (disks, firmware, server, kernel,
/// unpack, init, device, mount, switch-root, target) and the last
/// lines of the console are shown.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ocinitrd boot fedora-44
  ocinitrd boot fedora-44 --root all --verify-contents
  ocinitrd boot --kernel /boot/vmlinuz --initrd /boot/initrd.img --console")]
pub struct Arguments {
    /// The output directory of `ocinitrd build`
    #[arg(value_name = "OUT", required_unless_present_any = ["list", "initrd", "uki"])]
    output: Option<PathBuf>,
    /// Of an output with several kernels the one to boot, as `uname -r` prints it
    #[arg(short, long, value_name = "KVER", requires = "output")]
    kernel_version: Option<String>,
    /// The kernel image [default: that of OUT's manifest, or OUT/vmlinuz]
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// The initrd, anyone's [default: that of OUT's manifest, or OUT/initrd]
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// Boot the unified kernel image of OUT, or that of a file, anyone's, by UEFI
    ///
    /// The kernel's options of a scenario are added to its own by the firmware: systemd-stub(7). Where OUT holds no initrd beside it, this is what is booted anyway.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, conflicts_with_all = ["kernel", "initrd"])]
    uki: Option<Option<PathBuf>>,
    /// Boot with Secure Boot: FILE has the variables of the firmware, with the keys that it takes signatures of
    ///
    /// OVMF's, as virt-fw-vars(1) writes them. Only a signed image boots then.
    #[arg(long, value_name = "FILE")]
    secure_boot: Option<PathBuf>,
    /// Make the disks, and serve them, with the programs of another output directory, for an initrd that lacks bash, mke2fs and the like
    #[arg(long, value_name = "OUT")]
    disks_by: Option<PathBuf>,
    /// The root device, by the name that --list shows; several are separated by commas, or the option is repeated; `all` stands for every one whose needs
    /// (--list) the initrd meets
    #[arg(long = "root", value_name = "SCENARIO", value_delimiter = ',', default_value = "plain")]
    roots: Vec<String>,
    /// The longest that one guest may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "240", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Let the guests' clock count their instructions instead of the host's time, so that initrds can be compared
    ///
    /// The same boot then takes the same time, within a hundredth, on every host and beside other work: an instruction takes 2
    /// ns, as on a slow processor. KVM is not used. What waits for something outside of the guest waits by the host's clock: a
    /// passphrase that is typed, a TPM.
    #[arg(long)]
    count_instructions: bool,
    /// Kernel options behind all others; may be given several times
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    append: Vec<String>,
    /// Also compare the digest of every file that the kernel unpacks with the initrd's
    #[arg(long)]
    verify_contents: bool,
    /// How many guests run side by side [default: as many as the processors allow; 1 with --console]
    #[arg(long, value_name = "NUMBER", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    jobs: Option<usize>,
    /// Show the consoles on standard error while the guests run
    #[arg(long)]
    console: bool,
    /// Where the consoles are kept, a file for each guest [default: OUT/boot, or boot in the current directory, which must not be a
    /// symlink]
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// Print JSON instead of text, times in seconds
    #[arg(long)]
    json: bool,
    /// List the root devices and end
    #[arg(long)]
    list: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    contents: Option<&'a Contents>,
    boots: Vec<&'a Report>,
}

impl<'a> Answer<'a> {
    fn new(ok: bool, findings: &'a [Finding]) -> Self {
        let mut answer = Answer { ok, contents: None, boots: Vec::new() };
        for finding in findings {
            match finding {
                Finding::Contents(contents) => answer.contents = Some(contents),
                Finding::Boot(report) => answer.boots.push(report),
            }
        }
        answer
    }
}

/// Runs the command.
///
/// # Errors
/// Fails on an unknown root device, when QEMU or a file is missing, and when interrupted. A failed boot is an exit code.
pub async fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    if arguments.list {
        print(&scenario::list())?;
        return Ok(ExitCode::SUCCESS);
    }
    let cancellation = Cancellation::on_signals()?;
    let interrupted = || Ok(cancellation.check()?);
    // QEMU is watched by threads of its own, which the runtime knows nothing of.
    tokio::task::block_in_place(|| boot(arguments, &interrupted, progress))
}

fn boot(arguments: &Arguments, interrupted: &(dyn Fn() -> Result<()> + Sync), progress: &Progress) -> Result<ExitCode> {
    let given = subject::given(arguments)?;
    let scenarios = choice::scenarios(&arguments.roots, &given.subject, progress)?;
    let session = Session::open(given.subject.clone(), options(arguments, &given, interrupted)?, progress)?;
    let contents = arguments.verify_contents.then_some(Task::Contents);
    let tasks: Vec<Task> = contents.into_iter().chain(scenarios.into_iter().map(Task::Boot)).collect();
    // Two consoles at a time cannot be read.
    let jobs = if arguments.console { 1 } else { arguments.jobs.unwrap_or_else(|| session.default_jobs()) };
    let findings = session.run_all(&tasks, jobs, |finding| tell(arguments, finding, session.accelerator()))?;
    let ok = findings.iter().all(is_ok);
    if arguments.json {
        let answer = serde_json::to_string_pretty(&Answer::new(ok, &findings)).context("writing the answer as JSON")?;
        print(&(answer + "\n"))?;
    } else {
        print_table(&findings)?;
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The reports once more, where there are several.
fn print_table(findings: &[Finding]) -> Result<()> {
    let reports = findings.iter().filter_map(|finding| match finding {
        Finding::Boot(report) => Some(report),
        Finding::Contents(_) => None,
    });
    let reports: Vec<&Report> = reports.collect();
    if reports.len() > 1 { print(&format!("\n{}", table(&reports))) } else { Ok(()) }
}

fn is_ok(finding: &Finding) -> bool {
    match finding {
        Finding::Contents(contents) => contents.failure.is_none(),
        Finding::Boot(report) => report.ok,
    }
}

/// The firmware of guests that begin with UEFI. Without Secure Boot there may be none: few scenarios need it.
fn firmware_of(arguments: &Arguments, given: &Given) -> Result<Option<Firmware>> {
    let Some(variables) = &arguments.secure_boot else { return Ok(firmware()) };
    ensure!(given.subject.unified.is_some(), "--secure-boot is for unified kernel images: give one with --uki");
    let opened = regular_file::open(variables);
    opened.with_context(|| format!("opening the variables of the firmware, {}", variables.display()))?;
    firmware_for(variables).map(Some).with_context(|| {
        format!(
            "no UEFI firmware with Secure Boot is there for QEMU that has variables as large as {}: install it with \
             `apt-get install ovmf` (Debian, Ubuntu) or `dnf install edk2-ovmf` (Fedora), and make them of its own",
            variables.display()
        )
    })
}

fn options<'a>(
    arguments: &Arguments,
    given: &Given,
    interrupted: &'a (dyn Fn() -> Result<()> + Sync),
) -> Result<Options<'a>> {
    Ok(Options {
        maker: arguments.disks_by.as_deref().map(subject::of_output).transpose()?,
        firmware: firmware_of(arguments, given)?,
        timeout: Duration::from_secs(arguments.timeout),
        counts_instructions: arguments.count_instructions,
        append: arguments.append.clone(),
        show_console: arguments.console,
        log_directory: log_directory(arguments),
        cache_directory: boot_cache()?,
        interrupted,
    })
}

/// A symlink is followed only where it was given: an output directory may be somebody else's.
fn log_directory(arguments: &Arguments) -> PathBuf {
    match &arguments.log_dir {
        Some(given) => fs::canonicalize(given).unwrap_or_else(|_| given.clone()),
        None => arguments.output.as_deref().unwrap_or(Path::new(".")).join("boot"),
    }
}

/// Where made disks are kept: below the cache, which is nobody else's either.
fn boot_cache() -> Result<PathBuf> {
    let cache = cache_directory()?;
    store::open_root(&cache)?;
    Ok(cache.join("boot"))
}

fn contents_line(contents: &Contents) -> String {
    match &contents.failure {
        Some(failure) => format!("contents: failed in stage {}: {}", failure.stage, failure.reason),
        None => {
            let when = if contents.cached { ", as an earlier run found" } else { "" };
            format!("contents: ok, {} files in the guest equal the initrd's{when}", contents.files)
        }
    }
}

/// The answer's line, and behind a failure that should not be what the console said last.
fn tell(arguments: &Arguments, finding: &Finding, accelerator: Accelerator) -> Result<()> {
    let (line, failure) = match finding {
        Finding::Contents(contents) => (contents_line(contents), contents.failure.as_ref()),
        Finding::Boot(report) => (report.line(accelerator), report.failure.as_ref().filter(|_| !report.ok)),
    };
    if !arguments.json {
        print(&format!("{line}\n"))?;
    }
    if let Some(failure) = failure {
        show_console(failure);
    }
    Ok(())
}

fn show_console(failure: &Failure) {
    if failure.console.is_empty() {
        return;
    }
    let mut text = format!("the console's last lines, all of it in {}:\n", failure.log.display());
    text.extend(failure.console.iter().map(|line| format!("  | {}\n", one_line(line))));
    progress::print(text.as_bytes());
}

fn print(text: &str) -> Result<()> {
    print::print(|output| output.write_all(text.as_bytes()))
}
