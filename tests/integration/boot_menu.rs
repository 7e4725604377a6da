//! The menu that a boot loader shows of a boot partition, in a guest with UEFI: what a person sees on the serial console.
//!
//! The partition is a directory here, which QEMU shows as a FAT file system that nobody can write to.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ocinitrd::boot::uefi::{self, Boot};

use crate::fixture::succeed;

/// What UEFI starts from a disk of which it knows nothing.
pub const FALLBACK: &str = "EFI/BOOT/BOOTX64.EFI";
/// Without KVM it takes some ten seconds.
const LONGEST: Duration = Duration::from_secs(180);

/// A copy of a boot partition, to which a boot loader is added.
pub fn copy(boot: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    succeed(Command::new("cp").arg("-r").arg(boot.join(".")).arg(copy.path()));
    fs::create_dir_all(copy.path().join(FALLBACK).parent().unwrap()).unwrap();
    copy
}

/// Starts what is at [`FALLBACK`] on a boot partition, and returns what it has printed once all of `expected` is there. Colours and
/// places on the screen are left out.
pub fn shown(boot: &Path, expected: &[&str]) -> String {
    let firmware = uefi::find(Path::new("/"), None, Boot::Any).expect(uefi::MISSING);
    let output = tempfile::tempdir().unwrap();
    let serial = output.path().join("serial");
    let variables = output.path().join("variables");
    fs::copy(&firmware.variables.path, &variables).unwrap();
    let flash = |path: &Path, format: &str| format!("if=pflash,format={format},file={}", path.display());
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-machine", "q35,accel=tcg", "-m", "512", "-display", "none", "-monitor", "none", "-net", "none"]);
    qemu.arg("-drive").arg(flash(&firmware.code.path, &firmware.code.format) + ",readonly=on");
    qemu.arg("-drive").arg(flash(&variables, &firmware.variables.format));
    qemu.arg("-drive").arg(format!("if=virtio,format=raw,readonly=on,file=fat:{}", boot.display()));
    qemu.arg("-serial").arg(format!("file:{}", serial.display()));
    let mut guest = qemu.stdin(Stdio::null()).spawn().unwrap();
    let printed = || plain(&String::from_utf8_lossy(&fs::read(&serial).unwrap_or_default()));
    let is_shown = || expected.iter().all(|part| printed().contains(part));
    let started = Instant::now();
    while !is_shown() && started.elapsed() < LONGEST && guest.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(200));
    }
    let _ = guest.kill();
    guest.wait().unwrap();
    assert!(is_shown(), "{expected:?}: {}", printed());
    printed()
}

/// The text without sequences of a terminal.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\x1b' && characters.next_if_eq(&'[').is_some() {
            // What leads to another place on the screen begins a line.
            let end = characters.find(|character| character.is_ascii_alphabetic());
            plain.extend(end.filter(|end| *end == 'H').map(|_| '\n'));
        } else {
            plain.push(character);
        }
    }
    plain
}
