//! Boots of one kernel and initrd: what they share is found out once.

mod contents;
mod disks;
mod server;
mod trial;
mod uefi;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use self::disks::Disks;
use super::cache::Cache;
use super::guest::{self, Seen, Watch};
use super::processor::Level;
use super::qemu::{Accelerator, Guest, GuestDisk, Qemu, Start};
use super::report::Report;
use super::scenario::Scenario;
use super::verdict::{self, Failure};
use crate::boot::uefi::Firmware;
use ocinitrd_format::digest::Digest;
use ocinitrd_support::output::LogDirectory;
use ocinitrd_support::progress::Progress;
use ocinitrd_support::regular_file;

/// Changes whenever an entry of the cache would mean something else.
const CACHE_VERSION: &[u8] = b"ocinitrd boot 1\0";
/// How often a boot is tried again that failed before the initrd had any part in it.
const RETRIES: u32 = 2;
const MIB: u64 = 1 << 20;

/// What is booted.
#[derive(Clone, Debug)]
pub struct BootTarget {
    /// The kernel image.
    pub kernel: PathBuf,
    /// The initrd, in any form that the kernel takes.
    pub initrd: PathBuf,
    /// The unified kernel image that these are from, if they are: then it is what is booted, by UEFI.
    pub unified: Option<Unified>,
}

/// A unified kernel image to be booted.
#[derive(Clone, Debug)]
pub struct Unified {
    /// The file.
    pub image: PathBuf,
    /// What PCR 11 of a TPM must be when the target runs, in hexadecimal digits.
    pub pcr11: String,
    /// The key in it that values of PCR 11 are signed with, in PEM.
    pub pcr_key: Option<String>,
}

/// How it is booted.
pub struct Options<'a> {
    /// What makes the disks, and serves them, in place of the subject, whose initrd may lack the programs.
    pub maker: Option<BootTarget>,
    /// The UEFI firmware for scenarios that begin with it, if this host has any.
    pub firmware: Option<Firmware>,
    /// The longest that one guest may take.
    pub timeout: Duration,
    /// Whether the clock of the guests that are booted counts their instructions.
    pub counts_instructions: bool,
    /// Kernel options behind all others.
    pub append: Vec<String>,
    /// Whether consoles are shown on standard error.
    pub show_console: bool,
    /// Where the consoles are kept, a file for each guest.
    pub log_directory: PathBuf,
    /// Where made disks are kept.
    pub cache_directory: PathBuf,
    /// Fails when the run was asked to end.
    pub interrupted: &'a (dyn Fn() -> Result<()> + Sync),
}

impl BootTarget {
    /// A kernel and an initrd.
    pub fn of_files(kernel: PathBuf, initrd: PathBuf) -> Self {
        BootTarget { kernel, initrd, unified: None }
    }

    /// The digests of its files, as text.
    fn identity(&self) -> Result<String> {
        let digest = |path: &Path| -> Result<Digest> {
            let file = regular_file::open(path).with_context(|| format!("opening {}", path.display()))?;
            let (digest, _) = Digest::of_reader(file).with_context(|| format!("reading {}", path.display()))?;
            Ok(digest)
        };
        Ok(format!("{}\0{}\0", digest(&self.kernel)?, digest(&self.initrd)?))
    }
}

/// What is to be found out of the subject, in one guest or more.
#[derive(Clone, Copy, Debug)]
pub enum Task {
    /// Whether the kernel unpacks what the initrd holds.
    Contents,
    /// Whether a scenario comes out as it must.
    Boot(&'static Scenario),
}

/// What was found out.
#[derive(Clone, Debug)]
pub enum Finding {
    /// Of [`Task::Contents`].
    Contents(Contents),
    /// Of [`Task::Boot`].
    Boot(Report),
}

/// What a guest found of the initrd's files.
#[derive(Clone, Debug, Serialize)]
pub struct Contents {
    /// How many regular files the initrd holds.
    pub files: usize,
    /// Whether this was found out by an earlier run with the same kernel and initrd.
    pub cached: bool,
    /// What differs, if anything does.
    pub failure: Option<Failure>,
}

/// Boots of one kernel and initrd.
pub struct Session<'a> {
    subject: BootTarget,
    options: Options<'a>,
    progress: Progress,
    /// What runs guests that work for a boot, the fastest there is.
    qemu: Qemu,
    /// What runs the guests that are booted.
    qemu_of_boots: Qemu,
    cache: Cache,
    logs: LogDirectory,
    identity: String,
    maker_identity: String,
    /// The disk sets asked for so far. Locked while disks are made: others want the same ones.
    disks: Mutex<BTreeMap<&'static str, Disks>>,
}

impl<'a> Session<'a> {
    /// Finds QEMU, and what runs the guests fastest on this host.
    ///
    /// # Errors
    /// Fails when QEMU is not installed, the kernel or the initrd cannot be read, or a directory not be made.
    pub fn open(subject: BootTarget, options: Options<'a>, progress: &Progress) -> Result<Self> {
        let identity = subject.identity()?;
        let maker_identity = options.maker.as_ref().map_or_else(|| Ok(identity.clone()), BootTarget::identity)?;
        let logs = LogDirectory::open(&options.log_directory)?;
        let cache = Cache::open(&options.cache_directory)?;
        let watch = Watch { timeout: options.timeout, log: None, show: false, interrupted: options.interrupted };
        let initrds = [Some(&subject), options.maker.as_ref()].into_iter().flatten().map(|one| &one.initrd);
        let level = initrds.map(|initrd| Level::of_initrd(initrd)).max().unwrap_or_default();
        let (qemu, without_kvm) = Qemu::find(&subject.kernel, level, &watch)?;
        let qemu_of_boots = if options.counts_instructions { qemu.counting()? } else { qemu.clone() };
        if let Some(reason) = without_kvm.filter(|_| !options.counts_instructions) {
            progress.note(&format!("booting without KVM, which is slower: {reason}"));
        }
        Ok(Session {
            identity,
            maker_identity,
            progress: *progress,
            subject,
            options,
            qemu,
            qemu_of_boots,
            cache,
            logs,
            disks: Mutex::default(),
        })
    }

    /// What runs the instructions of the guests that are booted.
    pub fn accelerator(&self) -> Accelerator {
        self.qemu_of_boots.accelerator()
    }

    /// How many guests can run side by side on this host.
    pub fn default_jobs(&self) -> usize {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        (processors / self.accelerator().processors()).max(1)
    }

    /// Does all of `tasks`, `jobs` side by side. `tell` learns of each as it ends; the findings are in the order of the tasks.
    ///
    /// # Errors
    /// Fails when `tell` does, and on what has nothing to do with the initrd; then no further task is begun.
    pub fn run_all(
        &self,
        tasks: &[Task],
        jobs: usize,
        mut tell: impl FnMut(&Finding) -> Result<()>,
    ) -> Result<Vec<Finding>> {
        let next = AtomicUsize::new(0);
        let (sender, receiver) = channel();
        thread::scope(|scope| {
            for _ in 0..jobs.min(tasks.len()) {
                let (next, sender) = (&next, sender.clone());
                scope.spawn(move || {
                    while let Some((number, task)) = take(tasks, next) {
                        if sender.send((number, self.find_out(*task))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let mut findings = BTreeMap::new();
            for (number, finding) in receiver {
                let finding = finding?;
                tell(&finding)?;
                findings.insert(number, finding);
            }
            Ok(findings.into_values().collect())
        })
    }

    fn find_out(&self, task: Task) -> Result<Finding> {
        match task {
            Task::Contents => self.verify_contents().map(Finding::Contents),
            Task::Boot(scenario) => self.boot(scenario).map(Finding::Boot),
        }
    }

    /// Runs a guest to its end, and again where it failed before the initrd had any part in it.
    fn run(&self, qemu: &Qemu, name: &str, guest: &Guest) -> Result<(Seen, u32)> {
        let run = |watch: &Watch<'_>| guest::run(qemu, guest, watch).map(Err::<Infallible, _>);
        let (Err(seen), retries) = self.try_again(name, run)?;
        Ok((seen, retries))
    }

    /// Starts a guest, and again where it ended before the initrd had any part in it.
    fn try_again<T>(
        &self,
        name: &str,
        start: impl Fn(&Watch<'_>) -> Result<std::result::Result<T, Seen>>,
    ) -> Result<(std::result::Result<T, Seen>, u32)> {
        let log = log_name(name);
        let watch = Watch {
            timeout: self.options.timeout,
            log: Some((&self.logs, &log)),
            show: self.options.show_console,
            interrupted: self.options.interrupted,
        };
        let mut retries = 0;
        loop {
            self.progress.note(&format!("{name}: booting a guest"));
            let started = start(&watch)?;
            if retries == RETRIES || !started.as_ref().is_err_and(verdict::is_worth_another_try) {
                return Ok((started, retries));
            }
            retries += 1;
            self.logs.rename(&log, &log_name(&format!("{name}-panic{retries}")))?;
            self.progress.warn(&format!("{name}: the kernel panicked before it unpacked the initrd; trying again"));
        }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs.path(&log_name(name))
    }
}

fn log_name(name: &str) -> String {
    format!("{name}.log")
}

fn key(identity: &str, inputs: &[&[u8]]) -> Digest {
    Digest::of(&[CACHE_VERSION, identity.as_bytes(), &inputs.join(&0)].concat())
}

fn guest(subject: &BootTarget, command_line: String, disks: Vec<GuestDisk>) -> Result<Guest> {
    let BootTarget { kernel, initrd, .. } = subject.clone();
    let initrd_bytes = fs::metadata(&initrd).with_context(|| format!("reading {}", initrd.display()))?.len();
    Ok(Guest {
        start: Start::Kernel { kernel, initrd: Some(initrd), command_line },
        disks,
        memory_mib: memory_mib(initrd_bytes),
        credentials: &[],
        tpm: None,
        dialogue: &[],
        card: None,
    })
}

/// A gibibyte, and more for large initrds: the archive and its files, some four times as large, are in memory together.
fn memory_mib(initrd_bytes: u64) -> u64 {
    1024.max(512 + 6 * initrd_bytes / MIB)
}

fn take<'t>(tasks: &'t [Task], next: &AtomicUsize) -> Option<(usize, &'t Task)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    tasks.get(number).map(|task| (number, task))
}
