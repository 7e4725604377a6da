//! Machines with a root file system of their own, in guests: each boots by OVMF and systemd-boot, installs its second kernel with
//! the real kernel-install and our plugins, and reboots into it, by an entry and by a unified kernel image.
//!
//! The system is built of the offline repository by the program itself. It is first unpacked by a kernel as an initrd, and copies
//! itself onto the disk: machine/install.sh. What it does each time it has booted is in machine/step.sh.

mod debian;
mod grub;
mod system;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ocinitrd::boot::partition::{self, EFI_SYSTEM, LINUX_DATA, Partition};
use ocinitrd::boot::uefi::{self, Boot, Firmware};

use system::{System, system};

/// The longest that a guest may take on a busy host without KVM.
const LIMIT: Duration = Duration::from_secs(1800);

/// What a guest says that waits for ever then.
const FATAL: [&str; 6] = [
    "machine: failed",
    "Kernel panic",
    "emergency mode",
    "Cannot open access to console",
    "Please enter passphrase",
    // What initramfs-tools says.
    "Dropping to a shell",
];

/// What the entries are called: the id of the machine.
const TOKEN: &str = "0c1d2d00000040008000000000000001";

/// Room for the boot entries of two kernels, and the rest.
const PARTITIONS: [Partition; 2] = [
    Partition { label: "esp", guid: "0c1d2d00-0001-4000-8000-000000000001", type_guid: EFI_SYSTEM, size_mib: 300 },
    Partition { label: "system", guid: "0c1d2d00-0001-4000-8000-000000000002", type_guid: LINUX_DATA, size_mib: 0 },
];
const DISK_GUID: &str = "0c1d2d00-0001-4000-8000-000000000000";
const DISK_BYTES: u64 = 1400 << 20;
/// The same with a second place for volumes.
const PARTITIONS_WITH_SPARE: [Partition; 3] = [
    PARTITIONS[0],
    Partition { size_mib: 1300, ..PARTITIONS[1] },
    Partition { label: "spare", guid: "0c1d2d00-0001-4000-8000-000000000003", type_guid: LINUX_DATA, size_mib: 0 },
];
const DISK_WITH_SPARE_BYTES: u64 = 2800 << 20;

#[test]
fn a_machine_with_its_root_on_luks_boots_the_kernels_that_it_installs() {
    let facts = life_of_a_machine("luks");
    for step in ["1", "2", "3"] {
        assert_eq!(facts[&format!("{step}.root")], "/dev/mapper/root ext4 rw,relatime 0 0");
        let volume = &facts[&format!("{step}.dm.root")];
        assert!(volume.starts_with("CRYPT-LUKS2-") && volume.ends_with(" on vda2"), "{volume}");
    }
}

#[test]
#[ignore = "as with LUKS, three boots without KVM: part of make test-matrix"]
fn a_machine_with_its_root_on_lvm_boots_the_kernels_that_it_installs() {
    let facts = life_of_a_machine("lvm");
    for step in ["1", "2", "3"] {
        assert_eq!(facts[&format!("{step}.root")], "/dev/mapper/machine-root ext4 rw,relatime 0 0");
        let volume = &facts[&format!("{step}.dm.machine-root")];
        assert!(volume.starts_with("LVM-") && volume.ends_with(" on vda2"), "{volume}");
    }
}

#[test]
#[ignore = "as with LUKS, three boots without KVM: part of make test-matrix"]
fn a_machine_with_its_root_on_a_partition_boots_the_kernels_that_it_installs() {
    let facts = life_of_a_machine("plain");
    for step in ["1", "2", "3"] {
        assert_eq!(facts[&format!("{step}.root")], "/dev/vda2 ext4 rw,relatime 0 0");
    }
}

/// An initrd of one machine outlives what happens between two kernels: the modules for a snapshot, and for a mirror, were not
/// loaded when it was made.
#[test]
#[ignore = "four boots without KVM"]
fn a_root_that_gets_a_snapshot_and_then_a_mirror_boots_with_the_initrd_from_before() {
    let (_, facts) = life(system(), "lvm-changes", &PARTITIONS_WITH_SPARE, DISK_WITH_SPARE_BYTES);
    let kernels = ["1", "2", "3"].map(|step| facts[&format!("{step}.kernel")].as_str());
    let System { first, second, .. } = system();
    assert_eq!(kernels, [first, second, second]);
    assert!(facts["1.dm.machine-root"].ends_with(" on vda2"), "{facts:#?}");
    assert!(facts["2.dm.machine-root-real"].ends_with("-real on vda2"), "a snapshot: {facts:#?}");
    assert!(facts["3.dm.machine-root_rimage_1"].ends_with(" on vda3"), "a mirror: {facts:#?}");
    for step in ["1", "2", "3"] {
        assert_eq!(facts[&format!("{step}.failed")], "", "units that failed after boot {step}");
    }
}

/// The root is found by the name of an array, which is that of this host alone: without the host's name in the initrd mdadm takes
/// the array for another's, and calls it md127.
#[test]
#[ignore = "three boots without KVM"]
fn an_array_has_its_name_where_root_is_found_by_it() {
    let (console, facts) = life(system(), "array", &PARTITIONS, DISK_BYTES);
    for step in ["1", "2"] {
        assert_eq!(facts[&format!("{step}.root")], "/dev/md0 ext4 rw,relatime 0 0");
        assert_eq!(facts[&format!("{step}.array.md0")], "raid1 on vda2");
        assert_eq!(facts[&format!("{step}.hostname")], "myhost");
        assert_eq!(facts[&format!("{step}.failed")], "", "units that failed after boot {step}");
    }
    assert_eq!(facts["2.kernel"], system().second);
    assert!(!console.contains("md127"), "{}", tail(&console));
}

/// Installs the machine and lets it live: three boots. Returns what it told of each.
fn life_of_a_machine(root: &str) -> BTreeMap<String, String> {
    let (console, facts) = life(system(), root, &PARTITIONS, DISK_BYTES);
    check(system(), &console, &facts);
    facts
}

/// Installs a machine on a disk with these partitions and lets it live. Returns its console and what it told.
fn life(system: &System, root: &str, partitions: &[Partition], disk_bytes: u64) -> (String, BTreeMap<String, String>) {
    let place = tempfile::Builder::new().prefix("machine.").tempdir_in(system.directory()).unwrap();
    let disk = place.path().join("disk");
    let file = File::create_new(&disk).unwrap();
    file.set_len(disk_bytes).unwrap();
    partition::write_table(&file, DISK_GUID, partitions).unwrap();

    let console = system.directory().join(format!("{root}-install.log"));
    let installed = run(installer(system, root, &disk), &console);
    let warned = "/ is in memory";
    assert!(installed.contains(warned) && installed.contains(&format!("initrd for {}: ", system.first)), "{installed}");

    let console = system.directory().join(format!("{root}.log"));
    let lived = run(boots(&disk, place.path()), &console);
    assert!(!lived.contains("[FAILED]"), "{}", tail(&lived));
    let facts = facts(&lived);
    (lived, facts)
}

/// What is the same wherever the root lies.
fn check(system: &System, lived: &str, facts: &BTreeMap<String, String>) {
    let (first, second) = (&system.first, &system.second);
    let booted = |step: &str| (facts[&format!("{step}.kernel")].as_str(), facts[&format!("{step}.entry")].as_str());
    let entry = |kernel: &str, end: &str| format!("{TOKEN}-{kernel}.{end}");
    assert_eq!(booted("1"), (first.as_str(), entry(first, "conf").as_str()));
    assert_eq!(booted("2"), (second.as_str(), entry(second, "conf").as_str()));
    assert_eq!(booted("3"), (second.as_str(), entry(second, "efi").as_str()));
    assert!(facts["3.stub"].starts_with("systemd-stub ") && facts["2.stub"].is_empty(), "{facts:#?}");
    // The options of a unified kernel image are those of /etc/kernel/cmdline, and those of an entry have an initrd before them.
    assert!(facts["3.cmdline"].starts_with("root=") && facts["2.cmdline"].contains(" root="), "{facts:#?}");
    let of_first = format!("loader/entries/{}", entry(first, "conf"));
    assert_eq!(facts["1.entries"], format!("{of_first} loader/entries/{}", entry(second, "conf")));
    assert_eq!(facts["2.removed"], format!("{of_first} {TOKEN}/{first}/linux"));
    assert_eq!(facts["2.entries"], format!("{of_first} EFI/Linux/{}", entry(second, "efi")));
    for step in ["1", "2", "3"] {
        assert_eq!(facts[&format!("{step}.failed")], "", "units that failed after boot {step}");
    }
    // Modules for this machine are few; and nothing is said that a person would have to look into.
    let said = |text: &str| {
        lived.lines().filter(|line| line.contains("machine: kernel-install: ") && line.contains(text)).count()
    };
    assert_eq!((said(&format!("initrd for {second}: ")), said("warning")), (2, 0), "{}", tail(lived));
    let modules = modules_of_initrd(lived, second);
    assert!((10..160).contains(&modules), "{modules}");
}

/// How many modules the initrd of a kernel was said to have.
fn modules_of_initrd(lived: &str, kernel: &str) -> usize {
    let line = lived.lines().find(|line| line.contains(&format!("initrd for {kernel}: "))).unwrap();
    line.trim_end().strip_suffix(" modules").unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

/// What the guest's script told, by name.
fn facts(console: &str) -> BTreeMap<String, String> {
    let told = console.lines().filter_map(|line| line.split_once("machine: fact ")).map(|(_, fact)| fact.trim_end());
    told.map(|fact| fact.split_once(' ').unwrap_or((fact, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The guest that installs the machine: it runs from memory.
fn installer(system: &System, root: &str, disk: &Path) -> Command {
    let options =
        "console=ttyS0 panic=-1 loglevel=7 printk.devkmsg=on no_timer_check audit=0 lsm=capability mitigations=off";
    let mut guest = guest(disk);
    guest.arg("-no-reboot").arg("-kernel").arg(&system.vmlinuz).arg("-initrd").arg(&system.initrd);
    guest.args(["-append", &format!("{options} rdinit=/usr/lib/machine/install -- {root}")]);
    guest
}

/// The machine. Its firmware keeps its variables from one boot to the next, and it reboots as often as it likes.
fn boots(disk: &Path, place: &Path) -> Command {
    let firmware = uefi::find(Path::new("/"), None, Boot::Any).expect(uefi::MISSING);
    let Firmware { code, variables, .. } = firmware;
    let own = place.join("variables");
    fs::write(&own, fs::read(variables.path).unwrap()).unwrap();
    let mut guest = guest(disk);
    let flash = |options: String, path: &Path| {
        let mut value = OsString::from(format!("if=pflash,{options},file="));
        value.push(path);
        value
    };
    guest.arg("-drive").arg(flash(format!("format={},unit=0,readonly=on", code.format), &code.path));
    guest.arg("-drive").arg(flash(format!("format={},unit=1", variables.format), &own));
    guest
}

/// As `ocinitrd boot` has it without KVM, which is the same on each host.
fn guest(disk: &Path) -> Command {
    let mut guest = Command::new("qemu-system-x86_64");
    guest.args(["-M", "q35", "-nodefaults", "-no-user-config", "-display", "none", "-smp", "1", "-m", "1024M"]);
    guest.args(["-accel", "tcg,thread=multi", "-cpu", "max,cx16=off,la57=off", "-serial", "stdio"]);
    let mut drive = OsString::from("if=none,id=disk,format=raw,cache=unsafe,file=");
    drive.push(disk);
    guest.arg("-drive").arg(drive).args(["-device", "virtio-blk-pci,drive=disk"]);
    guest
}

/// Runs a guest until it powers off, as it does when it is done and when it cannot go on. Returns its console.
///
/// A restart ends qemu and is a start of another, from the same disk and variables of the firmware: within one, OVMF was seen not to
/// come back from a reset (the processor emulated, busy, no word on the console).
fn run(mut guest: Command, console: &Path) -> String {
    let log = File::create(console).unwrap();
    guest.arg("-no-reboot").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let started = Instant::now();
    loop {
        let starts = restarts(&read(console));
        wait_for(&mut guest, console, started);
        let text = read(console);
        if text.lines().any(|line| line.trim_end().ends_with("machine: done")) {
            return text;
        }
        let goes_on = started.elapsed() < LIMIT && restarts(&text) > starts;
        assert!(
            goes_on,
            "the guest was not done after {:?}: {}:\n{}",
            started.elapsed(),
            console.display(),
            tail(&text)
        );
    }
}

/// How often the kernel in the guest has restarted it.
fn restarts(text: &str) -> usize {
    text.matches("reboot: Restarting system").count()
}

/// Starts the guest, and waits until it ends or time is up.
fn wait_for(guest: &mut Command, console: &Path, started: Instant) {
    let mut process = Process(guest.spawn().expect("qemu-system-x86_64 is installed: `make test` sees to it"));
    while process.0.try_wait().unwrap().is_none() && started.elapsed() < LIMIT {
        let text = read(console);
        if let Some(words) = FATAL.iter().find(|words| text.contains(**words)) {
            panic!("the guest says {words:?}: {}:\n{}", console.display(), tail(&text));
        }
        std::thread::sleep(Duration::from_secs(2));
    }
}

fn read(console: &Path) -> String {
    String::from_utf8_lossy(&fs::read(console).unwrap()).into_owned()
}

/// A guest that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The last of what a console told.
fn tail(console: &str) -> String {
    let lines: Vec<&str> = console.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
