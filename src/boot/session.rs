//! Boots of one kernel and initrd: what they share is found out once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::cache::Cache;
use super::guest::{self, Seen, Watch};
use super::qemu::{Accelerator, Guest, GuestDisk, Qemu};
use super::report::Report;
use super::scenario::{DiskSet, Expectation, Scenario};
use super::stage::{Milestone, Stage};
use super::tpm::Tpm;
use super::verdict::{self, Failure};
use super::{command_line, contents, partition, script};
use crate::format::digest::Digest;
use crate::inspect;
use crate::progress::Progress;

/// Changes whenever an entry of the cache would mean something else.
const CACHE_VERSION: &[u8] = b"ocinitrd boot 1\0";
/// How often a boot is tried again that failed before the initrd had any part in it.
const RETRIES: u32 = 2;
/// Room for the list of the files in an initrd; the file is sparse.
const LISTING_BYTES: u64 = 256 << 20;
const MIB: u64 = 1 << 20;

/// What is booted.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The kernel image.
    pub kernel: PathBuf,
    /// The initrd, in any form that the kernel takes.
    pub initrd: PathBuf,
}

/// How it is booted.
pub struct Options<'a> {
    /// What makes the disks in place of the subject, whose initrd may lack the programs.
    pub maker: Option<Subject>,
    /// The longest that one guest may take.
    pub timeout: Duration,
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

impl Subject {
    /// The digests of its files, as text.
    fn identity(&self) -> Result<String> {
        let digest = |path: &Path| -> Result<Digest> {
            let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
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

/// A script of ours that runs in a guest.
struct Script<'a> {
    /// The segment that brings it.
    segment: &'a [u8],
    /// The disks that it may write to.
    images: &'a [PathBuf],
    tpm: Option<&'a Tpm>,
}

/// Boots of one kernel and initrd.
pub struct Session<'a> {
    subject: Subject,
    options: Options<'a>,
    progress: Progress,
    qemu: Qemu,
    cache: Cache,
    identity: String,
    maker_identity: String,
    /// The disk sets asked for so far. Locked while disks are made: others want the same ones.
    disks: Mutex<BTreeMap<&'static str, Disks>>,
}

/// A disk set that was made, or why it could not be.
type Disks = std::result::Result<MadeDisks, Failure>;

/// A disk set that was made.
#[derive(Clone, Debug)]
struct MadeDisks {
    set: DiskSet,
    place: PathBuf,
}

impl MadeDisks {
    /// The images, in the order of the set.
    fn images(&self) -> Vec<PathBuf> {
        (0..self.set.disks.len()).map(|number| self.place.join(format!("disk{number}"))).collect()
    }

    /// The state of the TPM, if there is one.
    fn tpm(&self) -> Option<PathBuf> {
        self.set.tpm.then(|| self.place.join("tpm"))
    }
}

impl<'a> Session<'a> {
    /// Finds QEMU, and what runs the guests fastest on this host.
    ///
    /// # Errors
    /// Fails when QEMU is not installed, the kernel or the initrd cannot be read, or a directory not be made.
    pub fn open(subject: Subject, options: Options<'a>, progress: &Progress) -> Result<Self> {
        let identity = subject.identity()?;
        let maker_identity = options.maker.as_ref().map_or_else(|| Ok(identity.clone()), Subject::identity)?;
        fs::create_dir_all(&options.log_directory)
            .with_context(|| format!("creating {}", options.log_directory.display()))?;
        let cache = Cache::open(&options.cache_directory)?;
        let watch = Watch { timeout: options.timeout, log: None, show: false, interrupted: options.interrupted };
        let (qemu, without_kvm) = Qemu::find(&subject.kernel, &watch)?;
        if let Some(reason) = without_kvm {
            progress.note(&format!("booting without KVM, which is slower: {reason}"));
        }
        Ok(Session {
            identity,
            maker_identity,
            progress: *progress,
            subject,
            options,
            qemu,
            cache,
            disks: Mutex::default(),
        })
    }

    /// What runs the guests' instructions.
    pub fn accelerator(&self) -> Accelerator {
        self.qemu.accelerator()
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

    /// Boots one scenario. Its disks are made first, unless an earlier run of the same kernel and initrd made them.
    ///
    /// # Errors
    /// Fails on what has nothing to do with the initrd: a full disk, an interruption. A failed boot is a report.
    fn boot(&self, scenario: &Scenario) -> Result<Report> {
        let made = match self.disks(scenario.disks)? {
            Ok(made) => made,
            Err(failure) => return Ok(self.report(scenario, None, Some(failure), 0)),
        };
        let is_there = |(number, _): &(usize, PathBuf)| !scenario.without.contains(number);
        let images = made.images().into_iter().enumerate().filter(is_there);
        let disks = images.map(|(number, image)| GuestDisk { number, image, writable: false }).collect();
        let command_line = command_line::of_target(scenario.command_line, &self.options.append);
        let scratch =
            tempfile::tempdir_in(&self.options.cache_directory).context("making a directory for the guest")?;
        let tpm = made.tpm().map(|state| start_tpm(&state, scratch.path())).transpose()?;
        let guest = Guest {
            credentials: scenario.credentials,
            dialogue: scenario.dialogue,
            tpm: tpm.as_ref().map(|tpm| tpm.socket().to_owned()),
            ..guest(&self.with_additions(scenario, scratch.path())?, command_line, disks)?
        };
        let (seen, retries) = self.run(scenario.name, &guest)?;
        let mut fault = verdict::fault(&seen, self.options.timeout);
        if let (None, Expectation::Target(facts)) = (&fault, scenario.expects) {
            let wrong = verdict::failed_unit(&seen).or_else(|| verdict::wrong_fact(&seen, facts));
            fault = wrong.map(|reason| (Stage::Target, reason));
        }
        let failure = fault.map(|(stage, reason)| Failure::new(stage, reason, &seen, self.log(scenario.name)));
        Ok(self.report(scenario, Some(&seen), failure, retries))
    }

    /// The subject with the files that a scenario adds to its initrd.
    fn with_additions(&self, scenario: &Scenario, scratch: &Path) -> Result<Subject> {
        if scenario.files.is_empty() {
            return Ok(self.subject.clone());
        }
        let initrd = scratch.join("initrd");
        script::append(&self.subject.initrd, &script::additions(scenario.files)?, &initrd)?;
        Ok(Subject { initrd, ..self.subject.clone() })
    }

    /// Compares the files that the kernel unpacks with those in the initrd, by digests that a guest computes.
    ///
    /// # Errors
    /// Fails on what has nothing to do with the initrd, and on an initrd that cannot be read.
    fn verify_contents(&self) -> Result<Contents> {
        const NAME: &str = "contents";
        let reader = File::open(&self.subject.initrd).context("opening the initrd")?;
        let expected = inspect::file_digests(reader)
            .with_context(|| format!("reading the files of {}", self.subject.initrd.display()))?;
        let segment = script::contents_lister()?;
        let key = key(&self.identity, &[&segment]);
        let files = expected.len();
        if self.cache.get(&key).is_some() {
            return Ok(Contents { files, cached: true, failure: None });
        }
        let made = self.cache.make(&key, |place| {
            let image = place.join("listing");
            create_sparse(&image, LISTING_BYTES)?;
            let script = Script { segment: &segment, images: std::slice::from_ref(&image), tpm: None };
            let seen = match self.run_script(NAME, &self.subject, place, &script)? {
                Ok(seen) => seen,
                Err(failure) => return Ok(Err(failure)),
            };
            let listing = File::open(&image).context("opening the list of files")?;
            let unpacked = contents::parse_listing(BufReader::new(listing))?;
            fs::remove_file(&image).context("removing the list of files")?;
            let difference = contents::difference(&expected, &unpacked);
            Ok(difference.map_or(Ok(()), |reason| Err(Failure::new(Stage::Unpack, reason, &seen, self.log(NAME)))))
        })?;
        Ok(Contents { files, cached: false, failure: made.err() })
    }

    /// A disk set, which one run makes only once.
    fn disks(&self, set: &DiskSet) -> Result<Disks> {
        let mut known = self.disks.lock().map_err(|_| anyhow::anyhow!("another boot broke off while it made disks"))?;
        if let Some(disks) = known.get(set.name) {
            return Ok(disks.clone());
        }
        let disks = self.make_disks(set)?;
        known.insert(set.name, disks.clone());
        Ok(disks)
    }

    fn make_disks(&self, set: &DiskSet) -> Result<Disks> {
        let segment = script::disk_maker(set.recipe)?;
        let key = key(&self.maker_identity, &[&segment, format!("{:?}", (set.disks, set.tpm)).as_bytes()]);
        if let Some(place) = self.cache.get(&key) {
            return Ok(Ok(MadeDisks { set: *set, place }));
        }
        let made = self.cache.make(&key, |place| {
            let made = MadeDisks { set: *set, place: place.to_owned() };
            let images = made.images();
            for (disk, image) in set.disks.iter().zip(&images) {
                let file = create_sparse(image, disk.size_mib * MIB)?;
                if !disk.partitions.is_empty() {
                    partition::write_table(&file, disk.guid, disk.partitions)
                        .with_context(|| format!("partitioning {}", image.display()))?;
                }
            }
            let tpm = made.tpm().map(|state| new_tpm(&state)).transpose()?;
            let script = Script { segment: &segment, images: &images, tpm: tpm.as_ref() };
            let maker = self.options.maker.as_ref().unwrap_or(&self.subject);
            let ran = self.run_script(&format!("disks-{}", set.name), maker, place, &script)?;
            Ok(ran.map(drop).map_err(with_remedy))
        })?;
        Ok(made.map(|place| MadeDisks { set: *set, place }))
    }

    /// Runs a script of ours over the initrd of `subject`; `place` holds what is booted meanwhile.
    fn run_script(
        &self,
        name: &str,
        subject: &Subject,
        place: &Path,
        script: &Script<'_>,
    ) -> Result<std::result::Result<Seen, Failure>> {
        let initrd = place.join("initrd");
        script::append(&subject.initrd, script.segment, &initrd)?;
        let images = script.images.iter().cloned().enumerate();
        let disks = images.map(|(number, image)| GuestDisk { number, image, writable: true }).collect();
        let subject = Subject { kernel: subject.kernel.clone(), initrd: initrd.clone() };
        let guest = Guest {
            tpm: script.tpm.map(|tpm| tpm.socket().to_owned()),
            ..guest(&subject, command_line::of_script(script::INIT), disks)?
        };
        let (seen, _) = self.run(name, &guest)?;
        fs::remove_file(&initrd).with_context(|| format!("removing {}", initrd.display()))?;
        Ok(match verdict::fault(&seen, self.options.timeout) {
            None => Ok(seen),
            Some((Stage::Init, reason)) => Err(Failure::new(Stage::Disks, reason, &seen, self.log(name))),
            Some((stage, reason)) => Err(Failure::new(stage, reason, &seen, self.log(name))),
        })
    }

    /// Runs a guest, and again where it failed before the initrd had any part in it.
    fn run(&self, name: &str, guest: &Guest) -> Result<(Seen, u32)> {
        let log = self.log(name);
        let watch = Watch {
            timeout: self.options.timeout,
            log: Some(&log),
            show: self.options.show_console,
            interrupted: self.options.interrupted,
        };
        let mut retries = 0;
        loop {
            self.progress.note(&format!("{name}: booting a guest"));
            let seen = guest::run(&self.qemu, guest, &watch)?;
            if retries == RETRIES || !verdict::is_worth_another_try(&seen) {
                return Ok((seen, retries));
            }
            retries += 1;
            let kept = self.log(&format!("{name}-panic{retries}"));
            fs::rename(&log, &kept).with_context(|| format!("renaming {} to {}", log.display(), kept.display()))?;
            self.progress.warn(&format!("{name}: the kernel panicked before it unpacked the initrd; trying again"));
        }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.options.log_directory.join(format!("{name}.log"))
    }

    fn report(&self, scenario: &Scenario, seen: Option<&Seen>, failure: Option<Failure>, retries: u32) -> Report {
        let log = failure.as_ref().map_or_else(|| self.log(scenario.name), |failure| failure.log.clone());
        Report {
            scenario: scenario.name,
            summary: scenario.summary,
            ok: verdict::is_expected(&scenario.expects, failure.as_ref()),
            accelerator: self.accelerator().to_string(),
            seconds: seen.map(|seen| to_milliseconds(seen.console.seconds())).unwrap_or_default(),
            failure,
            retries,
            log,
        }
    }
}

fn with_remedy(failure: Failure) -> Failure {
    match failure.stage {
        Stage::Disks => {
            let reason = format!("{}; --disks-by OUT makes them with the programs of another build", failure.reason);
            Failure { reason, ..failure }
        }
        _ => failure,
    }
}

fn key(identity: &str, inputs: &[&[u8]]) -> Digest {
    Digest::of(&[CACHE_VERSION, identity.as_bytes(), &inputs.join(&0)].concat())
}

fn guest(subject: &Subject, command_line: String, disks: Vec<GuestDisk>) -> Result<Guest> {
    let Subject { kernel, initrd } = subject.clone();
    let initrd_bytes = fs::metadata(&initrd).with_context(|| format!("reading {}", initrd.display()))?.len();
    Ok(Guest {
        kernel,
        initrd: Some(initrd),
        command_line,
        disks,
        memory_mib: memory_mib(initrd_bytes),
        credentials: &[],
        tpm: None,
        dialogue: &[],
    })
}

fn new_tpm(state: &Path) -> Result<Tpm> {
    fs::create_dir(state).with_context(|| format!("creating {}", state.display()))?;
    Tpm::start(state)
}

/// A TPM with a copy of what another one left in `made`: each guest finds it as it was when the disks were made.
fn start_tpm(made: &Path, scratch: &Path) -> Result<Tpm> {
    let state = scratch.join("tpm");
    fs::create_dir(&state).with_context(|| format!("creating {}", state.display()))?;
    for file in fs::read_dir(made).with_context(|| format!("reading {}", made.display()))? {
        let file = file.with_context(|| format!("reading {}", made.display()))?;
        fs::copy(file.path(), state.join(file.file_name())).context("copying the state of a TPM")?;
    }
    Tpm::start(&state)
}

/// A gibibyte, and more for large initrds: the archive and its files, some four times as large, are in memory together.
fn memory_mib(initrd_bytes: u64) -> u64 {
    1024.max(512 + 6 * initrd_bytes / MIB)
}

fn take<'t>(tasks: &'t [Task], next: &AtomicUsize) -> Option<(usize, &'t Task)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    tasks.get(number).map(|task| (number, task))
}

/// What a time of arrival is good for.
fn to_milliseconds(seconds: BTreeMap<Milestone, f64>) -> BTreeMap<Milestone, f64> {
    seconds.into_iter().map(|(milestone, seconds)| (milestone, (seconds * 1000.0).round() / 1000.0)).collect()
}

fn create_sparse(path: &Path, size_bytes: u64) -> Result<File> {
    let file = File::create_new(path).with_context(|| format!("creating {}", path.display()))?;
    file.set_len(size_bytes).with_context(|| format!("sizing {}", path.display()))?;
    Ok(file)
}
