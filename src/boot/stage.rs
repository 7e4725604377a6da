//! The stages of a boot, in the order in which it passes through them.

use std::fmt;

use serde::Serialize;

/// What a boot was at when it failed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The disks of the scenario were being made, in a guest of their own.
    Disks,
    /// UEFI firmware looked for a boot loader, and that for a kernel.
    Firmware,
    /// From the start of the kernel to its unpacking of the initrd; where no UEFI comes first, from the start of the guest.
    /// The server of the scenario was being started, in a guest of its own.
    Server,
    /// From the firmware to the kernel's unpacking of the initrd.
    Kernel,
    /// The kernel unpacked the initrd, or should have.
    Unpack,
    /// The initrd's init was started, but did not get to its work.
    Init,
    /// The initrd waited for the root device.
    Device,
    /// The initrd mounted the root device.
    Mount,
    /// The initrd handed over to the target's init.
    SwitchRoot,
    /// The target runs, but not as it should.
    Target,
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Stage::Disks => "disks",
            Stage::Firmware => "firmware",
            Stage::Server => "server",
            Stage::Kernel => "kernel",
            Stage::Unpack => "unpack",
            Stage::Init => "init",
            Stage::Device => "device",
            Stage::Mount => "mount",
            Stage::SwitchRoot => "switch-root",
            Stage::Target => "target",
        })
    }
}

/// What a boot has got done.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Milestone {
    /// The kernel printed its version, or what stands before it for UEFI a word of its own.
    Kernel,
    /// The kernel started the init of the initrd.
    Unpacked,
    /// The initrd's init introduced itself.
    Init,
    /// The root device is there.
    Device,
    /// The root file system is mounted.
    Mounted,
    /// The initrd began to hand over.
    SwitchRoot,
    /// The target's init spoke.
    Target,
}

impl Milestone {
    /// What a boot is at that has got this far and no further.
    pub fn next_stage(self) -> Stage {
        match self {
            Milestone::Kernel => Stage::Kernel,
            Milestone::Unpacked => Stage::Init,
            Milestone::Init => Stage::Device,
            Milestone::Device => Stage::Mount,
            Milestone::Mounted | Milestone::SwitchRoot => Stage::SwitchRoot,
            Milestone::Target => Stage::Target,
        }
    }
}
