//! What a guest's serial console tells: bytes with their time of arrival in, milestones, marks and faults out.
//!
//! The kernel stamps its own lines (`printk.time`) with seconds since it started; systemd's status lines carry no time, so
//! theirs is the time of arrival, put on the kernel's clock by the stamped line that arrived with the least delay.
//!
//! Our own scripts in a guest speak through `/dev/kmsg`, a line each, which the kernel stamps and never tears apart:
//! `ocinitrd: fact NAME VALUE`, `ocinitrd: missing PROGRAM`, `ocinitrd: failed REASON`, `ocinitrd: done`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::stage::{Milestone, Stage};

/// How many of the last lines are shown with a failure.
const TAIL_LINES: usize = 30;

/// A line holding one of these ends the boot; what follows says in which stage, where the milestones do not tell.
const FATAL: &[(&str, Option<Stage>)] = &[
    ("Initramfs unpacking failed", Some(Stage::Unpack)),
    // The kernel found no init in the initrd: it goes on without one, and may even reach the root device by itself.
    ("check access for rdinit=", Some(Stage::Unpack)),
    ("VFS: Mounted root", Some(Stage::Unpack)),
    ("VFS: Unable to mount root fs", Some(Stage::Unpack)),
    ("Kernel panic - not syncing", None),
    ("emergency mode", None),
    ("Cannot open access to console", None),
    ("Freezing execution", None),
    ("Failed to mount sysroot.mount", Some(Stage::Mount)),
    ("Failed to mount /sysroot", Some(Stage::Mount)),
    ("Gave up waiting for root", Some(Stage::Device)),
];

/// A line holding one of these tells better than the fatal line after it what went wrong.
const CAUSES: &[&str] = &["Timed out waiting for device", "Failed to execute", "Failed to switch root"];

const MILESTONES: &[(&str, Milestone)] = &[
    ("Linux version ", Milestone::Kernel),
    ("as init process", Milestone::Unpacked),
    ("Booting initrd of ", Milestone::Init),
    ("Welcome to ", Milestone::Init),
    ("running in system mode", Milestone::Init),
    // systemd's status lines hold the unit's name, its description or both, by version and configuration.
    ("Reached target initrd-root-device.target", Milestone::Device),
    ("Reached target Initrd Root Device", Milestone::Device),
    ("Reached target initrd-root-fs.target", Milestone::Mounted),
    ("Reached target Initrd Root File System", Milestone::Mounted),
    ("Starting initrd-switch-root.service", Milestone::SwitchRoot),
    ("Starting Switch Root", Milestone::SwitchRoot),
];

const MARK: &str = "ocinitrd: ";

/// Why a boot cannot get any further.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// What the boot was at.
    pub stage: Stage,
    /// The console's line that says so.
    pub reason: String,
}

/// When something happened.
#[derive(Clone, Copy, Debug)]
struct Moment {
    arrival: Duration,
    stamp: Option<Duration>,
}

/// What a console has told so far.
#[derive(Clone, Debug, Default)]
pub struct Console {
    unfinished: Vec<u8>,
    lines: Vec<String>,
    milestones: BTreeMap<Milestone, Moment>,
    facts: BTreeMap<String, String>,
    /// When the kernel's clock was zero.
    kernel_start: Option<Duration>,
    cause: Option<String>,
    fault: Option<Fault>,
    panicked: bool,
    done: bool,
}

impl Console {
    /// Takes in bytes that arrived `arrival` after the guest was started.
    pub fn feed(&mut self, bytes: &[u8], arrival: Duration) {
        for byte in bytes {
            if *byte == b'\n' {
                let line = printable(&std::mem::take(&mut self.unfinished));
                self.take_line(line, arrival);
            } else {
                self.unfinished.push(*byte);
            }
        }
    }

    /// Takes the unfinished last line for finished: the guest has ended.
    pub fn finish(&mut self, arrival: Duration) {
        if !self.unfinished.is_empty() {
            self.feed(b"\n", arrival);
        }
    }

    /// Whether our script in the guest said that it is done.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// What ended the boot, if anything did.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Whether the kernel panicked.
    pub fn panicked(&self) -> bool {
        self.panicked
    }

    /// What the boot is at.
    pub fn stage(&self) -> Stage {
        self.milestones.keys().next_back().map_or(Stage::Kernel, |milestone| milestone.next_stage())
    }

    /// What our script in the guest told of `name`.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(String::as_str)
    }

    /// Seconds from the kernel's start to each milestone that was reached.
    pub fn seconds(&self) -> BTreeMap<Milestone, f64> {
        let start = self.kernel_start.unwrap_or_default();
        let since_start = |moment: &Moment| moment.stamp.unwrap_or_else(|| moment.arrival.saturating_sub(start));
        self.milestones.iter().map(|(milestone, moment)| (*milestone, since_start(moment).as_secs_f64())).collect()
    }

    /// The last lines, oldest first.
    pub fn tail(&self) -> &[String] {
        &self.lines[self.lines.len().saturating_sub(TAIL_LINES)..]
    }

    fn take_line(&mut self, line: String, arrival: Duration) {
        let moment = Moment { arrival, stamp: stamp(&line) };
        if let Some(stamp) = moment.stamp {
            let start = arrival.saturating_sub(stamp);
            self.kernel_start = Some(self.kernel_start.map_or(start, |earlier| earlier.min(start)));
        }
        match mark(&line) {
            Some(mark) => self.take_mark(mark, moment),
            None => self.take_message(&line, moment),
        }
        if !line.is_empty() {
            self.lines.push(line);
        }
    }

    fn take_mark(&mut self, mark: &str, moment: Moment) {
        let (verb, object) = mark.split_once(' ').unwrap_or((mark, ""));
        match verb {
            "fact" => {
                let (name, value) = object.split_once(' ').unwrap_or((object, ""));
                self.facts.insert(name.to_owned(), value.to_owned());
                if name == "uptime" {
                    self.milestones.entry(Milestone::Target).or_insert(moment);
                }
            }
            "missing" => self.fail(Stage::Disks, format!("the initrd has no program {object}")),
            "failed" => self.fail(Stage::Disks, object.to_owned()),
            "done" => self.done = true,
            _ => {}
        }
    }

    fn take_message(&mut self, line: &str, moment: Moment) {
        for (text, milestone) in MILESTONES {
            if line.contains(text) {
                self.milestones.entry(*milestone).or_insert(moment);
            }
        }
        if self.cause.is_none() && CAUSES.iter().any(|text| line.contains(text)) {
            self.cause = Some(line.to_owned());
        }
        self.panicked |= line.contains("Kernel panic");
        if let Some((_, stage)) = FATAL.iter().find(|(text, _)| line.contains(text)) {
            let reason = self.cause.clone().unwrap_or_else(|| line.to_owned());
            self.fail(stage.unwrap_or_else(|| self.stage()), message(&reason).to_owned());
        }
    }

    /// The first fault is the cause of those that follow.
    fn fail(&mut self, stage: Stage, reason: String) {
        if self.fault.is_none() && !self.done {
            self.fault = Some(Fault { stage, reason });
        }
    }
}

/// A line as a terminal would leave it: without escape sequences, and only what follows the last carriage return.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut line = String::new();
    let mut characters = text.trim_end_matches('\r').chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\r' => line.clear(),
            '\u{1b}' if characters.next_if_eq(&'[').is_some() => {
                // A control sequence ends with its first letter or its like.
                characters.by_ref().find(|character| ('@'..='~').contains(character));
            }
            _ if character.is_control() => {}
            _ => line.push(character),
        }
    }
    line
}

/// The mark that our script made in this line. What a program wrote without a newline may stand before it.
fn mark(line: &str) -> Option<&str> {
    match line.split_once(&format!("] {MARK}")) {
        Some((before, mark)) => stamp(&format!("{before}]")).map(|_| mark),
        None => line.strip_prefix(MARK),
    }
}

/// The last `[    1.234567]` of the line.
fn stamp(line: &str) -> Option<Duration> {
    line.split('[').skip(1).filter_map(|part| part.split_once(']')).filter_map(|(number, _)| seconds(number)).last()
}

fn seconds(number: &str) -> Option<Duration> {
    let (whole, fraction) = number.trim_start().split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || fraction.len() != 6 || !digits(fraction) {
        return None;
    }
    let micros: u64 = fraction.parse().ok()?;
    Some(Duration::from_secs(whole.parse().ok()?) + Duration::from_micros(micros))
}

/// A console line without what stands before its message: time stamps and systemd's status.
fn message(line: &str) -> &str {
    let mut rest = line.trim();
    while let Some((before, after)) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        if before.len() > 14 {
            break;
        }
        rest = after.trim_start();
    }
    rest
}
