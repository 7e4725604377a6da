//! What a guest's serial console tells: bytes with their time of arrival in, milestones, marks and faults out.
//!
//! The kernel stamps its own lines (`printk.time`) with seconds since it started; systemd's status lines carry no time, so
//! theirs is the time of arrival, put on the kernel's clock by the stamped line that arrived with the least delay.
//!
//! Our own scripts in a guest speak through `/dev/kmsg`, a line each, which the kernel stamps and never tears apart:
//! `ocinitrd: fact NAME VALUE`, `ocinitrd: missing PROGRAM`, `ocinitrd: failed REASON`, `ocinitrd: serving`,
//! `ocinitrd: done`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::stage::{Milestone, Stage};
use ocinitrd_format::text::terminal_line;

/// How many of the last lines are shown with a failure.
const TAIL_LINES: usize = 30;

/// A line holding one of these ends the boot; what follows says in which stage, where the milestones do not tell.
const FATAL: &[(&str, Option<Stage>)] = &[
    ("Initramfs unpacking failed", Some(Stage::Unpack)),
    // The kernel found no init in the initrd: it goes on without one, and may even reach the root device by itself.
    ("check access for rdinit=", Some(Stage::Unpack)),
    ("VFS: Mounted root", Some(Stage::Unpack)),
    ("VFS: Unable to mount root fs", Some(Stage::Unpack)),
    (SCRIPT_NOT_STARTED, Some(Stage::Disks)),
    // After this the kernel starts a shell of the initrd, if there is one, which waits for ever.
    ("Failed to execute /init (", Some(Stage::Init)),
    ("Kernel panic - not syncing", None),
    ("emergency mode", None),
    ("Cannot open access to console", None),
    ("Freezing execution", None),
    ("Failed to mount sysroot.mount", Some(Stage::Mount)),
    ("Failed to mount /sysroot", Some(Stage::Mount)),
    ("Gave up waiting for root", Some(Stage::Device)),
    // The firmware would go on to what it holds itself, which boots nothing.
    ("BdsDxe: failed to load Boot", Some(Stage::Firmware)),
    ("BdsDxe: failed to start Boot", Some(Stage::Firmware)),
    (NOTHING_TO_BOOT, Some(Stage::Firmware)),
    (SHELL_OF_FIRMWARE, Some(Stage::Firmware)),
    // A boot loader that crashes, as systemd-boot may after a kernel that it could not load: the firmware halts.
    ("!!!! X64 Exception Type", Some(Stage::Firmware)),
    (MENU_WITHOUT_KERNELS, Some(Stage::Firmware)),
];

/// What to say in place of a line that does not say what is wrong.
const WORDS: &[(&str, &str)] = &[
    (SCRIPT_NOT_STARTED, "the initrd has no program bash"),
    (SHELL_OF_FIRMWARE, "the firmware finds no boot loader"),
    (MENU_WITHOUT_KERNELS, "the boot loader finds no kernel"),
];

/// A line holding one of these tells better than the fatal line after it what went wrong.
const CAUSES: &[&str] = &[
    "Timed out waiting for device",
    "Failed to start systemd-cryptsetup@",
    "Failed to execute",
    "Failed to switch root",
    "error while loading shared libraries",
    // systemd-boot, which names the place in its source.
    "src/boot/",
    MOUNT_NFS,
];

const MILESTONES: &[(&str, Milestone)] = &[
    ("EFI stub: ", Milestone::Kernel),
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

/// The kernel unpacked our script, but not what reads it.
const SCRIPT_NOT_STARTED: &str = "Failed to execute /ocinitrd/run";

const NOTHING_TO_BOOT: &str = "BdsDxe: No bootable option or device was found";
const SHELL_OF_FIRMWARE: &str = "\"EFI Internal Shell\"";
/// The one entry that systemd-boot always has. It is drawn, without the end of a line.
const MENU_WITHOUT_KERNELS: &str = "   Reboot Into Firmware Interface   ";
/// What the initrd's mount.nfs or mount.nfs4 says. It goes through the journal, and may come later than that it failed.
const MOUNT_NFS: &str = "]: mount.nfs";

/// What says that the journal is there, by systemd's format of units.
const JOURNAL_STARTED: [&str; 2] = ["Started systemd-journald.service", "Started Journal Service"];

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
    /// Whether UEFI firmware comes before the kernel.
    behind_firmware: bool,
    unfinished: Vec<u8>,
    lines: Vec<String>,
    milestones: BTreeMap<Milestone, Moment>,
    facts: BTreeMap<String, String>,
    /// When the kernel's clock was zero.
    kernel_start: Option<Duration>,
    cause: Option<String>,
    /// Whether the journal is there: before it, programs write to the console whatever they have to say.
    has_journal: bool,
    errors: Vec<String>,
    failed_unit: Option<String>,
    fault: Option<Fault>,
    panicked: bool,
    serving: bool,
    done: bool,
}

impl Console {
    /// The console of a guest whose kernel is started by UEFI firmware.
    pub fn behind_firmware() -> Self {
        Console { behind_firmware: true, ..Console::default() }
    }

    /// Takes in bytes that arrived `arrival` after the guest was started.
    pub fn feed(&mut self, bytes: &[u8], arrival: Duration) {
        for byte in bytes {
            if *byte == b'\n' {
                let line = terminal_line(&std::mem::take(&mut self.unfinished));
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

    /// Whether our script in the guest said that it serves another guest.
    pub fn is_serving(&self) -> bool {
        self.serving
    }

    /// What ended the boot, if anything did.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// What systemd said of the first unit that failed.
    pub fn failed_unit(&self) -> Option<&str> {
        self.failed_unit.as_deref()
    }

    /// What programs called errors, as the journal shows them on the console.
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// Whether the kernel panicked.
    pub fn panicked(&self) -> bool {
        self.panicked
    }

    /// What the boot is at.
    pub fn stage(&self) -> Stage {
        let first = if self.behind_firmware { Stage::Firmware } else { Stage::Kernel };
        self.milestones.keys().next_back().map_or(first, |milestone| milestone.next_stage())
    }

    /// What our script in the guest told of `name`.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(String::as_str)
    }

    /// Seconds from the kernel's start to each milestone that was reached, none later than the milestone after it.
    pub fn seconds(&self) -> BTreeMap<Milestone, f64> {
        let start = self.kernel_start.unwrap_or_default();
        let mut seconds = BTreeMap::new();
        let mut next = Duration::MAX;
        for (milestone, moment) in self.milestones.iter().rev() {
            // On a busy host a line may arrive long after it was printed.
            next = next.min(moment.stamp.unwrap_or_else(|| moment.arrival.saturating_sub(start)));
            seconds.insert(*milestone, next.as_secs_f64());
        }
        seconds
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
            "serving" => self.serving = true,
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
            let of_mount = self.fault.as_mut().filter(|fault| fault.stage == Stage::Mount);
            if let Some(fault) = of_mount.filter(|_| line.contains(MOUNT_NFS)) {
                message(line).clone_into(&mut fault.reason);
            }
        }
        if self.failed_unit.is_none() && line.contains("[FAILED] ") {
            self.failed_unit = Some(message(line).to_owned());
        }
        self.has_journal |= JOURNAL_STARTED.iter().any(|text| line.contains(text));
        if self.has_journal && is_error(message(line)) {
            self.errors.push(message(line).to_owned());
        }
        self.panicked |= line.contains("Kernel panic");
        if let Some((_, stage)) = FATAL.iter().find(|(text, _)| line.contains(text)) {
            let words = WORDS.iter().find(|(text, _)| line.contains(text)).map(|(_, words)| (*words).to_owned());
            let reason = words.or_else(|| self.cause.clone()).unwrap_or_else(|| line.to_owned());
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

/// Whether a message is what the journal shows of an error: `PROGRAM[PID]: TEXT`. systemd itself and its journal speak in this way
/// of what is no error, and of failed units in another.
fn is_error(message: &str) -> bool {
    let Some((program, rest)) = message.split_once('[') else { return false };
    let Some((pid, _)) = rest.split_once("]: ") else { return false };
    let is_name =
        !program.is_empty() && program.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@()".contains(&byte));
    let is_number = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
    is_name && is_number && !["systemd", "systemd-journald"].contains(&program)
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
    // systemd says the same to the console and to the kernel's log, and either may come first.
    rest.strip_prefix("systemd[1]: ").unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_what_programs_say_once_the_journal_is_there() {
        let text = "[    5.000000] some-generator[150]: nothing to do\n\
                    [  OK  ] Started systemd-journald.service - Journal Service.\n\
                    [    6.000000] systemd-journald[189]: Received SIGTERM from PID 1 (systemd).\n\
                    [    6.500000] systemd[1]: Starting a.service\n\
                    [    7.000000] sd 0:0:0:0: [sda] Attached SCSI disk\n\
                    [   13.401508] dmeventd[253]: dlopen failed\n";
        let mut console = Console::default();
        console.feed(text.as_bytes(), Duration::from_secs(14));
        assert_eq!(console.errors(), ["dmeventd[253]: dlopen failed"]);
    }

    const SUCCESS: &str = include_str!("../../tests/fixtures/boot/success.log");
    const ABSENT_ROOT: &str = include_str!("../../tests/fixtures/boot/absent-root.log");
    const TRUNCATED: &str = include_str!("../../tests/fixtures/boot/truncated.log");
    const EARLY_PANIC: &str = include_str!("../../tests/fixtures/boot/early-panic.log");
    /// From the start of QEMU to that of the kernel.
    const FIRMWARE: Duration = Duration::from_millis(1500);

    /// A recorded console, fed line by line: a line without a stamp arrives with the stamped one before it.
    fn replay(log: &str) -> Console {
        let mut console = Console::default();
        let mut clock = Duration::ZERO;
        for line in log.split_inclusive('\n') {
            clock = stamp(line).unwrap_or(clock);
            console.feed(line.as_bytes(), FIRMWARE + clock);
        }
        console.finish(FIRMWARE + clock);
        console
    }

    fn lines(text: &str) -> Console {
        let mut console = Console::default();
        console.feed(text.as_bytes(), Duration::ZERO);
        console
    }

    fn fault(console: &Console) -> (Stage, &str) {
        let fault = console.fault().expect("there is a fault");
        (fault.stage, &fault.reason)
    }

    #[test]
    fn a_boot_that_succeeds_passes_every_milestone_in_order() {
        let console = replay(SUCCESS);
        assert!(console.is_done() && console.fault().is_none());
        assert_eq!(console.stage(), Stage::Target);
        let seconds: Vec<f64> = console.seconds().into_values().collect();
        assert_eq!(seconds.len(), 7);
        assert!(seconds.is_sorted(), "{seconds:?}");
        assert_eq!(console.seconds()[&Milestone::Kernel], 0.0);
        assert_eq!(console.seconds()[&Milestone::Unpacked], 21.604_766);
        assert_eq!(console.seconds()[&Milestone::Target], 75.078_514);
        assert_eq!(console.fact("root"), Some("/dev/vda1 / ext4 rw,relatime 0 0"));
        assert!(console.fact("cmdline").unwrap().contains("root=UUID="));
        assert!(!console.panicked());
    }

    #[test]
    fn an_absent_root_is_a_fault_of_stage_device_that_names_it() {
        let console = replay(ABSENT_ROOT);
        let (stage, reason) = fault(&console);
        assert_eq!(stage, Stage::Device);
        assert!(reason.starts_with("Timed out waiting for device dev-disk-by\\x2duuid-"), "{reason}");
        assert!(reason.ends_with(" - /dev/disk/by-uuid/0c1d2d00-dead-4000-8000-000000000000."), "{reason}");
        assert_eq!(console.tail().len(), TAIL_LINES);
        assert!(console.tail().iter().any(|line| line.starts_with("[DEPEND] Dependency failed for sysroot.mount")));
    }

    #[test]
    fn a_reason_is_the_same_on_the_console_and_in_the_kernels_log() {
        for line in
            ["[ TIME ] Timed out waiting for device x.", "[   41.5] systemd[1]: Timed out waiting for device x."]
        {
            assert_eq!(message(line), "Timed out waiting for device x.");
        }
    }

    #[test]
    fn an_initrd_cut_short_is_a_fault_of_stage_unpack() {
        let console = replay(TRUNCATED);
        assert_eq!(fault(&console), (Stage::Unpack, "Initramfs unpacking failed: ZSTD-compressed data is truncated"));
        assert!(!console.is_done());
    }

    fn firmware(text: &str) -> Console {
        let mut console = Console::behind_firmware();
        console.feed(text.as_bytes(), Duration::ZERO);
        console.finish(Duration::ZERO);
        console
    }

    #[test]
    fn where_firmware_comes_first_a_kernel_is_what_has_spoken() {
        assert_eq!(lines("").stage(), Stage::Kernel);
        let starting =
            "\u{1b}[2J\u{1b}[01;01HBdsDxe: starting Boot0001 \"UEFI Misc Device\" from PciRoot(0x0)/Pci(0x1,0x0)\r\n";
        let console = firmware(starting);
        assert!(console.stage() == Stage::Firmware && console.fault().is_none());
        let stub = "EFI stub: Loaded initrd from LINUX_EFI_INITRD_MEDIA_GUID device path\r\n";
        let console = firmware(&format!("{starting}{stub}"));
        assert!(console.stage() == Stage::Kernel && console.fault().is_none());
        assert_eq!(firmware(&format!("{starting}[    0.000000] Linux version 6.12\n")).stage(), Stage::Kernel);
    }

    #[test]
    fn firmware_and_a_boot_loader_that_get_no_further_say_why() {
        let not_found =
            "BdsDxe: failed to load Boot0001 \"UEFI Misc Device\" from PciRoot(0x0)/Pci(0x1,0x0): Not Found";
        let failed =
            "BdsDxe: failed to start Boot0001 \"UEFI Misc Device\" from PciRoot(0x0)/Pci(0x1,0x0): Unsupported";
        let loader = "../src/boot/boot.c:2576@image_start: Error loading \\vmlinuz: Unsupported";
        let shell = "BdsDxe: starting Boot0002 \"EFI Internal Shell\" from Fv(7CB8BDC9-F8EB-4F34-AAEA-3EE4AF6516A1)";
        let none = "BdsDxe: No bootable option or device was found.";
        let menu = "\u{1b}[25;23H   Reboot Into Firmware Interface   \u{1b}[27;01H   Boot in 10 s.   ";
        for (text, reason) in [
            (format!("{not_found}\r\n{shell}\r\n"), not_found),
            (format!("\u{1b}[31m{loader}\r\n\u{1b}[0m{failed}\r\n"), loader),
            (format!("{loader}\r\n!!!! X64 Exception Type - 0D(#GP - General Protection)\r\n"), loader),
            (format!("{shell}\r\n"), "the firmware finds no boot loader"),
            (format!("{none}\r\n"), none),
            (menu.to_owned(), "the boot loader finds no kernel"),
        ] {
            assert_eq!(fault(&firmware(&text)), (Stage::Firmware, reason), "{text}");
        }
    }

    #[test]
    fn a_panic_before_the_initrd_is_a_fault_of_stage_kernel() {
        let console = replay(EARLY_PANIC);
        let expected = "Kernel panic - not syncing: System is deadlocked on memory";
        assert_eq!(fault(&console), (Stage::Kernel, expected));
        assert!(console.panicked());
        assert!(!console.seconds().contains_key(&Milestone::Unpacked));
    }

    #[test]
    fn a_kernel_that_goes_on_without_an_init_in_the_initrd_is_a_fault_of_stage_unpack() {
        let start = "[    0.000000] Linux version 6.12\n";
        for line in [
            "[    2.000000] check access for rdinit=/init failed: -2, ignoring",
            "[    2.000000] VFS: Mounted root (ext4 filesystem) readonly on device 254:1.",
            "[    2.000000] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
        ] {
            assert_eq!(fault(&lines(&format!("{start}{line}\n"))).0, Stage::Unpack, "{line}");
        }
    }

    #[test]
    fn a_panic_after_the_initrd_is_a_fault_of_what_the_boot_was_at() {
        let panic = "[   5.000000] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00007f00\n";
        let run = "[    4.000000] Run /init as init process\n";
        assert_eq!(fault(&lines(&format!("{run}{panic}"))).0, Stage::Init);
        assert_eq!(fault(&lines(&format!("{run}Welcome to Fedora Linux 44 (Initramfs)!\n{panic}"))).0, Stage::Device);
    }

    /// By name and description, by description alone, by name alone.
    #[test]
    fn units_are_known_in_every_form_of_status_line() {
        for (device, mounted, switch) in [
            (
                "initrd-root-device.target - Initrd Root Device.",
                "initrd-root-fs.target - Initrd Root File System.",
                "initrd-switch-root.service - Switch Root...",
            ),
            ("Initrd Root Device.", "Initrd Root File System.", "Switch Root..."),
            ("initrd-root-device.target.", "initrd-root-fs.target.", "initrd-switch-root.service..."),
        ] {
            let text = format!(
                "[  OK  ] Reached target {device}\r\n\u{1b}[32m[  OK  ]\u{1b}[0m Reached target {mounted}\r\n         Starting {switch}\r\n"
            );
            let reached: Vec<Milestone> = lines(&text).seconds().into_keys().collect();
            assert_eq!(reached, [Milestone::Device, Milestone::Mounted, Milestone::SwitchRoot], "{text}");
        }
        assert!(lines("[DEPEND] Dependency failed for initrd-root-fs.target - x.\n").seconds().is_empty());
    }

    #[test]
    fn a_mark_counts_behind_what_a_program_left_unfinished_but_not_in_a_message() {
        let console = lines("\u{1b}[6n\u{1b}[!p[   30.448835] ocinitrd: fact uptime 30.4\n");
        assert_eq!(console.fact("uptime"), Some("30.4"));
        assert_eq!(console.seconds()[&Milestone::Target], 30.448_835);
        let quoted = lines("[    0.000000] Command line: a=b ocinitrd: done\nsystemd[1]: ocinitrd: done\n");
        assert!(!quoted.is_done());
    }

    #[test]
    fn marks_of_a_script_that_cannot_go_on_are_faults_of_stage_disks() {
        let missing = lines("[    3.000000] ocinitrd: missing mke2fs\n");
        assert_eq!(fault(&missing), (Stage::Disks, "the initrd has no program mke2fs"));
        let no_shell = lines("[    3.000000] Failed to execute /ocinitrd/run (error -2)\n");
        assert_eq!(fault(&no_shell), (Stage::Disks, "the initrd has no program bash"));
        let failed = lines("[    3.000000] ocinitrd: failed making the disks: mount /x (exit code 32)\n");
        assert_eq!(fault(&failed), (Stage::Disks, "making the disks: mount /x (exit code 32)"));
    }

    #[test]
    fn what_mount_nfs_says_is_the_reason_whether_it_comes_before_or_after_that_it_failed() {
        let says = "[   27.318723] mount[330]: mount.nfs4: No route to host for 192.0.2.1:/target on /sysroot\n";
        let failed = "[FAILED] Failed to mount sysroot.mount - NFSv4 Root File System.\n";
        let reason = "mount[330]: mount.nfs4: No route to host for 192.0.2.1:/target on /sysroot";
        assert_eq!(fault(&lines(&format!("{says}{failed}"))), (Stage::Mount, reason));
        assert_eq!(fault(&lines(&format!("{failed}{says}"))), (Stage::Mount, reason));
    }

    #[test]
    fn a_server_serves_when_its_script_says_so() {
        assert!(lines("[    9.000000] ocinitrd: serving\n").is_serving());
        assert!(!lines("[    9.000000] dnsmasq: ocinitrd: serving\n").is_serving());
    }

    #[test]
    fn what_comes_after_the_end_is_no_fault() {
        let console = lines("[    9.000000] ocinitrd: done\n[    9.100000] Kernel panic - not syncing: late\n");
        assert!(console.is_done() && console.fault().is_none());
    }

    #[test]
    fn times_of_arrival_are_put_on_the_kernel_s_clock_by_the_line_with_the_least_delay() {
        let mut console = Console::default();
        let at = Duration::from_millis;
        console.feed(b"[    0.000000] Linux version 6.12\n", at(4000));
        console.feed(b"[    2.000000] Run /init as init process\n", at(3500));
        console.feed(b"Welcome to Somewhere!\n", at(4500));
        assert_eq!(console.seconds()[&Milestone::Init], 3.0);
    }

    #[test]
    fn no_milestone_is_later_than_the_next() {
        let mut console = Console::default();
        let at = Duration::from_millis;
        console.feed(b"[    0.000000] Linux version 6.12\n", at(1000));
        console.feed(b"         Starting initrd-switch-root.service - Switch Root...\n", at(5000));
        console.feed(b"[    3.500000] ocinitrd: fact uptime 3.5\n", at(5000));
        assert_eq!(console.seconds()[&Milestone::SwitchRoot], 3.5);
        assert_eq!(console.seconds()[&Milestone::Target], 3.5);
    }

    #[test]
    fn stamps_are_seconds_with_six_digits_also_with_the_caller_s_number() {
        assert_eq!(stamp("[   12.345678] x"), Some(Duration::from_micros(12_345_678)));
        assert_eq!(stamp("[   12.345678][    T1] x"), Some(Duration::from_micros(12_345_678)));
        for line in ["[  OK  ] Reached", "[12.3] x", "[  -1.000000] x", "no stamp", "[1.234567"] {
            assert_eq!(stamp(line), None, "{line}");
        }
    }
}
