//! A machine's crypttab, fstab, mounts and kernel options, and the configuration of its initrd.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocinitrd::host::Configuration;
use ocinitrd::machine::Machine;
use ocinitrd::needs::of_machine;
use ocinitrd_fuzz::{parts, with_directory};

fuzz_target!(|bytes: &[u8]| {
    let [options, mounts, crypttab, fstab, configuration] = parts(bytes);
    let files = [
        ("proc/cmdline", options),
        ("proc/1/mountinfo", mounts),
        ("proc/self/mountinfo", mounts),
        ("etc/crypttab", crypttab),
        ("etc/fstab", fstab),
        ("etc/ocinitrd/host.toml", configuration),
    ];
    with_directory(&files, |root| {
        let _ = Configuration::read(root);
        if let Ok(machine) = Machine::read(root) {
            let _ = of_machine(&machine);
        }
    });
});
