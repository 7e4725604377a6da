//! A machine's tables of volumes, fstab, mounts and kernel options, the files of its own that programs of an initrd read, and the
//! configuration of its initrd.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocinitrd::host::{Configuration, Console};
use ocinitrd::analysis::machine::Machine;
use ocinitrd::analysis::needs::of_machine;
use ocinitrd_fuzz::{parts, with_directory};

fuzz_target!(|bytes: &[u8]| {
    let [options, mounts, table, fstab, configuration, settings, rules] = parts(bytes);
    let files = [
        ("proc/cmdline", options),
        ("proc/1/mountinfo", mounts),
        ("proc/self/mountinfo", mounts),
        ("etc/crypttab", table),
        ("etc/integritytab", table),
        ("etc/veritytab", table),
        ("etc/mdadm.conf", settings),
        ("etc/lvm/lvm.conf", settings),
        ("etc/default/keyboard", settings),
        ("etc/udev/rules.d/own.rules", rules),
        ("etc/fstab", fstab),
        ("etc/ocinitrd/host.toml", configuration),
    ];
    with_directory(&files, |root| {
        let _ = Configuration::read(root);
        let _ = Console::read(root);
        if let Ok(machine) = Machine::read(root) {
            let _ = of_machine(&machine);
        }
    });
});
