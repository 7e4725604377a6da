//! `ocinitrd kernel-install setup`: a machine and the configuration of its old generator in, the files of opt-in and a trial out.
//!
//! All that can fail is done before the first file is written: the initrd of the trial is made and checked in a temporary
//! directory. What is written is recorded, so that `--undo` takes it back.

mod report;
mod trial;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use super::environment::Layout;
use super::finish::Finishers;
use crate::cli::print;
use crate::host;
use crate::migration::{self, Caller, Change, Content, POSTINST, Plan, Record, Source, Survey};
use ocinitrd_support::output::MODE_PUBLIC;
use ocinitrd_support::progress::{Progress, Verbosity};
use report::Report;
use trial::Trial;

/// Move this machine over from another generator of initrds, and back
///
/// Reads what is there: systemd's version, the layout of boot entries, the boot loader, the configuration of dracut,
/// initramfs-tools or mkinitcpio, /etc/crypttab and the kernel's command line. Prints what becomes of each line of that
/// configuration, and the files that it is going to write: one that has kernel-install ask ocinitrd for initrds, and
/// /etc/ocinitrd/50-setup.toml with the modules and files that the old configuration asked for. Makes an initrd for the kernel that
/// runs, checks it against what the machine needs, and puts it beside the one that is there, with an entry of its own that is not the
/// default. Then it writes them all, or nothing where one of these steps fails.
///
/// What was there before is kept in /var/lib/ocinitrd/setup, and `setup --undo` puts it back, to the bit. The old generator stays
/// installed, and its initrds stay where they are.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
JSON: dry_run; survey (systemd, layout, boot, loaders, generators, ...); findings, each with place, setting, outcome (carried-over, \
as-before, not-needed, by-hand, not-read), text and by_distribution; files, each with path, reason and text; trial; notes; and \
problem, a text where nothing can be changed.

Examples:
  ocinitrd kernel-install setup --dry-run
  ocinitrd kernel-install setup
  ocinitrd kernel-install setup --undo")]
pub struct Arguments {
    /// Print the same and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Put back what was there before
    #[arg(long, conflicts_with_all = ["dry_run", "no_trial", "kernel_version", "json"])]
    undo: bool,
    /// Make and check the initrd, but put no trial beside the one that is there
    #[arg(long)]
    no_trial: bool,
    /// The kernel to try it with, as `uname -r` prints it [default: the one that runs]
    #[arg(short, long, value_name = "KVER")]
    kernel_version: Option<String>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    /// The root of the machine
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// Fails when the machine cannot be read, when something that ours needs is not there, when the initrd lacks what the machine needs,
/// and when something cannot be written: nothing was changed then.
pub fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    check_user(arguments)?;
    if arguments.undo {
        return undo(arguments);
    }
    let root = &arguments.root;
    let record = Record::load(root)?;
    let mut plan = Plan::of(&Source::open(root)?, |path| record.original(path))?;
    let prepared = prepare(arguments, &plan, &record, progress);
    if let Ok((trial, _)) = &prepared {
        plan.resolve(trial.holdings.as_ref());
    }
    let problem = prepared.as_ref().err().map(|error| format!("{error:#}"));
    let report = Report {
        dry_run: arguments.dry_run,
        plan: &plan,
        trial: prepared.as_ref().ok().map(|(trial, _)| trial),
        problem: problem.as_deref(),
        shows_distribution: progress.verbosity() == Verbosity::Verbose,
    };
    print::print(
        |output| {
            if arguments.json { print::write_json(output, &report.json()) } else { report.write(output) }
        },
    )?;
    let (trial, changes) = prepared.context("nothing was changed")?;
    trial.warnings.iter().for_each(|warning| progress.warn(warning));
    if arguments.dry_run {
        progress.note("nothing was changed: this was a dry run");
        return Ok(ExitCode::SUCCESS);
    }
    let changed = record.write(&changes).context("nothing was changed")?;
    let written = if changed.is_empty() {
        "all of it was there already".to_owned()
    } else {
        format!("written: {}", changed.join(", "))
    };
    progress.note(&format!("{written}; `ocinitrd kernel-install setup --undo` goes back"));
    Ok(ExitCode::SUCCESS)
}

/// What is written belongs to root.
fn check_user(arguments: &Arguments) -> Result<()> {
    let is_root = rustix::process::geteuid().is_root();
    ensure!(
        is_root || arguments.dry_run || arguments.root != Path::new("/"),
        "setup writes to /etc, /var/lib/ocinitrd and the boot partition: run it as root, or with --dry-run to see what it would do"
    );
    Ok(())
}

fn undo(arguments: &Arguments) -> Result<ExitCode> {
    let changed = migration::undo(&arguments.root)?;
    // It is undone, even if the machine cannot be read now.
    let plan = Source::open(&arguments.root).and_then(|source| Plan::of(&source, |_| None));
    let makes_it_again = match plan.map_or(Caller::KernelInstall, |plan| plan.survey.caller) {
        Caller::KernelInstall => "kernel-install add KVER /usr/lib/modules/KVER/vmlinuz",
        Caller::DebianHooks => "update-initramfs -u -k KVER` or `dracut --force /boot/initrd.img-KVER KVER",
    };
    print::print(|output| {
        changed.iter().try_for_each(|path| writeln!(output, "put back: {path}"))?;
        writeln!(
            output,
            "Kernels that were installed meanwhile keep the initrds that ocinitrd made until `{makes_it_again}` is run for each."
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the trial, and all that is to be written.
fn prepare(arguments: &Arguments, plan: &Plan, record: &Record, progress: &Progress) -> Result<(Trial, Vec<Change>)> {
    check_installed(&plan.survey)?;
    check_entries_are_made(arguments, &plan.survey)?;
    let planned = [(migration::CONFIGURATION_NAME.to_owned(), plan.configuration().map(str::to_owned))];
    let trial = trial::make(arguments, plan, BTreeMap::from(planned), progress)?;
    // The opt-in comes last: ocinitrd is asked only once everything else is there.
    let mut changes = trial.changes();
    changes.extend(plan.files.iter().map(|file| Change {
        path: file.path.clone(),
        content: Content::Bytes(file.bytes.clone()),
        mode: MODE_PUBLIC,
    }));
    record.check(&changes)?;
    Ok((trial, changes))
}

fn check_installed(survey: &Survey) -> Result<()> {
    if survey.caller == Caller::DebianHooks {
        ensure!(
            survey.has_hooks,
            "the hooks of kernel packages are not installed, {POSTINST} and others: the package that `make deb` makes brings them, and \
             so does `make install` in the checkout (docs/packaging.md)"
        );
        return Ok(());
    }
    ensure!(
        survey.has_kernel_install,
        "kernel-install(8) is not installed: it comes with systemd, or with a package systemd-boot or systemd-udev of it"
    );
    ensure!(
        survey.has_plugin,
        "the plugin 50-ocinitrd.install of kernel-install is not installed: `make install` in the checkout, or the package \
         ocinitrd-kernel-install, brings it (docs/packaging.md)"
    );
    Ok(())
}

/// Refuses a machine on which kernel-install would fail from now on, since nobody makes an entry of what ours makes.
fn check_entries_are_made(arguments: &Arguments, survey: &Survey) -> Result<()> {
    if survey.caller == Caller::DebianHooks {
        // Whoever writes the menu of the boot loader finds the initrd by its name.
        return Ok(());
    }
    let root = &arguments.root;
    let kernel = arguments.kernel_version.clone().unwrap_or_else(trial::running_kernel);
    let finishers = Finishers {
        layout: Layout::of(&survey.layout),
        plugins: &host::plugins(root),
        entries: root.join("boot/loader/entries"),
        initrd: format!("initramfs-{kernel}.img"),
        entry_directory: None,
    };
    finishers.check().with_context(|| format!("the layout is {} ({})", survey.layout, survey.layout_by))
}
