//! QEMU: a description of a guest in, what its console told out. No network but that between guests, no window, no rights on
//! the host.
//!
//! KVM is used where it works, else QEMU's own translation (TCG). A device file that opens is no proof: KVM on a processor that
//! offers this machine no virtualisation emulates, and stops at the first instruction that it does not know. So a kernel
//! is started for a moment with KVM before anything relies on it.

use std::ffi::OsString;
use std::fmt;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::command_line;
use super::guest::{self, Exit, Watch};
use super::kvm::offers_virtualisation;
use super::network::{End, Nic};
use super::processor::Level;
use super::scenario::Prompt;
use super::stage::Milestone;
use crate::boot::uefi::{Firmware, Flash};
use ocinitrd_support::process::{Program, find};
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// Enough for a kernel alone to come up with KVM, which takes a second or two.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU's translation: five to twenty times slower.
    Tcg,
    /// The same, with a clock that counts the guest's instructions instead of the host's time.
    Counting,
}

impl Accelerator {
    /// How many processors a guest gets. Translation spends a quarter more time on a boot with two than with one.
    pub fn processors(self) -> usize {
        match self {
            Accelerator::Kvm => 2,
            Accelerator::Tcg | Accelerator::Counting => 1,
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Accelerator::Kvm => &["-accel", "kvm"],
            Accelerator::Tcg => &["-accel", "tcg,thread=multi"],
            // An instruction takes 2 ns. While the guest waits, its clock goes with the host's: with `sleep=off` it would leap to
            // the next timer whenever a disk takes its time, which differs by a tenth from one boot to the next.
            Accelerator::Counting => &["-accel", "tcg,thread=single", "-icount", "shift=1,sleep=on"],
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Accelerator::Kvm => "KVM",
            Accelerator::Tcg => "TCG",
            Accelerator::Counting => "TCG, counting instructions",
        })
    }
}

/// A disk of a guest.
#[derive(Clone, Debug)]
pub struct GuestDisk {
    /// Its number in its set, which is in its serial number whatever other disks the guest has.
    pub number: usize,
    /// The raw image.
    pub image: PathBuf,
    /// Whether what the guest writes is kept; else it is forgotten at the end.
    pub writable: bool,
}

/// What starts the kernel of a guest.
#[derive(Clone, Debug)]
pub enum Start {
    /// QEMU itself, which puts all of it into the guest's memory.
    Kernel {
        /// The kernel image.
        kernel: PathBuf,
        /// The initrd, if it gets one.
        initrd: Option<PathBuf>,
        /// The kernel's options.
        command_line: String,
    },
    /// What UEFI firmware finds on a disk.
    Uefi {
        /// The firmware, with variables that are the guest's own.
        firmware: Firmware,
        /// The disk's number in its set.
        disk: usize,
        /// The kernel's options that a unified kernel image adds to its own: systemd-stub(7).
        command_line: Option<String>,
    },
}

/// A guest to be started.
#[derive(Clone, Debug)]
pub struct Guest {
    /// What starts its kernel.
    pub start: Start,
    /// Its disks, in the order of `/dev/vda`, `/dev/vdb`, ...
    pub disks: Vec<GuestDisk>,
    /// Its memory in mebibytes.
    pub memory_mib: u64,
    /// Credentials that its firmware hands to systemd, as SMBIOS strings: systemd.system-credentials(7).
    pub credentials: &'static [(&'static str, &'static str)],
    /// The socket of the emulated TPM 2.0, if it has one.
    pub tpm: Option<PathBuf>,
    /// What is asked and answered on its console.
    pub dialogue: &'static [Prompt],
    /// Its network card, if it has one.
    pub card: Option<Nic>,
}

impl Start {
    fn arguments(&self) -> Vec<OsString> {
        match self {
            Start::Kernel { kernel, initrd, command_line } => {
                let mut arguments = vec!["-kernel".into(), kernel.into()];
                if let Some(initrd) = initrd {
                    arguments.extend(["-initrd".into(), initrd.into()]);
                }
                arguments.extend(["-append".into(), command_line.into()]);
                arguments
            }
            Start::Uefi { firmware: Firmware { code, variables, smm }, command_line, .. } => {
                let drive = |flash: &Flash, options: &str| {
                    with_path(&format!("if=pflash,format={},{options},file=", flash.format), &flash.path)
                };
                let (code, variables) = (drive(code, "unit=0,readonly=on"), drive(variables, "unit=1"));
                let mut arguments = vec!["-drive".into(), code, "-drive".into(), variables];
                if *smm {
                    // Only what the firmware runs in that mode may write to its variables.
                    arguments.extend(
                        ["-machine", "smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"]
                            .map(OsString::from),
                    );
                }
                let extra = |options| smbios_string("io.systemd.stub.kernel-cmdline-extra", options);
                arguments.extend(command_line.iter().flat_map(|options| extra(options)));
                arguments
            }
        }
    }

    /// Whether the firmware is to start from the disk with this number.
    fn is_by_disk(&self, number: usize) -> bool {
        matches!(self, Start::Uefi { disk, .. } if *disk == number)
    }
}

/// A QEMU that can start guests on this host.
#[derive(Clone, Debug)]
pub struct Qemu {
    program: PathBuf,
    accelerator: Accelerator,
    /// What the programs of the guests need.
    level: Level,
}

impl Qemu {
    /// Finds QEMU and the fastest way in which it can run `kernel` and programs that need a processor of this level. The second
    /// value says why that is not KVM.
    ///
    /// # Errors
    /// Fails when QEMU is not installed, when it cannot run such programs, and with what `watch` interrupts with.
    pub fn find(kernel: &Path, level: Level, watch: &Watch<'_>) -> Result<(Self, Option<String>)> {
        let program = find("qemu-system-x86_64").context("looking for qemu-system-x86_64")?;
        let Some(program) = program else {
            bail!(
                "qemu-system-x86_64 is not in PATH, and booting needs it: install it with \
                 `apt-get install qemu-system-x86` (Debian, Ubuntu) or `dnf install qemu-system-x86-core` (Fedora)"
            );
        };
        let with_kvm = Qemu { program, accelerator: Accelerator::Kvm, level };
        let Some(reason) = with_kvm.refuses_kvm(kernel, watch)? else { return Ok((with_kvm, None)) };
        level.check_translation(&with_kvm.program)?;
        Ok((Qemu { accelerator: Accelerator::Tcg, ..with_kvm }, Some(reason)))
    }

    /// What runs the guests' instructions.
    pub fn accelerator(&self) -> Accelerator {
        self.accelerator
    }

    /// The same, which counts the guest's instructions.
    ///
    /// # Errors
    /// Fails when it cannot run the programs of the guests so.
    pub fn counting(&self) -> Result<Self> {
        self.level.check_translation(&self.program)?;
        Ok(Qemu { accelerator: Accelerator::Counting, ..self.clone() })
    }

    fn processor_model(&self) -> &'static str {
        if self.accelerator == Accelerator::Kvm { "host" } else { self.level.translated_model() }
    }

    /// Options of a kernel that runs on the guests' processor.
    pub fn kernel_options(&self) -> &'static str {
        if self.accelerator == Accelerator::Kvm { "" } else { self.level.translated_kernel_options() }
    }

    /// The program with its arguments.
    pub fn command(&self, guest: &Guest) -> Program {
        Program::new(&self.program).args(self.arguments(guest))
    }

    fn arguments(&self, guest: &Guest) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            ["-M", "q35", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
                .map(OsString::from)
                .into();
        arguments.extend(self.accelerator.arguments().iter().map(OsString::from));
        arguments.extend(["-cpu", self.processor_model()].map(OsString::from));
        arguments.extend(["-smp".into(), self.accelerator.processors().to_string().into()]);
        arguments.extend(["-m".into(), format!("{}M", guest.memory_mib).into()]);
        arguments.extend(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"].map(OsString::from));
        arguments.extend(guest.start.arguments());
        for (name, value) in guest.credentials {
            arguments.extend(smbios_string(&format!("io.systemd.credential:{name}"), value));
        }
        if let Some(socket) = &guest.tpm {
            arguments.extend(["-chardev".into(), with_path("socket,id=tpm,path=", socket)]);
            arguments.extend(
                ["-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm"].map(OsString::from),
            );
        }
        for disk in &guest.disks {
            let first = if guest.start.is_by_disk(disk.number) { ",bootindex=0" } else { "" };
            let device = format!("virtio-blk-pci,drive=disk{0},serial=disk{0}{first}", disk.number);
            arguments.extend(["-drive".into(), drive(disk), "-device".into(), device.into()]);
        }
        if let Some(card) = &guest.card {
            arguments.extend(card_arguments(card));
        }
        arguments
    }

    fn refuses_kvm(&self, kernel: &Path, watch: &Watch<'_>) -> Result<Option<String>> {
        let processors =
            regular_file::read_text(Path::new("/proc/cpuinfo"), TEXT_LIMIT_BYTES).context("reading /proc/cpuinfo")?;
        if !offers_virtualisation(&processors) {
            return Ok(Some("the processor offers this machine no virtualisation".to_owned()));
        }
        let own_level = Level::of_processors(&processors);
        if own_level < self.level {
            return Ok(Some(format!(
                "the programs of the initrd need a processor with {}, this one has {own_level}",
                self.level
            )));
        }
        if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
            return Ok(Some(format!("/dev/kvm cannot be opened: {error}")));
        }
        let guest = Guest {
            start: Start::Kernel {
                kernel: kernel.to_owned(),
                initrd: None,
                command_line: command_line::of_kernel_alone(),
            },
            disks: Vec::new(),
            memory_mib: 512,
            credentials: &[],
            tpm: None,
            dialogue: &[],
            card: None,
        };
        let watch = Watch { timeout: PROBE_TIMEOUT, log: None, show: false, interrupted: watch.interrupted };
        let seen = guest::run(self, &guest, &watch)?;
        Ok(match seen.ending {
            Exit::Broken(reason) => Some(reason),
            _ if seen.console.seconds().contains_key(&Milestone::Kernel) => None,
            _ => Some("a kernel started with KVM says nothing".to_owned()),
        })
    }
}

/// A string that the firmware hands on, in an option in which a comma is written twice.
fn smbios_string(name: &str, value: &str) -> [OsString; 2] {
    let string = format!("{name}={value}").replace(',', ",,");
    ["-smbios".into(), format!("type=11,value={string}").into()]
}

/// The value of `-drive`.
fn drive(disk: &GuestDisk) -> OsString {
    let snapshot = if disk.writable { "off" } else { "on" };
    with_path(&format!("if=none,id=disk{},format=raw,cache=unsafe,snapshot={snapshot},file=", disk.number), &disk.image)
}

/// A card and its cable: QEMU 7.2 or newer has these.
fn card_arguments(card: &Nic) -> [OsString; 4] {
    let (is_server, address) = match card.end {
        End::First => ("on", "52:54:00:0c:1d:01"),
        End::Second => ("off", "52:54:00:0c:1d:02"),
    };
    let cable = with_path(&format!("stream,id=net,server={is_server},addr.type=unix,addr.path="), &card.socket);
    // Nothing is booted from it: without this QEMU wants a file for that.
    let device = format!("virtio-net-pci,netdev=net,mac={address},romfile=");
    ["-netdev".into(), cable, "-device".into(), device.into()]
}

/// The value of an option with a path at its end, in which a comma is written twice.
fn with_path(options: &str, path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};

    let mut value = options.as_bytes().to_vec();
    for byte in path.as_os_str().as_bytes() {
        value.push(*byte);
        if *byte == b',' {
            value.push(b',');
        }
    }
    OsString::from_vec(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(accelerator: Accelerator, disks: Vec<GuestDisk>) -> Vec<String> {
        let start = Start::Kernel {
            kernel: "/out/vmlinuz".into(),
            initrd: Some("/out/initrd".into()),
            command_line: "console=ttyS0 rw".to_owned(),
        };
        arguments_of(start, accelerator, disks)
    }

    fn arguments_of(start: Start, accelerator: Accelerator, disks: Vec<GuestDisk>) -> Vec<String> {
        let qemu = Qemu { program: "/usr/bin/qemu".into(), accelerator, level: Level::V1 };
        let guest = Guest {
            start,
            disks,
            memory_mib: 1024,
            credentials: &[("a.b", "c,d")],
            tpm: Some("/run/tpm".into()),
            dialogue: &[],
            card: None,
        };
        qemu.arguments(&guest).into_iter().map(|argument| argument.into_string().unwrap()).collect()
    }

    #[test]
    fn guests_have_no_network_unless_they_have_a_card_and_end_where_they_would_reboot() {
        let line = arguments(Accelerator::Kvm, Vec::new()).join(" ");
        assert_eq!(
            line,
            "-M q35 -nodefaults -no-user-config -no-reboot -display none -accel kvm -cpu host -smp 2 -m 1024M \
             -chardev stdio,id=console,signal=off -serial chardev:console -kernel /out/vmlinuz -initrd /out/initrd \
             -append console=ttyS0 rw -smbios type=11,value=io.systemd.credential:a.b=c,,d \
             -chardev socket,id=tpm,path=/run/tpm -tpmdev emulator,id=tpm,chardev=tpm -device tpm-tis,tpmdev=tpm"
        );
    }

    #[test]
    fn a_card_is_at_one_end_of_a_cable_and_boots_nothing() {
        let line =
            |end| card_arguments(&Nic { socket: "/tmp/a,b".into(), end }).map(|word| word.into_string().unwrap());
        assert_eq!(
            line(End::First).join(" "),
            "-netdev stream,id=net,server=on,addr.type=unix,addr.path=/tmp/a,,b \
             -device virtio-net-pci,netdev=net,mac=52:54:00:0c:1d:01,romfile="
        );
        let second = line(End::Second).join(" ");
        assert!(second.contains(",server=off,") && second.contains(",mac=52:54:00:0c:1d:02,"), "{second}");
    }

    #[test]
    fn the_processor_is_the_host_s_or_one_that_suits_the_programs() {
        let line = arguments(Accelerator::Tcg, Vec::new()).join(" ");
        assert!(line.contains("-accel tcg,thread=multi -cpu max,cx16=off,la57=off -smp 1 "), "{line}");
        let qemu = |accelerator| Qemu { program: "/usr/bin/qemu".into(), accelerator, level: Level::V3 };
        let of = |accelerator| (qemu(accelerator).processor_model(), qemu(accelerator).kernel_options());
        assert_eq!(of(Accelerator::Kvm), ("host", ""));
        assert_eq!(of(Accelerator::Tcg), ("max,la57=off", "clearcpuid=141"));
        assert_eq!(of(Accelerator::Counting), of(Accelerator::Tcg));
    }

    #[test]
    fn a_clock_that_counts_has_one_processor_and_waits_with_the_host() {
        let line = arguments(Accelerator::Counting, Vec::new()).join(" ");
        let expected = "-accel tcg,thread=single -icount shift=1,sleep=on -cpu max,cx16=off,la57=off -smp 1 ";
        assert!(line.contains(expected), "{line}");
    }

    #[test]
    fn disks_keep_their_order_and_their_commas() {
        let disks = vec![
            GuestDisk { number: 0, image: "/a,b.raw".into(), writable: false },
            GuestDisk { number: 1, image: "/c.raw".into(), writable: true },
        ];
        let line = arguments(Accelerator::Tcg, disks).join(" ");
        let expected = "-drive if=none,id=disk0,format=raw,cache=unsafe,snapshot=on,file=/a,,b.raw \
            -device virtio-blk-pci,drive=disk0,serial=disk0 \
            -drive if=none,id=disk1,format=raw,cache=unsafe,snapshot=off,file=/c.raw \
            -device virtio-blk-pci,drive=disk1,serial=disk1";
        assert!(line.ends_with(expected), "{line}");
    }

    #[test]
    fn firmware_has_variables_to_write_to_and_starts_from_the_disk_that_it_is_told() {
        let flash = |path: &str, format: &str| Flash { path: path.into(), format: format.to_owned() };
        let firmware = Firmware { code: flash("/fw/code", "raw"), variables: flash("/own,vars", "qcow2"), smm: true };
        let disk = |number| GuestDisk { number, image: "/disk".into(), writable: false };
        let start = Start::Uefi { firmware, disk: 2, command_line: Some("a,b".to_owned()) };
        let line = arguments_of(start, Accelerator::Kvm, vec![disk(1), disk(2)]).join(" ");
        let flash = " -drive if=pflash,format=raw,unit=0,readonly=on,file=/fw/code \
            -drive if=pflash,format=qcow2,unit=1,file=/own,,vars ";
        assert!(line.contains(flash) && !line.contains("-kernel") && !line.contains("-append"), "{line}");
        let smm = " -machine smm=on -global driver=cfi.pflash01,property=secure,value=on ";
        assert!(line.contains(smm), "{line}");
        let options = " -smbios type=11,value=io.systemd.stub.kernel-cmdline-extra=a,,b ";
        assert!(line.contains(options), "{line}");
        assert!(line.contains("serial=disk1 ") && line.ends_with("serial=disk2,bootindex=0"), "{line}");
    }
}
