//! `ocinitrd boot`: a kernel and an initrd in, a line for each root device on standard output.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::built::built;
use super::surroundings::{cache_directory, firmware};
use crate::boot::scenario::{self, Scenario};
use crate::boot::{Accelerator, Contents, Failure, Finding, Options, Report, Session, Subject, Task, table};
use crate::engine::Cancellation;
use crate::needs::{Holdings, NEEDS, Need, Wanted};
use crate::progress::Progress;

/// Boot what was built in QEMU, against a root device made for it.
///
/// Needs no root rights and no program but QEMU (swtpm where the scenario has a TPM, OVMF where it begins with UEFI). The root
/// device is made in a guest that runs the programs of the initrd itself (bash, mount, mke2fs, ...) or those of another one
/// (--disks-by), and kept for the next boot of the same initrd. Where the root is on a server, that is such a guest too. Uses
/// KVM where it works. Exits with 1 if a boot does not come out as it must; then the stage (disks, firmware, server, kernel,
/// unpack, init, device, mount, switch-root, target) and the last
/// lines of the console are shown.
///
/// Examples: ocinitrd boot fedora-44; ocinitrd boot fedora-44 --root all --verify-contents;
/// ocinitrd boot --kernel /boot/vmlinuz --initrd /boot/initrd.img --console
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The output directory of `ocinitrd build`
    #[arg(value_name = "OUT", required_unless_present_any = ["list", "initrd"])]
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
    /// Where the consoles are kept, a file for each guest [default: OUT/boot, or boot in the current directory]
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
    let subject = subject(arguments)?;
    let scenarios = scenarios(arguments, &subject, progress)?;
    let session = Session::open(subject, options(arguments, interrupted)?, progress)?;
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

/// What `--root` names. `all` leaves out what the initrd is not made for, and that is said.
fn scenarios(arguments: &Arguments, subject: &Subject, progress: &Progress) -> Result<Vec<&'static Scenario>> {
    let meant = scenario::select(&arguments.roots, &[])?;
    let missing = missing(&meant, subject);
    let lacking: Vec<&str> = missing.iter().map(|need| need.name).collect();
    let chosen = scenario::select(&arguments.roots, &lacking)?;
    for need in missing {
        let needy = meant.iter().filter(|scenario| scenario.needs.contains(&need.name)).map(|scenario| scenario.name);
        let is_chosen = |name: &&str| chosen.iter().any(|scenario| scenario.name == *name);
        let (named, left_out): (Vec<&str>, Vec<&str>) = needy.partition(is_chosen);
        for (names, what) in [(left_out, "left out"), (named, "not likely to boot")] {
            if !names.is_empty() {
                progress.note(&format!(
                    "{what}: {}; this initrd lacks what comes with {}",
                    names.join(", "),
                    need.brought_by
                ));
            }
        }
    }
    Ok(chosen)
}

/// What scenarios need and the initrd does not hold. An initrd that cannot be read, which boots will tell, holds nothing.
fn missing(scenarios: &[&Scenario], subject: &Subject) -> Vec<&'static Need> {
    let needed: BTreeSet<&str> = scenarios.iter().flat_map(|scenario| scenario.needs).copied().collect();
    if needed.is_empty() {
        return Vec::new();
    }
    let holdings = Holdings::of_initrd(&subject.initrd).unwrap_or_default();
    let is_missing = |need: &'static Need| !holdings.check(&Wanted::of(need)).ok();
    NEEDS.iter().filter(|need| needed.contains(need.name) && is_missing(need)).collect()
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

fn subject(arguments: &Arguments) -> Result<Subject> {
    let built = arguments.output.as_deref().map(|output| built(output, arguments.kernel_version.as_deref()));
    let (kernel, initrd) = match built.transpose()? {
        Some(Subject { kernel, initrd }) => (Some(kernel), Some(initrd)),
        None => (None, None),
    };
    let part = |given: &Option<PathBuf>, of_output: Option<PathBuf>, name: &str| {
        given.clone().or(of_output).with_context(|| format!("no {name} is given: use --kernel FILE --initrd FILE"))
    };
    existing(part(&arguments.kernel, kernel, "kernel")?, part(&arguments.initrd, initrd, "initrd")?)
}

fn existing(kernel: PathBuf, initrd: PathBuf) -> Result<Subject> {
    for path in [&kernel, &initrd] {
        if !path.is_file() {
            bail!(
                "there is no file {}: give the output directory of `ocinitrd build`, or --kernel FILE --initrd FILE",
                path.display()
            );
        }
    }
    Ok(Subject { kernel, initrd })
}

fn options<'a>(arguments: &Arguments, interrupted: &'a (dyn Fn() -> Result<()> + Sync)) -> Result<Options<'a>> {
    let beside = arguments.output.as_deref().unwrap_or(Path::new("."));
    let maker =
        arguments.disks_by.as_ref().map(|output| built(output, None).and_then(|one| existing(one.kernel, one.initrd)));
    Ok(Options {
        maker: maker.transpose()?,
        firmware: firmware(),
        timeout: Duration::from_secs(arguments.timeout),
        counts_instructions: arguments.count_instructions,
        append: arguments.append.clone(),
        show_console: arguments.console,
        log_directory: arguments.log_dir.clone().unwrap_or_else(|| beside.join("boot")),
        cache_directory: cache_directory().join("boot"),
        interrupted,
    })
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
    text.extend(failure.console.iter().map(|line| format!("  | {line}\n")));
    // A closed standard error must not end the boots.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn print(text: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).context("writing to standard output")
}
